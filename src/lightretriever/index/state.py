"""What of an open index changes while it is open: one writer at a time, and readers who see it change at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import RLock
from time import sleep
from typing import IO, TypeVar

from lightretriever.errors import ArtifactError, UsageError
from lightretriever.index.backend import Backend
from lightretriever.index.checksums import check_files, note_closed, note_open
from lightretriever.index.durability import Durability, FlushPolicy
from lightretriever.index.folder import (
    announce,
    check_entries,
    generation,
    open_engine,
    open_table,
    own_folder,
    remove_leftovers,
    remove_named,
    settle,
)
from lightretriever.index.manifest import PARTS, IndexManifest
from lightretriever.index.novelty import NOTHING, Novelty
from lightretriever.index.owner import check_owner
from lightretriever.index.remote import RemoteBackend
from lightretriever.index.sparse import SparseSide
from lightretriever.query.encoder import QueryEncoder
from lightretriever.query.table import same_rotation

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Current:
    """What belongs together at one moment; a reader takes it once and uses it throughout."""

    manifest: IndexManifest
    encoder: QueryEncoder
    backend: Backend
    side: SparseSide

    @staticmethod
    def of(path: Path, manifest: IndexManifest, encoder: QueryEncoder, backend: Backend) -> Current:
        """The sparse side follows from the rest."""
        return Current(
            manifest, encoder, backend, SparseSide(manifest.sparse, encoder.table, path / manifest.statistics)
        )

    def takes_vectors_of(self, before: Current) -> bool:
        """Whether documents encoded for what the index was before belong to what it is now."""
        names = ("model", "revision", "dim", "width", "sparse", "tokenizer_hash", "encoding")
        return all(getattr(self.manifest, name) == getattr(before.manifest, name) for name in names) and same_rotation(
            self.encoder.table, before.encoder.table
        )


class State:
    """An index that this process owns. Use `open_state`.

    Attributes:
        path: its folder.
        live: whether engines are held by processes of their own.
        durability: what is not flushed yet.
        pace: seconds that a writer gives way for each document it wrote, while a rebuild catches up.
    """

    def __init__(self, path: Path, current: Current, owned: IO[bytes], live: bool, policy: FlushPolicy) -> None:
        self.path = path
        self.live = live
        self._process = os.getpid()
        self._writing = RLock()
        self.durability = Durability(policy, self._flush, self._writing)
        self.pace = 0.0
        self._current: Current | None = current
        self._written = current.manifest
        self._owned = owned
        self._watched: set[int] | None = None

    @property
    def is_copy(self) -> bool:
        """Whether this process was forked from the one that opened the index: engine, pipe and locks are that one's."""
        return os.getpid() != self._process

    def check_process(self) -> None:
        """Raise LockedError where another process opened the index."""
        check_owner(self.path, self._process)

    @property
    def writing(self) -> AbstractContextManager[object]:
        """What a writer holds; re-entrant. Raises LockedError in a process that did not open the index."""
        self.check_process()
        return self._writing

    @property
    def closed(self) -> bool:
        """Whether it was let go of."""
        return self._current is None

    @property
    def current(self) -> Current:
        """What the index is now. Raises UsageError when it is closed, LockedError where another process opened it."""
        self.check_process()
        if self._current is None:
            raise UsageError(f"{self.path} is closed: open it again")
        return self._current

    def read(self, action: Callable[[Current], T]) -> T:
        """What an action makes of the index; tried again where another engine took the place of its own meanwhile."""
        while True:
            current = self.current
            try:
                return action(current)
            except ArtifactError:
                if self.closed or self.current.backend is current.backend:
                    raise

    @contextmanager
    def changing(self, keys: Sequence[int]) -> Iterator[Current]:
        """Hold the index to write points of these keys, or delete them; then let a rebuild catch up with what
        `changed` was told of, so that it need not make writers wait for all of it at once."""
        with self.writing:
            if self._watched is not None:
                self._watched.update(keys)
            before = self.current.manifest.unoptimised
            yield self.current
            written = self.current.manifest.unoptimised - before
        if self.pace:
            sleep(self.pace * written)

    @contextmanager
    def watching(self) -> Iterator[set[int]]:
        """The keys that are written from now on; empty the set, holding `writing`, to learn what comes later."""
        with self.writing:
            watched = self._watched = set()
        try:
            yield watched
        finally:
            self._watched = None

    def changed(self, documents: int, counted: bool = True, novelty: Novelty = NOTHING) -> None:
        """Note that so many documents were written; ``counted``: by BM25 statistics that do not know them."""
        manifest = self.current.manifest
        known = novelty + manifest.novelty
        drifted = documents if counted and manifest.sparse == "bm25" else 0
        unoptimised, changes = manifest.unoptimised + documents, manifest.bm25_changes + drifted
        manifest = replace(manifest, unoptimised=unoptimised, bm25_changes=changes)
        manifest = replace(manifest, tokens_added=known.tokens, tokens_new=known.unknown)
        self._current = replace(self.current, manifest=manifest)

    def save(self, manifest: IndexManifest) -> None:
        """Write a changed manifest, durably; the parts it names are those there were. Raises UsageError when closed."""
        with self.writing:
            changed = replace(self.current, manifest=manifest)  # before it is written: the folder may be another's now
            manifest.save(self.path)
            self._written, self._current = manifest, changed

    def go_over(self, manifest: IndexManifest, encoder: QueryEncoder, backend: Backend) -> Current:
        """Make other parts the index's, all at once, for readers and on disk.

        The backend has been flushed. Readers who have the old one finish, or begin again: see `Index.search_encoded`.

        Returns:
            What there was before, to `put_away` when writers do not wait any more.
        """
        manifest = replace(manifest, generation=generation(manifest))
        with self.writing:
            old = self.current
            announce(old.manifest, manifest)
            manifest.save(self.path)
            self._written = manifest
            self._current = Current.of(self.path, manifest, encoder, backend)
            settle(manifest)
        return old

    def put_away(self, old: Current) -> None:
        """Close and remove what is the index's no more; once that is closed, its next owner removes."""
        now = self._current
        if now is None or old.backend is not now.backend:
            if isinstance(old.backend, RemoteBackend):
                old.backend.kill()  # closing would flush first, half a second in which its last searches wait
            with suppress(ArtifactError):
                old.backend.close()
        if now is None:
            return
        for part in PARTS:
            if getattr(old.manifest, part) != getattr(now.manifest, part):
                remove_named(self.path, old.manifest, part)

    def close(self) -> None:
        """Make everything durable and let go, whatever fails in that; a second call does nothing, nor does one in a
        forked process."""
        if self.is_copy:
            return
        with self.writing:
            if self._current is None:
                return
            backend = self._current.backend
            try:
                self.durability.flush()
                if self._current.manifest != self._written:
                    self.save(replace(self._current.manifest, documents=backend.count()))
            finally:
                self._current = None
                try:
                    backend.close()
                    note_closed(self.path, self._written.parts)
                finally:
                    self._owned.close()

    def _flush(self) -> None:
        current = self.current
        current.backend.flush()
        now, written = current.manifest, self._written
        changes = now.unoptimised - written.unoptimised + now.bm25_changes - written.bm25_changes
        if changes > _NOTED:  # only counts differ, which a killed process may leave a little behind
            self.save(replace(now, documents=current.backend.count()))


_NOTED = 1_000


def open_state(
    path: Path,
    check: Callable[[IndexManifest], None],
    live: bool = False,
    policy: FlushPolicy | None = None,
    engine: str | None = None,
) -> State:
    """Own the folder of an index that there is, and open what its manifest names.

    Args:
        path: its folder.
        check: raises what is wrong with the manifest; nothing was opened or removed by then.
        live, policy: as `State`.
        engine: what the caller says holds the index; None where he leaves that to the manifest.

    Raises:
        What ``check`` raises.
        LockedError: another process owns it, or this one.
        ArtifactError, MismatchError: a part is absent, damaged or not the index's, or ``engine`` is not what holds it.
    """
    check_entries(path)  # before anything is written: not even the owner's file may be a link
    owned = own_folder(path)
    try:
        manifest = IndexManifest.load(path).named(
            engine
        )  # not before: its last owner may have gone over to other parts
        check(manifest)
        encoder = QueryEncoder(open_table(path, manifest))
        check_files(path)
        note_open(path)
        live = live and manifest.engine == "edge"  # a server is a process of its own already
        current = Current.of(path, manifest, encoder, open_engine(path, manifest, live))
        remove_leftovers(path, manifest)  # not before: where a part cannot be opened, its name may be what is wrong
        settle(manifest)
    except BaseException:
        owned.close()
        raise
    return State(path, current, owned, live, policy or FlushPolicy())
