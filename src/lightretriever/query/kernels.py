"""The compiled half of query encoding: flat token ids to unit rows and to counts, no Python object per token.

Loaded with the first large batch. Kernels hold no lock on the interpreter (``nogil``), so a batch is split over
threads by the caller; numba's own parallel loops are not used, because two callers at once may abort the process.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types
from numba.extending import overload


def _add_row(total, rows, scales, i):  # type: ignore[no-untyped-def]
    """Add row i to the float32 total; one body per storage dtype, chosen when compiled."""


@overload(_add_row)
def _add_row_of_dtype(total, rows, scales, i):  # type: ignore[no-untyped-def]
    if rows.dtype == types.float32:

        def add(total, rows, scales, i):  # type: ignore[no-untyped-def]
            for j in range(len(total)):
                total[j] += rows[i, j]

    elif rows.dtype == types.int8:

        def add(total, rows, scales, i):  # type: ignore[no-untyped-def]
            scale = scales[i]
            for j in range(len(total)):
                total[j] += scale * np.float32(rows[i, j])

    else:  # uint16, the bits of float16: shift exponent and mantissa into place, then correct the bias by 2^112

        def add(total, rows, scales, i):  # type: ignore[no-untyped-def]
            bits = np.empty(len(total), dtype=np.uint32)
            for j in range(len(total)):
                half = np.uint32(rows[i, j])
                bits[j] = ((half & np.uint32(0x8000)) << np.uint32(16)) | ((half & np.uint32(0x7FFF)) << np.uint32(13))
            values = bits.view(np.float32)
            for j in range(len(total)):
                total[j] += values[j] * np.float32(5.192296858534828e33)

    return add


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _squared_norm(row):  # type: ignore[no-untyped-def]
    total = np.float32(0)
    for j in range(len(row)):
        total += row[j] * row[j]
    return total


@njit(nogil=True, cache=True)
def pool_rows(ids, offsets, rows, scales, skip, out):  # type: ignore[no-untyped-def]
    """Unit sum of the rows of each text's ids (the mean and the sum have one direction).

    Args:
        ids: int32, flat.
        offsets: int64 [n + 1], where each text begins in ``ids``.
        rows: [V, d] float32, int8, or float16's bits as uint16.
        scales: float32 [V], read for int8 only.
        skip: int32, ids left out.
        out: float32 [n, d], written; zero for a text with no id left.
    """
    for text in range(len(offsets) - 1):
        total = out[text]
        total[:] = 0
        for position in range(offsets[text], offsets[text + 1]):
            i, wanted = ids[position], True
            for skipped in skip:
                wanted = wanted and i != skipped
            if wanted:
                _add_row(total, rows, scales, i)
        norm = np.sqrt(_squared_norm(total))
        if norm > 0:
            scale = np.float32(1) / norm
            for j in range(len(total)):
                total[j] *= scale


@njit(nogil=True, cache=True)
def count_ids(ids, offsets, once, indptr, indices, values):  # type: ignore[no-untyped-def]
    """Distinct ids of each text, ascending, with their counts.

    Args:
        ids, offsets: as for `pool_rows`.
        once: count each id as 1.
        indptr: int64 [n + 1], written.
        indices, values: int32 and float32, as long as ``ids`` at most, written.

    Returns:
        How many entries were written.
    """
    used = 0
    indptr[0] = 0
    for text in range(len(offsets) - 1):
        row = np.sort(ids[offsets[text] : offsets[text + 1]])
        for i in range(len(row)):
            if i > 0 and row[i] == row[i - 1]:
                if not once:
                    values[used - 1] += np.float32(1)
            else:
                indices[used], values[used] = row[i], np.float32(1)
                used += 1
        indptr[text + 1] = used
    return used
