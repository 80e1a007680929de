"""An index's points into a new engine, while the old one answers and takes writes; then the new one takes its place.

All that replaces an engine goes this way: building the graph, BM25 statistics taken anew, another document model.
Points are copied page by page; what is written meanwhile is noted by key and copied again, until so little is left
that writers can wait for it. The manifest's change is the moment of the switch: whatever interrupts the copying, the
index is what it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from threading import Event
from time import perf_counter

import numpy as np

from lightretriever.errors import ArtifactError
from lightretriever.index.backend import Backend, Points, pages
from lightretriever.index.folder import create_engine, open_engine, remove_named, shard_exists, sync_shard
from lightretriever.index.manifest import PARTS, IndexManifest
from lightretriever.index.plans import Plan
from lightretriever.index.remote import RemoteBackend
from lightretriever.index.state import Current, State
from lightretriever.types import take_sparse

PAGE = 64  # points read at once: searches wait for them
LAST = 64  # points copied while writers wait
ROUNDS = 20  # of catching up before writers wait, however many points are left
LONGEST_PACE = 0.1  # seconds that a writer gives way for a document, at most
NICENESS = 10
Progress = Callable[[int, int | None], None]


class Rebuild:
    """One such replacement. `run` it in any thread; `stop` it from another."""

    def __init__(
        self,
        state: State,
        plan: Callable[[State], Plan],
        progress: Progress | None = None,
        gone_over: Callable[[], None] | None = None,
    ) -> None:
        """
        Args:
            state: the index.
            plan: says what will be new; called when it is begun, and may take its time.
            progress: called with the number of points seen so far and of all.
            gone_over: called when the new engine is the index's, before any writer finds it so.
        """
        self._state, self._plan, self._progress, self._gone_over = state, plan, progress, gone_over
        self._stopped = Event()
        self._builder: Backend | None = None

    def run(self) -> None:
        """Do it; returns when the new engine is the index's.

        Raises:
            ArtifactError: an engine failed, the disk is full, or it was stopped; the index is as it was.
            What the plan raises.
        """
        state = self._state
        with state.watching() as watched:
            begun = state.current.manifest
            plan = self._plan(state)
            try:
                backend = self._build(plan, begun)
                try:
                    self._switch(plan, backend, watched)
                except BaseException:
                    if state.closed or state.current.backend is not backend:
                        with suppress(ArtifactError):  # it may be what failed
                            backend.close()
                    raise
            except BaseException:
                if not plan.lasting and not state.closed:
                    for part in set(PARTS) & plan.changes.keys():
                        if getattr(state.current.manifest, part) == plan.changes[part]:
                            continue  # it had gone over already, when something else failed
                        remove_named(state.path, replace(begun, **plan.changes), part)
                raise

    def _switch(self, plan: Plan, backend: Backend, watched: set[int]) -> None:
        """Copy what was written meanwhile, and go over when that is all."""
        state = self._state
        sync_shard(state.path, replace(state.current.manifest, **plan.changes))
        try:
            self._catch_up(plan, backend, watched)
            old = self._go_over(plan, backend, watched)
        finally:
            state.pace = 0.0
        state.put_away(old)

    def _catch_up(self, plan: Plan, backend: Backend, watched: set[int]) -> None:
        """Copy what was written meanwhile, until it is little. Writers give way for as long as copying their documents
        takes, or they would stay ahead; longer, where several of them do so still."""
        state, before, stubborn = self._state, 0, 0
        for _ in range(ROUNDS):
            with state.writing:
                if len(watched) <= LAST:
                    return
                keys = list(watched)
                watched.clear()
            begun = perf_counter()
            self._copy_again(plan, backend, keys)
            backend.flush()  # so that the last, in which writers wait, has little to bring to the disk
            stubborn += 0 < before < 1.5 * len(keys)
            state.pace = min(LONGEST_PACE, (perf_counter() - begun) / len(keys) * 2**stubborn)
            before = len(keys)

    def _go_over(self, plan: Plan, backend: Backend, watched: set[int]) -> Current:
        """Copy the last of it while writers wait, and make the new engine the index's; returns what there was."""
        state = self._state
        with state.writing:
            self._copy_again(plan, backend, list(watched))
            backend.flush()
            now = state.current
            # Fewer than were counted: the engine that there was had a graph or statistics made anew meanwhile.
            counts = {"unoptimised": max(0, now.manifest.unoptimised - plan.counted[0])}
            if "statistics" in plan.changes:
                counts["bm25_changes"] = max(0, now.manifest.bm25_changes - plan.counted[1])
            manifest = replace(now.manifest, **{**plan.changes, **counts})
            if plan.lasting:
                manifest = replace(manifest, successor=None, tokens_added=0, tokens_new=0)
            old = state.go_over(manifest, plan.encoder or now.encoder, backend)
            if self._gone_over is not None:
                self._gone_over()
            return old

    def stop(self) -> None:
        """Make `run` end soon, with an error."""
        self._stopped.set()
        if isinstance(self._builder, RemoteBackend):
            self._builder.kill()  # it may be building a graph for minutes, and has lost nothing that counts

    def _build(self, plan: Plan, begun: IndexManifest) -> Backend:
        """The new engine, with all that there was when it was begun, and its graph."""
        state = self._state
        planned = replace(begun, **plan.changes)
        resumed = shard_exists(state.path, planned)
        if resumed:
            target = open_engine(state.path, planned, state.live)
        else:
            target = create_engine(state.path, planned, state.live, NICENESS)
        self._builder = target
        try:
            self._copy(plan, target, resumed)
            if resumed:
                self._drop_deleted(target)
            self._check()
            target.optimise()
            target.flush()
        except BaseException:
            with suppress(ArtifactError):  # it was killed, or is what failed
                target.close()
            raise
        if not state.live:
            return target
        self._builder = None
        target.close()  # its process was made to give way to others; the one that answers is not
        backend = open_engine(state.path, planned, live=True)
        _warm(backend)
        return backend

    def _copy(self, plan: Plan, target: Backend, resumed: bool) -> None:
        source = self._state.current.backend
        total, done = source.count(), 0
        for page in pages(source, PAGE, vectors=True):
            self._check()
            wanted = _differing(page, target) if resumed else page
            if wanted.keys:
                target.upsert(_transformed(plan, wanted))
            done += len(page.keys)
            if self._progress:
                self._progress(done, total)

    def _drop_deleted(self, target: Backend) -> None:
        source = self._state.current.backend
        for page in pages(target, PAGE):
            self._check()
            gone = set(page.keys) - source.existing(page.keys)
            if gone:
                target.delete(list(gone))

    def _copy_again(self, plan: Plan, target: Backend, keys: Sequence[int]) -> None:
        source = self._state.current.backend
        for start in range(0, len(keys), PAGE):
            self._check()
            some = keys[start : start + PAGE]
            points = source.points(some)
            if points.keys:
                target.upsert(_transformed(plan, points))
            gone = set(some) - set(points.keys)
            if gone:
                target.delete(list(gone))

    def _check(self) -> None:
        if self._stopped.is_set():
            raise ArtifactError(f"{self._state.path} was closed before the work in the background was done")


def _warm(backend: Backend) -> None:
    """Ask a new engine for something before anybody waits for its answers: its first ones take half a second."""
    page = backend.page(0, PAGE, vectors=True)
    if page.keys:
        backend.search_dense(page.dense, 10)
    if page.keys and page.sparse is not None:
        backend.search_sparse(page.sparse, 10)


def _transformed(plan: Plan, points: Points) -> Points:
    return points if plan.transform is None else plan.transform(points)


def _differing(page: Points, target: Backend) -> Points:
    stored = target.payloads(page.keys)
    rows = [row for row, payload in enumerate(page.payloads) if payload != stored[row]]
    if len(rows) == len(page.keys):
        return page
    sparse = None if page.sparse is None else take_sparse(page.sparse, rows)
    return Points(
        [page.keys[row] for row in rows], page.dense[np.array(rows, int)], sparse, [page.payloads[row] for row in rows]
    )
