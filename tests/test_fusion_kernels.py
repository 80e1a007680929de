"""The compiled fusion gives what the plain one gives, to the bit and in the same order."""

from __future__ import annotations

from itertools import pairwise
from math import isnan

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lightretriever.fusion import Fusion, fuse_exact, fuse_ranked
from lightretriever.fusion_kernels import fuse_lists
from lightretriever.weigher import places_in

SCORES = st.one_of(st.sampled_from([0.0, 0.5, 1.0, -1.0]), st.floats(-4, 40, width=32))


@st.composite
def rankings(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    keys = draw(st.lists(st.one_of(st.integers(0, 12), st.integers(0, 2**62)), unique=True, max_size=20))
    scores = draw(st.lists(SCORES, min_size=len(keys), max_size=len(keys)))
    order = sorted(range(len(keys)), key=lambda i: (-scores[i], keys[i]))
    return np.array([keys[i] for i in order], np.int64), np.array([scores[i] for i in order], np.float32)


def side_by_side(lists: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, ...]:
    counts = np.array([len(keys) for keys, _ in lists], np.int64)
    keys, scores = np.zeros((len(lists), 20), np.int64), np.zeros((len(lists), 20), np.float32)
    for i, one in enumerate(lists):
        keys[i, : counts[i]], scores[i, : counts[i]] = one
    return counts, keys, scores, np.empty((len(lists), 0), np.float32)


@st.composite
def scored(draw: st.DrawFn) -> dict[int, tuple[float, float]]:
    """Documents with both scores."""
    keys = st.one_of(st.integers(0, 12), st.integers(0, 2**62))
    both = st.tuples(st.floats(-1, 1, width=32), st.one_of(st.just(0.0), st.floats(0, 40, width=32)))
    return draw(st.dictionaries(keys, both, max_size=20))


def lists_of(scores: dict[int, tuple[float, float]], arm: int, depth: int) -> tuple[np.ndarray, ...]:
    """One arm's list of so many, with the other arm's scores; of the sparse one those that have a score."""
    order = sorted((key for key in scores if not arm or scores[key][1]), key=lambda key: (-scores[key][arm], key))
    kept = order[:depth]
    own, other = (np.array([[scores[key][side] for key in kept]], np.float32) for side in (arm, 1 - arm))
    return np.array([len(kept)]), np.array([kept], np.int64).reshape(1, -1), own, other


ENDS = st.tuples(st.floats(-0.5, 0.9), st.one_of(st.just(0.0), st.floats(0.91, 3)))


@given(scored(), st.integers(0, 25), st.integers(1, 25), ENDS, st.floats(0, 1), st.floats(0, 1))
def test_what_a_document_gets_depends_on_no_list(
    scores: dict, k: int, depth: int, ends: tuple, weight: float, hearing: float
) -> None:
    arms = lists_of(scores, 0, depth), lists_of(scores, 1, depth)
    found = fuse_lists(*arms, k, Fusion(), [weight], [hearing], np.array([ends]))
    listed = {*arms[0][1][0].tolist(), *arms[1][1][0].tolist()}
    expected = dict(fuse_exact(scores, ends, Fusion(), weight, hearing))
    best = [(key, score) for key, score in expected.items() if key in listed][:k]
    assert [key for key, _ in best] == found.keys.tolist()
    assert [score for _, score in best] == found.scores.tolist()
    for i, key in enumerate(found.keys.tolist()):
        assert (found.dense_scores[i], found.sparse_scores[i]) == scores[key]
        for places, arm in ((found.dense, arms[0]), (found.sparse, arms[1])):
            assert places[i] == (arm[1][0].tolist().index(key) if key in arm[1][0] else -1)


@given(
    st.lists(st.tuples(rankings(), rankings(), st.one_of(st.none(), st.floats(0, 1)), st.floats(0, 1)), max_size=4),
    st.integers(0, 50),
    st.sampled_from(["linear", "rrf"]),
    st.sampled_from(["best", "paper"]),
)
def test_it_is_the_plain_fusion(queries: list, k: int, method: str, tied: str) -> None:
    fusion = Fusion(method=method, tied=tied)
    dense, sparse, weights, hearings = ([query[i] for query in queries] for i in range(4))
    found = fuse_lists(side_by_side(dense), side_by_side(sparse), k, fusion, weights, hearings)
    assert len(found.starts) == len(queries) + 1
    assert found.starts[-1] == len(found.keys)
    for i, (start, end) in enumerate(pairwise(found.starts.tolist())):
        keys = dense[i][0].tolist(), sparse[i][0].tolist()
        scores = dense[i][1].tolist(), sparse[i][1].tolist()
        places = places_in(keys[1], keys[0])
        expected = fuse_ranked(keys[0], scores[0], keys[1], scores[1], places, fusion, weights[i], hearings[i])[:k]
        _, fused, total, *of_arms = (array[start:end].tolist() for array in found)
        assert list(zip(fused, total, strict=True)) == expected
        for arm in (0, 1):
            for key, place, score in zip(fused, of_arms[arm], of_arms[arm + 2], strict=True):
                if key in keys[arm]:
                    assert (place, score) == (keys[arm].index(key), scores[arm][place])
                else:
                    assert place == -1
                    assert isnan(score)
