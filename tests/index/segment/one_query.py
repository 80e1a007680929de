"""Searches of one query, where a segment takes several: places and scores of its list."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from lightretriever.index.segment import dense, fresh_sparse, sparse
from lightretriever.index.segment.codes import Codes
from lightretriever.index.segment.lists import Lists
from lightretriever.index.segment.scratch import DenseScratch
from lightretriever.types import SparseVectors

Found = tuple[NDArray[np.int32], NDArray[np.float32]]
Mask = NDArray[np.uint8] | None


def search(
    part: dense.DensePart,
    query: NDArray[np.float32],
    k: int,
    mask: Mask,
    scratch: DenseScratch,
    seeds: NDArray[np.int32] | None = None,
    ef: int | None = None,
) -> Found:
    asked = None if seeds is None else seeds[None]
    return dense.search(part, query[None], k, mask, scratch, asked, ef).row(0)


def scan(codes: Codes, count: int, query: NDArray[np.float32], k: int, mask: Mask, scratch: DenseScratch) -> Found:
    return dense.scan(codes, count, query[None], k, mask, scratch).row(0)


def counted(tokens: NDArray[np.int32], counts: NDArray[np.float32]) -> SparseVectors:
    return SparseVectors(np.array([0, len(tokens)]), tokens, counts, int(tokens.max(initial=0)) + 1)


def _alone(
    search: Callable[..., Lists],
    part: object,
    tokens: NDArray[np.int32],
    counts: NDArray[np.float32],
    k: int,
    mask: Mask,
    scratch: sparse.SparseScratch,
) -> Found:
    return search(part, counted(tokens, counts), k, mask, scratch).row(0)


def places_list(places: NDArray[np.int32]) -> Lists:
    """One list of these."""
    return Lists(np.array([len(places)]), places[None], np.empty((1, len(places)), np.float32))


def score_sparse(
    part: sparse.SparsePart, places: NDArray[np.int32], tokens: NDArray[np.int32], counts: NDArray[np.float32]
) -> NDArray[np.float32]:
    return sparse.score_sparse(part, counted(tokens, counts), places_list(places))[0]


def score_fresh(
    view: fresh_sparse.FreshView,
    places: NDArray[np.int32],
    tokens: NDArray[np.int32],
    counts: NDArray[np.float32],
    scratch: sparse.SparseScratch,
) -> NDArray[np.float32]:
    return fresh_sparse.score_fresh(view, counted(tokens, counts), places_list(places), scratch)[0]


search_sparse = partial(_alone, sparse.search_sparse)
search_fresh = partial(_alone, fresh_sparse.search_fresh)
