"""What every dense weight would be worth to each query: both arms' lists of an index, judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log2
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lightretriever.errors import UsageError
from lightretriever.evaluation.runs import BATCH
from lightretriever.fusion import Fusion
from lightretriever.index.engines.engine import Found
from lightretriever.index.search import features_of, fuse_found
from lightretriever.passages.fields import document_id
from lightretriever.progress import Progress
from lightretriever.types import Encoded
from lightretriever.weigher import DEPTH

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
    gains: list[NDArray[np.float64]] = []
    for start in range(0, len(ids), BATCH):
        batch = ids[start : start + BATCH]
        encoded = index.encoder.encode([queries[query] for query in batch])
        found = index.find(encoded, DEPTH, filter)
        rows += features_of(found, encoded)
        judgements = [qrels.get(query, {}) for query in batch]
        gains.append(
            _gains(found, encoded, judgements, Fusion(tied=index.fusion.tied), index.settings.passages is not None)
        )
        if progress:
            progress(start + len(batch), len(ids))
    return Judged(np.array(rows).reshape(len(rows), -1), np.concatenate([np.empty((0, len(GRID))), *gains]))


def _gains(
    found: Found, encoded: Encoded, judgements: Sequence[Mapping[str, int]], fusion: Fusion, passages: bool
) -> NDArray[np.float64]:
    """nDCG@10 of each query under each weight, float64 [q, G]; of documents, where passages of them are found."""
    gains = np.zeros((len(encoded), len(GRID)))
    k = 2 * DEPTH if passages else CUTOFF
    fused = [fuse_found(found, encoded, fusion, k, [weight] * len(encoded)) for weight in GRID.tolist()]
    keys = np.unique(np.concatenate([of_weight.keys for of_weight in fused]))
    names = dict(zip(keys.tolist(), found.ids(keys), strict=True))  # asked for once: a server has them elsewhere
    for column, of_weight in enumerate(fused):
        named = [names[key] for key in of_weight.keys.tolist()]
        for row, (begin, end) in enumerate(pairwise(of_weight.starts.tolist())):
            ranked = [name for name in named[begin:end] if name is not None]
            if passages:
                ranked = list(dict.fromkeys(map(document_id, ranked)))
            gains[row, column] = ndcg(ranked, judgements[row])
    return gains


def ndcg(ranked: Sequence[str], relevances: Mapping[str, int], cutoff: int = CUTOFF) -> float:
    """``Σ rel/log2(1 + rank)`` of the first ``cutoff``, over the most that it could be, as trec_eval has it."""
    best = sorted((value for value in relevances.values() if value > 0), reverse=True)
    most = sum(value / log2(place + 2) for place, value in enumerate(best[:cutoff]))
    found = (max(relevances.get(name, 0), 0) for name in ranked[:cutoff])
    return sum(value / log2(place + 2) for place, value in enumerate(found)) / most if most else 0.0
