"""BM25 over an index's own tokens as a system beside it, whatever the index's sparse side is; and those tokens counted.

The impacts are those of `lightretriever.index.bm25`, the statistics being taken of the documents that are there now.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightretriever.index.bm25 import BM25
from lightretriever.index.engines.engine import pages
from lightretriever.index.filter.language import Filter, matches
from lightretriever.index.hits import first_of_documents
from lightretriever.index.index import Index
from lightretriever.index.postings import Postings, best_places
from lightretriever.passages.fields import document_id
from lightretriever.progress import Progress
from lightretriever.query.encoder import QueryEncoder
from lightretriever.text.corpus import Document
from lightretriever.text.trec import run_from_hits
from lightretriever.types import Hit, Run, SparseVectors, concatenate_sparse

_PAGE = 256  # documents read back from the engine at once


@dataclass(frozen=True, slots=True)
class TokenTotals:
    """The tokens of n documents.

    Attributes:
        documents: n.
        frequency: int64 [V], how many documents hold each token.
        occurrences: int64 [V], how often it stands in all of them.
    """

    documents: int
    frequency: NDArray[np.int64]
    occurrences: NDArray[np.int64]


def count_index(index: Index, progress: Progress | None = None) -> TokenTotals:
    """Count the tokens of all documents' whole texts, whatever the index's sparse side counts."""
    side = index.sparse_side
    width = side.width
    documents, frequency, occurrences = 0, np.zeros(width, np.int64), np.zeros(width, np.int64)
    for page in _documents(index, progress):
        counts = side.tokens(page)
        documents += len(page)
        frequency += np.bincount(counts.indices, minlength=width)
        occurrences += np.bincount(counts.indices, counts.values, minlength=width).astype(np.int64)
    return TokenTotals(documents, frequency, occurrences)


def search_bm25(
    index: Index, queries: Mapping[str, str], k: int, progress: Progress | None = None, where: Filter | None = None
) -> Run:
    """Answer queries by BM25 over all documents of an index, exactly; postings of all documents are held in memory.

    Args:
        index: an open index with the documents' texts.
        queries: query id to text.
        k: hits a query, at most.
        progress: called with queries answered and their number.
        where: which documents may be found; the statistics are those of all, as they are in an index.

    Returns:
        The queries in their order, hits best first; documents of equal score in the engine's order. Documents that
        share no token with a query are not listed.
    """
    side = index.sparse_side
    read = [(documents, side.tokens(documents)) for documents in _documents(index, None)]
    if not read:
        return Run({query: {} for query in queries}, "bm25")
    ids = [document.id for documents, _ in read for document in documents]
    hidden = np.array([not matches(where, document.metadata) for documents, _ in read for document in documents])
    impacts = BM25.of((counts for _, counts in read), side.width).impacts(
        concatenate_sparse([counts for _, counts in read])
    )
    postings = Postings.of(impacts)
    asked = count_queries(index, list(queries.values()))
    hits = []
    for row in range(len(asked)):
        scores = postings.scores(*asked.row(row))
        scores[hidden] = 0
        there = np.flatnonzero(scores)
        best = best_places(scores, there, len(there) if index.settings.passages else k)
        if index.settings.passages:
            best = best[first_of_documents(np.array([0, len(best)]), [ids[place] for place in best], k)]
        names = [document_id(ids[place]) if index.settings.passages else ids[place] for place in best]
        hits.append([Hit(name, float(scores[place])) for name, place in zip(names, best, strict=True)])
        if progress:
            progress(row + 1, len(asked))
    return run_from_hits(list(queries), hits, "bm25")


def count_queries(index: Index, queries: Sequence[str]) -> SparseVectors:
    """Counts of the tokens of queries, [n, V], whatever the index's sparse side counts."""
    return QueryEncoder(index.encoder.table, index.encoder.counts).encode_sparse(queries)


def _documents(index: Index, progress: Progress | None) -> Iterator[list[Document]]:
    done, total = 0, index.count
    for page in pages(index.engine, _PAGE):
        documents = list(page.documents)
        done += len(documents)
        yield documents
        if progress:
            progress(done, total)
