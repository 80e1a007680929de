"""The compiled half of building neighbour lists: candidates by a walk, chosen so that none hides behind another."""

from __future__ import annotations

import numpy as np

from lightretriever.compiled import compiled
from lightretriever.index.segment.dense_kernels import key_of, place_of, score_of, slack_of, walk
from lightretriever.index.segment.int8_dot import dot_row, prefetch_row

_SAME = 1e-6  # of a distance between equal rows, by rounding: of many alike one is chosen


@compiled()
def inverse_lengths(hi, out):  # type: ignore[no-untyped-def]
    """1 / |row| of each row of int8 codes into float32 ``out``, 0 for a zero row."""
    for i in range(len(hi)):
        squares = dot_row(hi, i, hi[i])
        out[i] = 1 / np.sqrt(np.float32(squares)) if squares > 0 else 0


@compiled()
def _choose(hi, inverse, place, keys, size, ease, row):  # type: ignore[no-untyped-def]
    """Fill ``row`` with neighbours for a place out of descending keys of cosines, and -1 after them.

    A candidate is left out when one chosen before is nearer to it than it is to the place, by the factor ``ease`` of
    the squared distances (robust pruning, as of Vamana).
    """
    chosen = 0
    for i in range(size):
        candidate = place_of(keys[i])
        if candidate == place:
            continue
        far = np.float32(1) - score_of(keys[i])
        hidden = False
        for j in range(chosen):
            cosine = dot_row(hi, row[j], hi[candidate]) * inverse[row[j]] * inverse[candidate]
            if ease * (np.float32(1) - cosine) <= far + np.float32(_SAME):
                hidden = True
                break
        if not hidden:
            row[chosen] = candidate
            chosen += 1
            if chosen == len(row):
                return
    row[chosen:] = -1


@compiled()
def find_lists(  # type: ignore[no-untyped-def]
    hi, inverse, neighbours, starts, order, degree, ease, head, spread, pool, marks, touched, fresh
):
    """Give each place of ``order`` neighbours among those that have some, by a walk through what is there.

    Rows of ``neighbours`` that others of the order read must not be among those written: no place of ``order`` can be
    reached yet.
    """
    for place in order:
        neighbours[place] = -1
        if inverse[place] > 0:
            slack = slack_of(hi[place], head, spread)
            size, _ = walk(
                hi, inverse, neighbours, starts, order[:0], hi[place], head, slack, pool, marks, touched, fresh
            )
            for i in range(size):  # of the walk, scores are cosines but for the place's own length
                pool[i] = key_of(score_of(pool[i]) * inverse[place], place_of(pool[i]))
            _choose(hi, inverse, place, pool, size, ease, neighbours[place, :degree])


@compiled()
def link_back(hi, inverse, neighbours, targets, sources, begin, end, degree, ease, keys):  # type: ignore[no-untyped-def]
    """Add edges targets[i] → sources[i] for i in begin … end − 1, sorted by target; a full list is chosen anew."""
    i = begin
    while i < end:
        target = targets[i]
        row = neighbours[target]
        filled = 0
        while filled < len(row) and row[filled] >= 0:
            filled += 1
        last = i
        while last < end and targets[last] == target:
            last += 1
        if filled + last - i <= len(row):
            for j in range(i, last):
                row[filled] = sources[j]
                filled += 1
        else:
            _choose_anew(hi, inverse, target, row, filled, sources[i:last], degree, ease, keys)
        i = last


@compiled()
def _choose_anew(hi, inverse, place, row, filled, more, degree, ease, keys):  # type: ignore[no-untyped-def]
    """Choose ``degree`` neighbours of a place out of its ``filled`` ones and others."""
    size = 0
    for j in range(min(filled + len(more), len(keys))):
        other = row[j] if j < filled else more[j - filled]
        prefetch_row(hi, other)
        keys[size] = other
        size += 1
    for j in range(size):
        other = keys[j]
        keys[j] = key_of(dot_row(hi, other, hi[place]) * inverse[place] * inverse[other], other)
    best = keys[:size]
    best.sort()
    for j in range(size // 2):
        best[j], best[size - 1 - j] = best[size - 1 - j], best[j]
    row[degree:] = -1
    _choose(hi, inverse, place, keys, size, ease, row[:degree])


@compiled()
def thin(hi, inverse, neighbours, begin, end, degree, ease, keys):  # type: ignore[no-untyped-def]
    """Choose ``degree`` neighbours anew wherever there are more, for places begin … end − 1."""
    for place in range(begin, end):
        row = neighbours[place]
        filled = 0
        while filled < len(row) and row[filled] >= 0:
            filled += 1
        if filled > degree:
            _choose_anew(hi, inverse, place, row, filled, row[:0], degree, ease, keys)
