"""Token tables by cache: the shared prefix against the plain way, every row its own whole sequence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from made_models import CAUSAL, causal_folder, masked_folder, sentence_folder
from transformers import AutoModel

from lightretriever import DocumentEncoder, QueryEncoder, TokenTable, cache_table
from lightretriever.errors import UsageError
from lightretriever.tables.cache import token_rows

PROMPT = "Instruct: find what answers the query\nQuery: "


@torch.inference_mode()
def plain(tower: DocumentEncoder, folder: Path, prompt: str, before: list[int], after: list[int]) -> torch.Tensor:
    """Hidden states [V, T, H] of ``[before; prompt; v; after]``, every row run whole."""
    model = AutoModel.from_pretrained(folder).eval()
    instruction = tower.tokenizer.encode(prompt, add_special_tokens=False).ids
    ids = torch.tensor([[*before, *instruction, v, *after] for v in range(tower.vocab_size)])
    return torch.cat([model(input_ids=part).last_hidden_state for part in ids.split(64)])


@pytest.mark.parametrize("kind", CAUSAL)
def test_shared_prefix_equals_the_plain_way(kind: str, tmp_path: Path) -> None:
    folder = causal_folder(tmp_path, kind)
    tower = DocumentEncoder.load(folder, device="cpu", sparse="none")
    expected = plain(tower, folder, PROMPT, [tower.bos_id or 0], [tower.eos_id or 0])[:, -1]
    assert np.abs(token_rows(tower, PROMPT) - expected.numpy()).max() < 1e-4


def test_the_prompt_is_run_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tower = DocumentEncoder.load(causal_folder(tmp_path, "qwen2", bos=None), device="cpu", sparse="none")
    lengths: list[int] = []
    run = tower.backbone.model.forward
    monkeypatch.setattr(
        tower.backbone.model,
        "forward",
        lambda *args, **kwargs: lengths.append(kwargs["input_ids"].shape[1]) or run(*args, **kwargs),
    )
    assert tower.backbone.sharing
    lengths.clear()  # what was tried
    token_rows(tower, PROMPT)
    prompt = len(tower.tokenizer.encode(PROMPT, add_special_tokens=False).ids)
    assert lengths[0] == prompt
    assert set(lengths[1:]) == {2}


def test_no_prompt_and_no_bos(tmp_path: Path) -> None:
    folder = causal_folder(tmp_path, "qwen2", bos=None, pad="</s>", rows=8)
    tower = DocumentEncoder.load(folder, device="cpu", sparse="none")
    expected = plain(tower, folder, "", [], [tower.eos_id or 0])[:, -1]
    table = cache_table(tower, prompt="")
    assert np.abs(table[np.arange(tower.vocab_size)] - expected.numpy()).max() < 1e-4
    assert len(table) == tower.vocab_size
    assert table.skip_ids == (tower.eos_id,)


@pytest.mark.parametrize("kind", ["bert", "roberta", "modernbert"])
def test_an_encoder_runs_every_row_whole(kind: str, tmp_path: Path) -> None:
    folder = masked_folder(tmp_path, kind, head=False)
    tower = DocumentEncoder.load(folder, device="cpu")
    expected = plain(tower, folder, "find: ", [2], [3]).mean(1)
    assert np.abs(token_rows(tower, "find: ") - expected.numpy()).max() < 1e-4


def test_a_table_says_what_it_belongs_to(tmp_path: Path) -> None:
    folder = sentence_folder(tmp_path / "tower", {"pooling_mode_cls_token": True}, prompts={"query": "find: "})
    tower = DocumentEncoder.load(folder, device="cpu")
    cache_table(tower, dtype="float16", dim=16, max_length=9).save(tmp_path / "table")
    table = TokenTable.load(tmp_path / "table")
    assert (table.model, table.revision, table.prompt) == (tower.name, tower.revision, "find: ")
    assert (table.dim, table.max_length, table.skip_ids) == (16, 9, (tower.pad_id,))
    assert np.allclose(np.linalg.norm(QueryEncoder(table).encode(["mount everest"]).dense, axis=1), 1, atol=1e-3)


def test_rows_are_computed_in_float32_whatever_the_tower(tmp_path: Path) -> None:
    folder = causal_folder(tmp_path, "llama")
    exact = token_rows(DocumentEncoder.load(folder, device="cpu"), PROMPT)
    half = DocumentEncoder.load(folder, device="cpu", dtype="bfloat16")
    assert np.abs(token_rows(half, PROMPT) - exact).max() < 1e-5


def test_a_prompt_longer_than_the_model_is_refused(tmp_path: Path) -> None:
    tower = DocumentEncoder.load(causal_folder(tmp_path, "gpt2"), device="cpu", sparse="none")
    with pytest.raises(UsageError, match="the model reads 128"):
        cache_table(tower, prompt="the " * 200)


def test_progress_ends_at_the_vocabulary(tmp_path: Path) -> None:
    tower = DocumentEncoder.load(causal_folder(tmp_path, "llama"), device="cpu", sparse="none")
    calls: list[tuple[int, int | None]] = []
    cache_table(tower, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (tower.vocab_size, tower.vocab_size)
