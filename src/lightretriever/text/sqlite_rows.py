"""Rows of a table in an SQLite database, which is opened for reading only."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from lightretriever.errors import InputError
from lightretriever.paths import absolute

SUFFIXES = (".sqlite", ".sqlite3", ".db")
_MAGIC = b"SQLite format 3\0"


def sqlite_rows(path: str | Path, table: str | None = None) -> Iterator[tuple[str, dict[str, object]]]:
    """Place (``file: table: row N``) and fields of every row, in the table's own order; blobs are bytes.

    Args:
        path: the database. Another process may write it meanwhile: what is read is as it was at the first row.
        table: its table or view; None where it has but one table.

    Raises:
        InputError: no database, damaged, or there is no such table, or several; it names them.
    """
    return _rows(absolute(path), path, table)


def _rows(source: Path, shown: str | Path, table: str | None) -> Iterator[tuple[str, dict[str, object]]]:
    _check_head(source, shown)
    number = 0
    try:
        with closing(sqlite3.connect(f"file:{quote(str(source))}?mode=ro", uri=True)) as database:
            database.execute("PRAGMA trusted_schema = OFF")  # a view of a stranger's calls no function with effects
            database.text_factory = lambda raw: raw.decode("utf-8", "replace")
            chosen = _chosen(database, shown, table)
            quoted = chosen.replace('"', '""')
            cursor = database.execute(f'SELECT * FROM "{quoted}"')
            names = [column[0] for column in cursor.description]
            for values in cursor:
                number += 1
                yield f"{shown}: {chosen}: row {number}", dict(zip(names, values, strict=True))
    except sqlite3.Error as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{shown}: cannot be read beyond row {number} ({reason})") from None


def _check_head(source: Path, shown: str | Path) -> None:
    try:
        if not source.is_file():
            raise InputError(f"{shown} does not exist, or is no file")
        with source.open("rb") as file:
            head = file.read(len(_MAGIC))
    except OSError as error:
        raise InputError(f"{shown} cannot be read: {error.strerror}") from None
    if head != _MAGIC:
        raise InputError(f"{shown}: this is no SQLite database, whatever its name says")


def _chosen(database: sqlite3.Connection, shown: str | Path, table: str | None) -> str:
    found = database.execute("SELECT name, type FROM sqlite_master WHERE type IN ('table', 'view') ORDER BY name")
    kinds = {str(name): kind for name, kind in found if not str(name).startswith("sqlite_")}
    tables = [name for name, kind in kinds.items() if kind == "table"]
    if table is not None and table in kinds:
        return table
    listed = ", ".join(repr(name[:40]) for name in [*kinds][:12]) or "none"
    if table is not None:
        raise InputError(f"{shown} has no table {table[:40]!r}: its tables are {listed}")
    if len(tables) != 1:
        raise InputError(f"{shown}: name the table to read: its tables are {listed}")
    return tables[0]
