"""Another document model takes an index over: every document's vectors beside the old ones, then all at once.

The new vectors are in a table of their own, and with them the plan is in the settings, so that an interrupted run is
gone on with. Documents written meanwhile have vectors of the old model, which answers until the last of the new ones is
there; a segment is built of these before.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from threading import Event

from lightretriever.errors import ArtifactError
from lightretriever.index.background import check_stopped
from lightretriever.index.engines.local.build import Built, Plan, await_builder, build_segment, plan_until, put_in_force
from lightretriever.index.folder import remove_tables
from lightretriever.index.new_model import NewModel, take_over
from lightretriever.index.segment.segment import FOLDER, read_descriptions, remove_others
from lightretriever.index.settings import Settings
from lightretriever.index.store.database import Connection, Database
from lightretriever.index.store.documents import fetch_documents, insert_vectors, keys_among
from lightretriever.index.store.schema import create_vectors, drop_vectors, vectors_table
from lightretriever.index.store.state import read_state, set_state
from lightretriever.index.store.values import read_settings
from lightretriever.progress import Progress
from lightretriever.types import Encoded

_CHUNK = 64  # documents encoded at once: what a kill costs
_ROUNDS = 20  # of encoding what came meanwhile, before writers wait however much is left


class Reindexing:
    """One such work, see `Upkeep.reindex` for what it is given."""

    def __init__(
        self,
        path: Path,
        database: Database,
        model: NewModel,
        progress: Progress | None,
        done: Callable[[], None],
    ) -> None:
        self._path, self._database, self._model = path, database, model
        self._progress, self._done = progress, done

    def run(self, stopped: Event) -> None:
        """Do it, until it is done or shall stop.

        Raises:
            InputError: a document was stored without a text, and is named.
            ArtifactError: the disk is full, or it was stopped; the index is as it was, and the same call goes on.
        """
        with await_builder(self._path, stopped):
            settings = self._model.begin(self._path, self._database, _vectors)
            self._encode_missing(settings, stopped)
            built = build_segment(self._path, self._database, partial(_plan, settings))
            try:
                for rounds in range(_ROUNDS + 1):
                    self._encode_missing(settings, stopped)
                    if self._go_over(settings, built, whatever=rounds == _ROUNDS):
                        break
            except BaseException:
                shutil.rmtree(self._path / FOLDER / built.name, ignore_errors=True)
                raise
            self._remove_old()

    def _encode_missing(self, settings: Settings, stopped: Event) -> None:
        after, done = 0, 0
        while True:
            check_stopped(stopped, self._path)
            with self._database.reading() as connection:
                connection.execute("BEGIN")
                total = read_state(connection).documents
                keys = _missing(connection, settings.vectors, after)
                documents = fetch_documents(connection, keys)
            if not keys:
                return
            encoded = self._model.encode([documents[key] for key in keys])
            with self._database.writing(durable=False) as connection:
                there = keys_among(connection, keys)
                rows = [row for row, key in enumerate(keys) if key in there]
                kept, left = encoded.take(rows), [keys[row] for row in rows]
                _check_counts(connection, kept)
                insert_vectors(connection, settings.vectors, left, kept.dense, kept.sparse)
            after, done = keys[-1], done + len(keys)
            if self._progress:
                self._progress(min(done, total), total)

    def _go_over(self, settings: Settings, built: Built, whatever: bool) -> bool:
        """Make it the index's, while writers wait. False, and nothing is changed, where more documents than a few came
        without a new vector meanwhile; ``whatever`` it takes."""
        file = self._database.file
        with self._database.writing() as connection:
            while keys := _missing(connection, settings.vectors, 0):
                if len(keys) == _CHUNK and not whatever:
                    return False
                documents = fetch_documents(connection, keys)
                encoded = self._model.encode([documents[key] for key in keys])
                _check_counts(connection, encoded)
                insert_vectors(connection, settings.vectors, keys, encoded.dense, encoded.sparse)
            take_over(connection, file, settings)
            connection.execute("DELETE FROM segments")
            put_in_force(connection, file, built)
            set_state(connection, tokens=0, unknown=0)
            self._done()
        return True

    def _remove_old(self) -> None:
        file = self._database.file
        with self._database.writing() as connection:
            settings = read_settings(connection, file)
            remove_tables(self._path, settings)
            remove_others(self._path, read_descriptions(connection, file))
            names = connection.execute("SELECT name FROM sqlite_schema WHERE name LIKE 'vectors\\_%' ESCAPE '\\'")
            for (name,) in names.fetchall():
                if name != vectors_table(settings.vectors):
                    connection.execute(f"DROP TABLE {name}")


def _check_counts(connection: Connection, encoded: Encoded) -> None:
    """Raises ArtifactError where words were counted by another index, in whose place this one is now."""
    if encoded.sparse is not None and encoded.sparse.vocabulary not in (0, read_state(connection).identity):
        raise ArtifactError("another index took this one's place while it was being reindexed: run it again")


def _vectors(connection: Connection, now: Settings) -> Mapping[str, object]:
    """A new table of vectors; one that was begun before goes."""
    begun = 0 if now.successor is None else int(str(now.successor["vectors"]))
    if begun:
        connection.execute(drop_vectors(begun))
    number = 1 + max(now.vectors, begun)
    connection.execute(create_vectors(number))
    return {"vectors": number, "collection": ""}


def _plan(settings: Settings, connection: Connection, file: Path) -> Plan:
    """The documents before the first that has no new vector yet."""
    del file
    missing = _missing(connection, settings.vectors, 0)
    until = missing[0] - 1 if missing else read_state(connection).next_key - 1
    return plan_until(connection, settings, until)


def _missing(connection: Connection, table: int, after: int) -> list[int]:
    """Keys of the next documents without vectors in a table."""
    rows = connection.execute(
        f"SELECT key FROM documents WHERE key > ? AND key NOT IN (SELECT key FROM {vectors_table(table)}) "
        "ORDER BY key LIMIT ?",
        (after, _CHUNK),
    )
    return [key for (key,) in rows]
