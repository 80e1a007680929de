"""Exact scores of documents whose places are known, and the choice of the best of them.

An impact is stored as a code, 1 … `FULL`, of its token's scale. A column keeps it as two bytes, ``high`` being its
upper one rounded up, so that 0 means that the document lacks the token: code = 256 · high − low.
"""

from __future__ import annotations

import numpy as np

from lightretriever.compiled import compiled

FULL = 65280
"""The greatest code: its upper byte, rounded up, is 255."""

MOST = 3e38
"""No score may come up to it."""

_LAST = np.uint64(0xFFFFFFFF)


@compiled()
def plan_query(tokens, counts, starts, column_of, scales):  # type: ignore[no-untyped-def]
    """A query's lists and columns, each with its weight: what a code of 1 is worth. Columns of most weight come first.

    Returns:
        Of lists: first posting and end int64 [l], weight float32 [l]; of columns: row int64 [c], weight float32 [c].
    """
    width = len(column_of)
    lists, columns = 0, 0
    for token in tokens:
        if 0 <= token < width:
            listed = starts[token] < starts[token + 1]
            lists += listed
            columns += not listed and column_of[token] >= 0
    at, ends, weights = np.empty(lists, np.int64), np.empty(lists, np.int64), np.empty(lists, np.float32)
    rows, column_weights = np.empty(columns, np.int64), np.empty(columns, np.float32)
    lists = columns = 0
    for i in range(len(tokens)):
        token = tokens[i]
        if not 0 <= token < width:
            continue
        weight = np.float32(counts[i] * scales[token])
        if starts[token] < starts[token + 1]:
            at[lists], ends[lists], weights[lists] = starts[token], starts[token + 1], weight
            lists += 1
        elif column_of[token] >= 0:
            c = columns
            while c > 0 and column_weights[c - 1] < weight:
                rows[c], column_weights[c] = rows[c - 1], column_weights[c - 1]
                c -= 1
            rows[c], column_weights[c] = column_of[token], weight
            columns += 1
    return at, ends, weights, rows, column_weights


@compiled()
def total_of(weights):  # type: ignore[no-untyped-def]
    """Their sum; NaN if one of them is no positive number."""
    total = np.float64(0)
    for weight in weights:
        total += weight if weight > 0 else np.nan
    return total


@compiled()
def find(places, low, high, place):  # type: ignore[no-untyped-def]
    """The first position of low … high whose place is not below ``place``, near ``low`` found soonest."""
    step = 1
    while low + step < high and places[np.uint64(low + step)] < place:
        low += step
        step <<= 1
    size = min(high - low, step + 1)
    while size > 1:  # without a branch that the processor would have to guess
        half = size >> 1
        low += half if places[np.uint64(low + half - 1)] < place else 0
        size -= half
    return low + 1 if size == 1 and places[np.uint64(low)] < place else low


@compiled()
def score_places(wanted, at, plan, places, codes, high, low, stride, scores):  # type: ignore[no-untyped-def]
    """Exact scores of places in ascending order, into ``scores``: equal documents score equally, since all are summed
    up in the order of the plan.

    Args:
        at: int64, of each list the first posting that may be wanted; moved on.
    """
    _, ends, weights, rows, column_weights = plan
    scores[: len(wanted)] = 0
    for t in range(len(at)):
        p, end, weight = at[t], ends[t], weights[t]
        i = 0
        while i < len(wanted):
            p = find(places, p, end, wanted[i])
            if p == end:
                break
            place = places[p]
            if place == wanted[i]:
                scores[i] += weight * np.float32(codes[p])
            i += 1
            if i < len(wanted) and wanted[i] < place:
                i = find(wanted, i, len(wanted), place)
        at[t] = p
    for c in range(len(rows)):
        start, weight = rows[c] * stride, column_weights[c]
        for i in range(len(wanted)):
            cell = start + wanted[i]
            scores[i] += weight * np.float32((np.int32(high[cell]) << 8) - np.int32(low[cell]))


@compiled()
def kth(bounds, k, copy):  # type: ignore[no-untyped-def]
    """The k-th largest of at least k bounds (quickselect)."""
    count = len(bounds)
    copy[:count] = bounds
    low, high, wanted = 0, count - 1, k - 1
    while low < high:
        a, b, c = copy[low], copy[(low + high) >> 1], copy[high]
        pivot = max(min(a, b), min(max(a, b), c))
        i, j = low, high
        while i <= j:
            while copy[i] > pivot:
                i += 1
            while copy[j] < pivot:
                j -= 1
            if i <= j:
                copy[i], copy[j] = copy[j], copy[i]
                i += 1
                j -= 1
        if wanted <= j:
            high = j
        elif wanted >= i:
            low = i
        else:
            break
    return copy[wanted]


@compiled()
def key_of(bits, place):  # type: ignore[no-untyped-def]
    """Of two keys the larger is the better document: the bits of its score above the complement of its place."""
    return (np.uint64(bits) << np.uint64(32)) | (_LAST - np.uint64(place))


@compiled()
def rank(found, scores, count, k, keys, filled):  # type: ignore[no-untyped-def]
    """Add scored places to the keys that are there, without those that score nothing; the best k of all are kept.

    Returns:
        How many keys there are, in no order.
    """
    bits = scores.view(np.uint32)
    for i in range(count):
        if scores[i] > 0:
            keys[filled] = key_of(bits[i], found[i])
            filled += 1
    if filled <= k:
        return filled
    least = kth(keys[:filled], k, keys[filled:])
    kept = 0
    for i in range(filled):
        if keys[i] >= least:
            keys[kept] = keys[i]
            kept += 1
    return kept


@compiled()
def write_best(keys, count, places, scores):  # type: ignore[no-untyped-def]
    """Places and scores of the first ``count`` keys, which are sorted where they are; best first."""
    best, bits = keys[:count], scores.view(np.uint32)
    best.sort()
    for i in range(count):
        key = best[count - 1 - i]
        places[i] = np.int32(~key & _LAST)
        bits[i] = np.uint32(key >> np.uint64(32))


@compiled()
def best_of_places(  # type: ignore[no-untyped-def]
    wanted, tokens, counts, k, starts, places, codes, column_of, scales, high, low, stride, scores, keys
):
    """The k best of the places wanted (int32, ascending), as `best_documents` has them."""
    plan = plan_query(tokens, counts, starts, column_of, scales)
    at = plan[0]
    total = total_of(plan[2]) + total_of(plan[4])
    if not 0 < total * FULL < MOST:
        return 0 if len(plan[2]) + len(plan[4]) == 0 else -1
    filled, step = 0, len(scores) - k
    for start in range(0, len(wanted), step):
        some = wanted[start : start + step]
        score_places(some, at, plan, places, codes, high, low, stride, scores)
        filled = rank(some, scores, len(some), k, keys, filled)
    return filled


@compiled()
def scores_of_places(tokens, counts, wanted, starts, places, codes, column_of, scales, high, low, stride, scores):  # type: ignore[no-untyped-def]
    """Exact scores of the places wanted, int32 in any order, into ``scores``."""
    plan = plan_query(tokens, counts, starts, column_of, scales)
    order = np.argsort(wanted)
    sorted_scores = np.empty(len(wanted), np.float32)
    score_places(wanted[order], plan[0], plan, places, codes, high, low, stride, sorted_scores)
    for i in range(len(order)):
        scores[order[i]] = sorted_scores[i]


@compiled()
def score_lists(  # type: ignore[no-untyped-def]
    indptr, tokens, values, lengths, wanted, starts, places, codes, column_of, scales, high, low, stride, scores
):
    """`scores_of_places` for each of q queries: of int32 [q, k] the first ``lengths``, into float32 [q, k]."""
    for i in range(len(lengths)):
        begin, end, length = indptr[i], indptr[i + 1], lengths[i]
        scores_of_places(
            tokens[begin:end], values[begin:end], wanted[i, :length], starts, places, codes, column_of, scales, high,
            low, stride, scores[i, :length],
        )  # fmt: skip
