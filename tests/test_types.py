"""Sparse rows: taken, put together and spread out again without loss."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from lightretriever import Encoded, Hit, SparseVectors
from lightretriever.types import concatenate_sparse, sparse_from_dense, take_sparse

matrices = npst.arrays(
    np.float32,
    st.tuples(st.integers(0, 6), st.integers(1, 9)),
    elements=st.sampled_from([0.0, 0.0, 0.5, 1.0, -2.0]),
)


@given(matrices)
def test_dense_and_back(matrix: np.ndarray) -> None:
    sparse = sparse_from_dense(matrix)
    assert (len(sparse), sparse.width) == matrix.shape
    assert np.array_equal(sparse.to_dense(), matrix)
    assert (sparse.values != 0).all()
    for i, row in enumerate(matrix):
        indices, values = sparse.row(i)
        assert indices.tolist() == np.flatnonzero(row).tolist()
        assert values.tolist() == row[row != 0].tolist()
    assert (sparse.indptr.dtype, sparse.indices.dtype, sparse.values.dtype) == (np.int64, np.int32, np.float32)


@given(matrices, st.data())
def test_taking_rows(matrix: np.ndarray, data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, max(len(matrix) - 1, 0)), max_size=8 if len(matrix) else 0))
    assert np.array_equal(take_sparse(sparse_from_dense(matrix), rows).to_dense(), matrix[rows])


@given(matrices, st.integers(0, 6))
def test_cutting_and_putting_together(matrix: np.ndarray, cut: int) -> None:
    parts = [sparse_from_dense(matrix[:cut]), sparse_from_dense(matrix[cut:])]
    assert np.array_equal(concatenate_sparse(parts).to_dense(), matrix)


def test_parts_of_different_width_are_refused() -> None:
    one, other = (sparse_from_dense(np.ones((1, width), np.float32)) for width in (3, 4))
    for parts in ([], [one, other]):
        with pytest.raises(ValueError, match="one width"):
            concatenate_sparse(parts)


def test_small_values_compare_and_cannot_be_changed() -> None:
    assert Hit("a", 1.0) == Hit("a", 1.0)
    assert len(Encoded(np.zeros((3, 2), np.float32))) == 3
    with pytest.raises(AttributeError):
        Hit("a", 1.0).score = 2.0  # type: ignore[misc]
    with pytest.raises(AttributeError):
        SparseVectors(*np.zeros((3, 1), int), 3).width = 4  # type: ignore[misc]
