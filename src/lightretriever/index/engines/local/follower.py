"""Keeps a process's view of an index current: every search asks, and goes over to what was committed since.

Asking costs 5 µs. What is new is read by key: rows stored and keys that went since the last look. Where more changed
(segments, statistics, settings) the view is put together anew, of the same segments as far as they are still in force.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightretriever.errors import ArtifactError
from lightretriever.index.bm25 import BM25
from lightretriever.index.engines.local.view import Mask, Masks, View, mask_without, newly_gone
from lightretriever.index.filter.language import Filter
from lightretriever.index.filter.selection import Keys, Selection
from lightretriever.index.filter.sql import passing, select
from lightretriever.index.segment.codes import sum_vectors
from lightretriever.index.segment.dense import sum_of
from lightretriever.index.segment.fresh import Fresh, FreshRows
from lightretriever.index.segment.segment import Segment, open_segment, read_segments
from lightretriever.index.settings import Settings
from lightretriever.index.store.database import Connection, Database
from lightretriever.index.store.documents import (
    VectorRows,
    keys_after,
    read_gone,
    read_ids,
    read_metadata,
    vector_pages,
)
from lightretriever.index.store.state import State, read_state
from lightretriever.index.store.terms import sparse_width
from lightretriever.index.store.values import read_settings, read_statistics
from lightretriever.types import SparseVectors

_FILTERS = 64  # of which the keys that pass are kept
_ROUNDS = 8  # of a filter, while documents go
_ROWS = ""  # no segment's name
_MASKS = 16  # filters of which a view keeps the masks


class Follower:
    """Of one index, for all threads of a process."""

    def __init__(self, path: Path, database: Database) -> None:
        """Reads nothing yet."""
        self.path = path
        self._database = database
        self._view: View | None = None
        self._fresh: Fresh | None = None
        self._gone: dict[str, tuple[Mask, NDArray[np.float64]]] = {}  # of each segment, and of the rows under ""
        self._passing: OrderedDict[str, tuple[Selection, int]] = OrderedDict()
        self.begin_again()

    def begin_again(self) -> None:
        """Forget who holds what: after a fork nobody does."""
        self._renewing = threading.Lock()

    @property
    def found_damage(self) -> bool:
        """Whether the view there is lacks a segment that is damaged."""
        return self._view is not None and bool(self._view.damaged)

    def view(self) -> View:
        """What there is now. Raises ArtifactError when the database is damaged."""
        with self._database.reading() as connection:
            view = self._view
            if not connection.moved() and view is not None:
                return view
            try:
                return self._look(connection)
            except BaseException:
                connection.seen = -1  # nobody knows what was committed
                self._view = None  # nor how far rows were appended
                raise

    def masks(self, view: View, where: Filter | None) -> tuple[View, Masks]:
        """Which documents pass; found by the database once, and then for what was stored since.

        What went after the view was taken, and before the database was asked, it does not know any more: then a later
        view is taken, and given with its masks.
        """
        if where is None:
            return view, view.alive
        name = repr(where)  # to Python 1 and True are equal, to a filter they are not
        for again in range(_ROUNDS):
            masks = view.filtered.get(name)
            if masks is not None:
                break
            selection, now = self._selected(name, where)
            masks = view.masks_of(selection)
            if (now.identity, now.next_gone) == (view.state.identity, view.state.next_gone):
                if len(view.filtered) >= _MASKS:
                    view.filtered.clear()
                view.filtered[name] = masks
                break
            later = self.view()
            if later.settings is not view.settings or again == _ROUNDS - 1:
                break
            view = later
        assert masks is not None
        return view, masks

    def _look(self, connection: Connection) -> View:
        with self._renewing:
            while True:
                connection.execute("BEGIN")
                state, view = read_state(connection), self._view
                if view is not None and view.state == state:
                    connection.rollback()
                    return view
                if view is None or _another(view.state, state):
                    renewed = self._put_together(connection, state)
                else:
                    renewed = self._go_on(connection, view, state)
                connection.rollback()
                if not renewed.damaged or read_state(connection).version == state.version:
                    break  # else they were not damaged, but no more in force, and removed
            self._view = renewed
            return renewed

    def _put_together(self, connection: Connection, state: State) -> View:
        view = self._view
        before = () if view is None or view.state.identity != state.identity else view.segments
        if view is not None and view.state.identity != state.identity:
            self._passing.clear()
        settings = read_settings(connection, self._database.file)
        statistics = read_statistics(connection, settings)
        segments, damaged = self._open_segments(connection, settings, {segment.name: segment for segment in before})
        fresh = Fresh(settings.dim, settings.sparse != "none")
        after = 0
        for segment in segments:
            self._append(connection, fresh, settings, statistics, after, segment.description.after)
            after = segment.description.until
        self._append(connection, fresh, settings, statistics, after, state.next_key - 1)
        masks = [mask_without(segment.keys, read_gone(connection, segment.description.gone)) for segment in segments]
        there = fresh.rows.count + sum(
            len(segment.keys) if mask is None else int(np.count_nonzero(mask))
            for segment, mask in zip(segments, masks, strict=True)
        )
        if there != state.documents:
            raise ArtifactError(
                f"{self._database.file} is damaged ({there:,} documents can be searched, {state.documents:,} were "
                f"stored): `lightretriever check {self.path}` says where; restore a snapshot"
            )
        self._fresh = fresh
        self._gone.pop(_ROWS, None)
        alive = Masks(tuple(masks), None)
        gone = self._sum_gone(segments, fresh.rows, alive)
        return View(state, settings, statistics, tuple(segments), fresh.rows, alive, gone, damaged)

    def _go_on(self, connection: Connection, view: View, state: State) -> View:
        assert self._fresh is not None
        self._append(
            connection, self._fresh, view.settings, view.statistics, view.state.next_key - 1, state.next_key - 1
        )
        grown = replace(view, state=state, rows=self._fresh.rows, filtered={})
        if state.next_gone == view.state.next_gone and view.alive.fresh is None:
            return grown
        alive = grown.without(read_gone(connection, view.state.next_gone))
        return replace(grown, alive=alive, gone=self._sum_gone(grown.segments, grown.rows, alive))

    def _sum_gone(self, segments: Sequence[Segment], rows: FreshRows, alive: Masks) -> NDArray[np.float64]:
        """The sum float64 [d] of the vectors that the masks leave out. Of each mask, what it left out the last time was
        added up then."""
        sums = [
            (segment.name, mask, partial(sum_of, segment.dense))
            for segment, mask in zip(segments, alive.segments, strict=True)
        ]
        sums.append((_ROWS, alive.fresh, partial(sum_vectors, rows.codes)))
        gone, nothing = {}, np.zeros(rows.codes.hi.shape[1])
        for name, mask, sum_at in sums:
            before, total = self._gone.get(name, (None, nothing))
            gone[name] = mask, total + sum_at(newly_gone(mask, before)) if mask is not before else total
        self._gone = gone
        return np.sum([total for _, total in gone.values()], axis=0)

    def _open_segments(
        self, connection: Connection, settings: Settings, had: dict[str, Segment]
    ) -> tuple[list[Segment], dict[str, str]]:
        found, after = [], 0
        descriptions, damaged = read_segments(connection, self._database.file)
        for name, description in descriptions.items():
            if description.vectors != settings.vectors or description.after < after:
                damaged[name] = f"segment {name} is not of this index"
                continue
            try:
                segment = had.get(name)
                if segment is None or segment.description != description:
                    segment = open_segment(self.path, name, description, settings.dim, settings.sparse != "none")
                found.append(segment)
                after = description.until
            except ArtifactError as error:
                damaged[name] = str(error)
        return found, damaged

    def _append(
        self,
        connection: Connection,
        fresh: Fresh,
        settings: Settings,
        statistics: BM25 | None,
        after: int,
        until: int,
    ) -> None:
        width = sparse_width(connection, settings)
        for rows in vector_pages(connection, settings.vectors, settings.dim, width, after, until):
            keys, ids = read_ids(connection, after, int(rows.keys[-1]))
            after = int(rows.keys[-1])
            if not np.array_equal(keys, rows.keys):
                raise ArtifactError(
                    f"{self._database.file} is damaged: documents and vectors differ: restore a snapshot"
                )
            fresh.append(rows.keys, ids, rows.dense, impacts_of(rows, settings, statistics))

    def _selected(self, name: str, where: Filter) -> tuple[Selection, State]:
        """What passes, and when. Nothing that is known of a key changes, so what was found before holds."""
        with self._database.reading() as connection:
            connection.execute("BEGIN")
            now = read_state(connection)
            until = now.next_key - 1
            found, after = self._passing.get(name, (None, 0))
            if found is None or after < until:
                look = partial(_look, connection)
                if found is None:
                    found = select(connection, where, look=look)
                else:
                    keys = keys_after(connection, after)
                    new = passing(where, keys, look)
                    if found.inverted:
                        new = np.setdiff1d(keys, new, assume_unique=True)
                    found = Selection(np.concatenate([found.keys, new]), found.inverted)
                self._passing[name] = found, until
                while len(self._passing) > _FILTERS:
                    self._passing.popitem(last=False)
        return found, now


def impacts_of(rows: VectorRows, settings: Settings, statistics: BM25 | None) -> SparseVectors | None:
    """Sparse vectors as they are searched: of BM25's counts the impacts."""
    if rows.sparse is None or settings.sparse != "bm25":
        return rows.sparse
    if statistics is None:
        raise ArtifactError("the index has documents, and no BM25 statistics: `lightretriever optimise` takes them")
    return statistics.impacts(rows.sparse)


def _another(before: State, now: State) -> bool:
    """Whether more is new than rows and gone keys."""
    same = (before.identity, before.version) == (now.identity, now.version)
    return not same or before.next_gone < now.first_gone


def _look(connection: Connection, keys: Keys) -> Iterator[Mapping[str, object]]:
    """The metadata of documents, for filters; one that is gone has none."""
    found = dict(read_metadata(connection, keys.tolist()))
    return (found.get(key, {}) for key in keys.tolist())
