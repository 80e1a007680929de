"""Runs out of an index: every query of a collection answered, in batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from lightretriever.progress import Progress
from lightretriever.text.trec import run_from_hits
from lightretriever.types import Encoded, Run

if TYPE_CHECKING:
    from lightretriever.index.index import Index

BATCH = 64  # queries whose hits, a thousand each, are in memory at once


def search_queries(
    index: Index,
    queries: Mapping[str, str],
    k: int,
    mode: str = "hybrid",
    *,
    filter: Mapping[str, object] | None = None,
    encode: Callable[[list[str]], Encoded] | None = None,
    tag: str = "lightretriever",
    progress: Progress | None = None,
) -> Run:
    """Answer queries.

    Args:
        index: an open index.
        queries: query id to text.
        k: hits a query, at most.
        mode: "hybrid", "dense" or "sparse".
        filter: one for all queries; see `Index.search_encoded`.
        encode: what makes vectors of a batch of texts; the index's own query encoder if None.
        tag: the run's name.
        progress: called with queries done and their number.

    Returns:
        The queries in their order, each with its hits best first, scores without ties.

    Raises:
        UsageError: k below 1, an unknown mode, or one that the index has no arm for, or a filter that is none.
    """
    encode = encode or index.encoder.encode
    ids = list(queries)
    scores: dict[str, Mapping[str, float]] = {}
    for start in range(0, len(ids), BATCH):
        batch = ids[start : start + BATCH]
        hits = index.search_encoded(encode([queries[query] for query in batch]), k, mode, filter, texts=False)
        scores.update(run_from_hits(batch, hits).scores)
        if progress:
            progress(start + len(batch), len(ids))
    return Run(scores, tag)


def without_own_ids(run: Run, k: int) -> Run:
    """The run without hits whose id is the query's own, k hits a query at most; scores stay as they are."""
    scores = {
        query: dict([(name, score) for name, score in found.items() if name != query][:k])
        for query, found in run.scores.items()
    }
    return Run(scores, run.tag)
