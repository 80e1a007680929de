"""Sparse vectors by token, scored a term at a time in memory: exact, and no engine is needed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightretriever.types import SparseVectors


@dataclass(frozen=True, slots=True, eq=False)
class Postings:
    """For every token the documents that have it; `of` makes them.

    Attributes:
        documents: n.
        starts: int64 [V + 1], where each token's postings begin.
        places: int64 [non-zeros], documents from 0.
        values: float32 [non-zeros], their weights.
    """

    documents: int
    starts: NDArray[np.int64]
    places: NDArray[np.int64]
    values: NDArray[np.float32]

    @staticmethod
    def of(vectors: SparseVectors) -> Postings:
        """Of document vectors [n, V]."""
        by_token = np.argsort(vectors.indices, kind="stable")
        places = np.repeat(np.arange(len(vectors)), np.diff(vectors.indptr))[by_token]
        starts = np.searchsorted(vectors.indices[by_token], np.arange(vectors.width + 1))
        return Postings(len(vectors), starts, places, vectors.values[by_token])

    def scores(self, tokens: Iterable[int], counts: Iterable[float]) -> NDArray[np.float64]:
        """Inner products of one query with all documents, float64 [n]; 0 where they share no token."""
        scores = np.zeros(self.documents)
        for token, count in zip(tokens, counts, strict=True):
            listed = slice(self.starts[token], self.starts[token + 1])
            scores[self.places[listed]] += float(count) * self.values[listed]
        return scores


def best_places(scores: NDArray, places: NDArray[np.intp], k: int) -> NDArray[np.intp]:
    """The k best of some places, best first; places of equal score in their order."""
    if len(places) > k:  # whatever ties with the last one stays, so that the order alone decides who goes
        places = places[scores[places] >= np.partition(scores[places], -k)[-k]]
    return places[np.argsort(-scores[places], kind="stable")][:k]
