"""Documents and their vectors as rows: stored, removed, found by id, read in the order of their keys."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightretriever.errors import ArtifactError
from lightretriever.index.filter.conditions import delete_conditions, insert_conditions
from lightretriever.index.store.database import Connection
from lightretriever.index.store.packing import pack_dense, pack_sparse, unpack_dense, unpack_sparse
from lightretriever.index.store.schema import vectors_table
from lightretriever.index.store.seal import check_seal, seal
from lightretriever.text.corpus import Document
from lightretriever.types import SparseVectors

_CHUNK = 500  # keys in one statement
_PAGE = 2_048  # rows read at once
_DOCUMENT = "key, id, title, text, metadata, checksum"
_DECODER = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class VectorRows:
    """Vectors of n keys, ascending.

    Attributes:
        keys: int64 [n].
        dense: float32 [n, d].
        sparse: [n, V], or None where the index has no sparse side.
    """

    keys: NDArray[np.int64]
    dense: NDArray[np.float32]
    sparse: SparseVectors | None

    def __len__(self) -> int:
        return len(self.keys)


def find_keys(connection: Connection, ids: Iterable[str]) -> dict[str, int]:
    """The keys of those ids that there are."""
    asked = json.dumps(list(ids))
    rows = connection.execute("SELECT id, key FROM documents WHERE id IN (SELECT value FROM json_each(?))", (asked,))
    return dict(rows)


def keys_after(connection: Connection, after: int) -> NDArray[np.int64]:
    """All keys greater than one, ascending."""
    rows = connection.execute("SELECT key FROM documents WHERE key > ? ORDER BY key", (after,)).fetchall()
    return np.fromiter((key for (key,) in rows), np.int64, len(rows))


def keys_among(connection: Connection, keys: Sequence[int]) -> set[int]:
    """Those of the keys that there are."""
    found: set[int] = set()
    for some in _chunks(keys):
        rows = connection.execute(f"SELECT key FROM documents WHERE key IN ({_marks(some)})", some)
        found.update(key for (key,) in rows)
    return found


def read_ids(connection: Connection, after: int, until: int) -> tuple[NDArray[np.int64], list[str]]:
    """All keys greater than ``after`` and at most ``until``, ascending, and the ids of their documents."""
    query = "SELECT key, id FROM documents WHERE key > ? AND key <= ? ORDER BY key"
    rows = connection.execute(query, (after, until)).fetchall()
    return np.fromiter((key for key, _ in rows), np.int64, len(rows)), [name for _, name in rows]


def insert_documents(connection: Connection, first: int, documents: Sequence[Document]) -> None:
    """Store documents of ids that there are not, under the keys from ``first`` on."""
    rows = []
    for key, document in enumerate(documents, first):
        metadata = json.dumps(document.metadata, ensure_ascii=False) if document.metadata else None
        values = (document.id, document.title, document.text, metadata)
        rows.append((key, *values, _checksum(key, *values)))
    connection.executemany("INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?)", rows)
    insert_conditions(
        connection, [(key, document.metadata) for key, document in enumerate(documents, first) if document.metadata]
    )


def insert_vectors(
    connection: Connection,
    table: int,
    keys: Sequence[int],
    dense: NDArray[np.float32],
    sparse: SparseVectors | None,
) -> None:
    """Store the vectors of n keys: float32 [n, d] and [n, V]."""
    packed = [None] * len(keys) if sparse is None else pack_sparse(sparse)
    rows = [
        (key, one, two, _vectors_checksum(key, one, two))
        for key, one, two in zip(keys, pack_dense(dense), packed, strict=True)
    ]
    connection.executemany(f"INSERT INTO {vectors_table(table)} VALUES (?, ?, ?, ?)", rows)


def remove_documents(connection: Connection, tables: Iterable[int], keys: Sequence[int], next_gone: int) -> None:
    """Remove documents that there are, their vectors and what filters know of them, and note that they are gone."""
    delete_conditions(connection, [(key, metadata) for key, metadata in read_metadata(connection, keys) if metadata])
    singles = [(key,) for key in keys]
    connection.executemany("DELETE FROM documents WHERE key = ?", singles)
    for table in tables:
        connection.executemany(f"DELETE FROM {vectors_table(table)} WHERE key = ?", singles)
    rows = [(number, key, seal(number, key)) for number, key in enumerate(keys, next_gone)]
    connection.executemany("INSERT INTO gone VALUES (?, ?, ?)", rows)


def read_gone(connection: Connection, first: int) -> NDArray[np.int64]:
    """The keys that went, from a number on, ascending. Raises ArtifactError when a row is damaged."""
    rows = connection.execute("SELECT number, key, checksum FROM gone WHERE number >= ?", (first,)).fetchall()
    for number, key, checksum in rows:
        check_seal(checksum, f"what went as number {number}", number, key)
    return np.sort(np.fromiter((row[1] for row in rows), np.int64, len(rows)))


def read_metadata(connection: Connection, keys: Sequence[int]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Keys and metadata of the documents of keys, those that there are."""
    for some in _chunks(keys):
        rows = connection.execute(f"SELECT key, metadata FROM documents WHERE key IN ({_marks(some)})", some)
        for key, metadata in rows.fetchall():
            yield key, parse_metadata(metadata, key)


def fetch_documents(connection: Connection, keys: Sequence[int]) -> dict[int, Document]:
    """The documents of keys, those that there are.

    Raises:
        ArtifactError: a row is not what was written; it is named.
    """
    found = {}
    for some in _chunks(keys):
        rows = connection.execute(f"SELECT {_DOCUMENT} FROM documents WHERE key IN ({_marks(some)})", some)
        for row in rows.fetchall():
            found[row[0]] = _document(*row)
    return found


def page_documents(connection: Connection, after: int, size: int) -> list[tuple[int, Document]]:
    """The next documents in the order of their keys. Raises ArtifactError as `fetch_documents`, and where keys do not
    ascend: pages of them would never end."""
    query = f"SELECT {_DOCUMENT} FROM documents WHERE key > ? ORDER BY key LIMIT ?"
    rows = connection.execute(query, (after, size))
    found = [(row[0], _document(*row)) for row in rows.fetchall()]
    _check_order([key for key, _ in found], after)
    return found


def document_pages(connection: Connection) -> Iterator[list[tuple[int, Document]]]:
    """All documents in the order of their keys, some at a time. Raises ArtifactError as `fetch_documents`."""
    after = 0
    while found := page_documents(connection, after, _PAGE):
        yield found
        after = found[-1][0]


def read_vectors(
    connection: Connection, table: int, dim: int, width: int | None, after: int, until: int, most: int
) -> VectorRows:
    """The vectors of the first ``most`` keys greater than ``after`` and at most ``until``.

    Args:
        table: which table of vectors.
        dim: d.
        width: V; None where the index has no sparse side.

    Raises:
        ArtifactError: a row is not what was written; it is named. Or keys do not ascend.
    """
    rows = connection.execute(
        f"SELECT * FROM {vectors_table(table)} WHERE key > ? AND key <= ? ORDER BY key LIMIT ?", (after, until, most)
    )
    found = _vector_rows(rows.fetchall(), dim, width)
    _check_order(found.keys.tolist(), after)
    return found


def vector_pages(
    connection: Connection, table: int, dim: int, width: int | None, after: int, until: int
) -> Iterator[VectorRows]:
    """The vectors of all keys greater than ``after`` and at most ``until``, some at a time; else as `read_vectors`."""
    while after < until and len(rows := read_vectors(connection, table, dim, width, after, until, _PAGE)):
        yield rows
        after = int(rows.keys[-1])


def fetch_vectors(connection: Connection, table: int, dim: int, width: int | None, keys: Sequence[int]) -> VectorRows:
    """The vectors of keys, those that there are, ascending. Raises ArtifactError as `read_vectors`."""
    rows: list[Any] = []
    for some in _chunks(sorted(keys)):
        rows += connection.execute(
            f"SELECT * FROM {vectors_table(table)} WHERE key IN ({_marks(some)}) ORDER BY key", some
        ).fetchall()
    return _vector_rows(rows, dim, width)


def parse_metadata(metadata: object, key: int) -> Mapping[str, Any]:
    """Metadata as it is in a row. Raises ArtifactError when it is none."""
    if metadata is None:
        return {}
    try:
        found = _DECODER.decode(metadata) if isinstance(metadata, str) else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise _damaged(key, "metadata")
    return found


def _vector_rows(rows: Sequence[Any], dim: int, width: int | None) -> VectorRows:
    for key, dense, sparse, checksum in rows:
        blobs = type(dense) is bytes and (type(sparse) is bytes if width is not None else sparse is None)
        if not blobs or _vectors_checksum(key, dense, sparse) != checksum:
            raise _damaged(key, "vectors")
    keys = np.fromiter((row[0] for row in rows), np.int64, len(rows))
    try:
        dense_rows = unpack_dense([row[1] for row in rows], dim)
        sparse_rows = None if width is None else unpack_sparse([row[2] for row in rows], width)
    except ValueError as error:
        raise _damaged(int(keys[error.args[0]]), "vectors") from None
    return VectorRows(keys, dense_rows, sparse_rows)


def _document(key: int, name: Any, title: Any, text: Any, metadata: Any, checksum: Any) -> Document:
    texts = type(name) is str and type(title) is str and type(text) is str
    if not texts or _checksum(key, name, title, text, metadata) != checksum:
        raise _damaged(key, "document")
    return Document(name, text, title, parse_metadata(metadata, key))


def _checksum(key: int, name: str, title: str, text: str, metadata: str | None) -> int:
    return zlib.crc32(f"{key}\0{name}\0{title}\0{text}\0{metadata}".encode("utf-8", "surrogatepass"))


def _vectors_checksum(key: int, dense: bytes, sparse: bytes | None) -> int:
    return zlib.crc32(sparse or b"", zlib.crc32(dense, key & 0xFFFFFFFF))


def _damaged(key: int, what: str) -> ArtifactError:
    return ArtifactError(
        f"the index's database is damaged: the {what} of key {key} cannot be read: restore a snapshot, or add it anew"
    )


def _check_order(keys: Sequence[int], after: int) -> None:
    """SQLite takes keys to ascend, and gives them in the order in which they are."""
    if any(key <= before for before, key in pairwise([after, *keys])):
        raise ArtifactError(
            f"the index's database is damaged: keys after {after} do not ascend: restore a snapshot, or add the "
            "documents to a new index"
        )


def _chunks(keys: Sequence[int]) -> Iterator[list[int]]:
    for start in range(0, len(keys), _CHUNK):
        yield [int(key) for key in keys[start : start + _CHUNK]]  # sqlite3 takes no numbers of NumPy's


def _marks(keys: Sequence[int]) -> str:
    return ",".join("?" * len(keys))
