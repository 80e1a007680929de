"""What the bytes of an index on the disk hold."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from lightretriever.index.folder import open_database
from lightretriever.index.segment.segment import FOLDER

TABLES = {"documents": "texts", "vectors": "vectors", "conditions": "filters' conditions"}
"""What a table of the database holds, by the first word of its name."""
ARRAYS = {
    "dense.hi": "dense codes",
    "dense.lo": "dense codes",
    "dense.scales": "dense codes",
    "dense.": "dense graph",
    "sparse.": "sparse lists",
}
"""Likewise an array of a segment, by how its name begins; the first that fits counts."""
DATABASE, REST = "database", "the rest"
KINDS = tuple(dict.fromkeys((*TABLES.values(), DATABASE, *ARRAYS.values(), REST)))


def bytes_by_kind(path: Path) -> dict[str, int]:
    """Bytes of a local index's files, by `KINDS`. Where SQLite was built without what tells its tables' sizes, all of
    the database is one kind."""
    sizes = dict.fromkeys(KINDS, 0)
    for kind, size in _database(path):
        sizes[kind] += size
    for file in path.rglob("*"):
        if file.is_file() and file.parent != path:
            name = file.name if FOLDER in file.relative_to(path).parts else ""
            kind = next((kind for beginning, kind in ARRAYS.items() if name.startswith(beginning)), REST)
            sizes[kind] += file.stat().st_size
    return sizes


def _database(path: Path) -> Iterator[tuple[str, int]]:
    database = open_database(path)
    try:
        size = database.file.stat().st_size
        with database.reading() as connection:
            try:
                tables = connection.execute("SELECT name, pgsize FROM dbstat WHERE aggregate = TRUE").fetchall()
            except sqlite3.OperationalError:
                yield DATABASE, size
                return
    finally:
        database.close()
    for name, of_table in tables:
        kind = TABLES.get(str(name).partition("_")[0], REST)
        yield kind, of_table
        size -= of_table
    yield REST, max(size, 0)  # pages that nothing is in now
