"""`lightretriever.fusion.fuse_ranked` compiled, for lists by integer keys: the same numbers, in the same order.

Loaded with the first search of an index. It holds no lock on the interpreter.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightretriever.compiled import compiled
from lightretriever.fusion import EPSILON, Fusion, heard_weights

_EMPTY = -1
_SCRAMBLE = np.uint64(0x9E3779B97F4A7C15)


class Fused(NamedTuple):
    """A fused list of n documents, best first.

    Attributes:
        keys: int64 [n].
        scores: float64 [n].
        dense, sparse: int32 [n], each one's place in that list, from 0; −1 where it does not have it.
    """

    keys: NDArray[np.int64]
    scores: NDArray[np.float64]
    dense: NDArray[np.int32]
    sparse: NDArray[np.int32]

    def take(self, rows: slice | NDArray[np.intp]) -> Fused:
        """Some of the documents."""
        return Fused(self.keys[rows], self.scores[rows], self.dense[rows], self.sparse[rows])


def fuse_lists(
    dense_keys: NDArray[np.int64],
    dense_scores: NDArray[np.float32],
    sparse_keys: NDArray[np.int64],
    sparse_scores: NDArray[np.float32],
    k: int,
    fusion: Fusion,
    weight: float | None = None,
    hearing: float = 1.0,
) -> Fused:
    """The k best of two lists that are best first, keys distinct in each; see `lightretriever.fusion.fuse_scores`."""
    first, second = heard_weights(fusion, weight, hearing)
    most = min(k, len(dense_keys) + len(sparse_keys))
    found = Fused(np.empty(most, np.int64), np.empty(most), np.empty(most, np.int32), np.empty(most, np.int32))
    linear, best_tied = fusion.method == "linear", fusion.tied == "best"
    count = _fuse(
        dense_keys, dense_scores, sparse_keys, sparse_scores, first, second, linear, fusion.rrf_k, best_tied, *found
    )
    return found if count == most else found.take(slice(count))


@compiled()
def _contribute(scores, weight, linear, constant, best_tied, out):  # type: ignore[no-untyped-def]
    """`lightretriever.fusion.contributions`."""
    n = len(scores)
    if n == 0:
        return
    low, high = np.float64(scores[n - 1]), np.float64(scores[0])
    spread = high - low + EPSILON
    for i in range(n):
        if not linear:
            out[i] = weight / (constant + (i + 1))
        elif low == high and best_tied:
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
def _fuse(  # type: ignore[no-untyped-def]
    dense_keys,
    dense_scores,
    sparse_keys,
    sparse_scores,
    first,
    second,
    linear,
    constant,
    best_tied,
    out_keys,
    out_scores,
    out_dense,
    out_sparse,
):
    n, m = len(dense_keys), len(sparse_keys)
    added = np.empty(m)
    fused, own = np.empty(n + m), np.full(n + m, -np.inf)
    keys, dense, sparse = np.empty(n + m, np.int64), np.full(n + m, -1, np.int32), np.full(n + m, -1, np.int32)
    _contribute(dense_scores, first, linear, constant, best_tied, fused[:n])
    _contribute(sparse_scores, second, linear, constant, best_tied, added)
    slots = 16
    while slots < 2 * (n + m):
        slots *= 2
    table, shift = np.full(slots, _EMPTY, np.int32), np.uint64(64)
    for _ in range(63):
        if (np.uint64(1) << (np.uint64(64) - shift)) < slots:
            shift -= np.uint64(1)
    for i in range(n):
        keys[i], own[i], dense[i] = dense_keys[i], dense_scores[i], i
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
            keys[size], fused[size], sparse[size] = sparse_keys[j], added[j], j
            size += 1
        else:
            fused[table[slot]] += added[j]
            sparse[table[slot]] = j
    k = min(len(out_keys), size)
    heap = np.arange(k)
    for at in range(k // 2 - 1, -1, -1):
        _sink(heap, at, k, fused, own, keys)
    for i in range(k, size):
        if k and _precedes(i, heap[0], fused, own, keys):
            heap[0] = i
            _sink(heap, 0, k, fused, own, keys)
    for last in range(k - 1, -1, -1):
        i = heap[0]
        out_keys[last], out_scores[last], out_dense[last], out_sparse[last] = keys[i], fused[i], dense[i], sparse[i]
        heap[0] = heap[last]
        _sink(heap, 0, last, fused, own, keys)
    return k
