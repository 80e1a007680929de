"""The compiled fusion gives what the plain one gives, to the bit and in the same order."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lightretriever.fusion import Fusion, fuse_ranked
from lightretriever.fusion_kernels import fuse_lists
from lightretriever.weigher import places_in

SCORES = st.one_of(st.sampled_from([0.0, 0.5, 1.0, -1.0]), st.floats(-4, 40, width=32))


@st.composite
def rankings(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    keys = draw(st.lists(st.one_of(st.integers(0, 12), st.integers(0, 2**62)), unique=True, max_size=20))
    scores = draw(st.lists(SCORES, min_size=len(keys), max_size=len(keys)))
    order = sorted(range(len(keys)), key=lambda i: (-scores[i], keys[i]))
    return np.array([keys[i] for i in order], np.int64), np.array([scores[i] for i in order], np.float32)


@given(
    rankings(),
    rankings(),
    st.integers(0, 50),
    st.sampled_from(["linear", "rrf"]),
    st.sampled_from(["best", "paper"]),
    st.one_of(st.none(), st.floats(0, 1)),
    st.floats(0, 1),
)
def test_it_is_the_plain_fusion(
    dense: tuple[np.ndarray, np.ndarray],
    sparse: tuple[np.ndarray, np.ndarray],
    k: int,
    method: str,
    tied: str,
    weight: float | None,
    hearing: float,
) -> None:
    fusion = Fusion(method=method, tied=tied)
    keys = dense[0].tolist(), sparse[0].tolist()
    scores = dense[1].tolist(), sparse[1].tolist()
    places = places_in(keys[1], keys[0])
    expected = fuse_ranked(keys[0], scores[0], keys[1], scores[1], places, fusion, weight, hearing)[:k]
    found = fuse_lists(*dense, *sparse, k, fusion, weight, hearing)
    assert list(zip(found.keys.tolist(), found.scores.tolist(), strict=True)) == expected
    for key, one, two in zip(found.keys.tolist(), found.dense.tolist(), found.sparse.tolist(), strict=True):
        assert one == (keys[0].index(key) if key in keys[0] else -1)
        assert two == (keys[1].index(key) if key in keys[1] else -1)
