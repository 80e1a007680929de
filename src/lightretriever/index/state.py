"""What belongs together of an open index, as it is now: a search asks, and goes over to what was committed since."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Protocol, TypeAlias

from lightretriever.errors import LightRetrieverError
from lightretriever.index.durability import Durability, FlushPolicy
from lightretriever.index.engines.engine import Asked, Engine, Found
from lightretriever.index.engines.local.engine import LocalEngine
from lightretriever.index.folder import open_database, open_table
from lightretriever.index.settings import Settings
from lightretriever.index.sparse import SparseSide
from lightretriever.index.store.database import Connection, Database
from lightretriever.index.store.state import read_state, version_of
from lightretriever.index.store.values import read_settings, write_settings
from lightretriever.index.terms import Terms
from lightretriever.index.written import Written
from lightretriever.query.encoder import QueryEncoder
from lightretriever.query.table import same_rotation
from lightretriever.text.analysers.analyser import PIECES, Analyser
from lightretriever.text.analysers.choose import SAMPLE, choose_analyser

Version: TypeAlias = tuple[int, int]


class Searcher(Protocol):
    """What a search asks."""

    def search(self, asked: Asked) -> Found:
        """See `Engine.search`."""


@dataclass(frozen=True, slots=True, eq=False)
class Current:
    """What belongs together at one moment.

    Attributes:
        version: of the index's settings and segments, by which it is known whether this is still so.
        settings: what the index is bound to.
        encoder: over its table.
        engine: holds its documents.
        terms: counts words, where the sparse side is over these.
    """

    version: Version
    settings: Settings
    encoder: QueryEncoder
    engine: Engine
    terms: Terms | None

    @property
    def side(self) -> SparseSide:
        """Where sparse vectors come from."""
        return SparseSide(self.settings.sparse, self.encoder.table, self.encoder.chunks, self.terms)

    @property
    def vocabulary(self) -> int:
        """What sparse vectors are counts of, as of `SparseVectors`."""
        return self.settings.vocabulary(self.version[0])

    def takes_vectors_of(self, before: Current) -> bool:
        """Whether documents encoded for what the index was before belong to what it is now."""
        names = ("model", "revision", "dim", "width", "sparse", "tokenizer_hash", "encoding")
        return all(getattr(self.settings, name) == getattr(before.settings, name) for name in names) and same_rotation(
            self.encoder.table, before.encoder.table
        )


class State:
    """An open index. Use `open_state`.

    Attributes:
        path: its folder.
        database: its database.
        durability: what is not flushed yet.
        named: the engine that the caller says holds the index; None where he left that to the settings.
        written: what is written while a server's collection is being replaced.
    """

    def __init__(self, path: Path, database: Database, engine: str | None, policy: FlushPolicy) -> None:
        self.path = path
        self.database = database
        self.durability = Durability(policy, self._flush)
        self.named = engine
        self.written = Written(database)
        self._current: Current | None = None
        self._local: LocalEngine | None = None
        self._process = os.getpid()
        self._changing = threading.Lock()

    @property
    def current(self) -> Current:
        """What the index is now. Raises UsageError when it is closed."""
        self._notice_fork()
        with self.database.reading() as connection:
            current = self._current
            if current is not None and current.version == version_of(read_state(connection)):
                return current
            with self._changing:  # within the block: a fork waits for who reads, not for a lock
                return self._go_over()

    def searching(self) -> tuple[Current, Searcher]:
        """What the index is now, and what to search: every committed write is in it. A search takes both once."""
        local = self._local
        if local is None:
            current = self.current
            return current, current.engine
        self._notice_fork()
        while True:
            moment = local.moment()
            version, known = version_of(moment.view.state), self._current
            current = known if known is not None and known.version == version else self.current
            if current.version == version:
                return current, moment

    @property
    def has_damaged_segments(self) -> bool:
        """Whether the last search found a segment damaged: its documents are searched out of the database."""
        return self._local is not None and self._local.follower.found_damage

    @contextmanager
    def writing(self, documents: int = 0, flush: bool | None = None) -> Iterator[Connection]:
        """A transaction in which so many documents are written; others that write wait. See `Database.writing`.

        Args:
            documents: how many, for the flush policy.
            flush: whether to make all durable; None is as the policy says.
        """
        durable = self.durability.is_due(documents, flush)
        with self.database.writing(durable) as connection:
            yield connection
        self.durability.wrote(documents, durable, clock=flush is None)
        self.written.pause(documents)

    def choose_analyser(self, texts: Iterable[str], sparse: str | None = None) -> Current:
        """What the index is, once it has an analyser where that sparse side, None being its own, needs one: the first
        texts that are stored decide."""
        current = self.current
        if (sparse or current.settings.sparse) != "bm25" or current.settings.analyser is not None:
            return current
        sample = list(islice(texts, SAMPLE))
        if not any(map(str.strip, sample)):
            return current  # there is nothing to count either
        chosen = choose_analyser(sample) if current.settings.local else Analyser(PIECES)
        with self.database.writing(durable=False) as connection:
            settings = read_settings(connection, self.database.file)
            if settings.analyser is None:
                write_settings(connection, replace(settings, analyser=chosen))
        return self.current

    def save(self, settings: Settings) -> None:
        """Change the settings, durably."""
        with self.database.writing() as connection:
            write_settings(connection, settings)

    def close(self) -> None:
        """Make everything durable and let go; a second call does nothing."""
        if self.database.closed:
            return
        self._notice_fork()
        try:
            if self.durability.pending:
                self.durability.flush()
        finally:
            if self._current is not None:
                self._current.engine.close()
            self.database.close()
            self._current = self._local = None  # and with them files that are mapped

    def _go_over(self) -> Current:
        """Open what the settings name; again, where they were changed and it was removed meanwhile."""
        while True:
            version, settings = self._settings()
            try:
                self._current = self._opened(version, settings)
                return self._current
            except LightRetrieverError:
                if self._settings()[0] == version:
                    raise

    def _opened(self, version: Version, settings: Settings) -> Current:
        before = self._current
        terms = self.terms_of(version, settings)
        if before is not None and before.terms is terms and _table_of(before.settings) == _table_of(settings):
            encoder = before.encoder
            settings.check_table(encoder.table, f"the table in {self.path / settings.table}")
        else:
            encoder = QueryEncoder(open_table(self.path, settings), terms=terms)
        if self._local is not None:
            return Current(version, settings, encoder, self._local, terms)
        if before is not None and _collection_of(before.settings) == _collection_of(settings):
            engine = before.engine
        else:
            from lightretriever.index.server import open_collection  # it needs an extra, and some time

            engine = open_collection(settings.named(self.named))
        return Current(version, settings, encoder, engine, terms)

    def terms_of(self, version: Version, settings: Settings) -> Terms | None:
        """What counts words under these settings; the one before knows their numbers, where it is of the same index."""
        before, analyser = self._current, settings.analyser
        if not settings.counts_words or analyser is None:
            return None
        same = before is not None and before.version[0] == version[0] and before.settings.analyser == analyser
        if same and before is not None and before.terms is not None:
            return before.terms
        return Terms(self.database, version[0], analyser)

    def _settings(self) -> tuple[Version, Settings]:
        with self.database.reading() as connection:
            connection.execute("BEGIN")
            return version_of(read_state(connection)), read_settings(connection, self.database.file)

    def _flush(self) -> None:
        self.current.engine.flush()

    def _notice_fork(self) -> None:
        """A process that was forked has the parent's memory, and its own connections; nobody here holds a lock."""
        if os.getpid() != self._process:
            self._process = os.getpid()
            self._changing = threading.Lock()
            self.durability.begin_again()
            if self._local is not None:
                self._local.follower.begin_again()


def open_state(
    path: Path, check: Callable[[Settings], None], policy: FlushPolicy | None = None, engine: str | None = None
) -> State:
    """Open what an index's settings name.

    Args:
        path: its folder.
        check: raises what is wrong with the settings; nothing was opened by then.
        policy: as `State`.
        engine: what the caller says holds the index; None where he leaves that to the settings.

    Raises:
        What ``check`` raises.
        ArtifactError, MismatchError: a part is absent, damaged or not the index's, or ``engine`` is not what holds it.
    """
    database = open_database(path)
    try:
        with database.reading() as connection:
            settings = read_settings(connection, database.file)
        check(settings.named(engine))
        state = State(path, database, engine, policy or FlushPolicy())
        if settings.local:
            state._local = LocalEngine(path, database)
        state.current  # noqa: B018 - what cannot be opened is said now
    except BaseException:
        database.close()
        raise
    return state


def _table_of(settings: Settings) -> tuple[str, str]:
    return settings.table, settings.table_hash


def _collection_of(settings: Settings) -> tuple[str, Mapping[str, object]]:
    return settings.collection, settings.binding()
