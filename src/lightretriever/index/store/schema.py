"""The tables of an index, and that a file has exactly these.

    documents   a row for each version of a document, under a key that grows and is never used again: replacing one
                removes its row and makes another
    vectors_N   its vectors (`lightretriever.index.store.packing`); N grows when another document model takes over
    gone        keys that there are no more, in the order in which they went; what every segment holding them knows is
                forgotten
    conditions  what filters look at (`lightretriever.index.filter.sql`), fields by number
    segments    what was built of the rest, and may be built again
    settings    what the index is bound to, as JSON, and BM25's statistics
    terms       the words that the sparse side counts, by number (`lightretriever.index.store.terms`)
    files       what documents were read from (`lightretriever.index.store.files`)
    written     ids written while a server's collection is being replaced
    state       one row of counts; a write changes it, so it tells whether anything is new

Texts are UTF-8; every row has a CRC-32 of its own, which finds what SQLite's own checks do not: a flipped bit within a
value. Only conditions have none: they follow from the documents' metadata.
"""

from __future__ import annotations

import re
import secrets
from pathlib import Path

from lightretriever.errors import ArtifactError
from lightretriever.index.filter.conditions import TABLES as CONDITIONS
from lightretriever.index.store.database import APPLICATION, Connection
from lightretriever.index.store.seal import seal

VERSION = 2
_VECTORS = "CREATE TABLE {name}(key INTEGER PRIMARY KEY, dense BLOB NOT NULL, sparse BLOB, checksum INTEGER NOT NULL)"
_TABLES = (
    "CREATE TABLE documents(key INTEGER PRIMARY KEY, id TEXT NOT NULL, title TEXT NOT NULL, text TEXT NOT NULL, "
    "metadata TEXT, checksum INTEGER NOT NULL)",
    "CREATE UNIQUE INDEX documents_by_id ON documents(id)",
    "CREATE TABLE gone(number INTEGER PRIMARY KEY, key INTEGER NOT NULL, checksum INTEGER NOT NULL)",
    *CONDITIONS,
    "CREATE TABLE segments(name TEXT PRIMARY KEY, description TEXT NOT NULL, checksum INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE settings(name TEXT PRIMARY KEY, value NOT NULL, checksum INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE terms(number INTEGER PRIMARY KEY, term TEXT NOT NULL UNIQUE, checksum INTEGER NOT NULL)",
    "CREATE TABLE files(id TEXT PRIMARY KEY, digest TEXT NOT NULL, size INTEGER NOT NULL, mtime INTEGER NOT NULL, "
    "documents TEXT NOT NULL, checksum INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE written(id TEXT PRIMARY KEY) WITHOUT ROWID",
    "CREATE TABLE state(one INTEGER PRIMARY KEY, version INTEGER NOT NULL, documents INTEGER NOT NULL, "
    "next_key INTEGER NOT NULL, next_gone INTEGER NOT NULL, first_gone INTEGER NOT NULL, changes INTEGER NOT NULL, "
    "tokens INTEGER NOT NULL, unknown INTEGER NOT NULL, flushes INTEGER NOT NULL, identity INTEGER NOT NULL, "
    "checksum INTEGER NOT NULL)",
)
_VECTORS_NAME = re.compile(r"vectors_[1-9][0-9]{0,9}")


def vectors_table(number: int) -> str:
    """The name of a table of vectors."""
    return f"vectors_{number:d}"


def create_vectors(number: int) -> str:
    """The statement that makes one."""
    return _VECTORS.format(name=vectors_table(number))


def drop_vectors(number: int) -> str:
    """The statement that removes one."""
    return f"DROP TABLE IF EXISTS {vectors_table(number)}"


def new_identity() -> int:
    """Of no other index, as `lightretriever.index.store.state.State` has it."""
    return secrets.randbits(62)


def statements() -> list[str]:
    """Those that make the tables of a new index, without any document."""
    identity = new_identity()
    checksum = seal(1, 0, 1, 1, 1, 0, 0, 0, identity)  # as `lightretriever.index.store.state` takes it
    row = f"INSERT INTO state VALUES (1, 1, 0, 1, 1, 1, 0, 0, 0, 0, {identity}, {checksum})"
    return [*_TABLES, create_vectors(1), row]


def check_schema(connection: Connection, file: Path) -> None:
    """Check that a file holds these tables and nothing else: no view or trigger that would do more than is asked for.

    Raises:
        ArtifactError: it is something else, damaged, or of another version.
    """
    (application,), (version,) = (
        connection.execute(f"PRAGMA {name}").fetchone() for name in ("application_id", "user_version")
    )
    if application != APPLICATION:
        raise ArtifactError(f"{file} is no index of lightretriever: make the index again")
    if version > VERSION:
        raise ArtifactError(f"{file} is of a newer version of lightretriever: upgrade it")
    if version != VERSION:
        raise ArtifactError(f"{file} is of an older version of lightretriever: make the index again")
    expected = {_name(statement): statement for statement in _TABLES}
    for name, statement in connection.execute("SELECT name, sql FROM sqlite_schema"):
        if statement is None and name.startswith("sqlite_autoindex_"):
            continue
        wanted = expected.pop(name, None)
        if wanted is None and _VECTORS_NAME.fullmatch(name):
            wanted = _VECTORS.format(name=name)
        if statement != wanted:
            raise ArtifactError(f"{file} is damaged: {name[:80]!r} is no part of an index: restore a snapshot")
    if expected:
        raise ArtifactError(f"{file} is damaged: it lacks {min(expected)!r}: restore a snapshot")


def _name(statement: str) -> str:
    found = re.match(r"CREATE (?:UNIQUE )?(?:TABLE|INDEX) (\w+)", statement)
    assert found is not None
    return found[1]
