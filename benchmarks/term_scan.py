"""A scan of BM25's postings, a term at a time, in numba: exact, and reads all of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from lightretriever.types import SparseVectors


@dataclass(frozen=True)
class Postings:
    """Documents and weights by token: ``starts`` int64 [V + 1] into ``documents`` and ``weights``."""

    starts: NDArray[np.int64]
    documents: NDArray[np.int32]
    weights: NDArray[np.float32]

    @property
    def bytes(self) -> int:
        return self.starts.nbytes + self.documents.nbytes + self.weights.nbytes


@numba.njit(cache=True)
def _invert(first, indptr, indices, values, at, documents, weights):  # type: ignore[no-untyped-def]
    for row in range(len(indptr) - 1):
        for place in range(indptr[row], indptr[row + 1]):
            slot = at[indices[place]]
            documents[slot], weights[slot] = first + row, values[place]
            at[indices[place]] += 1


def invert(parts: Iterable[SparseVectors], frequency: NDArray[np.int64]) -> Postings:
    """The postings of documents that come part by part, [n, V] each; ``frequency`` int64 [V], of each token."""
    starts = np.concatenate([[0], np.cumsum(frequency)])
    postings = Postings(starts, np.empty(starts[-1], np.int32), np.empty(starts[-1], np.float32))
    at, first = starts[:-1].copy(), 0
    for part in parts:
        _invert(first, part.indptr, part.indices, part.values, at, postings.documents, postings.weights)
        first += len(part)
    return postings


@numba.njit(cache=True, nogil=True)
def _scan(starts, documents, weights, tokens, counts, scores, touched):  # type: ignore[no-untyped-def]
    """Term at a time: adds to ``scores``, which must be zero, and lists the documents it touched."""
    n = 0
    for place in range(len(tokens)):
        count = counts[place]
        for slot in range(starts[tokens[place]], starts[tokens[place] + 1]):
            document = documents[slot]
            if scores[document] == 0:
                touched[n] = document
                n += 1
            scores[document] += count * weights[slot]
    return n


@numba.njit(cache=True, nogil=True)
def _best(scores, touched, n, k, heap_scores, heap_documents):  # type: ignore[no-untyped-def]
    """The k best of the touched documents into a heap, smallest first; sets ``scores`` back to zero."""
    size = 0
    for place in range(n):
        document = touched[place]
        score, scores[document] = scores[document], 0
        if size < k:
            at = size
            size += 1
            while at > 0 and heap_scores[(at - 1) // 2] > score:
                heap_scores[at], heap_documents[at] = heap_scores[(at - 1) // 2], heap_documents[(at - 1) // 2]
                at = (at - 1) // 2
            heap_scores[at], heap_documents[at] = score, document
        elif score > heap_scores[0]:
            at = 0
            while 2 * at + 1 < k:
                child = 2 * at + 1
                if child + 1 < k and heap_scores[child + 1] < heap_scores[child]:
                    child += 1
                if heap_scores[child] >= score:
                    break
                heap_scores[at], heap_documents[at] = heap_scores[child], heap_documents[child]
                at = child
            heap_scores[at], heap_documents[at] = score, document
    return size


class Scanner:
    """Searches postings exactly, one query at a time."""

    def __init__(self, postings: Postings, documents: int) -> None:
        self._postings = postings
        self._scores = np.zeros(documents, np.float32)
        self._touched = np.empty(documents, np.int32)

    def search(
        self, tokens: NDArray[np.int32], counts: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Scores and documents of the k best, best first; of equal scores the first document."""
        found = self._postings
        n = _scan(found.starts, found.documents, found.weights, tokens, counts, self._scores, self._touched)
        scores, documents = np.empty(k, np.float32), np.empty(k, np.int32)
        size = _best(self._scores, self._touched, n, k, scores, documents)
        order = np.lexsort((documents[:size], -scores[:size]))
        return scores[order], documents[order]
