"""From encoded queries to hits: both arms' lists out of the engine, fused here, payloads for the final k only."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, pairwise
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from lightretriever.errors import InputError, MismatchError, UsageError
from lightretriever.fusion import Fusion, hearing_of
from lightretriever.fusion_kernels import Fused, fuse_lists
from lightretriever.index.engines.engine import NOTHING, Asked, Found, Ranking
from lightretriever.index.filter.language import parse_filter
from lightretriever.index.settings import Settings
from lightretriever.index.state import Searcher
from lightretriever.index.tenant import check_tenant
from lightretriever.text.corpus import Document
from lightretriever.types import Encoded, Hit
from lightretriever.weigher import Weigher, features, places_in, token_numbers

MODES = ("hybrid", "dense", "sparse")
CANDIDATES = 100
"""A hybrid search fuses this many of each arm, or k where that is more."""
SHARE = 16
"""Queries from which on a thread of its own is worth its start."""
_ENDLESS = 1 << 40  # more documents than there are


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of an index for every query; see `Index.search_encoded`."""

    k: int = 10
    mode: str = "hybrid"
    filter: Mapping[str, object] | None = None
    texts: bool = True
    min_dense: float | None = None

    def check(self, sparse: str) -> None:
        """Raises UsageError for k below 1, an unknown mode, the sparse mode of an index that has no sparse side, or a
        least dense score that is no number."""
        if isinstance(self.k, bool) or not isinstance(self.k, int | np.integer) or self.k < 1:
            raise UsageError(f"k is {self.k!r}: ask for at least 1 hit")
        if self.mode not in MODES:
            raise UsageError(f"the mode is {self.mode!r}: choose one of {', '.join(MODES)}")
        if self.mode == "sparse" and sparse == "none":
            raise UsageError("the index has no sparse side: search it in mode dense, or make it with another")
        least = self.min_dense
        number = least is None or (isinstance(least, int | float | np.number) and not isinstance(least, bool))
        if not number or (least is not None and not isfinite(least)):
            raise UsageError(f"min_dense is {least!r}: give a number, of the cosines that hits shall have at least")


def search(
    searcher: Searcher, encoded: Encoded, request: Request, settings: Settings, gaps: bool = True
) -> list[list[Hit]] | None:
    """The hits of each query; see `Index.search_encoded`. Many queries are shared among the processor's cores.

    Without ``gaps`` None when a document went after the lists were made: another version may have taken its place.
    """
    threads = len(encoded) // SHARE
    threads = threads if threads < 2 else min(os.cpu_count() or 1, threads)
    if threads < 2 or not settings.local:  # a server has its own ways
        return _search(searcher, encoded, request, settings, gaps)
    bounds = np.linspace(0, len(encoded), threads + 1).astype(int).tolist()
    parts = [encoded.take(range(start, end)) for start, end in pairwise(bounds)]
    with ThreadPoolExecutor(threads - 1) as pool:
        others = [pool.submit(_search, searcher, part, request, settings, gaps) for part in parts[1:]]
        found = [_search(searcher, parts[0], request, settings, gaps), *(other.result() for other in others)]
    whole = [hits for hits in found if hits is not None]
    return list(chain(*whole)) if len(whole) == len(found) else None


def _search(
    searcher: Searcher, encoded: Encoded, request: Request, settings: Settings, gaps: bool
) -> list[list[Hit]] | None:
    where = parse_filter(request.filter)
    check_tenant(where, settings.tenant)
    k = min(int(request.k), _ENDLESS)
    mode = "dense" if settings.sparse == "none" else request.mode
    depth = max(k, CANDIDATES) if mode == "hybrid" else k
    dense = _checked_dense(encoded, settings.dim) if mode != "sparse" else None
    if mode != "dense" and encoded.sparse is None:
        raise UsageError("a sparse or hybrid search needs the queries' token counts: encode them with QueryEncoder")
    found = searcher.search(Asked(dense, encoded.sparse if mode != "dense" else None, depth, where))
    nothing = [NOTHING] * len(encoded)
    one, two = found.dense or nothing, found.sparse or nothing
    least = request.min_dense
    fused = _fused(one, two, encoded, settings.fusion, mode, k if least is None else 2 * depth)
    known: Sequence[Mapping[int, float]] = [{}] * len(encoded)
    if least is not None:
        known = [_similarities(found, query, *lists) for query, *lists in zip(encoded.dense, one, two, strict=True)]
        fused = [
            _near(list_, ranking, scores, least, k) for list_, ranking, scores in zip(fused, one, known, strict=True)
        ]
    wanted = list(dict.fromkeys(chain.from_iterable(list_.keys.tolist() for list_ in fused)))
    documents = dict(zip(wanted, found.fetch(wanted, request.texts), strict=True))
    if not gaps and None in documents.values():
        return None
    return [_hits(list_, documents, *of) for list_, of in zip(fused, zip(one, two, known, strict=True), strict=True)]


def _checked_dense(encoded: Encoded, dim: int) -> NDArray[np.float32]:
    dense = np.ascontiguousarray(encoded.dense, dtype=np.float32)
    if dense.ndim != 2 or dense.shape[1] != dim:
        raise MismatchError(f"the query vectors have shape {dense.shape}, the index {dim} dimensions")
    if not np.isfinite(dense).all():
        raise InputError("a query vector holds NaN or infinity: encode the query again")
    return dense


def _fused(
    dense: Sequence[Ranking], sparse: Sequence[Ranking], encoded: Encoded, fusion: Fusion, mode: str, k: int
) -> list[Fused]:
    """The k best of each query's two lists, under a weight of its own where a weigher gives one; or of the one list."""
    if mode != "hybrid":
        return [_alone(one, two, k) for one, two in zip(dense, sparse, strict=True)]
    weights: Sequence[float | None] = [None] * len(encoded)
    if fusion.weigher is not None:
        weights = _weights(fusion.weigher, dense, sparse, encoded)
    hearings = hearing_of(encoded, [two.scores[:1].tolist() for two in sparse])
    return [
        fuse_lists(one.keys, one.scores, two.keys, two.scores, k, fusion, weight, hearing)
        for one, two, weight, hearing in zip(dense, sparse, weights, hearings, strict=True)
    ]


def _weights(
    weigher: Weigher, dense: Sequence[Ranking], sparse: Sequence[Ranking], encoded: Encoded
) -> Sequence[float]:
    assert encoded.sparse is not None  # or there would be no sparse lists
    found = [
        features(one.scores.tolist(), two.scores.tolist(), places_in(two.keys.tolist(), one.keys.tolist()), tokens)
        for one, two, tokens in zip(dense, sparse, token_numbers(encoded.sparse), strict=True)
    ]
    return [weigher.weight(found[0])] if len(found) == 1 else weigher.weights(found).tolist()


def _alone(dense: Ranking, sparse: Ranking, k: int) -> Fused:
    """The list of the one arm that was asked."""
    ranking = dense if len(dense) else sparse
    places = np.arange(min(k, len(ranking)), dtype=np.int32)
    missing = np.full(len(places), -1, np.int32)
    keys, scores = ranking.keys[: len(places)], ranking.scores[: len(places)].astype(np.float64)
    return Fused(keys, scores, places, missing) if len(dense) else Fused(keys, scores, missing, places)


def _similarities(found: Found, query: NDArray[np.float32], dense: Ranking, sparse: Ranking) -> Mapping[int, float]:
    """Dense scores of the documents that only the sparse list found, as far as they have one."""
    missing = sparse.keys[~np.isin(sparse.keys, dense.keys)].tolist()
    if not missing:
        return {}
    scores = found.dense_scores(np.asarray(query, np.float32), missing)
    return {key: float(score) for key, score in zip(missing, scores, strict=True) if not np.isnan(score)}


def _near(fused: Fused, dense: Ranking, known: Mapping[int, float], least: float, k: int) -> Fused:
    """The k best without the documents whose dense score is less."""
    scores = [
        float(dense.scores[place]) if place >= 0 else known.get(key, np.inf)
        for key, place in zip(fused.keys.tolist(), fused.dense.tolist(), strict=True)
    ]
    kept = np.flatnonzero(np.array(scores) >= least)[:k]
    return fused.take(kept)


def _hits(
    fused: Fused,
    documents: Mapping[int, Document | None],
    dense: Ranking,
    sparse: Ranking,
    known: Mapping[int, float],
) -> list[Hit]:
    hits = []
    for key, score, first, second in zip(*(array.tolist() for array in fused), strict=True):
        document = documents[key]
        if document is None:
            continue  # deleted since the lists were made
        hits.append(
            Hit(
                id=document.id,
                score=score,
                title=document.title,
                text=document.text,
                metadata=document.metadata,
                dense_score=known.get(key) if first < 0 else float(dense.scores[first]),
                dense_rank=None if first < 0 else first + 1,
                sparse_score=None if second < 0 else float(sparse.scores[second]),
                sparse_rank=None if second < 0 else second + 1,
            )
        )
    return hits
