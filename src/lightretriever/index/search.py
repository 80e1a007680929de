"""From encoded queries to hits: both arms' lists out of the engine, fused here, payloads for the final k only."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, pairwise
from math import isfinite
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from lightretriever.errors import InputError, MismatchError, UsageError
from lightretriever.fusion import Fusion, hearing_of
from lightretriever.fusion_kernels import Fused, fuse_lists
from lightretriever.index.engines.engine import Asked, Found, Rankings
from lightretriever.index.filter.language import parse_filter
from lightretriever.index.hits import first_of_documents, make_hits
from lightretriever.index.settings import Settings
from lightretriever.index.state import Searcher
from lightretriever.index.tenant import check_tenant
from lightretriever.types import Encoded, Hit, Marker, SparseVectors
from lightretriever.weigher import Weigher, features, places_in, token_numbers

MODES = ("hybrid", "dense", "sparse")
CANDIDATES = 100
"""A hybrid search fuses this many of each arm, or k where that is more."""
SHARE = 16
"""Queries from which on a thread of its own is worth its start."""
TOGETHER = 256
"""Queries that are searched at once, at most: what they find is in memory."""
_ROOM = 1 << 22  # documents that they may find together
T = TypeVar("T")
_ENDLESS = 1 << 40  # more documents than there are
_MORE = 4  # passages for each document wanted, and times as many where they are of too few


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of an index for every query; see `Index.search_encoded`."""

    k: int = 10
    mode: str = "hybrid"
    filter: Mapping[str, object] | None = None
    texts: bool = True
    min_dense: float | None = None
    group: bool = True
    fusion: Fusion | None = None

    def check(self, sparse: str) -> None:
        """Raises UsageError for k below 1, an unknown mode, the sparse mode of an index that has no sparse side, a
        least dense score that is no number, or a fusion that is none."""
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
        if not (self.fusion is None or isinstance(self.fusion, Fusion)):
            raise UsageError(f"the fusion is of type {type(self.fusion).__name__}: give one, as Fusion(dense=0.5)")


def search(
    searcher: Searcher,
    encoded: Encoded,
    request: Request,
    settings: Settings,
    gaps: bool = True,
    markers: Sequence[Marker] | None = None,
) -> list[list[Hit]] | None:
    """The hits of each query; see `Index.search_encoded`. Many queries are shared among the processor's cores.

    Without ``gaps`` None when a document went after the lists were made: another version may have taken its place.
    ``markers``: one for each query, for its hits.
    """
    if request.fusion is not None:
        settings = replace(settings, fusion=request.fusion)
    threads = len(encoded) // SHARE if settings.local else 1  # a server has its own ways
    together = max(1, min(TOGETHER, _ROOM // max(int(request.k), CANDIDATES)))
    one = _search_documents if settings.passages and request.group else _search
    work = partial(one, searcher, request=request, settings=settings, gaps=gaps)
    if threads < 2 and len(encoded) <= together:
        return work(encoded, markers)
    threads = min(os.cpu_count() or 1, threads)
    size = min(-(-len(encoded) // max(threads, 1)), together)
    shares = [range(start, min(start + size, len(encoded))) for start in range(0, len(encoded), size)]
    parts = [encoded.take(share) for share in shares]
    marked = [markers and markers[share.start : share.stop] for share in shares]
    if threads < 2:
        found = list(map(work, parts, marked))
    else:
        with ThreadPoolExecutor(threads) as pool:
            found = list(pool.map(work, parts, marked))
    whole = [hits for hits in found if hits is not None]
    return list(chain(*whole)) if len(whole) == len(found) else None


def _search(
    searcher: Searcher,
    encoded: Encoded,
    markers: Sequence[Marker] | None,
    request: Request,
    settings: Settings,
    gaps: bool,
) -> list[list[Hit]] | None:
    fused, found = _ranked(searcher, encoded, request, settings, _depth(request, settings), min(request.k, _ENDLESS))
    return _presented(fused, found, request, settings, gaps, markers)


def _search_documents(
    searcher: Searcher,
    encoded: Encoded,
    markers: Sequence[Marker] | None,
    request: Request,
    settings: Settings,
    gaps: bool,
) -> list[list[Hit]] | None:
    """Each document once, by the passage of it that comes first. Where the passages found are of fewer than k
    documents, more are asked for, of that query alone."""
    hits: list[list[Hit]] = [[] for _ in range(len(encoded))]
    pending, k = np.arange(len(encoded)), min(int(request.k), _ENDLESS)
    wide = _MORE * k
    depth = max(_depth(request, settings), wide if _mode(request.mode, settings) != "hybrid" else 0)
    while len(pending):
        asked = encoded if len(pending) == len(encoded) else encoded.take(pending.tolist())
        fused, found = _ranked(searcher, asked, request, settings, depth, wide)
        kept = first_of_documents(fused.starts, found.ids(fused.keys), k)
        counts, passages = np.diff(np.concatenate([[0], np.cumsum(kept)])[fused.starts]), np.diff(fused.starts)
        ended = (found.dense.counts < depth) & (found.sparse.counts < depth)
        all_found = (passages < wide) & (ended | (request.min_dense is not None))  # deeper ones are less alike still
        done = (counts >= k) | all_found
        own = markers and [markers[i] for i in pending.tolist()]
        presented = _presented(fused.take(kept & np.repeat(done, passages)), found, request, settings, gaps, own)
        if presented is None:
            return None
        for i in np.flatnonzero(done).tolist():
            hits[pending[i]] = presented[i]
        pending = pending[~done]
        if wide < 2 * depth:  # there are more passages in the lists
            wide = min(_MORE * wide, 2 * depth)
        else:
            depth, wide = _MORE * depth, 2 * _MORE * depth
    return hits


def _depth(request: Request, settings: Settings) -> int:
    """How many of each arm's best are looked at."""
    k = min(int(request.k), _ENDLESS)
    return max(k, CANDIDATES) if _mode(request.mode, settings) == "hybrid" else k


def _mode(mode: str, settings: Settings) -> str:
    return "dense" if settings.sparse == "none" else mode


def _ranked(
    searcher: Searcher, encoded: Encoded, request: Request, settings: Settings, depth: int, k: int
) -> tuple[Fused, Found]:
    """The k best of each query's two lists of so many, and what they were made of."""
    mode = _mode(request.mode, settings)
    found = find(searcher, encoded, depth, settings, mode, request.filter, both=settings.fusion.exact)
    least = request.min_dense
    fused = _fused(found, encoded, settings.fusion, mode, k if least is None else 2 * depth)
    if least is not None:
        fused = _near(_with_cosines(fused, found, encoded), least, k)
    return fused, found


def find(
    searcher: Searcher,
    encoded: Encoded,
    depth: int,
    settings: Settings,
    mode: str = "hybrid",
    filter: Mapping[str, object] | None = None,
    both: bool = True,
) -> Found:
    """The arms' lists of so many documents, before they are fused; what `search` makes hits of.

    ``both``: whether each of the documents of a hybrid search is to have both scores, whatever the index's fusion.
    """
    where = parse_filter(filter)
    check_tenant(where, settings.tenant)
    mode = _mode(mode, settings)
    dense = _checked_dense(encoded, settings.dim) if mode != "sparse" else None
    sparse = _checked_sparse(encoded) if mode != "dense" else None
    return searcher.search(Asked(dense, sparse, depth, where, both and mode == "hybrid"))


def _presented(
    fused: Fused, found: Found, request: Request, settings: Settings, gaps: bool, markers: Sequence[Marker] | None
) -> list[list[Hit]] | None:
    """Hits, with texts if these are wanted; None where one is gone, without ``gaps``."""
    grouped = settings.passages is not None and request.group
    if not request.texts:
        fused, ids = _present(fused, found.ids(fused.keys))
        return make_hits(fused, ids, None, grouped, None)
    keys = fused.keys.tolist()
    wanted = list(dict.fromkeys(keys))
    documents = dict(zip(wanted, found.fetch(wanted), strict=True))
    if not gaps and None in documents.values():
        return None
    fused, there = _present(fused, [documents[key] for key in keys])
    return make_hits(fused, [document.id for document in there], there, grouped, markers)


def _checked_dense(encoded: Encoded, dim: int) -> NDArray[np.float32]:
    dense = np.ascontiguousarray(encoded.dense, dtype=np.float32)
    if dense.ndim != 2 or dense.shape[1] != dim:
        raise MismatchError(f"the query vectors have shape {dense.shape}, the index {dim} dimensions")
    if not isfinite(np.vdot(dense, dense)) and not np.isfinite(dense).all():  # the first takes a tenth of the time
        raise InputError("a query vector holds NaN or infinity: encode the query again")
    return dense


def _checked_sparse(encoded: Encoded) -> SparseVectors:
    sparse = encoded.sparse
    if sparse is None:
        raise UsageError("a sparse or hybrid search needs the queries' token counts: encode them with QueryEncoder")
    if len(sparse) != len(encoded):
        raise MismatchError(f"there are {len(encoded)} query vectors, and token counts of {len(sparse)}")
    return SparseVectors(
        np.ascontiguousarray(sparse.indptr, np.int64),
        np.ascontiguousarray(sparse.indices, np.int32),
        np.ascontiguousarray(sparse.values, np.float32),
        sparse.width,
        sparse.vocabulary,
    )


def _fused(found: Found, encoded: Encoded, fusion: Fusion, mode: str, k: int) -> Fused:
    """The k best of each query's two lists, under a weight of its own where a weigher gives one; or of the one list."""
    if mode != "hybrid":
        return _alone(found.dense, found.sparse, mode, k)
    weights = None if fusion.weigher is None else _weights(fusion.weigher, found, encoded)
    return fuse_found(found, encoded, fusion, k, weights)


def fuse_found(
    found: Found, encoded: Encoded, fusion: Fusion, k: int, weights: Sequence[float | None] | None = None
) -> Fused:
    """The k best of both arms' lists, under weights of each query's own where these are given."""
    hearings = hearing_of(encoded, [one.scores[:1].tolist() for one in found.sparse])
    return fuse_lists(found.dense.arrays, found.sparse.arrays, k, fusion, weights, hearings, found.ends)


def _weights(weigher: Weigher, found: Found, encoded: Encoded) -> Sequence[float]:
    told = features_of(found, encoded)
    return [weigher.weight(told[0])] if len(told) == 1 else weigher.weights(told).tolist()


def features_of(found: Found, encoded: Encoded) -> list[list[float]]:
    """What a weigher looks at, of each query."""
    assert encoded.sparse is not None  # or there would be no sparse lists
    of_each = zip(found.dense, found.sparse, token_numbers(encoded.sparse), strict=True)
    return [
        features(one.scores.tolist(), two.scores.tolist(), places_in(two.keys.tolist(), one.keys.tolist()), tokens)
        for one, two, tokens in of_each
    ]


def _alone(dense: Rankings, sparse: Rankings, mode: str, k: int) -> Fused:
    """The lists of the one arm that was asked."""
    ranking = dense if mode == "dense" else sparse
    counts = np.minimum(ranking.counts, k)
    listed = np.arange(ranking.keys.shape[1], dtype=np.int32)[None] < counts[:, None]
    scores, places = ranking.scores[listed], np.nonzero(listed)[1].astype(np.int32)
    missing, unscored = np.full(len(scores), -1, np.int32), np.full(len(scores), np.nan, np.float32)
    own, other = (places, scores), (missing, unscored)
    first, second = (own, other) if mode == "dense" else (other, own)
    starts = np.concatenate([[0], np.cumsum(counts)])
    return Fused(starts, ranking.keys[listed], scores.astype(np.float64), first[0], second[0], first[1], second[1])


def _with_cosines(fused: Fused, found: Found, encoded: Encoded) -> Fused:
    """With dense scores of the documents that have none yet, as far as there are any."""
    for query, (start, end) in zip(encoded.dense, pairwise(fused.starts.tolist()), strict=True):
        missing = start + np.flatnonzero(np.isnan(fused.dense_scores[start:end]))
        if len(missing):
            scores = found.dense_scores(np.asarray(query, np.float32), fused.keys[missing].tolist())
            fused.dense_scores[missing] = scores
    return fused


def _near(fused: Fused, least: float, k: int) -> Fused:
    """The k best of each query without the documents whose dense score is less."""
    kept = ~(fused.dense_scores < least)
    for start, end in pairwise(fused.starts.tolist()):
        kept[start + np.flatnonzero(kept[start:end])[k:]] = False
    return fused.take(kept)


def _present(fused: Fused, found: Sequence[T | None]) -> tuple[Fused, Sequence[T]]:
    """Without the documents that were deleted since the lists were made."""
    there = [one for one in found if one is not None]
    return (fused if len(there) == len(found) else fused.take(np.array([one is not None for one in found]))), there
