"""Fusion against the golden numbers, and where the paper's formula misleads."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lightretriever import Hit, fuse
from lightretriever.errors import UsageError
from lightretriever.fusion import Fusion, contributions, fuse_scores, heard, heard_weights


def hits(**scores: float) -> list[Hit]:
    return [Hit(id=name, score=score) for name, score in scores.items()]


@pytest.mark.parametrize(
    ("case", "fusion"),
    [
        ("linear_0.7_0.3", Fusion(tied="paper")),
        ("linear_0.5_0.5", Fusion(dense=0.5, sparse=0.5, tied="paper")),
        ("rrf_k60", Fusion(method="rrf")),
        ("rrf_k10", Fusion(method="rrf", rrf_k=10)),
    ],
)
def test_golden(golden: Path, case: str, fusion: Fusion) -> None:
    numbers = json.loads((golden / "common/fusion.json").read_text())
    for query, expected in numbers[case].items():
        fused = fuse_scores(numbers["run_emb"].get(query, {}), numbers["run_tok"].get(query, {}), fusion)
        assert dict(fused) == pytest.approx(expected, abs=1e-12)
        scores = [score for _, score in fused]
        assert scores == sorted(scores, reverse=True)


def test_linear_by_hand() -> None:
    dense, sparse = hits(a=0.9, b=0.5, c=0.1), hits(c=30.0, d=10.0, a=20.0)
    fused = fuse(dense, sparse, k=3)
    assert [hit.id for hit in fused] == ["a", "b", "c"]
    assert [hit.score for hit in fused] == pytest.approx([0.7 + 0.3 * 0.5, 0.7 * 0.5, 0.3], abs=1e-6)
    first = fused[0]
    assert (first.dense_score, first.dense_rank, first.sparse_score, first.sparse_rank) == (0.9, 1, 20.0, 2)
    assert (fused[1].sparse_score, fused[1].sparse_rank) == (None, None)


def test_a_list_of_one_hit_counts() -> None:
    dense = hits(a=0.9, b=0.89, c=0.1)
    only = hits(b=7.0)
    assert [hit.id for hit in fuse(dense, only)] == ["b", "a", "c"]
    assert [hit.id for hit in fuse(dense, only, fusion=Fusion(tied="paper"))] == ["a", "b", "c"]
    assert contributions([3.0, 3.0], 0.7, Fusion()) == [0.7, 0.7]
    assert contributions([3.0, 3.0], 0.7, Fusion(tied="paper")) == [0.0, 0.0]
    assert fuse([], only)[0].score == pytest.approx(0.3)


def test_ties_go_by_dense_score_then_id() -> None:
    fused = fuse(hits(z=0.5, y=0.5), hits(x=2.0, w=2.0), fusion=Fusion(dense=0.5, sparse=0.5))
    assert [hit.id for hit in fused] == ["y", "z", "w", "x"]


def test_nothing_found() -> None:
    assert fuse([], []) == []


@pytest.mark.parametrize(
    "wrong",
    [{"method": "max"}, {"dense": -1.0}, {"dense": 0.0, "sparse": 0.0}, {"dense": float("nan")}, {"tied": "x"}],
)
def test_impossible_settings_are_refused(wrong: dict) -> None:
    with pytest.raises(UsageError):
        Fusion(**wrong)
    with pytest.raises(UsageError, match="k is 0"):
        fuse([], [], k=0)


scores = st.dictionaries(st.text("abcdef", min_size=1, max_size=2), st.floats(-1e6, 1e6), max_size=12)


@given(scores, scores, st.sampled_from(["linear", "rrf"]), st.sampled_from(["best", "paper"]))
def test_invariants(dense: dict, sparse: dict, method: str, tied: str) -> None:
    fusion = Fusion(method=method, tied=tied)
    fused = fuse_scores(dense, sparse, fusion)
    assert {key for key, _ in fused} == dense.keys() | sparse.keys()
    values = np.array([score for _, score in fused])
    assert (np.diff(values) <= 0).all()
    assert (values >= 0).all()
    assert (values <= 1 + 1e-9).all()
    shuffled = fuse_scores(dict(reversed(dense.items())), dict(reversed(sparse.items())), fusion)
    if method == "linear":  # ranks of equal scores follow the order given
        assert shuffled == fused


@given(scores, scores, st.sampled_from([None, 0.0, 0.4, 1.0]))
def test_linear_as_its_formula_says(dense: dict, sparse: dict, weight: float | None) -> None:
    def part(among: dict, name: str) -> float:
        low, high = min(among.values(), default=0.0), max(among.values(), default=0.0)
        return 0.0 if name not in among else (among[name] - low) / (high - low + 1e-8) if high > low else 1.0

    one, two = (0.7, 0.3) if weight is None else (weight, 1 - weight)
    expected = {name: one * part(dense, name) + two * part(sparse, name) for name in {*dense, *sparse}}
    fused = fuse_scores(dense, sparse, weight=weight)
    assert dict(fused) == pytest.approx(expected, abs=1e-12)
    order = [(-score, -dense.get(name, -np.inf), name) for name, score in fused]
    assert order == sorted(order)


def test_a_query_that_is_understood_in_part_listens_more_to_the_sparse_list() -> None:
    dense, sparse = {"a": 0.9, "b": 0.5}, {"b": 7.0, "a": 1.0}
    assert fuse_scores(dense, sparse)[0][0] == "a"
    assert fuse_scores(dense, sparse, hearing=0.09)[0][0] == "b"
    assert fuse_scores(dense, sparse, Fusion(method="rrf"), hearing=0.09)[0][0] == "b"


@given(st.floats(0, 1), st.floats(0, 3), st.floats(0, 3), st.none() | st.floats(0, 1))
def test_hearing_moves_weight_and_keeps_its_sum(
    hearing: float, dense: float, sparse: float, weight: float | None
) -> None:
    assume(dense + sparse > 1e-3)
    fusion = Fusion(dense=dense, sparse=sparse)
    before, after = heard_weights(fusion, weight), heard_weights(fusion, weight, hearing)
    assert sum(after) == pytest.approx(sum(before))
    assert after[0] <= before[0] + 1e-12
    assert heard_weights(fusion, weight, 1.0) == before
    if before[1]:
        assert heard_weights(fusion, weight, 0.0) == pytest.approx((0.0, sum(before)))
    else:
        assert after == before, "there is no other list"


def test_how_far_a_dense_list_is_listened_to() -> None:
    assert heard(1.0, 0.0, 9.0) == 1.0
    assert heard(0.5, 4.0, 9.0) == 0.5, "the sparse list found what is not understood"
    assert heard(0.5, 10.0, 1.0) == pytest.approx(1 - 0.5 / 3), "it found a third of what that would bring"
    assert heard(0.0, 10.0, 0.0) == 1.0, "nobody knows better"
