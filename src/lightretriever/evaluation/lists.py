"""What every dense weight would be worth to each query: both arms' lists of an index, judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log2
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lightretriever.errors import UsageError
from lightretriever.evaluation.runs import BATCH
from lightretriever.fusion import Fusion, fuse_scores, hearing_of
from lightretriever.progress import Progress
from lightretriever.types import Hit
from lightretriever.weigher import DEPTH, features, places_in, token_numbers

if TYPE_CHECKING:
    from lightretriever.index.index import Index

GRID = np.linspace(0.0, 1.0, 21)
CUTOFF = 10


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """n queries, their lists judged.

    Attributes:
        features: float64 [n, F], see `lightretriever.weigher.features`.
        gains: float64 [n, G]: nDCG@10 of the query under each dense weight of `GRID`.
    """

    features: NDArray[np.float64]
    gains: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.gains)

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> Judged:
        """Some of the queries."""
        return Judged(self.features[rows], self.gains[rows])

    def informative(self) -> NDArray[np.bool_]:
        """[n]: which queries have a judged hit that some weight brings among the first ten."""
        return np.asarray(self.gains.any(axis=1))

    def at(self, weights: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """nDCG@10 of every query, float64 [n], under one weight or its own, between those of the grid in proportion."""
        place = np.clip(np.broadcast_to(weights, len(self)), 0.0, 1.0) * (len(GRID) - 1)
        low = np.minimum(place.astype(np.intp), len(GRID) - 2)
        rows, share = np.arange(len(self)), place - low
        return self.gains[rows, low] * (1 - share) + self.gains[rows, low + 1] * share


def check_sides(index: Index) -> None:
    """Raises UsageError for an index that has no sparse side, and so no weight to choose."""
    if index.settings.sparse == "none":
        raise UsageError(f"{index.path} has no sparse side: its searches are dense, there is no weight to tune")


def judge_lists(
    index: Index,
    queries: Mapping[str, str],
    qrels: Mapping[str, Mapping[str, int]],
    progress: Progress | None = None,
    filter: Mapping[str, object] | None = None,
) -> Judged:
    """Search both arms for queries and judge what each dense weight makes of the lists.

    Args:
        index: an open index with both sides.
        queries: query id to text.
        qrels: query id to (document id to relevance); a document that is not named counts 0.
        progress: called with queries done and their number.
        filter: one for all queries.

    Raises:
        UsageError: the index has no sparse side, so that there is no weight to choose.
    """
    check_sides(index)
    ids = list(queries)
    rows: list[list[float]] = []
    gains: list[list[float]] = []
    for start in range(0, len(ids), BATCH):
        batch = ids[start : start + BATCH]
        encoded = index.encoder.encode([queries[query] for query in batch])
        assert encoded.sparse is not None
        dense = index.search_encoded(encoded, DEPTH, "dense", filter, texts=False)
        sparse = index.search_encoded(encoded, DEPTH, "sparse", filter, texts=False)
        hearings = hearing_of(encoded, [[hit.score for hit in hits[:1]] for hits in sparse])
        found = zip(batch, dense, sparse, token_numbers(encoded.sparse), hearings, strict=True)
        for query, one, two, tokens, hearing in found:
            (names, scores), (others, added) = _columns(one), _columns(two)
            rows.append(features(scores, added, places_in(others, names), tokens))
            gains.append(_gains(one, two, qrels.get(query, {}), index.fusion, hearing))
        if progress:
            progress(start + len(batch), len(ids))
    return Judged(np.array(rows).reshape(len(rows), -1), np.array(gains).reshape(len(gains), len(GRID)))


def _columns(hits: Sequence[Hit]) -> tuple[list[str], list[float]]:
    return [hit.id for hit in hits], [hit.score for hit in hits]


def _gains(
    dense: Sequence[Hit], sparse: Sequence[Hit], relevances: Mapping[str, int], fusion: Fusion, hearing: float
) -> list[float]:
    one, two = ([(hit.id, hit.score) for hit in hits] for hits in (dense, sparse))
    if not any(relevances.get(name, 0) > 0 for name, _ in (*one, *two)):
        return [0.0] * len(GRID)
    linear = Fusion(tied=fusion.tied)
    fused = [fuse_scores(one, two, linear, weight, hearing)[:CUTOFF] for weight in GRID.tolist()]
    return [ndcg([name for name, _ in ranked], relevances) for ranked in fused]


def ndcg(ranked: Sequence[str], relevances: Mapping[str, int], cutoff: int = CUTOFF) -> float:
    """``Σ rel/log2(1 + rank)`` of the first ``cutoff``, over the most that it could be, as trec_eval has it."""
    best = sorted((value for value in relevances.values() if value > 0), reverse=True)
    most = sum(value / log2(place + 2) for place, value in enumerate(best[:cutoff]))
    found = (max(relevances.get(name, 0), 0) for name in ranked[:cutoff])
    return sum(value / log2(place + 2) for place, value in enumerate(found)) / most if most else 0.0
