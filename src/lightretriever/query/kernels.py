"""The compiled half of query encoding: flat token ids to unit rows and to counts, no Python object per token.

Loaded with the first large batch. Kernels hold no lock on the interpreter (``nogil``), so a batch is split over
threads by the caller; numba's own parallel loops are not used, because two callers at once may abort the process.
"""

from __future__ import annotations

import numpy as np
from numba import types
from numba.extending import overload
from numpy.typing import NDArray

from lightretriever.compiled import compiled
from lightretriever.query.phrases import EMPTY, GOLDEN, PRIME
from lightretriever.types import SparseVectors


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


@compiled(reassociate=True)
def _squared_norm(row):  # type: ignore[no-untyped-def]
    total = np.float32(0)
    for j in range(len(row)):
        total += row[j] * row[j]
    return total


@compiled()
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


@compiled()
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


_SIGN, _EVEN = np.uint64(1 << 63), np.uint64((1 << 64) - 2)


def count_flat(
    ids: NDArray[np.int32], offsets: NDArray[np.int64], width: int, once: bool = False, vocabulary: int = 0
) -> SparseVectors:
    """What `count_ids` writes, as sparse vectors [n, width]; ids are of that vocabulary."""
    indptr = np.empty(len(offsets), np.int64)
    indices, values = np.empty(len(ids), np.int32), np.empty(len(ids), np.float32)
    used = count_ids(ids, offsets, once, indptr, indices, values)
    return SparseVectors(indptr, indices[:used], values[:used], width, vocabulary)


@compiled(inline=True)
def _first_slot(key, shift):  # type: ignore[no-untyped-def]
    """Where the probing for a key begins: the top bits of its product with `GOLDEN`."""
    return np.int64((np.uint64(key) * np.uint64(GOLDEN)) >> shift)


@compiled(inline=True)
def _shift_for(slots):  # type: ignore[no-untyped-def]
    """What leaves as many bits of 64 as number ``slots``, a power of two."""
    shift = np.uint64(64)
    while slots > 1:
        slots >>= 1
        shift -= np.uint64(1)
    return shift


@compiled(inline=True)
def _whole_key(ids, start, end):  # type: ignore[no-untyped-def]
    """The key of a whole query: a hash of its tokens, negative and even, so neither a step's key nor `EMPTY`."""
    hashed = np.uint64(end - start)
    for i in range(start, end):
        hashed = (hashed ^ np.uint64(ids[i])) * np.uint64(PRIME)
    return np.int64((hashed | _SIGN) & _EVEN)


@compiled(inline=True)
def _find_whole(ids, start, end, shift, keys, values, phrase_ids, indptr):  # type: ignore[no-untyped-def]
    """The whole query that is ids start … end - 1: its slot, or the empty one where it would be."""
    key = _whole_key(ids, start, end)
    slot = _first_slot(key, shift)
    while keys[slot] != EMPTY:
        if keys[slot] == key:
            number = values[slot]
            begin = indptr[number]
            same = indptr[number + 1] - begin == end - start
            for i in range(end - start):
                if not same or phrase_ids[begin + i] != ids[start + i]:
                    same = False
                    break
            if same:
                return slot
        slot = (slot + 1) & (len(keys) - 1)
    return slot


@compiled(inline=True)
def _find_step(node, token, shift, keys):  # type: ignore[no-untyped-def]
    """The slot of a step of the trie, or the empty one where it would be."""
    key = np.int64(node) << 32 | np.int64(token)
    slot = _first_slot(key, shift)
    while keys[slot] != key and keys[slot] != EMPTY:
        slot = (slot + 1) & (len(keys) - 1)
    return slot


@compiled()
def fill_phrases(ids, indptr, phrases, roots, keys, values, ends):  # type: ignore[no-untyped-def]
    """Enter phrases, then whole queries, into an empty index; see `PhraseTable`.

    Returns:
        How many nodes there are, and the first sequence that came before already (-1: none).
    """
    nodes, shift = 1, _shift_for(len(keys))
    for number in range(len(indptr) - 1):
        start, end = indptr[number], indptr[number + 1]
        if number >= phrases:
            slot = _find_whole(ids, start, end, shift, keys, values, ids, indptr)
            if keys[slot] != EMPTY:
                return nodes, number
            keys[slot], values[slot] = _whole_key(ids, start, end), number
            continue
        if roots[ids[start]] == 0:
            roots[ids[start]] = nodes
            nodes += 1
        node = roots[ids[start]]
        for i in range(start + 1, end):
            slot = _find_step(node, ids[i], shift, keys)
            if keys[slot] == EMPTY:
                keys[slot], values[slot] = np.int64(node) << 32 | np.int64(ids[i]), nodes
                nodes += 1
            node = values[slot]
        if ends[node] >= 0:
            return nodes, number
        ends[node] = number
    return nodes, -1


@compiled()
def match_phrases(  # type: ignore[no-untyped-def]
    ids, offsets, longest, roots, keys, values, ends, phrase_ids, indptr, width, found, found_offsets
):
    """Replace each text's phrases, longest first from the left, by ``width`` plus their number.

    Args:
        ids, offsets: as for `pool_rows`.
        longest: tokens of the longest whole query; 0 where there is none.
        roots, keys, values, ends, phrase_ids, indptr: of the `PhraseTable`.
        width: V.
        found: int32, as long as the texts' ids, written from its beginning.
        found_offsets: int64 [n + 1], written.
    """
    used, shift = 0, _shift_for(len(keys))
    found_offsets[0] = 0
    for text in range(len(offsets) - 1):
        i, end = offsets[text], offsets[text + 1]
        if 0 < end - i <= longest:
            slot = _find_whole(ids, i, end, shift, keys, values, phrase_ids, indptr)
            if keys[slot] != EMPTY:
                found[used] = width + values[slot]
                used += 1
                i = end
        while i < end:
            node, best, stop, j = roots[ids[i]], -1, i + 1, i + 1
            while node > 0 and j < end:
                slot = _find_step(node, ids[j], shift, keys)
                if keys[slot] == EMPTY:
                    break
                node = values[slot]
                j += 1
                if ends[node] >= 0:
                    best, stop = ends[node], j
            found[used] = ids[i] if best < 0 else width + best
            used += 1
            i = stop
        found_offsets[text + 1] = used


@compiled()
def pool_phrases(ids, offsets, rows, scales, phrase_rows, phrase_scales, skip, out):  # type: ignore[no-untyped-def]
    """As `pool_rows`, ids from V on being phrases."""
    width = len(rows)
    for text in range(len(offsets) - 1):
        total = out[text]
        total[:] = 0
        for position in range(offsets[text], offsets[text + 1]):
            i, wanted = ids[position], True
            for skipped in skip:
                wanted = wanted and i != skipped
            if i >= width:
                _add_row(total, phrase_rows, phrase_scales, i - width)
            elif wanted:
                _add_row(total, rows, scales, i)
        norm = np.sqrt(_squared_norm(total))
        if norm > 0:
            scale = np.float32(1) / norm
            for j in range(len(total)):
                total[j] *= scale


@compiled()
def add_evidence(  # type: ignore[no-untyped-def]
    ids, offsets, inner, pairs, weight, known, pair_weight, pair_known, new_weight, new_known, totals, sures
):
    """Weight and understood weight of each text, see `lightretriever.query.evidence.Evidence.add_up`.

    Args:
        ids, offsets: as for `pool_rows`.
        inner … new_known: see `lightretriever.query.evidence.Arrays`.
        totals, sures: float32 [n], written.
    """
    width = np.int64(len(weight))
    for text in range(len(offsets) - 1):
        total, sure = 0.0, 0.0
        for position in range(offsets[text], offsets[text + 1]):
            token = ids[position]
            if position == offsets[text] or not inner[token]:
                total += weight[token]
                sure += known[token]
                continue
            key = np.int64(ids[position - 1]) * width + token
            place = np.searchsorted(pairs, key)
            if place < len(pairs) and pairs[place] == key:
                total += pair_weight[place]
                sure += pair_known[place]
            else:
                total += new_weight
                sure += new_known
        totals[text], sures[text] = total, sure
