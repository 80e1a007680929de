"""The compiled half of searching the dense side: scans over narrow codes, walks through neighbour lists, ranking.

A candidate is one int64, a *key*: the bits of its score, ordered as integers, above 31 bits that fall with its place,
above a mark. Of two keys the larger is better, and of equal scores the lower place is. Kernels allocate nothing of the
collection's size: pools, marks and lists are the caller's scratch.
"""

from __future__ import annotations

import numpy as np

from lightretriever.compiled import compiled
from lightretriever.index.segment.code_kernels import SMALLEST, exact_score, exact_scores
from lightretriever.index.segment.int8_dot import (
    as_float,
    as_int,
    dot_part,
    dot_row,
    prefetch_part,
    prefetch_row,
)

_PLACES = 0x7FFFFFFF
_LEAST = -0x8000000000000000
_NEAR = 32  # rows that a processor reads on by itself
_SPARSE = 4  # one of so many rows: picking fewer is faster than reading all in their order
_OPEN = 6.0  # times what the rest of a product comes to at random: more are seldom
_SURE = 4.5  # standard deviations of what rounding adds to a narrow score


@compiled(inline=True)
def key_of(score, place):  # type: ignore[no-untyped-def]
    bits = np.int64(as_int(np.float32(score) + np.float32(0)))  # there is no -0 among scores
    if bits < 0:
        bits ^= 0x7FFFFFFF
    return (bits << 32) | ((_PLACES - np.int64(place)) << 1)


@compiled(inline=True)
def place_of(key):  # type: ignore[no-untyped-def]
    return _PLACES - ((key >> 1) & _PLACES)


@compiled(inline=True)
def score_of(key):  # type: ignore[no-untyped-def]
    bits = key >> 32
    if bits < 0:
        bits ^= 0x7FFFFFFF
    return as_float(np.int32(bits))


@compiled()
def narrow_query(query, narrow):  # type: ignore[no-untyped-def]
    """int8 codes of a query of any scale. Returns what rounding may add to a product of codes; 0 of a zero query.

    Rounding the query to int8 moves a product by a random amount of variance |row|² / 12, rounding the row by
    |query|² / 12; of vectors of one kind, both coded with 127 as their largest value, |row| is about |query|.
    """
    most = np.float32(0)
    for j in range(len(query)):
        most = max(most, abs(query[j]))
    if most < np.float32(SMALLEST):
        return np.float32(0)
    squares = 0
    for j in range(len(query)):
        code = np.int64(np.rint(query[j] / most * np.float32(127)))
        narrow[j] = code
        squares += code * code
    return np.float32(_SURE * np.sqrt(squares / 6))


@compiled()
def best_first(keys, size, k):  # type: ignore[no-untyped-def]
    """Move the k largest of ``keys[:size]`` to the front, the k-th of them to place k − 1 (Hoare's selection)."""
    low, high, target = 0, size - 1, k - 1
    while low < high:
        pivot = keys[(low + high) >> 1]
        i, j = low, high
        while i <= j:
            while keys[i] > pivot:
                i += 1
            while keys[j] < pivot:
                j -= 1
            if i <= j:
                keys[i], keys[j] = keys[j], keys[i]
                i += 1
                j -= 1
        if target <= j:
            high = j
        elif target >= i:
            low = i
        else:
            return


@compiled()
def _sift(keys, size, k, scales, doubt):  # type: ignore[no-untyped-def]
    """Keep of ``keys[:size]`` the k best and all that may be among them; at most half of all that there is room for.

    Returns how many are kept, at the front, and the k-th best score.
    """
    best_first(keys, size, k)
    least = score_of(keys[k - 1])
    kept = k
    for i in range(k, size):
        if score_of(keys[i]) + scales[place_of(keys[i])] * doubt >= least:
            keys[kept] = keys[i]
            kept += 1
    if 2 * kept > len(keys):
        best_first(keys, kept, len(keys) // 2)
        kept = len(keys) // 2
    return kept, least


@compiled()
def list_passing(mask, count, listed):  # type: ignore[no-untyped-def]
    """The places of ``mask[:count]`` that are not 0 into ``listed``; returns how many."""
    words, found = mask[: count & ~7].view(np.uint64), 0
    for word in range(len(words)):
        if words[word]:
            for place in range(word * 8, word * 8 + 8):
                listed[found] = place
                found += mask[place] != 0
    for place in range(count & ~7, count):
        listed[found] = place
        found += mask[place] != 0
    return found


@compiled()
def scan_codes(hi, scales, count, listed, mask, narrow, doubt, k, keys):  # type: ignore[no-untyped-def]
    """Candidates for the k best of rows into ``keys``: all whose narrow score leaves it open. Returns how many.

    Args:
        count, listed: of ``listed``, int32, the first so many places; where it has length 0 the first so many rows.
        mask: uint8 [count], 0 leaves a row out after it was read; of length 0 for none.
        narrow, doubt: as of `narrow_query`.
        keys: int64, room for more than 2 · k.
    """
    size, limit, least = 0, min(2 * k + 128, len(keys)), np.float32(-np.inf)
    for i in range(count):
        place = i
        if len(listed):
            place = listed[i]
            if i + 8 < count and listed[i + 8] > place + _NEAR:
                prefetch_row(hi, listed[i + 8])
        product = np.float32(dot_row(hi, place, narrow))
        score = scales[place] * product
        if score + scales[place] * doubt >= least and scales[place] > 0 and (len(mask) == 0 or mask[place]):
            keys[size] = key_of(score, place)
            size += 1
            if size == limit:
                size, least = _sift(keys, size, k, scales, doubt)
                if 2 * size > limit:
                    limit = min(2 * limit, len(keys))
    return size


@compiled()
def rank(hi, lo, scales, query, doubt, k, keys, size, places, scores):  # type: ignore[no-untyped-def]
    """The k best of the candidates ``keys[:size]`` by exact score into ``places`` and ``scores``; returns how many."""
    if size > k:
        size, _ = _sift(keys, size, k, scales, doubt)
    for i in range(min(4, size)):
        prefetch_row(lo, place_of(keys[i]))
    for i in range(size):
        if i + 4 < size:
            prefetch_row(hi, place_of(keys[i + 4]))
            prefetch_row(lo, place_of(keys[i + 4]))
        place = place_of(keys[i])
        keys[i] = key_of(exact_score(hi, lo, scales, place, query), place)
    found = min(k, size)
    best_first(keys, size, found)
    best = keys[:found]
    best.sort()
    for i in range(found):
        key = best[found - 1 - i]
        places[i], scores[i] = place_of(key), score_of(key)
    return found


@compiled()
def _add(pool, size, key):  # type: ignore[no-untyped-def]
    """Put the key into the descending ``pool[:size]``, the worst going out of a full one. Returns its place, the size.

    The search is without branches: where the key belongs cannot be foreseen, and a wrong guess costs more than a step.
    """
    if size == len(pool):
        if key < pool[size - 1]:
            return size, size
        size -= 1
    at, left = 0, size
    while left > 0:
        half = (left + 1) >> 1
        at += half * (pool[at + half - 1] > key)
        left -= half
    for i in range(size, at, -1):
        pool[i] = pool[i - 1]
    pool[at] = key
    return at, size + 1


@compiled(inline=True)
def _is_new(marks, place):  # type: ignore[no-untyped-def]
    """Whether the place had no mark; it has one now."""
    word, bit = place >> 6, np.uint64(1) << np.uint64(place & 63)
    if marks[word] & bit:
        return False
    marks[word] |= bit
    return True


@compiled()
def _begin(hi, scales, given, narrow, pool, marks, touched, seen, size):  # type: ignore[no-untyped-def]
    """Put the given places into the pool; returns how many were looked at so far, and the pool's size."""
    for place in given:
        if 0 <= place < len(hi) and _is_new(marks, place):
            touched[seen] = place
            seen += 1
            _, size = _add(pool, size, key_of(scales[place] * dot_row(hi, place, narrow), place) | 1)
    return seen, size


@compiled()
def slack_of(narrow, head, spread):  # type: ignore[no-untyped-def]
    """What the components of a product from ``head`` on add up to at most, but for one document in very many.

    ``spread``: root mean square of such a component of documents' codes; their signs are taken to be random.
    """
    squares = 0
    for j in range(head, len(narrow)):
        squares += np.int64(narrow[j]) * np.int64(narrow[j])
    return np.float32(_OPEN * spread * np.sqrt(squares))


@compiled()
def _promising(hi, scales, listed, narrow, head, slack, worst, staged):  # type: ignore[no-untyped-def]
    """Of the places listed those whose first components leave it open whether they score ``worst``, into ``staged``,
    above each its product so far. Returns how many."""
    some = 0
    for i in range(len(listed)):
        place = listed[i]
        product = dot_part(hi, place, narrow, 0, head)
        if scales[place] * (np.float32(product) + slack) >= worst:
            prefetch_part(hi, place, head, len(narrow))
            staged[some] = (np.int64(product) << 32) | place
            some += 1
    return some


@compiled()
def walk(  # type: ignore[no-untyped-def]
    hi, scales, neighbours, starts, seeds, narrow, head, slack, pool, marks, touched, fresh
):
    """Walk from the starts to what is nearest, always on from the best place not yet left, until the pool is left.

    Args:
        hi, scales: int8 [n, d], float32 [n].
        neighbours: int32 [n, degree], a row filled up with -1.
        starts, seeds: int32, where it begins; what is outside 0 … n − 1 is passed over, here as in ``neighbours``.
        narrow: int8 [d].
        head, slack: of a place that is met the first ``head`` components are looked at; the others, which add at most
            ``slack`` to the product, only where it may still come into a full pool. With ``head`` = d all at once.
        pool: int64 [ef], written: keys, best first; the mark is 0.
        marks: uint64, a bit for each place, all 0, and so again afterwards.
        touched: int32 [n], written.
        fresh: int64 [degree], written.

    Returns how many are in the pool, and how many places were looked at.
    """
    count, width = len(hi), len(narrow)
    seen, size = _begin(hi, scales, starts, narrow, pool, marks, touched, 0, 0)
    seen, size = _begin(hi, scales, seeds, narrow, pool, marks, touched, seen, size)
    at = 0
    while at < size:
        if not pool[at] & 1:
            at += 1
            continue
        pool[at] ^= 1
        row, first = place_of(pool[at]), seen
        for j in range(neighbours.shape[1]):
            place = neighbours[row, j]
            if place < 0 or place >= count:
                break
            if _is_new(marks, place):
                prefetch_part(hi, place, 0, head)
                touched[seen] = place
                seen += 1
        at += 1
        if at < size:
            prefetch_row(neighbours, place_of(pool[at]))
        least = pool[size - 1] if size == len(pool) else np.int64(_LEAST)
        better = 0
        if head < width:
            worst = score_of(least) if size == len(pool) else np.float32(-np.inf)
            for i in range(_promising(hi, scales, touched[first:seen], narrow, head, slack, worst, fresh)):
                place = fresh[i] & np.int64(0xFFFFFFFF)
                product = (fresh[i] >> 32) + dot_part(hi, place, narrow, head, width)
                fresh[better] = key_of(scales[place] * np.float32(product), place) | 1
                better += fresh[better] > least
        else:
            for i in range(first, seen):
                place = touched[i]
                fresh[better] = key_of(scales[place] * dot_row(hi, place, narrow), place) | 1
                better += fresh[better] > least
        for i in range(better):
            position, size = _add(pool, size, fresh[i])
            at = min(at, position)
    for i in range(seen):
        marks[touched[i] >> 6] = 0
    return size, seen


@compiled()
def passing(scales, pool, size, mask, keys):  # type: ignore[no-untyped-def]
    """The keys of the pool whose places the mask lets pass (all, where it has length 0), and that are no zero rows.

    Returns how many there are.
    """
    kept = 0
    for i in range(size):
        place = place_of(pool[i])
        if scales[place] > 0 and (not len(mask) or mask[place]):
            keys[kept] = pool[i]
            kept += 1
    return kept


@compiled()
def find_by_scan(hi, lo, scales, count, mask, query, narrow, listed, keys, places, scores):  # type: ignore[no-untyped-def]
    """The best of the first ``count`` rows whose mask is not 0 (all, for one of length 0); returns how many are found.

    Args:
        narrow, listed, keys: scratch: int8 [d], int32 [count], int64 of room for 4 for each place wanted.
        places, scores: int32 [k], float32 [k], written.
    """
    doubt, k = narrow_query(query, narrow), len(places)
    if doubt == 0:
        return 0
    some = list_passing(mask, count, listed) if len(mask) else count
    if some < count // _SPARSE:
        size = scan_codes(hi, scales, some, listed, mask[:0], narrow, doubt, k, keys)
    else:
        size = scan_codes(hi, scales, count, listed[:0], mask, narrow, doubt, k, keys)
    return rank(hi, lo, scales, query, doubt, k, keys, size, places, scores)


# fmt: off
@compiled()
def find_by_walk(  # type: ignore[no-untyped-def]
    hi, lo, scales, neighbours, starts, head, spread, seeds, mask, query,
    narrow, pool, marks, touched, keys, least, places, scores,
):
    # fmt: on
    """The best of what a walk meets and the mask lets pass; returns how many, -1 where fewer than ``least`` pass.

    Args:
        head, spread: see `walk`; what a component of codes beyond the head comes to, as a root mean square.
        narrow, pool, marks, touched, keys: scratch, see `walk`; ``keys`` is as long as the pool and a neighbour list.
        places, scores: int32 [k], float32 [k], written.
    """
    doubt, k = narrow_query(query, narrow), len(places)
    if doubt == 0:
        return 0
    slack = slack_of(narrow, head, spread)
    size, _ = walk(hi, scales, neighbours, starts, seeds, narrow, head, slack, pool, marks, touched, keys)
    size = passing(scales, pool, size, mask, keys)
    if size < least:
        return -1
    return rank(hi, lo, scales, query, doubt, k, keys, size, places, scores)


@compiled(reassociate=True)
def turn(query, rotation, turned):  # type: ignore[no-untyped-def]
    """``query @ rotation`` of float32 [d] and [d, d] into float32 ``turned``, on this thread: a library's would take
    others."""
    turned[:] = 0
    for i in range(len(query)):
        value = query[i]
        for j in range(len(turned)):
            turned[j] += value * rotation[i, j]


@compiled()
def score_near(hi, lo, scales, query, near, scores):  # type: ignore[no-untyped-def]
    """Exact scores at places, up to the first that is none, into ``scores``."""
    count = 0
    while count < len(near) and 0 <= near[count] < len(hi):
        count += 1
    exact_scores(hi, lo, scales, near[:count], query, scores[:count])


# fmt: off
@compiled()
def find_all(  # type: ignore[no-untyped-def]
    hi, lo, scales, neighbours, starts, rotation, head, spread, near, seeds, wanted, walks, count, mask, queries,
    turned, narrow, pool, marks, touched, keys, least, counts, places, scores,
):
    # fmt: on
    """The best for each of q queries float32 [q, d]: of a walk, where ``walks`` and enough of it passes, else of a scan
    of the first ``count`` rows.

    Args:
        rotation: float32 [d, d], which each query is turned by into ``turned``, float32 [d]; [0, 0] for none.
        near, seeds: int32 [q, s], places for each query; the first so many are seeds, see `walk`.
        wanted: float32 [q, s], written: exact scores at ``near``; [q, 0] for none.
        counts, places, scores: int64 [q], int32 [q, k], float32 [q, k], written; how many each query has, and these.
    """
    for i in range(len(queries)):
        query, found = queries[i], -1
        if len(rotation):
            turn(queries[i], rotation, turned)
        else:
            turned[:] = query
        if walks:
            found = find_by_walk(
                hi, lo, scales, neighbours, starts, head, spread, near[i, :seeds], mask, turned,
                narrow, pool, marks, touched, keys, least, places[i], scores[i],
            )  # fmt: skip
        if found < 0:
            found = find_by_scan(hi, lo, scales, count, mask, turned, narrow, touched, keys, places[i], scores[i])
        counts[i] = found
        if wanted.shape[1]:
            score_near(hi, lo, scales, turned, near[i], wanted[i])
