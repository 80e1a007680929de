"""The compiled half of two-level codes: making them, and exact scores by them."""

from __future__ import annotations

import numpy as np

from lightretriever.compiled import compiled
from lightretriever.index.segment.int8_dot import prefetch_row

SMALLEST = 1e-30  # of a row's largest value: below, its scale would lose digits, and it counts as zero


@compiled()
def encode_rows(rows, hi, lo, scales):  # type: ignore[no-untyped-def]
    """Two-level codes of float32 [n, d] into int8 [n, d], int8 [n, d], float32 [n].

    Returns the first row with a value that is not finite, or -1.
    """
    for i in range(len(rows)):
        most = np.float32(0)
        for j in range(rows.shape[1]):
            most = max(most, abs(rows[i, j]))
        total = np.float32(0)
        for j in range(rows.shape[1]):
            total += rows[i, j] * np.float32(0)  # not 0 where one is not finite
        if total != 0:
            return i
        if most < np.float32(SMALLEST):
            hi[i], lo[i], scales[i] = 0, 0, 0
            continue
        scale = most / np.float32(127)
        scales[i] = scale
        for j in range(rows.shape[1]):
            value = rows[i, j] / scale
            whole = np.rint(value)
            hi[i, j] = np.int8(whole)
            lo[i, j] = np.int8(min(np.rint((value - whole) * np.float32(256)), np.float32(127)))
    return -1


@compiled(reassociate=True)
def exact_score(hi, lo, scales, place, query):  # type: ignore[no-untyped-def]
    """Inner product of a float32 query and what both levels stand for."""
    total = np.float32(0)
    for j in range(len(query)):
        total += (np.float32(hi[place, j]) * np.float32(256) + np.float32(lo[place, j])) * query[j]
    return total * (scales[place] / np.float32(256))


@compiled()
def exact_scores(hi, lo, scales, places, query, out):  # type: ignore[no-untyped-def]
    """`exact_score` of each place into float32 ``out``."""
    for i in range(len(places)):
        if i + 4 < len(places):
            prefetch_row(hi, places[i + 4])
            prefetch_row(lo, places[i + 4])
        out[i] = exact_score(hi, lo, scales, places[i], query)
