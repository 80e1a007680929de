"""Compiled products with sparse rows (CSR) times dense columns. Each releases the GIL and uses one thread."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Ids = NDArray[np.int32]
Floats = NDArray[np.float32]


@njit(nogil=True, cache=True)
def multiply(indptr: Ints, ids: Ids, weights: Floats, dense: Floats, out: Floats) -> None:
    """``out = X @ dense``: out [n, c], dense [columns of X, c]."""
    width = dense.shape[1]
    for row in range(len(indptr) - 1):
        out[row, :] = 0.0
        for entry in range(indptr[row], indptr[row + 1]):
            column, weight = ids[entry], weights[entry]
            for c in range(width):
                out[row, c] += weight * dense[column, c]


@njit(nogil=True, cache=True)
def add_transposed(indptr: Ints, ids: Ids, weights: Floats, dense: Floats, out: Floats) -> None:
    """``out += X.T @ dense``: dense [n, c], out [columns of X, c]."""
    width = dense.shape[1]
    for row in range(len(indptr) - 1):
        for entry in range(indptr[row], indptr[row + 1]):
            column, weight = ids[entry], weights[entry]
            for c in range(width):
                out[column, c] += weight * dense[row, c]


@njit(nogil=True, cache=True)
def add_normal(indptr: Ints, ids: Ids, weights: Floats, dense: Floats, out: Floats) -> None:
    """``out += X.T @ (X @ dense)``, a row at a time, so that nothing of length n is held."""
    width = dense.shape[1]
    row_product = np.empty(width, dtype=np.float32)
    for row in range(len(indptr) - 1):
        row_product[:] = 0.0
        for entry in range(indptr[row], indptr[row + 1]):
            column, weight = ids[entry], weights[entry]
            for c in range(width):
                row_product[c] += weight * dense[column, c]
        for entry in range(indptr[row], indptr[row + 1]):
            column, weight = ids[entry], weights[entry]
            for c in range(width):
                out[column, c] += weight * row_product[c]
