"""The chunked LM-head maximum against the plain one, and how much memory it takes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from allocations import Largest

from lightretriever.document.sparse import _rows, sparse_vectors, valid_positions


def _case(n: int, length: int, width: int, hidden: int = 8) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(n)
    states = torch.randn(n, length, hidden, generator=generator)
    lengths = torch.randint(1, length + 1, (n,), generator=generator)
    return states, lengths, torch.randn(width, hidden, generator=generator)


def _plain(states: torch.Tensor, lengths: torch.Tensor, weight: torch.Tensor) -> np.ndarray:
    rows = []
    for state, length in zip(states, lengths.tolist(), strict=True):
        logits = state[1 : length - 1] @ weight.T
        rows.append(logits.amax(0).relu().log1p() if len(logits) else torch.zeros(len(weight)))
    return torch.stack(rows).numpy()


@pytest.mark.parametrize("chunk_bytes", [1, 4 * 50, 4 * 50 * 3, 4 * 50 * 7, 1 << 20])
def test_chunks_of_any_size_give_the_same(chunk_bytes: int) -> None:
    states, lengths, weight = _case(9, 12, 50)
    found = sparse_vectors(states, lengths, lambda x: x @ weight.T, 50, None, chunk_bytes)
    assert np.abs(found.to_dense() - _plain(states, lengths, weight)).max() < 1e-5
    assert (found.values > 0).all()


def test_top_k_keeps_ties_and_at_least_eight() -> None:
    states = torch.ones(1, 3, 1)
    weight = torch.tensor([[5.0]] * 3 + [[3.0]] * 7 + [[-1.0]] * 4)
    lengths = torch.tensor([3])
    kept = sparse_vectors(states, lengths, lambda x: x @ weight.T, 14, 2)
    assert kept.row(0)[0].tolist() == list(range(10))  # the 8th is tied with the 9th and 10th
    few = torch.tensor([[2.0]] * 3 + [[-1.0]] * 11)
    assert len(sparse_vectors(states, lengths, lambda x: x @ few.T, 14, 8).row(0)[0]) == 3
    assert len(sparse_vectors(states, lengths, lambda x: x @ few.T, 14, 100).row(0)[0]) == 3


def test_top_k_judges_ties_after_log1p() -> None:
    logits = np.full(10, 1000, np.float32)
    logits[8:] = np.nextafter(np.float32(1000), np.float32(0))
    assert len(np.unique(logits)) == 2 and len(np.unique(np.log1p(logits))) == 1
    assert len(_rows(torch.from_numpy(logits)[None], 10, 8).values) == 10


def test_golden_masks(golden: Path) -> None:
    told = json.loads((golden / "common/sparse_masks.json").read_text())
    # The tower pads on the right only.
    cases = [case for name, case in told.items() if isinstance(case, dict) and name != "left_padding"]
    assert len(cases) >= 5
    for case in cases:
        attended = torch.tensor(case["attention_mask"])
        valid = valid_positions(attended.sum(1), attended.shape[1])
        assert valid.int().tolist() == case["remove_prompt_False"]


def test_golden_top_k(golden: Path) -> None:
    told = json.loads((golden / "common/topk.json").read_text())
    maxima = torch.tensor(told["input"])
    kept = _rows(maxima, maxima.shape[1], 2).to_dense()
    assert np.abs(kept - np.log1p(told["top_k=2,min_keep=8"])).max() < 1e-5


@pytest.mark.parametrize(("n", "length"), [(2, 64), (32, 8), (2, 128)])
def test_memory_does_not_grow_with_batch_and_length_at_152k_tokens(n: int, length: int) -> None:
    width, chunk = 152_000, 8 << 20
    states, _, weight = _case(n, length, width, hidden=2)
    with Largest() as largest:
        found = sparse_vectors(
            states, torch.full((n,), length), lambda x: x @ weight.T, width, top_k=8, chunk_bytes=chunk
        )
    assert len(found) == n
    assert largest.bytes <= chunk  # the logits of all positions would take 75 to 155 MB


def test_valid_positions_leave_out_the_first_and_the_last() -> None:
    valid = valid_positions(torch.tensor([1, 2, 3, 5]), 5)
    assert valid.int().tolist() == [[0] * 5, [0] * 5, [0, 1, 0, 0, 0], [0, 1, 1, 1, 0]]
