"""Why a hit is where it is in the sparse arm: what each word of the query brought it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lightretriever.query.encoder import QueryEncoder
from lightretriever.types import Hit, SparseVectors

if TYPE_CHECKING:
    from lightretriever.index.index import Index

Earned = list[tuple[str, float]]


def earned_words(index: Index, query: str, hits: Sequence[Hit]) -> list[Earned]:
    """Of each hit the query's words that it has and what each adds to its sparse score, most first.

    A word is as the query has it where the index counts words, and a token of the document model where it counts
    these. The parts of a hit add up to its sparse score, but for rounding and for what was written since the search.

    Args:
        index: that was searched.
        query: what was searched for.
        hits: of that query; one that is gone by now has no words.
    """
    words = _query_words(index.encoder, query)
    if not words or not hits:
        return [[] for _ in hits]
    names = [hit.passage or hit.id for hit in hits]
    rows = index.engine.rows(list(dict.fromkeys(names)))
    weights = _weights(index, rows.sparse)
    places = {document.id: place for place, document in enumerate(rows.documents)}
    return [_earned(weights, places.get(name), words) for name in names]


def _earned(weights: SparseVectors | None, place: int | None, words: dict[int, tuple[str, float]]) -> Earned:
    if weights is None or place is None:
        return []
    terms, values = weights.row(place)
    found = [(words[term], value) for term, value in zip(terms.tolist(), values.tolist(), strict=True) if term in words]
    return sorted(((word, count * value) for (word, count), value in found), key=lambda pair: -pair[1])


def _query_words(encoder: QueryEncoder, query: str) -> dict[int, tuple[str, float]]:
    """Of each term that the query counts, how the query spells it, and how often it has it."""
    ids, counts = encoder.encode_sparse([query]).row(0)
    named: dict[int, str] = {}
    if encoder.words is None:
        tokenizer = encoder.table.tokenizer
        named = {term: tokenizer.decode([term]).strip() or str(tokenizer.id_to_token(term)) for term in ids.tolist()}
    else:
        spelled = list(dict.fromkeys(encoder.words.split(query)))
        rows = encoder.encode_sparse(spelled)
        for number, word in enumerate(spelled):
            for term in rows.row(number)[0].tolist():
                named.setdefault(term, word)
    pairs = zip(ids.tolist(), counts.tolist(), strict=True)
    return {term: (named[term], count) for term, count in pairs if term in named}


def _weights(index: Index, stored: SparseVectors | None) -> SparseVectors | None:
    """Impacts of documents: an engine of our own keeps counts, and makes them as it reads."""
    if stored is None or index.settings.sparse != "bm25" or not index.engine.keeps_counts:
        return stored
    statistics = index.bm25
    return None if statistics is None else statistics.impacts(stored)
