"""`lightretriever.fusion.fuse_exact` and `fuse_ranked` compiled, for lists by integer keys: the same numbers, in the
same order.

Loaded with the first search of an index. It holds no lock on the interpreter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightretriever.compiled import compiled
from lightretriever.fusion import EPSILON, Fusion, heard_weights

Listed = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]
"""One arm's lists of q queries: how long each is int64 [q], keys int64 [q, k], scores float32 [q, k], and the other
arm's scores of the same documents, float32 [q, k], or [q, 0] where they are not known."""
_EXACT, _BEST, _PAPER, _RRF = range(4)  # how scores become what is added
_EMPTY = -1
_SCRAMBLE = np.uint64(0x9E3779B97F4A7C15)


class Fused(NamedTuple):
    """The fused lists of q queries, one behind the other, each best first; n documents in all.

    Attributes:
        starts: int64 [q + 1], where each query's list begins, and the last one ends.
        keys: int64 [n].
        scores: float64 [n].
        dense, sparse: int32 [n], each one's place in that arm's list, from 0; −1 where it does not have it.
        dense_scores, sparse_scores: float32 [n], its scores by that arm; NaN where they are not known.
    """

    starts: NDArray[np.int64]
    keys: NDArray[np.int64]
    scores: NDArray[np.float64]
    dense: NDArray[np.int32]
    sparse: NDArray[np.int32]
    dense_scores: NDArray[np.float32]
    sparse_scores: NDArray[np.float32]

    def take(self, kept: NDArray[np.bool_]) -> Fused:
        """Some of the documents: of n those that are kept."""
        before = np.concatenate([[0], np.cumsum(kept)])
        arrays: list[Any] = [array[kept] for array in self[1:]]
        return Fused(before[self.starts], *arrays)


def fuse_lists(
    dense: Listed,
    sparse: Listed,
    k: int,
    fusion: Fusion,
    weights: Sequence[float | None] | None = None,
    hearings: Sequence[float] | None = None,
    ends: NDArray[np.float64] | None = None,
) -> Fused:
    """The k best of each query's two lists, which are best first, keys distinct in each.

    See `lightretriever.fusion.fuse_exact` where the other arm's scores are known, for ends too, float64 [q, 2]; else
    `lightretriever.fusion.fuse_scores`, also for weights and hearings.

    Raises:
        ValueError: there are ends, and not as many of the other arm's scores as of its own.
    """
    queries = len(dense[0])
    told = zip(weights or [None] * queries, hearings or [1.0] * queries, strict=True)
    heard = np.array([heard_weights(fusion, *of) for of in told], np.float64).reshape(queries, 2)
    how = _BEST if fusion.tied == "best" else _PAPER
    if fusion.method == "rrf":
        how = _RRF
    elif fusion.exact and ends is not None:
        how = _EXACT
        if any(others.shape != scores.shape for _, _, scores, others in (dense, sparse)):
            raise ValueError("the other arm's scores are not those of the lists")
    if ends is None:
        ends = np.zeros((queries, 2))
    return Fused(*_fuse_all(*dense, *sparse, k, heard, ends, how, float(fusion.rrf_k)))


@compiled()
def _contribute(scores, weight, how, constant, out):  # type: ignore[no-untyped-def]
    """`lightretriever.fusion.contributions`."""
    n = len(scores)
    if n == 0:
        return
    low, high = np.float64(scores[n - 1]), np.float64(scores[0])
    spread = high - low + EPSILON
    for i in range(n):
        if how == _RRF:
            out[i] = weight / (constant + (i + 1))
        elif low == high and how == _BEST:
            out[i] = weight
        else:
            out[i] = weight * ((np.float64(scores[i]) - low) / spread)


@compiled()
def _precedes(a, b, fused, own, keys):  # type: ignore[no-untyped-def]
    """Whether document a is better than b: by fused score, then dense score, then key."""
    if fused[a] != fused[b]:
        return fused[a] > fused[b]
    if own[a] != own[b]:
        return own[a] > own[b]
    return keys[a] < keys[b]


@compiled()
def _sink(heap, at, size, fused, own, keys):  # type: ignore[no-untyped-def]
    """Restore a heap whose worst document is on top, from a place on."""
    while True:
        child = 2 * at + 1
        if child >= size:
            return
        if child + 1 < size and _precedes(heap[child], heap[child + 1], fused, own, keys):
            child += 1
        if not _precedes(heap[at], heap[child], fused, own, keys):
            return
        heap[at], heap[child] = heap[child], heap[at]
        at = child


@compiled()
def _known(dense, sparse, first, second, ends, best):  # type: ignore[no-untyped-def]
    """`lightretriever.fusion.fuse_exact`, of one document."""
    floor, span = ends[0], ends[1] - ends[0]
    score = first * ((np.float64(dense) - floor) / span) if span > 0 else 0.0
    return score + second * (np.float64(sparse) / best) if best > 0 else score


@compiled()
def _join(dense_keys, sparse_keys, keys, sparse):  # type: ignore[no-untyped-def]
    """The documents of both lists: the dense list's first, then those of the sparse list alone.

    Returns how many; ``keys``, and ``sparse``: the place of each in the sparse list, -1 where it has none.
    """
    n, m = len(dense_keys), len(sparse_keys)
    slots = 16
    while slots < 2 * (n + m):
        slots *= 2
    table, shift = np.full(slots, _EMPTY, np.int32), np.uint64(64)
    for _ in range(63):
        if (np.uint64(1) << (np.uint64(64) - shift)) < slots:
            shift -= np.uint64(1)
    for i in range(n):
        keys[i], sparse[i] = dense_keys[i], -1
        slot = np.int64((np.uint64(dense_keys[i]) * _SCRAMBLE) >> shift)
        while table[slot] != _EMPTY:
            slot = (slot + 1) & (slots - 1)
        table[slot] = i
    size = n
    for j in range(m):
        slot = np.int64((np.uint64(sparse_keys[j]) * _SCRAMBLE) >> shift)
        while table[slot] != _EMPTY and keys[table[slot]] != sparse_keys[j]:
            slot = (slot + 1) & (slots - 1)
        if table[slot] == _EMPTY:
            keys[size], sparse[size] = sparse_keys[j], j
            size += 1
        else:
            sparse[table[slot]] = j
    return size


@compiled()
def _choose(k, size, fused, own, keys, chosen):  # type: ignore[no-untyped-def]
    """The k best of ``size`` documents into ``chosen``, best first."""
    heap = np.arange(k)
    for at in range(k // 2 - 1, -1, -1):
        _sink(heap, at, k, fused, own, keys)
    for i in range(k, size):
        if k and _precedes(i, heap[0], fused, own, keys):
            heap[0] = i
            _sink(heap, 0, k, fused, own, keys)
    for last in range(k - 1, -1, -1):
        chosen[last] = heap[0]
        heap[0] = heap[last]
        _sink(heap, 0, last, fused, own, keys)


# fmt: off
@compiled()
def _fuse(  # type: ignore[no-untyped-def]
    dense_keys, dense_scores, dense_others, sparse_keys, sparse_scores, sparse_others, first, second, ends, how,
    constant, out_keys, out_scores, out_dense, out_sparse, out_dense_scores, out_sparse_scores,
):
    # fmt: on
    """One query's fused list into the last six, which are long enough for k; returns how many it has."""
    n, m = len(dense_keys), len(sparse_keys)
    keys, sparse = np.empty(n + m, np.int64), np.empty(n + m, np.int32)
    size = _join(dense_keys, sparse_keys, keys, sparse)
    fused, own, other = np.empty(size), np.full(size, -np.inf), np.full(size, np.nan, np.float32)
    own[:n] = dense_scores
    for i in range(size):
        if sparse[i] >= 0:
            other[i] = sparse_scores[sparse[i]]
    if how == _EXACT:
        best = np.float64(sparse_scores[0]) if m else 0.0
        for i in range(size):
            if i >= n:
                own[i] = sparse_others[sparse[i]]
            elif sparse[i] < 0:
                other[i] = dense_others[i]
            fused[i] = _known(own[i], other[i], first, second, ends, best)
    else:
        added = np.empty(m)
        _contribute(dense_scores, first, how, constant, fused[:n])
        _contribute(sparse_scores, second, how, constant, added)
        for i in range(size):
            if i >= n:
                fused[i] = added[sparse[i]]
            elif sparse[i] >= 0:
                fused[i] += added[sparse[i]]
    k = min(len(out_keys), size)
    chosen = np.empty(k, np.int64)
    _choose(k, size, fused, own, keys, chosen)
    for place in range(k):
        i = chosen[place]
        out_keys[place], out_scores[place] = keys[i], fused[i]
        out_dense[place], out_sparse[place] = i if i < n else -1, sparse[i]
        out_dense_scores[place] = own[i] if own[i] > -np.inf else np.nan
        out_sparse_scores[place] = other[i]
    return k


# fmt: off
@compiled()
def _fuse_all(  # type: ignore[no-untyped-def]
    dense_counts, dense_keys, dense_scores, dense_others, sparse_counts, sparse_keys, sparse_scores, sparse_others, k,
    weights, ends, how, constant,
):
    # fmt: on
    """The arrays of a `Fused`: each query's list behind the one before."""
    queries = len(dense_counts)
    starts, room = np.zeros(queries + 1, np.int64), 0
    for i in range(queries):
        room += min(dense_counts[i] + sparse_counts[i], k)
    keys, scores = np.empty(room, np.int64), np.empty(room)
    dense, sparse = np.empty(room, np.int32), np.empty(room, np.int32)
    in_dense, in_sparse = np.empty(room, np.float32), np.empty(room, np.float32)
    for i in range(queries):
        n, m, begin = dense_counts[i], sparse_counts[i], starts[i]
        end = begin + min(n + m, k)
        starts[i + 1] = begin + _fuse(
            dense_keys[i, :n], dense_scores[i, :n], dense_others[i, :n], sparse_keys[i, :m], sparse_scores[i, :m],
            sparse_others[i, :m], weights[i, 0], weights[i, 1], ends[i], how, constant, keys[begin:end],
            scores[begin:end], dense[begin:end], sparse[begin:end], in_dense[begin:end], in_sparse[begin:end],
        )  # fmt: skip
    n = starts[queries]
    return starts, keys[:n], scores[:n], dense[:n], sparse[:n], in_dense[:n], in_sparse[:n]
