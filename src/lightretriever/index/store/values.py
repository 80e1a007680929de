"""Settings and statistics, each a value by name."""

from __future__ import annotations

from pathlib import Path

from lightretriever.errors import ArtifactError
from lightretriever.index.bm25 import BM25
from lightretriever.index.settings import Settings
from lightretriever.index.store.database import Connection
from lightretriever.index.store.seal import check_seal, seal
from lightretriever.index.store.state import change_state
from lightretriever.index.store.terms import sparse_width

SETTINGS, STATISTICS, COMING, WATCHED = "index", "bm25", "coming bm25", "watched"


def check_names(connection: Connection) -> None:
    """Raises ArtifactError for a row of another name than any has: the one that it was is missing then."""
    for (name,) in connection.execute("SELECT name FROM settings"):
        if name not in (SETTINGS, STATISTICS, COMING, WATCHED):
            raise ArtifactError(f"the row {str(name)[:80]!r} of settings is no index's: restore a snapshot")


def read_settings(connection: Connection, file: Path) -> Settings:
    """What the index is bound to. Raises ArtifactError when it is absent or damaged; the field is named."""
    return Settings.parse(_read(connection, SETTINGS), file)


def write_settings(connection: Connection, settings: Settings) -> None:
    """Change it; readers find that it did."""
    _write(connection, SETTINGS, settings.dump())


def read_statistics(connection: Connection, settings: Settings) -> BM25 | None:
    """BM25's statistics; None where the sparse side is another, or nothing was counted yet.

    Raises:
        ArtifactError: they are damaged, or of another vocabulary.
    """
    return _statistics(connection, STATISTICS, settings)


def read_coming_statistics(connection: Connection, settings: Settings) -> BM25 | None:
    """Likewise those that are to be in force when the index goes over to other settings, which are these."""
    return _statistics(connection, COMING, settings)


def write_statistics(connection: Connection, statistics: BM25) -> None:
    """Put others in force; readers find that they are."""
    _write(connection, STATISTICS, statistics.pack())


def write_coming_statistics(connection: Connection, statistics: BM25) -> None:
    """Keep them until the index goes over."""
    _write(connection, COMING, statistics.pack())


def forget_coming_statistics(connection: Connection) -> None:
    """The index went over, or will not."""
    connection.execute("DELETE FROM settings WHERE name = ?", (COMING,))


def is_watched(connection: Connection) -> bool:
    """Whether the ids that are written are to be noted."""
    return _read(connection, WATCHED) is not None


def set_watched(connection: Connection, watched: bool) -> None:
    """Have them noted, or not any more."""
    if watched:
        _put(connection, WATCHED, "")
    else:
        connection.execute("DELETE FROM settings WHERE name = ?", (WATCHED,))


def _statistics(connection: Connection, name: str, settings: Settings) -> BM25 | None:
    stored = _read(connection, name) if settings.sparse == "bm25" else None
    if stored is None:
        return None
    try:
        return BM25.unpack(stored, sparse_width(connection, settings) or 0)
    except ValueError as error:
        raise ArtifactError(f"the index's BM25 statistics are damaged ({error}): restore a snapshot") from None


def _read(connection: Connection, name: str) -> object:
    row = connection.execute("SELECT value, checksum FROM settings WHERE name = ?", (name,)).fetchone()
    if row is None:
        return None
    check_seal(row[1], f"the row {name!r} of settings", name, row[0])
    return row[0]


def _write(connection: Connection, name: str, value: str | bytes) -> None:
    _put(connection, name, value)
    change_state(connection, version=1)


def _put(connection: Connection, name: str, value: str | bytes) -> None:
    connection.execute("INSERT OR REPLACE INTO settings VALUES (?, ?, ?)", (name, value, seal(name, value)))
