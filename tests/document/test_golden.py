"""The document tower against what an independent implementation computed for a tiny Llama and its LoRA release."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from lightretriever import DocumentEncoder, cache_table
from lightretriever.document.sparse import valid_positions
from lightretriever.tables.cache import token_rows
from lightretriever.text.prompt import DEFAULT_PROMPT


class Case(NamedTuple):
    tower: DocumentEncoder
    numbers: Path
    told: dict


@pytest.fixture(scope="module", params=["base", "release"])
def case(request: pytest.FixtureRequest, golden: Path) -> Case:
    base = golden / "models/llama-tiny"
    if request.param == "base":
        model, numbers, tower_base = base, golden / "llama-tiny", None
    else:
        model, numbers = golden / "checkpoint_llama-tiny", golden / "checkpoint_llama-tiny_golden"
        tower_base = base
    told = json.loads((numbers / "tokenization.json").read_text(encoding="utf-8"))
    tower = DocumentEncoder.load(model, tower_base, device="cpu", max_length=told["max_len_doc"])
    return Case(tower, numbers, told)


def test_ids_and_masks_are_exact(case: Case) -> None:
    tower, numbers, told = case
    ids = tower.tokenize(told["docs"])
    assert ids == told["doc_ids_truncated"]
    assert (tower.bos_id, tower.eos_id, tower.pad_id) == (650, 651, 652)
    assert tower.skip_ids == (652,)
    assert tower.vocab_size == told["len_tokenizer"]
    valid = valid_positions(torch.tensor([len(row) for row in ids]), 48)
    assert np.array_equal(valid.numpy(), np.load(numbers / "docs_sparse.npz")["sparse_valid_mask"])


def test_special_tokens_in_text_keep_their_case(case: Case) -> None:
    tower, _, told = case
    for text, ids in told["literal_special_in_text"].items():
        assert tower.tokenize([text])[0][1:-1] == ids[:46]


def test_documents_match(case: Case) -> None:
    tower, numbers, told = case
    encoded = tower.encode(told["docs"])
    assert np.abs(encoded.dense - np.load(numbers / "docs_dense.npz")["dense_normalized"]).max() < 1e-5
    assert encoded.sparse is not None
    assert np.abs(encoded.sparse.to_dense() - np.load(numbers / "docs_sparse.npz")["sparse"]).max() < 1e-4


@pytest.mark.parametrize(("top_k", "name"), [(8, "sparse_top8"), (32, "sparse_top32"), (4, "sparse_top_k_psg4")])
def test_top_k_matches(case: Case, top_k: int, name: str) -> None:
    tower, numbers, told = case
    kept = DocumentEncoder(tower.backbone, max_length=48, top_k=top_k).encode(told["docs"]).sparse
    assert kept is not None
    assert np.abs(kept.to_dense() - np.load(numbers / "docs_sparse.npz")[name]).max() < 1e-4


def test_table_matches(case: Case) -> None:
    tower, numbers, told = case
    stored = np.load(numbers / "queries_dense.npz")
    table = cache_table(tower)
    assert np.abs(table[np.arange(656)] - stored["table_fp32"]).max() < 1e-4
    assert (table.prompt, table.model, table.revision) == (told["prompt"], tower.name, tower.revision)
    assert np.abs(token_rows(tower, "") - stored["table_fp32_no_prompt"]).max() < 1e-4


def test_table_matches_run_whole(case: Case) -> None:
    tower, numbers, _ = case
    whole = DocumentEncoder(replace(tower.backbone, causal=False), max_length=48)  # shares no prefix
    rows = token_rows(whole, DEFAULT_PROMPT)
    assert np.abs(rows - np.load(numbers / "queries_dense.npz")["table_fp32"]).max() < 1e-4


def test_symmetric_queries_match(case: Case) -> None:
    tower, numbers, told = case
    longer = DocumentEncoder(tower.backbone, max_length=64)
    stored = np.load(numbers / "queries_symmetric_dense.npz")
    assert (
        longer.tokenize([told["prompt"] + query for query in told["queries"]])
        == (told["query_ids_symmetric_prompted_truncated_64"])
    )
    assert np.abs(longer.encode_queries(told["queries"]) - stored["dense_normalized"]).max() < 1e-5
