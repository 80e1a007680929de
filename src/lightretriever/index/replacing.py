"""A server's collection replaced by another: for BM25 statistics taken anew, and for another document model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from threading import Event

from lightretriever.index.bm25 import BM25
from lightretriever.index.engines.engine import Rows, pages
from lightretriever.index.engines.qdrant.collection import number_of
from lightretriever.index.engines.qdrant.engine import QdrantEngine
from lightretriever.index.engines.qdrant.rebuild import Successor, Watch, Writers, replace_collection
from lightretriever.index.engines.qdrant.server import QdrantServer
from lightretriever.index.folder import remove_tables
from lightretriever.index.new_model import NewModel, take_over
from lightretriever.index.server import contents_of, server_of
from lightretriever.index.settings import Settings
from lightretriever.index.sparse import SparseSide
from lightretriever.index.state import State
from lightretriever.index.store.database import Connection
from lightretriever.index.store.state import read_state, set_state
from lightretriever.index.store.values import (
    forget_coming_statistics,
    read_coming_statistics,
    read_settings,
    write_coming_statistics,
    write_settings,
    write_statistics,
)
from lightretriever.progress import Progress

PAGE = 256  # documents whose tokens are counted at once


@dataclass(frozen=True, slots=True)
class Replacing:
    """One such work.

    Attributes:
        state: the index.
        engine: its collection, as it is when this begins.
        settings: the index's, likewise.
        writers: everyone who writes to it.
    """

    state: State
    engine: QdrantEngine
    settings: Settings
    writers: Writers

    def refresh(self, stopped: Event) -> None:
        """Take BM25's statistics anew of all documents, and their impacts.

        Raises:
            ArtifactError: the server failed, or it was stopped; the index is as it was.
        """
        side, database = self.state.current.side, self.state.database
        counted = self._changes()
        statistics = _statistics_of(side, self.engine)

        def impacts(rows: Rows) -> Rows:
            return replace(rows, sparse=statistics.impacts(side.counts(rows.documents)))

        def note(engine: QdrantEngine) -> None:
            with database.writing() as connection:
                now = read_settings(connection, database.file)
                write_settings(connection, replace(now, collection=engine.collection))
                write_statistics(connection, statistics)
                set_state(connection, changes=max(0, read_state(connection).changes - counted))

        with server_of(self.settings) as server:
            name = server.next_name()
        successor = Successor(name, contents_of(self.settings), impacts)
        self._replace(successor, note, Watch(None, stopped))

    def reindex(self, model: NewModel, progress: Progress | None, done: Callable[[], None], stopped: Event) -> None:
        """Encode every document anew, and go over to another document model; see `Upkeep.reindex`.

        Raises:
            InputError: a document was stored without a text, and is named.
            ArtifactError: the server failed, or it was stopped; the index is as it was, and the same call goes on.
        """
        state, database = self.state, self.state.database
        counted = self._changes()
        with server_of(self.settings) as server:
            self._forget_overtaken(server)
            settings = model.begin(state.path, database, partial(_collection, server))
        settings = replace(settings, engine_named=self.settings.engine_named)
        statistics = self._coming_statistics(model.side, settings)

        def encode(rows: Rows) -> Rows:
            encoded = model.encode(rows.documents)
            sparse = encoded.sparse
            if statistics is not None and sparse is not None:
                sparse = statistics.impacts(sparse)
            return Rows(rows.documents, encoded.dense, sparse)

        def note(_: QdrantEngine) -> None:
            with database.writing() as connection:
                take_over(connection, database.file, settings)
                forget_coming_statistics(connection)
                if statistics is not None:
                    write_statistics(connection, statistics)
                changes = max(0, read_state(connection).changes - counted)
                set_state(connection, tokens=0, unknown=0, changes=changes)
                done()

        successor = Successor(settings.collection, contents_of(settings), encode, lasting=True)
        self._replace(successor, note, Watch(progress, stopped))
        with database.writing() as connection:
            remove_tables(state.path, read_settings(connection, database.file))

    def _replace(self, successor: Successor, note: Callable[[QdrantEngine], None], watch: Watch) -> None:
        replace_collection(self.engine, successor, self.writers, note, watch).close()  # the index opens what it noted

    def _forget_overtaken(self, server: QdrantServer) -> None:
        """Begin anew where the collection that was begun stands behind the one in use: its statistics were taken anew
        since."""
        alias, database = self.engine.connection.address.name, self.state.database
        with database.writing() as connection:
            now = read_settings(connection, database.file)
            begun = "" if now.successor is None else str(now.successor["collection"])
            if begun and number_of(alias, begun) <= number_of(alias, now.collection):
                _drop_begun(server, connection, now)
                write_settings(connection, replace(now, successor=None))

    def _changes(self) -> int:
        with self.state.database.reading() as connection:
            return read_state(connection).changes

    def _coming_statistics(self, side: SparseSide, settings: Settings) -> BM25 | None:
        """Those taken when this was begun, of which a part of the documents may have impacts already."""
        if side.kind != "bm25":
            return None
        with self.state.database.reading() as connection:
            found = read_coming_statistics(connection, settings)
        if found is None:
            found = _statistics_of(side, self.engine)
            with self.state.database.writing() as connection:
                write_coming_statistics(connection, found)
        return found


def _statistics_of(side: SparseSide, engine: QdrantEngine) -> BM25:
    return BM25.of((side.counts(page.documents) for page in pages(engine, PAGE)), side.width)


def _collection(server: QdrantServer, connection: Connection, now: Settings) -> Mapping[str, object]:
    """The name of a new collection; one that was begun before goes."""
    _drop_begun(server, connection, now)
    return {"vectors": now.vectors, "collection": server.next_name()}


def _drop_begun(server: QdrantServer, connection: Connection, now: Settings) -> None:
    """Delete the collection of another document model that was begun, and what was counted for it."""
    forget_coming_statistics(connection)
    begun = "" if now.successor is None else str(now.successor["collection"])
    if begun and begun != now.collection:
        server.drop(begun)
