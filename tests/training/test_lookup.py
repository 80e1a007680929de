"""Rows behind a shared prompt: against stored ones, against each token run whole, and for every architecture."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made_models import ATTENDING, CAUSAL, MASKED, causal_folder, masked_folder
from made_towers import batch_of, gradients, step, tower_of

from lightretriever.document.backbone import load_backbone
from lightretriever.training import lookup
from lightretriever.training.lookup import (
    bag_counts,
    bag_means,
    distinct_tokens,
    own_rows,
    prefix_rows,
    shares_prefix,
)
from lightretriever.training.tower import Lookup, ModelConfig, TowerInput, TrainableTower, represent


@pytest.mark.parametrize("numbers", ["llama-tiny", "checkpoint_llama-tiny_golden"])
def test_golden_training_vectors(golden: Path, numbers: str) -> None:
    model = "models/llama-tiny" if numbers == "llama-tiny" else "checkpoint_llama-tiny"
    backbone = load_backbone(
        golden / model, golden / "models/llama-tiny" if "check" in model else None, "cpu", "float32", "none"
    )
    stored = np.load(golden / numbers / "queries_dense.npz")
    told = json.loads((golden / numbers / "tokenization.json").read_text(encoding="utf-8"))
    prompt = torch.tensor(backbone.specials.tokenizer.encode(told["prompt"], add_special_tokens=False).ids)
    offsets = torch.tensor([*stored["bag_offsets"], len(stored["bag_input_ids"])])
    tokens, places = distinct_tokens(
        torch.from_numpy(stored["bag_input_ids"]), offsets, torch.zeros(8, dtype=torch.int64), 1
    )
    assert shares_prefix(backbone, prompt)
    with torch.no_grad():
        rows = prefix_rows(backbone, prompt, tokens[0], blocks=16)
    assert np.abs(rows.numpy() - stored["table_fp32"][tokens[0]]).max() < 1e-4
    means = bag_means(rows, places, offsets)
    assert np.abs(means.numpy() - stored["train_mean_eos"]).max() < 1e-5
    unit = torch.nn.functional.normalize(means)
    assert np.abs(unit.numpy() - stored["train_normalized"]).max() < 1e-5

    # The hidden states at every end, where they stand in the recorded sequences.
    ends = stored["train_hidden"][(stored["train_input_ids"] == 651) & stored["train_attention_mask_2d"]]
    assert np.abs(rows[places].numpy() - ends).max() < 1e-5
    # Their mask for a prompt of 3 and two blocks of two.
    mask = json.loads((golden / "common/mask4d.json").read_text())
    assert lookup._mask(backbone, 3, torch.tensor([0, 0, 1, 1]))[0, 0].int().tolist() == mask["causal_allowed"][0]


@pytest.mark.parametrize("blocks", [1, 2, 3, 64])
@pytest.mark.parametrize("kind", [*CAUSAL])
def test_rows_equal_each_token_run_whole(kind: str, blocks: int, tmp_path: Path) -> None:
    backbone = load_backbone(causal_folder(tmp_path, kind), None, "cpu", "float32", "none")
    tokens = torch.tensor([5, 9, 40, 41, 7])
    for prompt in (torch.tensor([3, 4]), torch.tensor([], dtype=torch.int64), torch.arange(20)):
        plain = own_rows(backbone, prompt, tokens)
        if shares_prefix(backbone, prompt):
            shared = prefix_rows(backbone, prompt, tokens, blocks)
            assert (shared - plain).abs().max() < 1e-5 * plain.abs().max().clamp(min=1)
        else:
            assert kind in ("mistral", "gemma2") and len(prompt) == 20  # longer than their window


@pytest.mark.parametrize("kind", ATTENDING)
def test_every_family_with_position_ids_shares_its_prompt(kind: str, tmp_path: Path) -> None:
    backbone = load_backbone(causal_folder(tmp_path, kind), None, "cpu", "float32", "none")
    found = shares_prefix(backbone, torch.tensor([3, 4]))
    if kind in ("bloom", "mpt"):  # ALiBi counts places by itself
        assert not found and type(backbone.model).__name__ in found.reason
    else:
        assert found, found.reason


def test_a_tower_says_once_why_it_runs_its_prompt_again(tmp_path: Path) -> None:
    model = causal_folder(tmp_path, "bloom")
    tower = TrainableTower.load(ModelConfig(base=str(model), sparse_head="none", adapter="full"))
    wanted = TowerInput(lookups=(Lookup(torch.tensor([3, 4]), torch.tensor([5, 6])),))
    with pytest.warns(UserWarning, match="run again for every token of a query.*BloomModel") as caught:
        tower(wanted), tower(wanted)
    assert len([entry for entry in caught if "run again" in str(entry.message)]) == 1


@pytest.mark.parametrize("kind", ["bert", "modernbert"])
def test_encoders_share_nothing(kind: str, tmp_path: Path) -> None:
    backbone = load_backbone(masked_folder(tmp_path, kind), None, "cpu", "float32", "none")
    assert kind in MASKED
    assert "both ways" in shares_prefix(backbone, torch.tensor([5, 6])).reason


def test_autocast_does_not_hide_that_a_prompt_can_be_shared(tmp_path: Path) -> None:
    backbone = load_backbone(causal_folder(tmp_path, "llama"), None, "cpu", "float32", "none")
    with torch.autocast("cpu", torch.bfloat16):
        assert shares_prefix(backbone, torch.arange(20))


def test_eager_attention_gives_the_same_and_no_nan(tmp_path: Path) -> None:
    backbone = load_backbone(causal_folder(tmp_path, "llama"), None, "cpu", "float32", "none")
    prompt, tokens = torch.tensor([3, 4]), torch.tensor([5, 9, 40])
    plain = prefix_rows(backbone, prompt, tokens, 2)
    backbone.model.set_attn_implementation("eager")
    rows = prefix_rows(backbone, prompt, tokens, 2)
    assert torch.isfinite(rows).all() and (rows - plain).abs().max() < 1e-5


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_equal_those_of_tokens_run_whole(checkpointing: bool, tmp_path: Path) -> None:
    tower = tower_of("causal", tmp_path, gradient_checkpointing=checkpointing).train()
    batch = batch_of(tower)
    found = []
    for shared in (True, False):
        tower._shares = {len(batch.prompts[0]): shared}
        found.append((step(tower, batch).item(), gradients(tower)))
    (first, ours), (second, plain) = found
    assert first == pytest.approx(second, rel=1e-5)
    for name, value in plain.items():
        assert (ours[name] - value).abs().max() < 1e-5 * max(1, value.abs().max()), name


def test_several_prompts_in_a_batch(tmp_path: Path) -> None:
    tower = tower_of("causal", tmp_path)
    one = batch_of(tower)
    other = torch.tensor([7, 8, 9])
    both = replace(one, prompts=(one.prompts[0], other), prompt_of=torch.tensor([0, 1, 0, 1]))
    with torch.no_grad():
        first, second = represent(tower, one), represent(tower, replace(one, prompts=(other,)))
        mixed = represent(tower, both)
    assert first.queries is not None and second.queries is not None and mixed.queries is not None
    wanted = torch.stack([first.queries[0], second.queries[1], first.queries[2], second.queries[3]])
    assert (mixed.queries - wanted).abs().max() < 1e-5
    assert (first.queries[1] - second.queries[1]).abs().max() > 1e-2


def test_a_batch_of_empty_queries(tmp_path: Path) -> None:
    tower = tower_of("causal", tmp_path)
    batch = batch_of(tower, ["", ""], ["a", "the world"])
    found = represent(tower, batch)
    assert found.queries is not None and found.queries.shape == (2, 32) and not found.queries.any()
    assert found.counts is not None and not found.counts.any()
    rows = tower(TowerInput(lookups=(Lookup(batch.prompts[0], torch.tensor([3, 4])),))).rows
    assert rows.shape == (2, 32)


def test_means_and_counts() -> None:
    tokens, offsets = torch.tensor([4, 2, 4, 7]), torch.tensor([0, 3, 3, 4])
    distinct, places = distinct_tokens(tokens, offsets, torch.tensor([0, 0, 1]), 2)
    assert [ids.tolist() for ids in distinct] == [[2, 4], [7]]
    rows = torch.tensor([[1.0, 0], [4, 3], [5, 5]])
    assert bag_means(rows, places, offsets).tolist() == [[3, 2], [0, 0], [5, 5]]
    counts = bag_counts(tokens, offsets, 8)
    assert counts.nonzero().tolist() == [[0, 2], [0, 4], [2, 7]] and counts[0, 4] == 2
