"""What is trained is what is saved, loaded, cached and encoded."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
from made_models import TEXTS, causal_folder, masked_folder, sentence_files, sentence_folder
from made_towers import QUERIES, batch_of, gradients, step, tower_of, train
from safetensors.torch import load_file, save_file
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForCausalLM

from lightretriever import DocumentEncoder, QueryEncoder, cache_table
from lightretriever.document.tied import FORMAT
from lightretriever.errors import ModelError, UsageError
from lightretriever.text.tokenizer import load_tokenizer
from lightretriever.training.losses import LossConfig
from lightretriever.training.tower import ModelConfig, Texts, TowerInput, TrainableTower, represent
from lightretriever.training.tower_folder import write_merged

KINDS = ["causal", "mlm", "tied"]


def _encoded(tower: TrainableTower, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    batch = batch_of(tower, QUERIES, texts)
    with torch.no_grad():
        found = tower(TowerInput(Texts(batch.passage_ids, batch.passage_lengths)))
    return torch.nn.functional.normalize(found.passages).numpy(), found.passages_sparse.numpy()


@pytest.mark.parametrize("adapter", ["lora", "full"])
@pytest.mark.parametrize("kind", KINDS)
def test_saved_tower_gives_the_vectors_of_the_trained_one(kind: str, adapter: str, tmp_path: Path) -> None:
    tower = tower_of(kind, tmp_path, adapter=adapter)
    before = _encoded(tower, TEXTS)
    batch = batch_of(tower)
    train(tower, batch)
    tower.save(tmp_path / "trained")
    loaded = DocumentEncoder.load(tmp_path / "trained", device="cpu", max_length=42)
    dense, sparse = _encoded(tower, TEXTS)
    encoded = loaded.encode(TEXTS)
    assert encoded.sparse is not None
    assert np.abs(encoded.dense - dense).max() < 1e-5
    assert np.abs(encoded.sparse.to_dense() - sparse).max() < 1e-5 * max(1, sparse.max())
    assert np.abs(before[0] - dense).max() > 1e-3 and np.abs(before[1] - sparse).max() > 1e-3

    # The look-up invariant: the cached table's mean is the training-time query vector.
    assert loaded.default_prompt == tower.prompt
    with torch.no_grad():
        trained = torch.nn.functional.normalize(represent(tower, batch).queries).numpy()
    table = cache_table(loaded)
    found = QueryEncoder(table).encode(QUERIES)
    assert np.abs(found.dense - trained).max() < 1e-5
    assert not trained[-1].any()  # the empty query

    if adapter == "lora":
        write_merged(tmp_path / "trained", tmp_path / "merged")
        merged = DocumentEncoder.load(tmp_path / "merged", device="cpu", max_length=42)
        assert np.abs(merged.encode(TEXTS).dense - dense).max() < 1e-5
        assert np.abs(merged.encode(TEXTS).sparse.to_dense() - sparse).max() < 1e-4
        assert np.abs(cache_table(merged)[np.arange(50)] - table[np.arange(50)]).max() < 1e-5
        assert (tmp_path / "merged/model.safetensors").is_file()


@pytest.mark.parametrize("adapter", ["lora", "full"])
@pytest.mark.parametrize("around", [("<s>", "</s>"), (None, "<pad>"), (None, None)])
def test_a_causal_sentence_folder_keeps_its_own_specials(
    around: tuple[str | None, str | None], adapter: str, tmp_path: Path
) -> None:
    base = sentence_files(causal_folder(tmp_path / "base", "qwen3"), {"pooling_mode": "lasttoken"})
    (base / "sentence_bert_config.json").unlink()  # its length limit is below that of the made batches
    tokenizer = load_tokenizer(base)
    before, after = ([] if token is None else [tokenizer.token_to_id(token)] for token in around)
    names = [(token, tokenizer.token_to_id(token)) for token in around if token is not None]
    template = [around[0], "$A", around[1]]
    tokenizer.post_processor = TemplateProcessing([part for part in template if part], special_tokens=names)
    tokenizer.save(str(base / "tokenizer.json"))
    tower = tower_of("causal", tmp_path, adapter=adapter)
    assert (tower.specials.before, tower.specials.after) == (tuple(before), tuple(after))
    batch = batch_of(tower)
    train(tower, batch)
    tower.save(tmp_path / "trained")
    write_merged(tmp_path / "trained", tmp_path / "merged")
    dense, sparse = _encoded(tower, TEXTS)
    with torch.no_grad():
        trained = torch.nn.functional.normalize(represent(tower, batch).queries).numpy()
    for name in ("trained", "merged"):
        loaded = DocumentEncoder.load(tmp_path / name, device="cpu", max_length=40 + len(before) + len(after))
        assert replace(loaded.backbone.specials, tokenizer=None) == replace(tower.specials, tokenizer=None)
        encoded = loaded.encode(TEXTS)
        assert encoded.sparse is not None
        assert np.abs(encoded.dense - dense).max() < 1e-5
        assert np.abs(encoded.sparse.to_dense() - sparse).max() < 1e-4
        assert np.abs(QueryEncoder(cache_table(loaded)).encode(QUERIES).dense - trained).max() < 1e-5


@pytest.mark.parametrize("head", ["auto", "tied"])
def test_a_merged_towers_own_head_is_trained_on(head: str, tmp_path: Path) -> None:
    tower = tower_of("tied", tmp_path)
    assert tower.new_head
    tower.save(tmp_path / "trained")
    write_merged(tmp_path / "trained", tmp_path / "merged")
    again = TrainableTower.load(ModelConfig(base=str(tmp_path / "merged"), sparse_head=head))  # type: ignore[arg-type]
    assert again.tied is not None and tower.tied is not None and not again.new_head
    for name, value in tower.tied.state_dict().items():
        assert torch.equal(again.tied.state_dict()[name], value), name


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_tower_can_be_trained_on(kind: str, tmp_path: Path) -> None:
    tower = tower_of(kind, tmp_path)
    batch = batch_of(tower)
    train(tower, batch, 1)
    tower.save(tmp_path / "saved")
    other = tower_of(kind, tmp_path)
    other.restore(tmp_path / "saved")
    assert step(tower, batch).item() == step(other, batch).item()
    for (name, ours), theirs in zip(gradients(tower).items(), gradients(other).values(), strict=True):
        assert torch.equal(ours, theirs), name


def test_adapters_over_a_sentence_transformers_folder(tmp_path: Path) -> None:
    sentence_folder(tmp_path / "base", {"pooling_mode": "mean"}, prompts={"query": "q: ", "document": "d: "})
    tower = TrainableTower.load(ModelConfig(base=str(tmp_path / "base"), rank=2, top_k=9))
    assert (tower.prompt, tower.document_prompt, tower.settings.passage_max_length) == ("q: ", "d: ", 24)
    train(tower, batch_of(tower))
    tower.save(tmp_path / "trained")
    loaded = DocumentEncoder.load(tmp_path / "trained", device="cpu")
    assert (loaded.default_prompt, loaded.backbone.document_prompt, loaded.max_length) == ("q: ", "d: ", 24)
    assert (loaded.backbone.pooling, loaded.top_k) == ("mean", 9)
    encoded = loaded.encode(["the world"])
    dense, sparse = _encoded(tower, ["d: the world", "a"])
    assert encoded.sparse is not None
    assert np.abs(encoded.dense - dense[:1]).max() < 1e-5
    assert np.abs(encoded.sparse.to_dense() - sparse[:1]).max() < 1e-5 * sparse.max()
    write_merged(tmp_path / "trained", tmp_path / "merged")
    merged = DocumentEncoder.load(tmp_path / "merged", device="cpu")
    assert (merged.default_prompt, merged.backbone.document_prompt, merged.max_length) == ("q: ", "d: ", 24)
    assert np.abs(merged.encode(["the world"]).dense - encoded.dense).max() < 1e-5


@pytest.mark.parametrize("pooling", ["mean", "lasttoken", "cls"])
@pytest.mark.parametrize("kind", KINDS)
def test_texts_of_no_tokens_have_zero_vectors_and_no_gradient(kind: str, pooling: str, tmp_path: Path) -> None:
    tower = tower_of(kind, tmp_path, pooling=pooling)
    ids = torch.tensor([[0, 0, 0], [5, 6, 7]])
    texts = ((ids, [0, 3]), (ids[1:], [3]), (ids[:, :0], [0, 0]))
    both, alone, nothing = (tower(TowerInput(Texts(some, torch.tensor(lengths)))) for some, lengths in texts)
    slopes = []
    for found in (both, alone, nothing):
        tower.zero_grad()
        (torch.nn.functional.normalize(found.passages)[:, 0].sum() + found.passages_sparse.sum()).backward()
        slopes.append(gradients(tower))
    for name in ("passages", "passages_sparse"):
        two, one, none = (getattr(found, name) for found in (both, alone, nothing))
        assert not two[0].any() and (two[1] - one[0]).abs().max() < 1e-5
        assert none.shape == two.shape and not none.any()
    for ours, theirs, zeros in zip(*(each.values() for each in slopes), strict=True):
        assert (ours - theirs).abs().max() < 1e-4 * max(1, theirs.abs().max()) and not zeros.any()


def test_a_saved_folder_is_what_peft_reads(tmp_path: Path) -> None:
    tower = tower_of("causal", tmp_path)
    tower.save(tmp_path / "saved")
    model = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tmp_path / "base"), tmp_path / "saved")
    ids = torch.arange(3, 12)[None]
    with torch.no_grad():
        theirs = model.base_model(input_ids=ids, output_hidden_states=True).hidden_states[-1]
        ours = tower.backbone.hidden(ids, torch.tensor([9]))
    assert (theirs - ours).abs().max() < 1e-6


def test_only_what_is_wanted_is_trained(tmp_path: Path) -> None:
    lora = tower_of("mlm", tmp_path)
    trained = [name for name, parameter in lora.named_parameters() if parameter.requires_grad]
    assert trained and all(".lora_" in name and "cls." not in name and "pooler" not in name for name in trained)
    some = tower_of("mlm", tmp_path, targets=("query", "value"))
    names = {name.split(".lora_")[0].rpartition(".")[2] for name, p in some.named_parameters() if p.requires_grad}
    assert names == {"query", "value"}
    for tower in (
        lora,
        some,
        *(tower_of("mlm", tmp_path, adapter="full", sparse_head=head) for head in ("lm", "none")),
    ):
        step(tower, batch_of(tower), LossConfig(sparse=tower.has_sparse))
        without = [name for name, p in tower.named_parameters() if p.requires_grad and p.grad is None]
        assert not without  # wrappers wait for a gradient of every one


def test_a_tower_without_a_sparse_head(tmp_path: Path) -> None:
    tower = tower_of("causal", tmp_path, sparse_head="none")
    found = represent(tower, batch_of(tower))
    assert found.passages_sparse is None and found.counts is None
    tower.save(tmp_path / "saved")
    assert not DocumentEncoder.load(tmp_path / "saved", device="cpu").has_sparse


def test_autocast_gives_nearly_the_same(tmp_path: Path) -> None:
    for kind in KINDS:
        tower = tower_of(kind, tmp_path / kind)
        plain = represent(tower, batch_of(tower))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = represent(tower, batch_of(tower))
        for ours, wanted in ((found.queries, plain.queries), (found.passages_sparse, plain.passages_sparse)):
            assert ours.dtype == torch.float32
            assert (ours - wanted).abs().mean() < 0.05 * wanted.abs().mean()
        (found.queries.sum() + found.passages_sparse.sum()).backward()
        assert all(torch.isfinite(gradient).all() for gradient in gradients(tower).values())


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"base": ""}, "model.base"),
        ({"adapter": "dora"}, "model.adapter"),
        ({"sparse_head": "bm25"}, "model.sparse_head"),
        ({"rank": 0}, "model.rank"),
        ({"targets": ("q_proj",)}, "q_proj"),
    ],
)
def test_settings_that_make_no_sense(settings: dict, named: str, tmp_path: Path) -> None:
    masked_folder(tmp_path / "base", "bert", head=False)
    with pytest.raises(UsageError, match=named):
        TrainableTower.load(ModelConfig(**{"base": str(tmp_path / "base"), **settings}))


def test_bases_and_checkpoints_that_do_not_fit(tmp_path: Path) -> None:
    tower = tower_of("tied", tmp_path / "one")
    tower.save(tmp_path / "saved")
    with pytest.raises(ModelError, match="merge"):
        TrainableTower.load(ModelConfig(base=str(tmp_path / "saved")))
    with pytest.raises(ModelError, match="no LM head"):
        tower_of("tied", tmp_path / "one", sparse_head="lm")
    with pytest.raises(ModelError, match="another tower"):
        tower_of("causal", tmp_path / "two").restore(tmp_path / "saved")
    masked_folder(tmp_path / "wide", "bert", head=False, hidden_size=64)
    with pytest.raises(ModelError, match="is the base model right"):
        DocumentEncoder.load(tmp_path / "saved", tmp_path / "wide", device="cpu")
    head = tmp_path / "saved/sparse_head.safetensors"
    weights = load_file(head)
    save_file({**weights, "bias": weights["bias"][:-1]}, head, {"lightretriever": json.dumps(FORMAT)})
    with pytest.raises(ModelError, match=r"sparse_head.*tokens of"):
        DocumentEncoder.load(tmp_path / "saved", device="cpu")
    save_file(weights, head)
    with pytest.raises(ModelError, match="no sparse head of this version"):
        DocumentEncoder.load(tmp_path / "saved", device="cpu")
    head.write_bytes(head.read_bytes()[:100])
    with pytest.raises(ModelError, match="cannot be read"):
        DocumentEncoder.load(tmp_path / "saved", device="cpu")
    assert DocumentEncoder.load(tmp_path / "saved", device="cpu", sparse="none").has_sparse is False


def test_the_head_belongs_to_the_towers_identity(tmp_path: Path) -> None:
    tower = tower_of("tied", tmp_path)
    tower.save(tmp_path / "saved")
    first = DocumentEncoder.load(tmp_path / "saved", device="cpu").revision
    assert tower.tied is not None
    torch.nn.init.normal_(tower.tied.bias)
    tower.save(tmp_path / "other")
    assert DocumentEncoder.load(tmp_path / "other", device="cpu").revision != first
