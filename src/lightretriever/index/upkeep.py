"""What keeps an index fast and current while it is used: segments, statistics, table, document model."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from subprocess import Popen
from threading import Event
from typing import TYPE_CHECKING, cast

from lightretriever.errors import MismatchError, UsageError
from lightretriever.index.background import Background
from lightretriever.index.bm25 import BM25
from lightretriever.index.engines.engine import START, Rows
from lightretriever.index.engines.local.build import is_building, is_due, run_build, start_building
from lightretriever.index.engines.local.reindex import Reindexing
from lightretriever.index.filter.language import Filter
from lightretriever.index.folder import next_table, remove_tables
from lightretriever.index.new_model import NewModel
from lightretriever.index.sparse import SparseSide
from lightretriever.index.state import Current, State
from lightretriever.index.store.database import Connection
from lightretriever.index.store.state import change_state, set_state
from lightretriever.index.store.values import read_statistics, write_statistics
from lightretriever.index.written import note_written
from lightretriever.progress import Progress
from lightretriever.query.encoder import QueryEncoder
from lightretriever.query.table import TokenTable
from lightretriever.text.analysers.choose import SAMPLE
from lightretriever.text.corpus import Document
from lightretriever.types import Encoded
from lightretriever.vectors.encode import Tower

if TYPE_CHECKING:
    from lightretriever.index.engines.qdrant.engine import QdrantEngine
    from lightretriever.index.replacing import Replacing

_LOOK = 0.2  # seconds between two looks at whether another process is still building


def rows_of(documents: Sequence[Document], encoded: Encoded, side: SparseSide) -> Rows:
    """Documents with the vectors that their tower gave them, as they are stored; of those of one id the last."""
    last = list({document.id: row for row, document in enumerate(documents)}.values())
    chosen, vectors = [documents[row] for row in last], encoded.take(last)
    return Rows(chosen, vectors.dense, side.of(chosen, vectors.sparse))


def store_rows(current: Current, connection: Connection, rows: Rows) -> int:
    """Store rows within a transaction of the index's database; how many took the place of others.

    Raises MismatchError where another index, which counts words otherwise, has taken its place.

    Args:
        current: the index.
        connection: the transaction's. An engine elsewhere is written to within it too, so that writers wait for each
            other, and is given impacts where BM25's statistics are.
        rows: as `rows_of` makes them.
    """
    engine, settings = current.engine, current.settings
    if rows.sparse is not None and len(rows.sparse.indices) and rows.sparse.vocabulary != current.vocabulary:
        raise MismatchError("another index took this one's place before the documents were stored: add them again")
    if settings.sparse == "bm25" and not engine.keeps_counts:
        assert rows.sparse is not None
        statistics = read_statistics(connection, settings)
        if statistics is None:
            statistics = BM25.of([rows.sparse], settings.width)
            write_statistics(connection, statistics)
        rows = replace(rows, sparse=statistics.impacts(rows.sparse))
    replaced = engine.store(rows, settings.tenant)
    if not settings.local:
        note_written(connection, [document.id for document in rows.documents])
        change_state(connection, changes=len(rows))
    return replaced


def delete_documents(current: Current, connection: Connection, ids: Sequence[str], where: Filter | None) -> int:
    """Remove documents within a transaction of the index's database, likewise; how many there were."""
    removed = current.engine.delete(ids, where)
    if not current.settings.local:
        note_written(connection, ids)
        change_state(connection, changes=removed)
    return removed


class Upkeep:
    """Of one open index. One piece of work at a time; searches and writes go on beside it."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._background = Background()
        self._builder: Popen[bytes] | None = None

    @property
    def said(self) -> str:
        """What runs in the background, or how the last of it failed; "" when all is well."""
        if self._background.said or not self._state.current.settings.local:
            return self._background.said
        return "building" if is_building(self._state.path) else ""

    def build_if_due(self) -> None:
        """Let a process build what was written since the last segment, when it is enough."""
        state = self._state
        if not state.current.settings.local or not state.database.writable:
            return
        if self._builder is not None and self._builder.poll() is None:  # it may not have begun yet
            return
        if (is_due(state.database) or state.has_damaged_segments) and not is_building(state.path):
            self._builder = start_building(state.path)

    def optimise(self, wait: bool = True) -> None:
        """Build all documents anew as one segment, beside searches and writes. Searches are right without it, and
        slower the more were written.

        Without ``wait`` a process of its own does it, and `wait` tells how it went.

        Raises:
            UsageError: other such work of this process is under way. A build of another process is waited for.
            ArtifactError: the disk is full; the index is as it was.
        """
        state = self._state
        engine = state.current.engine
        if wait or not state.current.settings.local:
            self._background.run("optimising", engine.optimise, wait)
        else:
            self._background.run("optimising", partial(run_build, state.path), wait)

    def refresh_bm25(self, wait: bool = True) -> None:
        """Take the BM25 statistics anew of all documents, and their impacts; ``wait`` as for `optimise`.

        Raises:
            UsageError: the index's sparse side is not BM25.
        """
        settings = self._state.current.settings
        if settings.sparse != "bm25":
            raise UsageError(
                f"the sparse side of {self._state.path} is {settings.sparse!r}: there is nothing to refresh"
            )
        if settings.local:
            self.optimise(wait)  # which takes them anew
        else:
            self._background.run("refreshing BM25", lambda stopped: self._replacing().refresh(stopped), wait)

    def set_table(self, table: TokenTable) -> None:
        """Replace the token table by another of the same model, at once and durably, while searches go on.

        Raises:
            MismatchError: it is of another model, tokenizer or dimension; both are named.
            ArtifactError: it is damaged, or the disk is full.
        """
        state = self._state
        with state.writing(flush=True) as connection:
            current = state.current
            current.settings.check_successor(table, "the new table", current.encoder.table)
            name = next_table(state.path, current.settings)
            table.save(state.path / name)
            settings = replace(current.settings, table=name, table_hash=table.hash)
            if not settings.local:
                self._engine().bind(settings.binding())  # before it is noted: the one before is accepted still
            state.save(settings)
            set_state(connection, tokens=0, unknown=0)
        with state.database.writing(durable=False):
            remove_tables(state.path, state.current.settings)

    def reindex(
        self,
        encoder: QueryEncoder,
        tower: Tower,
        sparse: str | None,
        wait: bool,
        progress: Progress | None,
        done: Callable[[], None],
    ) -> None:
        """Encode every document anew, from its stored text, and go over to another document model when all are.

        Until then the index answers with the old vectors, marked stale, and takes writes. Interrupted, the same call
        goes on; a call for another model begins anew.

        Args:
            encoder: the query encoder over a table of the new model.
            tower: the new document tower.
            sparse: the sparse side of the new index; None keeps the kind.
            wait: as for `optimise`.
            progress: called with the number of documents seen and of all.
            done: called when it is the index's model, before any writer of this process finds it so.

        Raises:
            MismatchError: table and model do not belong together.
            UsageError: sparse="lm" with a tower that has no LM head, or other such work is under way.
            InputError: a document was stored without a text, and is named.
        """
        state = self._state
        kind = sparse or state.current.settings.sparse
        model = NewModel.of(encoder.table, tower, kind)
        some, _ = state.current.engine.page(START, SAMPLE)
        current = state.choose_analyser((document.input for document in some.documents), kind)
        model = model.counting(state.terms_of(current.version, replace(current.settings, sparse=kind)))
        if state.current.settings.local:
            work = Reindexing(state.path, state.database, model, progress, done).run
        else:
            work = partial(self._reindex_there, model, progress, done)
        self._background.run("reindexing", work, wait)

    def wait(self) -> None:
        """Wait for what runs in the background, also in a process of its own. Raises what it failed with."""
        self._background.wait()
        while self._state.current.settings.local and is_building(self._state.path):
            time.sleep(_LOOK)

    def stop(self) -> None:
        """End what runs in the background, done or not."""
        self._background.stop()

    def _reindex_there(
        self, model: NewModel, progress: Progress | None, done: Callable[[], None], stopped: Event
    ) -> None:
        self._replacing().reindex(model, progress, done, stopped)

    def _replacing(self) -> Replacing:
        from lightretriever.index.replacing import Replacing  # it needs an extra, and some time

        state = self._state
        return Replacing(state, self._engine(), state.current.settings.named(state.named), state.written)

    def _engine(self) -> QdrantEngine:
        """The server's, where there is one."""
        return cast("QdrantEngine", self._state.current.engine)
