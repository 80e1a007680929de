"""The files that an index's documents were read from, so that `sync` knows which are new, changed and gone."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

from lightretriever.errors import ArtifactError
from lightretriever.index.store.database import Connection
from lightretriever.index.store.seal import check_seal, seal

_ALL = "SELECT id, digest, size, mtime, documents, checksum FROM files"
_MOST = 64 << 20  # characters of the ids of one file's documents


@dataclass(frozen=True, slots=True)
class NotedFile:
    """A file as it was when it was read.

    Attributes:
        id: its path within its source.
        digest: SHA-256 of its bytes, hexadecimal.
        size, mtime: bytes, and nanoseconds since 1970: where both are the same it is not read again.
        documents: the ids of its documents; none of one that could not be read.
    """

    id: str
    digest: str
    size: int
    mtime: int
    documents: tuple[str, ...] = ()


def read_files(connection: Connection, ids: Iterable[str] | None = None) -> dict[str, NotedFile]:
    """Those of the ids that are noted, or all, by id. Raises ArtifactError when a row is damaged; it is named."""
    rows: Iterable[tuple] = connection.execute(_ALL)
    if ids is not None:
        rows = chain.from_iterable(connection.execute(f"{_ALL} WHERE id = ?", (name,)) for name in ids)
    found = {}
    for name, digest, size, mtime, documents, checksum in rows:
        check_seal(checksum, f"the row of the file {str(name)[:200]!r}", name, digest, size, mtime, documents)
        found[name] = NotedFile(name, digest, size, mtime, _ids(documents))
    return found


def note_files(connection: Connection, files: Iterable[NotedFile]) -> None:
    """Note files, in place of those of equal id."""
    for file in files:
        values = (file.id, file.digest, file.size, file.mtime, json.dumps(file.documents, ensure_ascii=False))
        connection.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?)", (*values, seal(*values)))


def forget_files(connection: Connection, ids: Iterable[str]) -> None:
    """Note no more that there are files of these ids."""
    connection.executemany("DELETE FROM files WHERE id = ?", [(name,) for name in ids])


def _ids(stored: object) -> tuple[str, ...]:
    try:
        found = json.loads(stored) if isinstance(stored, str) and len(stored) <= _MOST else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise ArtifactError("the list of files in the index's database is damaged: restore a snapshot")
    return tuple(found)
