"""What hard negatives can be mined with: an index, vectors in memory, or BM25 before there is any model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from lightretriever.errors import UsageError
from lightretriever.index.bm25 import BM25, count_tokens
from lightretriever.index.index import Index
from lightretriever.index.postings import Postings, best_places
from lightretriever.text.corpus import Document
from lightretriever.text.memo import ChunkTokenizer, chunk_rule
from lightretriever.text.tokenizer import id_count, is_byte_level
from lightretriever.types import Hit

Search = Callable[[list[str], int], list[list[Hit]]]
"""The k best documents for each of some queries, best first, with their texts."""


def index_search(index: Index, mode: str = "hybrid") -> Search:
    """A search of an open index: "hybrid", "dense" or "sparse"."""
    return lambda queries, k: index.search_many(queries, k, mode)


def vector_search(
    documents: Sequence[Document],
    vectors: NDArray[np.float32],
    encode: Callable[[list[str]], NDArray[np.float32]],
) -> Search:
    """An exact search of vectors in memory, by inner product.

    Args:
        documents: n documents, with ids.
        vectors: float32 [n, d], theirs.
        encode: queries to float32 [m, d]: `DocumentEncoder.encode_queries` or `QueryEncoder.encode_dense`.

    Raises:
        UsageError: another number of vectors than of documents.
    """
    if len(documents) != len(vectors):
        raise UsageError(f"{len(documents)} documents and {len(vectors)} vectors: one each is needed")

    def search(queries: list[str], k: int) -> list[list[Hit]]:
        return [_best(documents, scores, np.arange(len(scores)), k) for scores in encode(queries) @ vectors.T]

    return search


def bm25_search(documents: Sequence[Document], tokenizer: Tokenizer) -> Search:
    """BM25 of documents in memory over a tokenizer's tokens, as an index has it: see `lightretriever.index.bm25`.

    Documents that share no token with a query are not found.
    """
    width, leading_space = id_count(tokenizer), is_byte_level(tokenizer)
    chunks = ChunkTokenizer(tokenizer, chunk_rule(tokenizer))
    counts = count_tokens([document.input for document in documents], chunks, leading_space, width)
    postings = Postings.of(BM25.of([counts], width).impacts(counts))

    def search(queries: list[str], k: int) -> list[list[Hit]]:
        asked = count_tokens(queries, chunks, leading_space, width)
        rows = (postings.scores(*asked.row(row)) for row in range(len(queries)))
        return [_best(documents, scores, np.flatnonzero(scores), k) for scores in rows]

    return search


def _best(documents: Sequence[Document], scores: NDArray, places: NDArray[np.intp], k: int) -> list[Hit]:
    best: Iterable[int] = best_places(scores, places, k).tolist()
    return [Hit(documents[i].id, float(scores[i]), documents[i].title, documents[i].text) for i in best]
