"""Sparse vectors as a language model's head gives them, and the numba scan that is the limit of searching them.

A document has 149 distinct tokens of 152,000: part of them drawn by Zipf's law from the whole vocabulary, part by
another from the 2,000 tokens of its topic, which is the nearest of 512 dense vectors, so that documents near by in one
arm are near by in the other. Weights are log-normal, greater for tokens of the topic.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numba
import numpy as np
from numpy.typing import NDArray

from lightretriever.types import SparseVectors

WIDTH = 152_000
NON_ZEROS = 149
TERMS = 8  # of a query
TOPICS, TOPIC_TOKENS = 512, 2_000
BLOCK = 20_000


@numba.njit(cache=True)
def _draw(topics, common, topical, members, seed, indices, values):  # type: ignore[no-untyped-def]
    np.random.seed(seed)
    n, non_zeros = indices.shape
    used = np.full(WIDTH, -1, np.int64)
    for row in range(n):
        filled = 0
        while filled < non_zeros:
            from_topic = np.random.random() < 0.5
            if from_topic:
                token = members[topics[row], np.searchsorted(topical, np.random.random())]
            else:
                token = np.searchsorted(common, np.random.random())
            if used[token] != row:
                used[token] = row
                indices[row, filled] = token
                filled += 1
        indices[row].sort()
        for place in range(non_zeros):
            values[row, place] = np.exp(np.random.normal(-0.5, 0.6))


def _zipf(n: int, shift: float, power: float) -> NDArray[np.float64]:
    weights = 1 / (np.arange(n) + shift) ** power
    return np.cumsum(weights) / weights.sum()


def write_sparse(folder: Path, dense: NDArray[np.float32], seed: int = 0) -> None:
    """Write ``indices.npy`` int32 and ``values.npy`` float32, both [documents, NON_ZEROS], tokens ascending."""
    rng = np.random.default_rng(seed)
    centres = np.asarray(dense[rng.choice(len(dense), TOPICS, replace=len(dense) < TOPICS)])
    members = np.stack([rng.choice(WIDTH - 200, TOPIC_TOKENS, replace=False) + 200 for _ in range(TOPICS)])
    common, topical = _zipf(WIDTH, 30, 1.0), _zipf(TOPIC_TOKENS, 10, 0.9)
    shape = (len(dense), NON_ZEROS)
    indices = np.lib.format.open_memmap(folder / "indices.npy", mode="w+", dtype=np.int32, shape=shape)
    values = np.lib.format.open_memmap(folder / "values.npy", mode="w+", dtype=np.float32, shape=shape)
    for start in range(0, len(dense), BLOCK):
        rows = slice(start, min(start + BLOCK, len(dense)))
        topics = (dense[rows] @ centres.T).argmax(axis=1)
        tokens, weights = np.empty((len(topics), NON_ZEROS), np.int32), np.empty((len(topics), NON_ZEROS), np.float32)
        _draw(topics, common, topical, members, seed + start, tokens, weights)
        indices[rows], values[rows] = tokens, weights
    indices.flush()
    values.flush()


def sparse_rows(indices: NDArray[np.int32], values: NDArray[np.float32]) -> SparseVectors:
    """Rows of equally many non-zeros as CSR."""
    n, non_zeros = indices.shape
    indptr = np.arange(n + 1, dtype=np.int64) * non_zeros
    return SparseVectors(indptr, indices.reshape(-1), values.reshape(-1), WIDTH)


@dataclass(frozen=True)
class Postings:
    """Documents and weights by token: ``starts`` int64 [WIDTH + 1] into ``documents`` and ``weights``."""

    starts: NDArray[np.int64]
    documents: NDArray[np.int32]
    weights: NDArray[np.float32]

    @property
    def bytes(self) -> int:
        return self.starts.nbytes + self.documents.nbytes + self.weights.nbytes


@numba.njit(cache=True)
def _invert(indices, values, starts, documents, weights):  # type: ignore[no-untyped-def]
    at = starts[:-1].copy()
    for row in range(indices.shape[0]):
        for place in range(indices.shape[1]):
            slot = at[indices[row, place]]
            documents[slot], weights[slot] = row, values[row, place]
            at[indices[row, place]] += 1


def invert(indices: NDArray[np.int32], values: NDArray[np.float32]) -> Postings:
    """The postings of rows of equally many non-zeros."""
    counts = np.zeros(WIDTH, np.int64)
    for start in range(0, len(indices), BLOCK):
        counts += np.bincount(indices[start : start + BLOCK].reshape(-1), minlength=WIDTH)
    starts = np.concatenate([[0], np.cumsum(counts)])
    postings = Postings(starts, np.empty(starts[-1], np.int32), np.empty(starts[-1], np.float32))
    _invert(indices, values, starts, postings.documents, postings.weights)
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


def draw_queries(
    indices: NDArray[np.int32], values: NDArray[np.float32], frequencies: NDArray[np.int64], seed: int = 0
) -> NDArray[np.int32]:
    """TERMS tokens of each of the documents given, the likelier the rarer and heavier; int32 [n, TERMS], ascending.

    Args:
        indices, values: [n, NON_ZEROS], of one document for each query.
        frequencies: [WIDTH], in how many documents each token stands.
    """
    rng = np.random.default_rng(seed)
    idf = np.log(1 + frequencies.sum() / NON_ZEROS / np.maximum(frequencies, 1))[indices]
    tilted = np.log(idf * values) + rng.gumbel(size=indices.shape)  # the greatest of these: drawn without replacement
    chosen = np.argsort(-tilted, axis=1)[:, :TERMS]
    return np.sort(np.take_along_axis(indices, chosen, axis=1), axis=1)
