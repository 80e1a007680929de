"""Sparse vectors of the documents that were written since the last segment: postings in memory, appended to.

Each token's postings are linked from its first to its last, and numbered as they were written. Whoever searches has a
`FreshView`, which says how many postings there were when it was taken: a chain ends for it at the first that came
later. So one thread appends while others search, and nobody waits or sees half a batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightretriever.artifact import plain_view
from lightretriever.compiled import compiled
from lightretriever.index.segment.lists import Lists, new_lists, no_lists
from lightretriever.index.segment.sparse import ALL, SparseScratch, check_rows, plain_rows, refuse_counts
from lightretriever.index.segment.sparse_scores import rank, write_best
from lightretriever.types import SparseVectors

_NONE = -1
_SMALLEST = np.float32(1e-37)  # so that a document with a token in common has a score


@dataclass(frozen=True, slots=True, eq=False)
class FreshView:
    """What had been appended when it was taken; it stays so.

    Attributes:
        documents, postings: how many count.
        heads: int64 [V], each token's first posting; −1, or one that does not count, for none.
        following: int64 [≥ postings], the token's next.
        places: int32 [≥ postings], ascending within a token.
        values: float32 [≥ postings].
    """

    documents: int
    postings: int
    heads: NDArray[np.int64]
    following: NDArray[np.int64]
    places: NDArray[np.int32]
    values: NDArray[np.float32]

    def __len__(self) -> int:
        return self.documents


class FreshSparse:
    """Documents' sparse vectors at places 0, 1, … in the order in which one writer appends them."""

    def __init__(self) -> None:
        self._tails = np.empty(0, np.int64)
        none = np.empty(0, np.int64)
        self._view = FreshView(0, 0, none, none, np.empty(0, np.int32), np.empty(0, np.float32))

    def __len__(self) -> int:
        return len(self._view)

    def view(self) -> FreshView:
        """What can be searched now."""
        return self._view

    def append(self, batch: SparseVectors) -> None:
        """Add rows [n, V]; V may be larger than before.

        Raises:
            InputError: as `build_sparse`; then nothing is added.
        """
        now = self._view
        check_rows(batch, np.zeros(batch.width, np.int64), np.zeros(batch.width, np.float32), now.documents)
        heads = _grown(now.heads, batch.width, len(now.heads))
        self._tails = _grown(self._tails, batch.width, len(self._tails))
        postings = now.postings + len(batch.indices)
        following, places, values = (
            _grown(array, postings, now.postings) for array in (now.following, now.places, now.values)
        )
        _append(now.documents, now.postings, *plain_rows(batch), heads, self._tails, following, places, values)
        self._view = FreshView(now.documents + len(batch), postings, heads, following, places, values)


def _grown(array: NDArray[Any], size: int, used: int) -> NDArray[Any]:
    """The array, or where it is too small a copy of what is used at the front of one twice as large."""
    if size <= len(array):
        return array
    larger = np.full(max(size, 2 * len(array)), _NONE, array.dtype)
    larger[:used] = array[:used]
    return larger


@compiled()
def _append(place, posting, indptr, indices, values, heads, tails, following, to_places, to_values):  # type: ignore[no-untyped-def]
    for row in range(len(indptr) - 1):
        for j in range(indptr[row], indptr[row + 1]):
            token = indices[j]
            following[posting], to_places[posting], to_values[posting] = -1, place + row, values[j]
            if heads[token] < 0:
                heads[token] = posting
            else:
                following[tails[token]] = posting
            tails[token] = posting
            posting += 1


@compiled()
def _add_up(tokens, counts, postings, heads, following, places, values, sums, touched):  # type: ignore[no-untyped-def]
    """Scores into ``sums``, which is zero, of the documents listed in ``touched``; how many these are."""
    found = 0
    for t in range(len(tokens)):
        if not 0 <= tokens[t] < len(heads):
            continue
        p = heads[tokens[t]]
        while 0 <= p < postings:
            place = places[p]
            if sums[place] == 0:
                touched[found] = place
                found += 1
            sums[place] += max(counts[t] * values[p], _SMALLEST)
            p = following[p]
    return found


@compiled()
def _best(  # type: ignore[no-untyped-def]
    tokens, counts, k, mask, masked, postings, heads, following, places, values, sums, touched, found, scores, keys
):
    """Keys of the k best in no order; how many. ``sums`` is zero again afterwards."""
    for count in counts:
        if not 0 < count < np.inf:
            return -1
    count = _add_up(tokens, counts, postings, heads, following, places, values, sums, touched)
    filled, ready, room = 0, 0, len(found) - k
    for i in range(count):
        place = touched[i]
        score, sums[place] = sums[place], np.float32(0)
        if masked and mask[place] == 0:
            continue
        found[ready], scores[ready] = place, score
        ready += 1
        if ready == room:
            filled = rank(found, scores, ready, k, keys, filled)
            ready = 0
    return rank(found, scores, ready, k, keys, filled)


@compiled()
def _find_all(  # type: ignore[no-untyped-def]
    indptr, tokens, counts, k, mask, masked, postings, heads, following, places, values, sums, touched,
    found, scores, keys, out_counts, out_places, out_scores,
):  # fmt: skip
    """As `sparse_kernels.find_all`, of the documents that are in no segment."""
    for i in range(len(indptr) - 1):
        row, times = tokens[indptr[i] : indptr[i + 1]], counts[indptr[i] : indptr[i + 1]]
        count = _best(
            row, times, k, mask, masked, postings, heads, following, places, values, sums, touched,
            found, scores, keys,
        )  # fmt: skip
        if count < 0:
            return i
        write_best(keys, count, out_places[i], out_scores[i])
        out_counts[i] = count
    return -1


# fmt: off
@compiled()
def _score_lists(  # type: ignore[no-untyped-def]
    indptr, tokens, counts, lengths, wanted, postings, heads, following, places, values, sums, touched, scores,
):
    # fmt: on
    for i in range(len(lengths)):
        begin, end = indptr[i], indptr[i + 1]
        row, times = tokens[begin:end], counts[begin:end]
        count = _add_up(row, times, postings, heads, following, places, values, sums, touched)
        for j in range(lengths[i]):
            scores[i, j] = sums[wanted[i, j]]
        for j in range(count):
            sums[touched[j]] = 0


def _arrays(view: FreshView) -> tuple[Any, ...]:
    return view.postings, *(plain_view(a) for a in (view.heads, view.following, view.places, view.values))


def search_fresh(
    view: FreshView, queries: SparseVectors, k: int, mask: NDArray[np.uint8] | None, scratch: SparseScratch
) -> Lists:
    """As `search_sparse`, of the documents of a view; the mask may be longer than these are many."""
    k = min(k, len(view))
    if k < 1:
        return no_lists(len(queries))
    room, _, _, scores, keys = scratch.reserve(k)
    allowed = ALL if mask is None else plain_view(mask)
    found = new_lists(len(queries), k)
    refused = _find_all(
        *plain_rows(queries), k, allowed, mask is not None, *_arrays(view), *scratch.reserve_sums(len(view)),
        room, scores, keys, *found,
    )  # fmt: skip
    if refused >= 0:
        raise refuse_counts()
    return found


def score_fresh(
    view: FreshView, queries: SparseVectors, lists: Lists, scratch: SparseScratch
) -> NDArray[np.float32]:
    """As `score_sparse`, of the documents of a view."""
    scores = np.empty(lists.places.shape, np.float32)
    sums = scratch.reserve_sums(len(view))
    _score_lists(*plain_rows(queries), lists.counts, lists.places, *_arrays(view), *sums, scores)
    return scores
