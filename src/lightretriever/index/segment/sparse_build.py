"""The compiled half of building the sparse side: two passes over rows in place order, a counting sort by token."""

from __future__ import annotations

import numpy as np

from lightretriever.compiled import compiled
from lightretriever.index.segment.sparse_scores import FULL

_SMALLEST = np.float32(1e-34)  # of a token's scale, so that no score vanishes


@compiled()
def count_rows(indptr, indices, values, width, frequency, most):  # type: ignore[no-untyped-def]
    """Add each token's documents to ``frequency`` int64 [≥ V] and its greatest impact to ``most`` float32 [≥ V].

    Returns:
        −1, or the first row whose tokens do not ascend in 0 … V − 1 or whose impacts are not finite and positive.
    """
    for row in range(len(indptr) - 1):
        before = -1
        for j in range(indptr[row], indptr[row + 1]):
            token, value = indices[j], values[j]
            if not (before < token < width and 0 < value < np.inf):
                return row
            before = token
            frequency[token] += 1
            most[token] = max(most[token], value)
    return -1


@compiled()
def scales_of(most, scales):  # type: ignore[no-untyped-def]
    """What a code of 1 is worth, of tokens' greatest impacts."""
    for token in range(len(most)):
        scales[token] = max(most[token] / np.float32(FULL), _SMALLEST) if most[token] > 0 else np.float32(0)


@compiled()
def fill_rows(first, indptr, indices, values, scales, column_of, at, places, codes, high, low, stride):  # type: ignore[no-untyped-def]
    """Write the codes of rows, the first of which has place ``first``; ``at`` int64 [V] is moved on."""
    for row in range(len(indptr) - 1):
        place = first + row
        for j in range(indptr[row], indptr[row + 1]):
            token = indices[j]
            code = np.int64(np.rint(np.float64(values[j]) / np.float64(scales[token])))
            code = max(1, min(FULL, code))
            column = column_of[token]
            if column >= 0:
                upper = (code + 255) >> 8
                high[column * stride + place] = upper
                low[column * stride + place] = (upper << 8) - code
            else:
                places[at[token]], codes[at[token]] = place, code
                at[token] += 1
