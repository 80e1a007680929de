"""The ridge fit of a whole table, and its strength λ chosen on held-out texts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lightretriever.tables.bags import Bags, unit_rows
from lightretriever.tables.ridge import solve_ridge

Floats = NDArray[np.float32]

# λ in units of what one more occurrence of a token adds to the diagonal of XᵀX, from strong to weak.
_STRENGTHS = (300.0, 100.0, 30.0, 10.0, 3.0, 1.0, 0.3, 0.1)
_HELD_OUT = 2000  # texts at most, and a tenth of all at most


def scale_bags(bags: Bags, base: Floats) -> Bags:
    """Each bag scaled so that its prediction under ``base`` has unit length, or its weights where that is zero."""
    row_of = np.repeat(np.arange(len(bags)), np.diff(bags.indptr))
    own = np.sqrt(np.bincount(row_of, weights=bags.weights.astype(np.float64) ** 2, minlength=len(bags)))
    predicted = np.empty(len(bags), dtype=np.float32)
    for first in range(0, len(bags), 4096):
        rows = np.arange(first, min(first + 4096, len(bags)))
        predicted[rows] = np.linalg.norm(bags.take(rows).multiply(base), axis=1)
    length = np.where(predicted > 0, predicted, np.where(own > 0, own, 1.0))
    return bags.scaled((1.0 / length).astype(np.float32))


def fit_rows(
    bags: Bags,
    targets: Floats,
    base: Floats,
    l2: float,
    start: Floats | None = None,
    iterations: int = 30,
    tolerance: float = 1e-4,
) -> Floats:
    """`solve_ridge` over the rows that the texts use; the rest of the table stays out of the work, at ``base``."""
    used = np.unique(bags.ids)
    new_ids = np.zeros(bags.width, dtype=np.int32)
    new_ids[used] = np.arange(len(used), dtype=np.int32)
    begin = None if start is None else np.ascontiguousarray(start[used])
    rows = base.copy()
    compact = bags.relabelled(new_ids, len(used))
    rows[used] = solve_ridge(compact, targets, base[used], l2, begin, iterations, tolerance)
    return rows


def choose_l2(
    bags: Bags, targets: Floats, base: Floats, keys: list[bytes]
) -> tuple[float, Floats | None, float | None]:
    """λ by the mean cosine on held-out texts, from strong to weak while it rises.

    Args:
        bags, targets, base: as for `fit_rows`.
        keys: of each text, `text_key`: decides which texts are held out.

    Returns:
        λ; the rows it gave without the held-out texts, to begin the last fit from; the cosine. The last two are
        None where there are too few texts to hold any out.
    """
    unit = float(np.mean(bags.weights**2))
    order = np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.int64)
    held = order[: min(_HELD_OUT, len(order) // 10)]
    if not len(held):
        return unit, None, None
    kept = np.sort(order[len(held) :])
    train, train_targets = bags.take(kept), targets[kept]
    test, test_targets = bags.take(held), unit_rows(targets[held])
    best: tuple[float, Floats | None, float] = (unit * _STRENGTHS[0], None, -np.inf)
    rows: Floats | None = None
    for strength in _STRENGTHS:
        rows = fit_rows(train, train_targets, base, unit * strength, rows, iterations=15, tolerance=1e-2)
        cosine = float(np.mean(np.einsum("nd,nd->n", unit_rows(test.multiply(rows)), test_targets)))
        if cosine <= best[2]:
            break
        best = (unit * strength, rows, cosine)
    return best[0], best[1], round(best[2], 4)
