"""What a search looks at, of one moment: segments, the rows written since, and which of them are gone."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lightretriever.index.bm25 import BM25
from lightretriever.index.engines.engine import Asked, Rankings, unknown
from lightretriever.index.engines.local.merging import merged
from lightretriever.index.filter.selection import Selection
from lightretriever.index.segment import dense
from lightretriever.index.segment.codes import rescore, rescore_lists
from lightretriever.index.segment.fresh import FreshRows
from lightretriever.index.segment.fresh_sparse import score_fresh, search_fresh
from lightretriever.index.segment.lists import Lists
from lightretriever.index.segment.scratch import DenseScratch
from lightretriever.index.segment.segment import Segment
from lightretriever.index.segment.sparse import SparseScratch, score_sparse, search_sparse
from lightretriever.index.settings import Settings
from lightretriever.index.store.state import State

Mask = NDArray[np.uint8] | None
"""Of n places those that may be found are not 0; None is all of them."""


class Scratch(threading.local):
    """Room for a search to work in, of each thread its own."""

    def __init__(self) -> None:
        self.dense = DenseScratch()
        self.sparse = SparseScratch()


@dataclass(frozen=True, slots=True, eq=False)
class Masks:
    """Which documents may be found: of each segment, and of the fresh rows."""

    segments: tuple[Mask, ...]
    fresh: Mask


@dataclass(frozen=True, eq=False)  # without slots, for what is worked out once
class View:
    """All that a search looks at.

    Attributes:
        state: the index's counts at that moment.
        settings: what it was bound to.
        statistics: BM25's, of which all impacts in it are made; None where the sparse side is another, or is empty.
        segments: in the order of their keys.
        rows: written since.
        alive: which of all of them are not gone.
        gone: the sum float64 [d] of the vectors of those that are.
        damaged: segments that could not be opened, and why; their documents are among the fresh rows.
        filtered: masks of filters asked for before, by what the filter is.
    """

    state: State
    settings: Settings
    statistics: BM25 | None
    segments: tuple[Segment, ...]
    rows: FreshRows
    alive: Masks
    gone: NDArray[np.float64]
    damaged: dict[str, str] = field(default_factory=dict)
    filtered: dict[str, Masks] = field(default_factory=dict)

    @property
    def vocabulary(self) -> int:
        """What sparse vectors are counts of, as of `SparseVectors`."""
        return self.settings.vocabulary(self.state.identity)

    @property
    def unbuilt(self) -> int:
        """How many rows are in no segment, and documents in segments are gone."""
        gone = self.state.next_gone - min((segment.description.gone for segment in self.segments), default=1)
        return self.rows.count + gone

    def best(self, asked: Asked, masks: Masks, scratch: Scratch) -> tuple[Rankings, Rankings]:
        """Both arms' lists: of dense ones the documents of greatest inner product, of sparse ones those that have one
        of the tokens, exactly.

        Walks begin near what the sparse arm found too: look-up queries lie off the documents' distribution, and this
        leads to where a graph alone leads late.
        """
        queries = None if asked.dense is None else np.ascontiguousarray(asked.dense, np.float32)
        found = [
            _best_of_segment(segment, asked, queries, mask, scratch)
            for segment, mask in zip(self.segments, masks.segments, strict=True)
        ]
        if self.rows.count:
            found.append(_best_of_rows(self.rows, asked, queries, masks.fresh, scratch))
        one, two = ([pair[arm] for pair in found] for arm in (0, 1))
        return merged(one, len(asked), asked.depth), merged(two, len(asked), asked.depth)

    @cached_property
    def total(self) -> NDArray[np.float64]:
        """The sum float64 [d] of the vectors of all documents."""
        return self.rows.total + sum(segment.dense.total for segment in self.segments) - self.gone

    def ids(self, keys: NDArray[np.int64]) -> Sequence[str | None]:
        """The ids of documents, as they were at that moment; None for one that this view does not have."""
        found: list[str | None] = [None] * len(keys)
        for segment in self.segments:
            at, places = _find(segment.keys, keys)
            names = segment.ids.at(places)
            if len(names) == len(keys):
                return names
            for i, name in zip(at.tolist(), names, strict=True):
                found[i] = name
        at, places = _find(self.rows.keys[: self.rows.count], keys)
        for i, place in zip(at.tolist(), places.tolist(), strict=True):
            found[i] = self.rows.ids[place]
        return found

    def dense_scores(self, query: NDArray[np.float32], keys: Sequence[int]) -> NDArray[np.float32]:
        """Inner products with documents of keys; NaN for one that this view does not have."""
        asked = np.asarray(keys, np.int64)
        scores = np.full(len(asked), np.nan, np.float32)
        for segment in self.segments:
            at, places = _find(segment.keys, asked)
            scores[at] = dense.score(segment.dense, query, places)
        rows = self.rows
        at, places = _find(rows.keys[: rows.count], asked)
        scores[at] = rescore(rows.codes, query, places)
        return scores

    def masks_of(self, selection: Selection) -> Masks:
        """Which documents may be found that are alive and selected."""
        rows, alive = self.rows, self.alive
        found = [
            _both(selection.among(segment.keys), mask)
            for segment, mask in zip(self.segments, alive.segments, strict=True)
        ]
        return Masks(tuple(found), _both(selection.among(rows.keys[: rows.count]), alive.fresh))

    def without(self, gone: NDArray[np.int64]) -> Masks:
        """What is alive when these keys went too."""
        masks = [
            mask_without(segment.keys, gone, alive)
            for segment, alive in zip(self.segments, self.alive.segments, strict=True)
        ]
        rows = self.rows
        return Masks(tuple(masks), mask_without(rows.keys[: rows.count], gone, self.alive.fresh))


def _best_of_segment(
    segment: Segment, asked: Asked, queries: NDArray[np.float32] | None, mask: Mask, scratch: Scratch
) -> tuple[Rankings | None, Rankings | None]:
    """Both arms' lists; None for one that is not asked."""
    one = two = near = known = other = None
    part, counts = segment.sparse, asked.sparse
    if part is not None and counts is not None:
        two = search_sparse(part, counts, asked.depth, mask, scratch.sparse)
        near, known = two.places, np.empty(two.places.shape, np.float32) if asked.both else None
    if queries is not None:
        one = dense.search(segment.dense, queries, asked.depth, mask, scratch.dense, near, scores=known)
        if part is not None and counts is not None and asked.both:
            other = score_sparse(part, counts, one)
    return _keyed(segment.keys, one, other), _keyed(segment.keys, two, known)


def _best_of_rows(
    rows: FreshRows, asked: Asked, queries: NDArray[np.float32] | None, mask: Mask, scratch: Scratch
) -> tuple[Rankings | None, Rankings | None]:
    """Likewise."""
    one = two = known = other = None
    if queries is not None:
        one = dense.scan(rows.codes, rows.count, queries, asked.depth, mask, scratch.dense)
    if asked.sparse is not None and rows.postings is not None:
        two = search_fresh(rows.postings, asked.sparse, asked.depth, mask, scratch.sparse)
        if asked.both and one is not None and queries is not None:
            other = score_fresh(rows.postings, asked.sparse, one, scratch.sparse)
            known = rescore_lists(rows.codes, queries, two)
    return _keyed(rows.keys, one, other), _keyed(rows.keys, two, known)


def _keyed(keys: NDArray[np.int64], lists: Lists | None, others: NDArray[np.float32] | None) -> Rankings | None:
    if lists is None:
        return None
    others = unknown(len(lists.counts)) if others is None else others
    return Rankings(lists.counts, keys[lists.places], lists.scores, others)


def _find(keys: NDArray[np.int64], asked: NDArray[np.int64]) -> tuple[NDArray[np.intp], NDArray[np.int32]]:
    """Which of the keys asked for are in ascending ``keys``, and their places there."""
    if not len(keys) or not len(asked):
        return np.empty(0, np.intp), np.empty(0, np.int32)
    places = np.searchsorted(keys, asked)
    places[places == len(keys)] = 0
    at = np.flatnonzero(keys[places] == asked)
    return at, places[at].astype(np.int32)


def _both(chosen: NDArray[np.uint8], alive: Mask) -> Mask:
    return chosen if alive is None else chosen & alive[: len(chosen)]


def mask_without(keys: NDArray[np.int64], gone: NDArray[np.int64], alive: Mask = None) -> Mask:
    """A mask of ascending keys that leaves out those that are gone, and what ``alive`` does; a copy of that, for who
    searches by it goes on."""
    count, places = len(keys), _find(keys, gone)[1]
    long_enough = alive is None or len(alive) >= count
    if not len(places) and long_enough:
        return alive
    mask = np.ones(count, np.uint8)
    if alive is not None:
        mask[: len(alive)] = alive[:count]
    mask[places] = 0
    return mask


def newly_gone(mask: Mask, before: Mask) -> NDArray[np.int32]:
    """The places that a mask leaves out, and an earlier one of the same places, perhaps of fewer, did not."""
    if mask is None:
        return np.empty(0, np.int32)
    gone = mask == 0
    if before is not None:
        gone[: len(before)] &= before != 0
    return np.flatnonzero(gone).astype(np.int32)
