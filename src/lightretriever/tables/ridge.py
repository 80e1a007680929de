"""Ridge regression from bags to vectors, by conjugate gradients on all columns at once (METHOD, last section)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from lightretriever.tables.bags import Bags
from lightretriever.tables.kernels import add_normal, add_transposed, multiply

Floats = NDArray[np.float32]

_THREADS = 2
_COLUMNS = 256  # of the table worked on at once by a thread: bounds memory, whatever the dimension
_ROWS = 4096  # texts whose residuals are held at once


def solve_ridge(
    bags: Bags,
    targets: NDArray[np.floating],
    prior: Floats,
    l2: float,
    start: Floats | None = None,
    iterations: int = 30,
    tolerance: float = 1e-4,
) -> Floats:
    """The table E [V, d] that minimises Σ_s ‖bag(s)·E − f(s)‖² + l2 · ‖E − prior‖².

    Conjugate gradients with a diagonal preconditioner (token frequencies span five orders of magnitude), each
    column on its own but all sharing the passes over the texts; XᵀX is never formed. A row that no text uses
    stays at the prior. Besides arguments and result, memory is 5 · 4 bytes · V · 256 columns for each of two threads.

    Args:
        bags: X, n texts over V ids.
        targets: f(s), [n, d], any float type.
        prior: [V, d].
        l2: λ > 0.
        start: [V, d] to begin from; the prior when None.
        iterations: at most so many.
        tolerance: stop where the residual's norm falls to this share of the right-hand side's.
    """
    dim = prior.shape[1]
    diagonal = np.bincount(bags.ids, weights=bags.weights.astype(np.float64) ** 2, minlength=bags.width)
    inverse = (1.0 / (diagonal + l2)).astype(np.float32)[:, None]
    result = np.empty_like(prior)
    width = min(_COLUMNS, -(-dim // _THREADS))

    def solve_columns(first: int) -> None:
        columns = slice(first, first + width)
        base = np.ascontiguousarray(prior[:, columns])
        begin = base if start is None else np.ascontiguousarray(start[:, columns])
        step = np.zeros_like(base) if start is None else begin - base  # E − prior
        residual = _gradient(bags, targets, columns, begin) - np.float32(l2) * step
        limit = residual if start is None else _gradient(bags, targets, columns, base)
        limit_norm = tolerance * np.sqrt(_dot(limit, inverse * limit))
        direction = inverse * residual
        energy = _dot(residual, direction)
        product = np.empty_like(base)
        for _ in range(iterations):
            if np.all(np.sqrt(energy) <= limit_norm):
                break
            np.multiply(direction, np.float32(l2), out=product)
            add_normal(bags.indptr, bags.ids, bags.weights, direction, product)
            length = _divide(energy, _dot(direction, product))
            step += length * direction
            residual -= length * product
            np.multiply(inverse, residual, out=product)
            energy, previous = _dot(residual, product), energy
            direction *= _divide(energy, previous)
            direction += product
        result[:, columns] = base + step

    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(solve_columns, range(0, dim, width)))
    return result


def _gradient(bags: Bags, targets: NDArray[np.floating], columns: slice, table: Floats) -> Floats:
    """``X.T @ (targets - X @ table)`` for some columns."""
    out = np.zeros_like(table)
    for first in range(0, len(bags), _ROWS):
        indptr = bags.indptr[first : first + _ROWS + 1]
        rest = np.empty((len(indptr) - 1, table.shape[1]), dtype=np.float32)
        multiply(indptr, bags.ids, bags.weights, table, rest)
        np.subtract(targets[first : first + _ROWS, columns].astype(np.float32), rest, out=rest)
        add_transposed(indptr, bags.ids, bags.weights, rest, out)
    return out


def _dot(a: Floats, b: Floats) -> Floats:
    """Inner product of each pair of columns [c]."""
    return np.einsum("vc,vc->c", a, b)


def _divide(a: Floats, b: Floats) -> Floats:
    """``a / b``, 0 where b is 0: a column that has converged exactly moves no further."""
    return np.divide(a, b, out=np.zeros_like(a), where=b > 0)
