"""From encoded queries to hits: both arms' lists out of the engine, fused here, payloads for the final k only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from math import isfinite

import numpy as np

from lightretriever.errors import InputError, MismatchError, UsageError
from lightretriever.fusion import Fusion, fuse_ranked, hearing_of
from lightretriever.index.backend import Backend, Payload, Ranking, stored_metadata
from lightretriever.index.filter.language import Filter, parse_filter
from lightretriever.index.manifest import IndexManifest
from lightretriever.index.tenant import check_tenant
from lightretriever.types import Encoded, Hit, take_sparse
from lightretriever.weigher import features, places_in, token_numbers

MODES = ("hybrid", "dense", "sparse")
MANY = 100_000
CANDIDATES = 100
"""A hybrid search fuses this many of each arm, or k where that is more."""
_NOTHING = Ranking([], [])


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


def search(backend: Backend, encoded: Encoded, request: Request, manifest: IndexManifest) -> list[list[Hit]]:
    """The hits of each query; see `Index.search_encoded`."""
    request.check(manifest.sparse)
    where = parse_filter(request.filter)
    check_tenant(where, manifest.tenant)
    k, mode = request.k, "dense" if manifest.sparse == "none" else request.mode
    if k > MANY:  # the engine makes room for k hits, and its own numbers end somewhere
        k = max(1, min(k, backend.count()))
    depth = max(k, CANDIDATES) if mode == "hybrid" else k
    dense_lists = _dense_lists(backend, encoded, depth, where, manifest.dim) if mode != "sparse" else []
    sparse_lists = _sparse_lists(backend, encoded, depth, where) if mode != "dense" else []
    if mode == "hybrid":
        fused: Iterable[list[tuple[int, float]]] = _fused(dense_lists, sparse_lists, encoded, manifest.fusion)
    else:
        fused = map(_pairs, dense_lists or sparse_lists)
    none = [_NOTHING] * len(encoded)
    similar = _similarities(backend, encoded, dense_lists or none, sparse_lists or none, request.min_dense)
    ranked = [
        [pair for pair in pairs if pair[0] not in far][:k] for pairs, (_, far) in zip(fused, similar, strict=True)
    ]
    wanted = list(dict.fromkeys(key for query in ranked for key, _ in query))
    payloads = dict(zip(wanted, backend.payloads(wanted, () if request.texts else ("id",)), strict=True))
    return [
        _hits(query, payloads, dense, lexical, known)
        for query, dense, lexical, (known, _) in zip(
            ranked, dense_lists or none, sparse_lists or none, similar, strict=True
        )
    ]


def _similarities(
    backend: Backend, encoded: Encoded, dense: list[Ranking], sparse: list[Ranking], least: float | None
) -> list[tuple[Mapping[int, float], Set[int]]]:
    """Of each query, dense scores of the documents that only the sparse list found, and the documents below ``least``.

    Nothing is looked at where no ``least`` is asked for.
    """
    if least is None:
        return [({}, frozenset())] * len(dense)
    listed = [set(ranking.keys) for ranking in dense]
    missing = [[key for key in two.keys if key not in keys] for keys, two in zip(listed, sparse, strict=True)]
    wanted = list(dict.fromkeys(key for keys in missing for key in keys))
    stored = backend.points(wanted) if wanted else None
    places = {} if stored is None else {key: row for row, key in enumerate(stored.keys)}
    found: list[tuple[Mapping[int, float], Set[int]]] = []
    for vector, ranking, keys in zip(np.asarray(encoded.dense, np.float32), dense, missing, strict=True):
        keys = [key for key in keys if key in places]  # one may have been deleted since the lists were made
        scores: dict[int, float] = {}
        if stored is not None and keys:
            rows = stored.dense[[places[key] for key in keys]]
            scores = dict(zip(keys, (rows @ vector).tolist(), strict=True))
        known = (*zip(ranking.keys, ranking.scores, strict=True), *scores.items())
        found.append((scores, {key for key, score in known if score < least}))
    return found


def _dense_lists(backend: Backend, encoded: Encoded, depth: int, where: Filter | None, dim: int) -> list[Ranking]:
    dense = np.asarray(encoded.dense, dtype=np.float32)
    if dense.ndim != 2 or dense.shape[1] != dim:
        raise MismatchError(f"the query vectors have shape {dense.shape}, the index {dim} dimensions")
    if not np.isfinite(dense).all():
        raise InputError("a query vector holds NaN or infinity: encode the query again")
    rows = np.flatnonzero(dense.any(axis=1))  # a query without tokens finds nothing, rather than anything
    lists = [_NOTHING] * len(dense)
    for row, ranking in zip(rows, backend.search_dense(dense[rows], depth, where), strict=True):
        lists[row] = ranking
    return lists


def _sparse_lists(backend: Backend, encoded: Encoded, depth: int, where: Filter | None) -> list[Ranking]:
    if encoded.sparse is None:
        raise UsageError("a sparse or hybrid search needs the queries' token counts: encode them with QueryEncoder")
    rows = np.flatnonzero(np.diff(encoded.sparse.indptr))
    lists = [_NOTHING] * len(encoded.sparse)
    for row, ranking in zip(rows, backend.search_sparse(take_sparse(encoded.sparse, rows), depth, where), strict=True):
        lists[row] = ranking
    return lists


def _fused(
    dense: list[Ranking], sparse: list[Ranking], encoded: Encoded, fusion: Fusion
) -> Iterator[list[tuple[int, float]]]:
    """Each query's two lists as one, under a weight of its own where a weigher gives one."""
    places = [places_in(two.keys, one.keys) for one, two in zip(dense, sparse, strict=True)]
    weights: Sequence[float | None] = [None] * len(dense)
    if fusion.weigher is not None:
        assert encoded.sparse is not None  # or there would be no sparse lists
        lists = zip(dense, sparse, places, token_numbers(encoded.sparse), strict=True)
        found = [features(one.scores, two.scores, common, tokens) for one, two, common, tokens in lists]
        weights = [fusion.weigher.weight(found[0])] if len(found) == 1 else fusion.weigher.weights(found).tolist()
    hearings = hearing_of(encoded, [ranking.scores for ranking in sparse])
    for one, two, common, weight, hearing in zip(dense, sparse, places, weights, hearings, strict=True):
        yield fuse_ranked(one.keys, one.scores, two.keys, two.scores, common, fusion, weight, hearing)


def _pairs(ranking: Ranking) -> list[tuple[int, float]]:
    return list(zip(ranking.keys, ranking.scores, strict=True))


def _hits(
    ranked: list[tuple[int, float]],
    payloads: Mapping[int, Payload],
    dense: Ranking,
    sparse: Ranking,
    known: Mapping[int, float],
) -> list[Hit]:
    dense_places = {key: rank for rank, key in enumerate(dense.keys)}
    sparse_places = {key: rank for rank, key in enumerate(sparse.keys)}
    hits = []
    for key, score in ranked:
        payload = payloads[key]
        if not payload:
            continue  # deleted by another thread since the lists were made
        in_dense, in_sparse = dense_places.get(key), sparse_places.get(key)
        hits.append(
            Hit(
                id=payload["id"],
                score=score,
                title=payload.get("title", ""),
                text=payload.get("text", ""),
                metadata=stored_metadata(payload) if "metadata" in payload else {},
                dense_score=known.get(key) if in_dense is None else dense.scores[in_dense],
                dense_rank=None if in_dense is None else in_dense + 1,
                sparse_score=None if in_sparse is None else sparse.scores[in_sparse],
                sparse_rank=None if in_sparse is None else in_sparse + 1,
            )
        )
    return hits
