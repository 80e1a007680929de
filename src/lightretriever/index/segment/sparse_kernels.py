"""The compiled half of the sparse side: the best documents of a query, exactly, out of columns and postings.

Two steps. *Bounds*: what a document can score at most, in 16-bit units of what the whole query can score, is summed up
for a window of documents at a time, whose sums stay in the processor's first cache; documents that come up to the k-th
best bound so far, less what bounds may be wrong by, are listed. *Scores*: those few are scored exactly. Columns that
cannot matter beside that k-th best are left out of the sums, and looked up for documents that are still in question.
"""

from __future__ import annotations

import numpy as np

from lightretriever.compiled import compiled
from lightretriever.index.segment.sparse_group import GROUP, add_columns, lowest_bit, set_bytes
from lightretriever.index.segment.sparse_scores import (
    FULL,
    MOST,
    best_of_places,
    find,
    key_of,
    kth,
    plan_query,
    rank,
    score_places,
    total_of,
    write_best,
)

WINDOW = 8192
ROOM = 1024
"""Documents that may be listed beyond three times the k best, before the best of them are chosen."""

MAX_TERMS = 4096
"""Tokens of a query: of more, 16-bit units would not tell documents apart."""

_UNITS = 65535
_FEW = 64  # tokens; each of so few can be given the 256 units that show where it is at all
_STEP, _STEPS = 6, 1024  # a tally of bounds has a place for every 64 units
_STREAMS = 12  # columns that are read side by side; of more the processor would lose track
_MANY_ASKED, _FEW_ASKED = 16, 2  # documents of a window: a column more is summed up, or one fewer


@compiled()
def _allowed(mask, start):  # type: ignore[no-untyped-def]
    """Which of a group's places are in the mask, as bits."""
    if start + GROUP <= len(mask):
        return set_bytes(mask, start)
    bits = np.uint64(0)
    for i in range(len(mask) - start):
        bits |= np.uint64(mask[start + i] != 0) << np.uint64(i)
    return bits


@compiled()
def _any_allowed(mask, base, size):  # type: ignore[no-untyped-def]
    bits = np.uint64(0)
    for start in range(base, base + size, GROUP):
        bits |= _allowed(mask, start)
    return bits != 0


@compiled()
def list_allowed(mask, allowed):  # type: ignore[no-untyped-def]
    """The places whose byte is not 0, into ``allowed`` int32; how many, or −1 once there is no room for more."""
    count = 0
    for start in range(0, len(mask), GROUP):
        bits = _allowed(mask, start)
        while bits:
            if count == len(allowed):
                return -1
            allowed[count] = start + lowest_bit(bits)
            bits &= bits - np.uint64(1)
            count += 1
    return count


@compiled()
def _in_units(weights, column_weights, total):  # type: ignore[no-untyped-def]
    """Weights as integers, of which all together reach no further than 65,535.

    Returns:
        multipliers of lists and of columns, uint16: a code of x adds ``x * multiplier >> 16``, and of lists 1 more;
        what one unit is worth; by how many units a sum may be below the score, and above it.
    """
    terms = len(weights) + len(column_weights)
    least = 256.0 if terms <= _FEW else 1.0
    unit = FULL * total / (_UNITS - 256 - (least + 2) * terms)
    multipliers, column_multipliers = np.empty(len(weights), np.uint16), np.empty(len(column_weights), np.uint16)
    above = 1.0
    for t in range(len(weights)):
        multipliers[t] = np.uint16(np.ceil(weights[t] * 65536.0 / unit))
        above += 2.0
    for c in range(len(column_weights)):
        exact = column_weights[c] * 65536.0 / unit
        column_multipliers[c] = np.uint16(max(np.ceil(exact), least))
        above += column_multipliers[c] - exact + column_multipliers[c] / 256.0 + 1.0
    return multipliers, column_multipliers, unit, np.int64(len(column_weights) + 1), np.int64(np.ceil(above))


@compiled()
def _scatter(top, base, at, ends, multipliers, places, codes, sums):  # type: ignore[no-untyped-def]
    """Add every list's postings below ``top`` to the window that begins at ``base``; how many there were."""
    added = np.uint64(0)
    for t in range(len(at)):
        p, end, multiplier = np.uint64(at[t]), np.uint64(ends[t]), np.uint32(multipliers[t])
        first = p
        while p < end and places[p] < top:
            i = np.uint64(places[p] - base) & np.uint64(WINDOW - 1)
            sums[i] += np.uint16(((np.uint32(codes[p]) * multiplier) >> 16) + 1)
            p += np.uint64(1)
        added += p - first
        at[t] = p
    return added


@compiled()
def _add_column(sums, cells, multiplier):  # type: ignore[no-untyped-def]
    for i in range(len(sums)):
        sums[i] += np.uint16((np.uint32(cells[i]) * np.uint32(multiplier)) >> np.uint32(8))


@compiled()
def _keep(found, bounds, count, least):  # type: ignore[no-untyped-def]
    """Of the documents listed those whose bound comes up to ``least``, in their order; how many."""
    kept = 0
    for i in range(count):
        if bounds[i] >= least:
            found[kept], bounds[kept] = found[i], bounds[i]
            kept += 1
    return kept


@compiled()
def _keep_best(found, bounds, scores, count, k, keys):  # type: ignore[no-untyped-def]
    """Of scored documents the k best, in their order; how many, and the least of their scores (0 if fewer than k)."""
    ranked = rank(found, scores, count, k, keys, 0)
    least = np.uint64(0xFFFFFFFFFFFFFFFF)
    for i in range(ranked):
        least = min(least, keys[i])
    bits = scores.view(np.uint32)
    worst = np.float32(0)
    kept = 0
    for i in range(count):
        if scores[i] > 0 and key_of(bits[i], found[i]) >= least:
            if ranked == k and (kept == 0 or scores[i] < worst):
                worst = scores[i]
            found[kept], bounds[kept] = found[i], bounds[i]
            kept += 1
    return kept, worst


@compiled()
def best_documents(  # type: ignore[no-untyped-def]
    tokens,
    counts,
    k,
    mask,
    masked,
    n,
    starts,
    places,
    codes,
    column_of,
    scales,
    high,
    low,
    stride,
    sums,
    found,
    bounds,
    copy,
    scores,
    keys,
):
    """The k best documents, as keys in no order at the front of ``keys``; how many, or −1 for weights that are no
    positive numbers.

    Args:
        mask: uint8 [n], read where ``masked``.
        stride: from one column to the next.
        sums: uint16 [WINDOW], zero, and zero again afterwards.
        found, bounds, copy, scores: int32, uint16, uint16, float32 [room], ``room >= 3 * k + ROOM``.
        keys: uint64 [2 · room].
    """
    plan = plan_query(tokens, counts, starts, column_of, scales)
    firsts, ends, weights, rows, column_weights = plan
    at = firsts.copy()
    columns = len(rows)
    total = total_of(weights) + total_of(column_weights)
    if not 0 < total * FULL < MOST:
        return 0 if columns + len(at) == 0 else -1
    multipliers, column_multipliers, unit, below, above = _in_units(weights, column_weights, total)
    origins = rows * stride
    rest = np.zeros(columns + 1, np.int64)  # units that the columns from one on can add
    for c in range(columns - 1, -1, -1):
        rest[c] = rest[c + 1] + (FULL * np.int64(column_multipliers[c]) >> 16)
    room = len(found)
    totals = np.empty(GROUP, np.uint16)
    tally = np.zeros(_STEPS + 1, np.int32)  # of bounds, by their upper bits
    over, step = 0, 0  # documents listed with a bound of that step or more
    count, least, scanned = 0, np.int64(1 if columns + len(at) <= _FEW else 0), columns
    for base in range(0, n, WINDOW):
        size = min(WINDOW, n - base)
        if masked and not _any_allowed(mask, base, size):
            for t in range(len(at)):
                at[t] = find(places, at[t], ends[t], base + size)
            continue
        added = _scatter(base + size, base, at, ends, multipliers, places, codes, sums)
        if not added and rest[0] < least:
            continue
        while rest[scanned] >= least and scanned < columns:
            scanned += 1
        together = min(scanned, _STREAMS)
        for c in range(together, scanned):
            _add_column(sums[:size], high[origins[c] + base : origins[c] + base + size], column_multipliers[c])
        asked = 0
        for start in range(0, size, GROUP):
            partial = np.uint16(max(least - rest[scanned], 0))
            bits = add_columns(sums, start, high, base + start, origins, column_multipliers, together, partial, totals)
            if masked and bits:
                bits &= _allowed(mask, base + start)
            while bits:
                i = lowest_bit(bits)
                bits &= bits - np.uint64(1)
                place = base + start + i
                if place >= n:
                    break
                asked += 1
                bound = np.int64(totals[i])
                for c in range(scanned, columns):
                    if bound + rest[c] < least:
                        break
                    bound += np.int64(high[origins[c] + place]) * np.int64(column_multipliers[c]) >> 8
                if bound < least:
                    continue
                bound = min(bound, _UNITS)  # as it is, unless the part is damaged
                found[count], bounds[count] = place, bound
                count += 1
                tally[bound >> _STEP] += 1
                over += bound >> _STEP >= step
                if over - tally[step] >= k:
                    while over - tally[step] >= k:
                        over -= tally[step]
                        step += 1
                    least = max(least, (step << _STEP) - below - above)
                if count == room:
                    count = _keep(found, bounds, count, least)
                    if count > room - ROOM // 2:  # too many that bounds cannot tell apart
                        at_all = firsts.copy()
                        score_places(found[:count], at_all, plan, places, codes, high, low, stride, scores)
                        count, worst = _keep_best(found, bounds, scores, count, k, keys)
                        least = max(least, np.int64(worst / unit) - below - 1)
        if asked > _MANY_ASKED and scanned < columns:
            scanned += 1
        elif asked < _FEW_ASKED and scanned > 0 and rest[scanned - 1] < least:
            scanned -= 1
    if count > k:
        least = max(least, np.int64(kth(bounds[:count], k, copy)) - below - above)
        count = _keep(found, bounds, count, least)
    score_places(found[:count], firsts, plan, places, codes, high, low, stride, scores)
    return rank(found, scores, count, k, keys, 0)


@compiled()
def _list_all(mask, masked, n):  # type: ignore[no-untyped-def]
    """All places that may be found, int32, ascending."""
    listed, count = np.empty(n, np.int32), 0
    for place in range(n):
        listed[count] = place
        count += not masked or mask[place] != 0
    return listed[:count]


@compiled()
def find_all(  # type: ignore[no-untyped-def]
    indptr,
    tokens,
    counts,
    k,
    mask,
    masked,
    few,
    listed,
    n,
    starts,
    places,
    codes,
    column_of,
    scales,
    high,
    low,
    stride,
    sums,
    found,
    bounds,
    copy,
    scores,
    keys,
    out_counts,
    out_places,
    out_scores,
):
    """The k best documents of each of q queries, which are compressed sparse rows.

    Args:
        few: whether only the places ``listed``, int32, ascending, may be found: each of them is then scored.
        out_counts, out_places, out_scores: int64 [q], int32 [q, k], float32 [q, k], written.

    Returns:
        The first query with a count that is no positive number, after which nothing was written; -1 where all are.
    """
    for i in range(len(indptr) - 1):
        row, times = tokens[indptr[i] : indptr[i + 1]], counts[indptr[i] : indptr[i + 1]]
        if few or len(row) > MAX_TERMS:
            wanted = listed if few else _list_all(mask, masked, n)
            count = best_of_places(
                wanted, row, times, k, starts, places, codes, column_of, scales, high, low, stride, scores, keys
            )
        else:
            count = best_documents(
                row, times, k, mask, masked, n, starts, places, codes, column_of, scales, high, low, stride,
                sums, found, bounds, copy, scores, keys,
            )  # fmt: skip
        if count < 0:
            return i
        write_best(keys, count, out_places[i], out_scores[i])
        out_counts[i] = count
    return -1
