"""What a write does to the database; every function here is called within a transaction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from lightretriever.index.bm25 import BM25
from lightretriever.index.engines.engine import Rows
from lightretriever.index.filter.language import Filter, matches
from lightretriever.index.settings import Settings
from lightretriever.index.store.database import Connection
from lightretriever.index.store.documents import (
    find_keys,
    insert_documents,
    insert_vectors,
    read_metadata,
    remove_documents,
    vector_pages,
)
from lightretriever.index.store.state import change_state, read_state, set_state
from lightretriever.index.store.terms import sparse_width
from lightretriever.index.store.values import read_settings, read_statistics, write_statistics
from lightretriever.index.tenant import check_owner
from lightretriever.types import SparseVectors

SMALL = 20_000
"""So many documents, without segments, have their BM25 statistics taken anew when a fifth of them has changed."""
_DRIFT = 0.2


def store_rows(connection: Connection, file: Path, rows: Rows, tenant: str | None) -> int:
    """See `Engine.store`; ``file`` is the database's, for messages."""
    settings, state = read_settings(connection, file), read_state(connection)
    present = find_keys(connection, [document.id for document in rows.documents])
    if tenant is not None and present:
        _check_owners(connection, rows, present, tenant)
    _remove(connection, settings, list(present.values()), state.next_gone)
    insert_documents(connection, state.next_key, rows.documents)
    keys = range(state.next_key, state.next_key + len(rows))
    insert_vectors(connection, settings.vectors, keys, rows.dense, rows.sparse)
    count, replaced = len(rows), len(present)
    change_state(connection, documents=count - replaced, next_key=count, next_gone=replaced, changes=count)
    if settings.sparse == "bm25":
        _keep_statistics(connection, settings)
    return replaced


def delete_rows(connection: Connection, file: Path, ids: Sequence[str], where: Filter | None) -> int:
    """See `Engine.delete`."""
    keys = list(find_keys(connection, ids).values())
    if where is not None:
        keys = [key for key, metadata in read_metadata(connection, keys) if matches(where, metadata)]
    state = read_state(connection)
    _remove(connection, read_settings(connection, file), keys, state.next_gone)
    if keys:
        change_state(connection, documents=-len(keys), next_gone=len(keys), changes=len(keys))
    return len(keys)


def take_statistics(connection: Connection, settings: Settings, until: int) -> BM25:
    """BM25 statistics of the documents whose key is at most ``until``."""
    return BM25.of(_counts(connection, settings, until), sparse_width(connection, settings) or 0)


def _keep_statistics(connection: Connection, settings: Settings) -> None:
    """The first documents of an index are what its statistics are taken of, and as it grows they are taken anew; from
    its first segment on, whenever all of it is built."""
    state = read_state(connection)
    if read_statistics(connection, settings) is not None:
        (segments,) = connection.execute("SELECT count(*) FROM segments").fetchone()
        if segments or state.documents > SMALL or state.changes <= _DRIFT * state.documents:
            return
    write_statistics(connection, take_statistics(connection, settings, state.next_key - 1))
    set_state(connection, changes=0)


def _counts(connection: Connection, settings: Settings, until: int) -> Iterator[SparseVectors]:
    for rows in vector_pages(connection, settings.vectors, settings.dim, sparse_width(connection, settings), 0, until):
        assert rows.sparse is not None
        yield rows.sparse


def _remove(connection: Connection, settings: Settings, keys: Sequence[int], next_gone: int) -> None:
    if keys:
        successor = settings.successor
        tables = (settings.vectors, *([] if successor is None else [int(str(successor["vectors"]))]))
        remove_documents(connection, tables, keys, next_gone)


def _check_owners(connection: Connection, rows: Rows, present: dict[str, int], tenant: str) -> None:
    stored = dict(read_metadata(connection, list(present.values())))
    for document in rows.documents:
        key = present.get(document.id)
        if key is not None:
            check_owner(document, stored[key], tenant)
