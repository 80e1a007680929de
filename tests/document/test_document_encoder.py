"""DocumentEncoder over architectures, each against a plain computation one text at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from made_models import CAUSAL, MASKED, TEXTS, causal_folder, masked_folder
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

from lightretriever import DocumentEncoder
from lightretriever.errors import InputError, ModelError, UsageError
from lightretriever.text.corpus import Document


@torch.inference_mode()
def plain(tower: DocumentEncoder, folder: Path, loader: type, pooling: str) -> tuple[np.ndarray, np.ndarray]:
    """Dense and sparse vectors from the whole model's own outputs, without batches, padding or chunks."""
    model = loader.from_pretrained(folder).eval()
    dense, sparse = [], []
    for ids in tower.tokenize(TEXTS):
        output = model(input_ids=torch.tensor([ids]), output_hidden_states=True)
        last = output.hidden_states[-1][0]
        vector = {"lasttoken": last[-1], "mean": last.mean(0), "cls": last[0]}[pooling]
        dense.append(vector / vector.norm())
        inner = output.logits[0, 1:-1, : tower.vocab_size]
        sparse.append(inner.amax(0).relu().log1p() if len(inner) else torch.zeros(tower.vocab_size))
    return torch.stack(dense).numpy(), torch.stack(sparse).numpy()


def check(tower: DocumentEncoder, folder: Path, loader: type, pooling: str) -> None:
    dense, sparse = plain(tower, folder, loader, pooling)
    encoded = tower.encode(TEXTS)
    assert np.abs(encoded.dense - dense).max() < 1e-5
    assert encoded.sparse is not None
    assert np.abs(encoded.sparse.to_dense() - sparse).max() < 1e-4
    assert sparse.max() > 0.1


@pytest.mark.parametrize("kind", CAUSAL)
def test_causal_models(kind: str, tmp_path: Path) -> None:
    folder = causal_folder(tmp_path, kind)
    tower = DocumentEncoder.load(folder, device="cpu", max_length=40)
    assert tower.causal
    assert tower.tokenize(["", TEXTS[2]])[0] == [tower.bos_id, tower.eos_id]
    assert [len(ids) for ids in tower.tokenize([TEXTS[2]])] == [40]
    check(tower, folder, AutoModelForCausalLM, "lasttoken")


@pytest.mark.parametrize("kind", MASKED)
def test_encoders_with_a_head(kind: str, tmp_path: Path) -> None:
    folder = masked_folder(tmp_path, kind)
    tower = DocumentEncoder.load(folder, device="cpu")
    assert not tower.causal
    assert tower.max_length == (65 if kind == "roberta" else 64)
    assert tower.default_prompt == ""
    check(tower, folder, AutoModelForMaskedLM, "mean")


@pytest.mark.parametrize(
    "case",
    [
        {"kind": "qwen2", "bos": None},
        {"kind": "qwen2", "bos": None, "pad": "</s>"},
        {"kind": "llama", "rows": 40},
        {"kind": "qwen2", "tie_word_embeddings": True, "rows": 24},
        {"kind": "gpt2", "bos": "<|endoftext|>", "eos": "<|endoftext|>", "pad": None},
    ],
    ids=["no bos", "pad is eos", "more rows than tokens", "tied heads", "one token for all"],
)
def test_unusual_vocabularies(case: dict, tmp_path: Path) -> None:
    folder = causal_folder(tmp_path, **case)
    tower = DocumentEncoder.load(folder, device="cpu", max_length=40)
    begin = [] if case.get("bos", "<s>") is None else [tower.bos_id]
    assert tower.tokenize([""]) == [[*begin, tower.eos_id]]
    if case.get("pad", "") in (None, "</s>"):
        assert tower.pad_id == tower.eos_id
        assert tower.skip_ids == (tower.eos_id,)
    check(tower, folder, AutoModelForCausalLM, "lasttoken")


def test_an_encoder_without_head_has_no_sparse_side(tmp_path: Path) -> None:
    folder = masked_folder(tmp_path, "bert", head=False)
    tower = DocumentEncoder.load(folder, device="cpu")
    assert not tower.has_sparse
    assert tower.encode(TEXTS).sparse is None
    with pytest.raises(ModelError, match="no LM head"):
        DocumentEncoder.load(folder, device="cpu", sparse="lm")


def test_no_sparse_when_none_is_asked_for(tmp_path: Path) -> None:
    tower = DocumentEncoder.load(causal_folder(tmp_path, "llama"), device="cpu", sparse="none")
    assert tower.encode(TEXTS).sparse is None


def test_results_are_in_input_order_across_windows_and_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tower = DocumentEncoder.load(causal_folder(tmp_path, "llama"), device="cpu", max_length=40)
    whole = tower.encode(TEXTS)
    monkeypatch.setattr("lightretriever.document.batches.WINDOW_TEXTS", 3)
    monkeypatch.setattr("lightretriever.document.batches.CPU_BATCH_TOKENS", 50)
    calls: list[tuple[int, int | None]] = []
    parts = tower.encode((text for text in TEXTS), progress=lambda done, total: calls.append((done, total)))
    assert np.abs(parts.dense - whole.dense).max() < 1e-5
    assert parts.sparse is not None and whole.sparse is not None
    assert np.abs(parts.sparse.to_dense() - whole.sparse.to_dense()).max() < 1e-4
    assert calls[-1] == (len(TEXTS), None)
    assert [done for done, _ in calls] == sorted({done for done, _ in calls})


def test_a_document_is_its_title_and_text(tmp_path: Path) -> None:
    tower = DocumentEncoder.load(causal_folder(tmp_path, "llama"), device="cpu")
    rows = tower.encode(
        [{"title": "Everest", "text": "a mountain"}, Document("1", "a mountain", "Everest"), "Everest a mountain"]
    ).dense
    assert np.abs(rows - rows[0]).max() < 1e-6
    with pytest.raises(InputError):
        tower.encode([{"title": "no text"}])


def test_one_document_by_itself_is_a_list_of_one(tmp_path: Path) -> None:
    tower = DocumentEncoder.load(causal_folder(tmp_path, "llama"), device="cpu")
    for document in ("hello world", {"text": "hello world"}, Document("1", "hello world")):
        assert np.array_equal(tower.encode(document).dense, tower.encode(["hello world"]).dense)


def test_vectors_narrower_than_the_hidden_size(tmp_path: Path) -> None:
    folder = causal_folder(tmp_path, "opt", word_embed_proj_dim=16, init_std=0.3)
    tower = DocumentEncoder.load(folder, device="cpu")
    model = AutoModelForCausalLM.from_pretrained(folder).eval().base_model
    encoded = tower.encode(TEXTS)
    assert encoded.dense.shape == (len(TEXTS), tower.dim) == (len(TEXTS), 16)
    assert encoded.sparse is not None
    for row, ids in zip(encoded.dense, tower.tokenize(TEXTS), strict=True):
        with torch.inference_mode():
            vector = model(torch.tensor([ids])).last_hidden_state[0, -1].numpy()
        assert np.abs(row - vector / np.linalg.norm(vector)).max() < 1e-5


def test_nothing_to_encode(tmp_path: Path) -> None:
    tower = DocumentEncoder.load(causal_folder(tmp_path, "llama"), device="cpu")
    encoded = tower.encode([])
    assert encoded.dense.shape == (0, 32)
    assert encoded.sparse is not None and len(encoded.sparse) == 0
    assert tower.encode_queries([]).shape == (0, 32)


def test_unsafe_characters_are_encoded_as_replacement_characters(tmp_path: Path) -> None:
    tower = DocumentEncoder.load(causal_folder(tmp_path, "llama"), device="cpu")
    unsafe, safe = tower.encode(["nul \0 lone \ud800", "nul \ufffd lone \ufffd"]).dense
    assert np.array_equal(unsafe, safe)
    assert np.array_equal(*tower.encode_queries(["lone \udfff", "lone \ufffd"], prompt=""))


def test_queries_carry_the_prompt_and_are_pooled_like_documents(tmp_path: Path) -> None:
    tower = DocumentEncoder.load(causal_folder(tmp_path, "llama"), device="cpu")
    told = tower.encode_queries(["how tall?"])
    assert np.abs(told - tower.encode([tower.default_prompt + "how tall?"]).dense).max() < 1e-6
    assert np.abs(tower.encode_queries("how tall?", "") - tower.encode(["how tall?"]).dense).max() < 1e-6


def test_half_precision_is_near(tmp_path: Path) -> None:
    folder = causal_folder(tmp_path, "qwen2", initializer_range=0.02)
    exact = DocumentEncoder.load(folder, device="cpu").encode(TEXTS)
    near = DocumentEncoder.load(folder, device="cpu", dtype="bfloat16").encode(TEXTS)
    assert near.dense.dtype == np.float32
    assert (near.dense * exact.dense).sum(1).min() > 0.99


@pytest.mark.parametrize(
    "arguments",
    [
        {"sparse": "bm25"},
        {"dtype": "int3"},
        {"top_k": 0},
        {"max_length": 2},
        {"base": "elsewhere"},
        {"device": "abacus"},
    ],
)
def test_arguments_without_sense(arguments: dict, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        DocumentEncoder.load(causal_folder(tmp_path, "llama"), **{"device": "cpu", **arguments})
