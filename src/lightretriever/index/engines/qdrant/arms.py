"""One search of a collection: what is asked of both arms, and the lists that come back, under small numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from qdrant_client import models

from lightretriever.index.engines.engine import NOTHING, Asked, Ranking, Rankings
from lightretriever.index.engines.qdrant.batches import KEYS, chunks
from lightretriever.index.engines.qdrant.filter import server_filter
from lightretriever.index.engines.qdrant.points import DENSE, SPARSE, sparse_vector

CANDIDATES = 1_100
"""Of a walk of the graph. Look-up queries lie off the documents' own, so they need more than other queries, and more
the more points there are: for a recall@10 of 0.99 256 candidates among 100,000 real passages, 1,000 among a million,
which is what a server's shard is taken to hold. Measured with Qdrant's own engine in one process, without a server."""
TIES = 100
"""Lists are asked for as long as this at least, so that which of equal scores are cut off does not hang on the server,
unless so many are equal."""
EXACT = models.SearchParams(exact=True, quantization=models.QuantizationSearchParams(ignore=True))


@dataclass(frozen=True, slots=True)
class ArmQuery:
    """One query of one arm.

    Attributes:
        row: the query's, in what was asked.
        request: as the server takes it; its ``using`` is the arm.
    """

    row: int
    request: models.QueryRequest


@dataclass(frozen=True, slots=True)
class Lists:
    """What was found.

    Attributes:
        points: ids in their order; a ranking's keys are places here, so equal scores are in the order of ids.
        dense, sparse: of each query.
    """

    points: list[str]
    dense: Rankings
    sparse: Rankings


def arm_queries(asked: Asked, depth: int) -> list[ArmQuery]:
    """Both arms of the first query, of the second and so on; without those that can find nothing."""
    where = None if asked.where is None else server_filter(asked.where)
    limit = max(depth, TIES)
    made: list[ArmQuery] = []

    def add(row: int, arm: str, query: Any, params: models.SearchParams | None) -> None:
        request = models.QueryRequest(
            query=query, using=arm, filter=where, params=params, limit=limit, with_payload=False, with_vector=False
        )
        made.append(ArmQuery(row, request))

    # With a filter the graph would be walked over the few that pass, or not at all: a scan of them is exact.
    params = _graph(limit) if where is None else EXACT
    for row in range(len(asked)):
        if asked.dense is not None and asked.dense[row].any():
            add(row, DENSE, asked.dense[row].tolist(), params)
        if asked.sparse is not None and asked.sparse.indptr[row] < asked.sparse.indptr[row + 1]:
            add(row, SPARSE, sparse_vector(asked.sparse, row), None)
    return made


def other_queries(asked: Asked, lists: Lists) -> list[ArmQuery]:
    """What the other arm's scores are of documents that its own list does not have, asked of each query."""
    made: list[ArmQuery] = []
    assert asked.dense is not None and asked.sparse is not None

    def add(row: int, arm: str, query: Any, wanted: Ranking, own: Ranking) -> None:
        points = [lists.points[key] for key in np.setdiff1d(wanted.keys, own.keys)]
        made.extend(ArmQuery(row, request) for request in requests_of_points(arm, query, points))

    for row, (dense, sparse) in enumerate(zip(lists.dense, lists.sparse, strict=True)):
        if asked.dense[row].any():
            add(row, DENSE, asked.dense[row].tolist(), sparse, dense)
        if asked.sparse.indptr[row] < asked.sparse.indptr[row + 1]:
            add(row, SPARSE, sparse_vector(asked.sparse, row), dense, sparse)
    return made


def requests_of_points(arm: str, query: Any, points: Sequence[str]) -> list[models.QueryRequest]:
    """One arm's exact scores of some documents alone, so many in a request."""
    return [
        models.QueryRequest(
            query=query,
            using=arm,
            filter=models.Filter(must=[models.HasIdCondition(has_id=list(some))]),
            params=EXACT if arm == DENSE else None,
            limit=len(some),
            with_payload=False,
        )
        for some in chunks(points, KEYS)
    ]


def with_others(lists: Lists, queries: Sequence[ArmQuery], answers: Sequence[Any]) -> Lists:
    """The lists with the other arm's scores of their documents: from its own list, or from the answers to
    `other_queries`; 0 of a document that neither has, for it has no such vector, or no token in common."""
    scores: dict[tuple[int, str, str], float] = {}
    for query, answer in zip(queries, answers, strict=True):
        for point in answer.points:
            scores[query.row, query.request.using or "", str(point.id)] = point.score
    arms = {DENSE: lists.dense, SPARSE: lists.sparse}
    for arm, rankings in arms.items():
        for row, ranking in enumerate(rankings):
            own = zip(ranking.keys.tolist(), ranking.scores.tolist(), strict=True)
            scores |= {(row, arm, lists.points[key]): score for key, score in own}
    dense, sparse = (
        _with_scores(lists, rankings, other, scores)
        for rankings, other in zip(arms.values(), (SPARSE, DENSE), strict=True)
    )
    return Lists(lists.points, dense, sparse)


def _with_scores(
    lists: Lists, rankings: Rankings, other: str, scores: Mapping[tuple[int, str, str], float]
) -> Rankings:
    others = np.zeros(rankings.keys.shape, np.float32)
    for row, ranking in enumerate(rankings):
        found = [scores.get((row, other, lists.points[key]), 0.0) for key in ranking.keys.tolist()]
        others[row, : len(ranking)] = found
    return Rankings(rankings.counts, rankings.keys, rankings.scores, others)


def lists_of(asked: Asked, depth: int, queries: Sequence[ArmQuery], answers: Sequence[Any]) -> Lists:
    """The server's answers, one for each query; scores travel as decimal text and are taken back to float32."""
    found = [_best(answer.points, depth) for answer in answers]
    points = sorted({point for best in found for _, point in best})
    places = {point: place for place, point in enumerate(points)}
    arms = {arm: [NOTHING] * len(asked) for arm in (DENSE, SPARSE)}
    for query, best in zip(queries, found, strict=True):
        keys = np.fromiter((places[point] for _, point in best), np.int64, len(best))
        scores = np.fromiter((-score for score, _ in best), np.float32, len(best))
        arms[query.request.using or ""][query.row] = Ranking(keys, scores)
    return Lists(points, Rankings.of(arms[DENSE]), Rankings.of(arms[SPARSE]))


def _best(points: Sequence[Any], depth: int) -> list[tuple[float, str]]:
    """Score, negated, and id of the first, equal scores by id."""
    scores = np.fromiter((point.score for point in points), np.float32, len(points)).tolist()
    return sorted((-score, str(point.id)) for score, point in zip(scores, points, strict=True))[:depth]


def _graph(limit: int) -> models.SearchParams:
    rescored = models.QuantizationSearchParams(rescore=True, oversampling=max(2.0, CANDIDATES / limit))
    return models.SearchParams(hnsw_ef=CANDIDATES, quantization=rescored)
