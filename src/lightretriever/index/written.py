"""Ids that are written while a server's collection is being replaced, by whatever process: in the index's database."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from time import sleep

from lightretriever.errors import LightRetrieverError
from lightretriever.index.store.database import Connection, Database
from lightretriever.index.store.values import is_watched, set_watched


def note_written(connection: Connection, ids: Sequence[str]) -> None:
    """Have it known, if somebody wants to know it, that documents of these ids are written or deleted; to be called
    within the transaction in which they are."""
    if is_watched(connection):
        connection.executemany("INSERT OR IGNORE INTO written VALUES (?)", [(name,) for name in ids])


class Written:
    """Of one open index; the `Writers` of a replacement."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._pace = 0.0

    def pause(self, documents: int) -> None:
        """Let a replacement catch up, after so many documents."""
        if self._pace:
            sleep(self._pace * documents)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """See `Writers`. Of a process that was killed within it, the next one takes it over."""
        self._watch(True)
        try:
            yield
        finally:
            self._pace = 0.0
            with suppress(LightRetrieverError):  # closed meanwhile, say: the next one takes it over
                self._watch(False)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """See `Writers`."""
        with self._database.writing():
            yield

    def taken(self) -> list[str]:
        """See `Writers`."""
        with self._database.writing() as connection:
            ids = [name for (name,) in connection.execute("SELECT id FROM written ORDER BY id")]
            connection.execute("DELETE FROM written")
        return ids

    def give_way(self, seconds: float) -> None:
        """See `Writers`."""
        self._pace = seconds

    def _watch(self, watched: bool) -> None:
        with self._database.writing() as connection:
            connection.execute("DELETE FROM written")
            set_watched(connection, watched)
