"""Rows of documents and vectors: stored, found, removed; and whatever bit of one is flipped, that is found."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from index.conftest import unit_rows

from lightretriever.errors import ArtifactError
from lightretriever.index.store.database import Connection, Database, create
from lightretriever.index.store.documents import (
    fetch_documents,
    fetch_vectors,
    find_keys,
    insert_documents,
    insert_vectors,
    keys_among,
    page_documents,
    read_ids,
    read_metadata,
    read_vectors,
    remove_documents,
)
from lightretriever.index.store.schema import VERSION, create_vectors, statements
from lightretriever.text.corpus import Document
from lightretriever.types import sparse_from_dense

DIM, WIDTH = 6, 50
DOCUMENTS = [
    Document("plain", "of words", "A title", {"year": 2026, "tags": ["a", "b"]}),
    Document("straße 街 👩‍🚀", "e\u0301 \u2028 line\n\r\t", "", {}),
    Document("2", "", "", {"deep": [None, {"x": -0.0}], "big": 2**63 - 1, "": ""}),
    Document("3", "long " * 20_000, "\x7f", {"n": 1e300}),
]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    create(tmp_path / "index.db", statements(), VERSION)
    database = Database(tmp_path / "index.db")
    yield database
    database.close()


def vectors(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return unit_rows(rng, count, DIM), np.where(rng.random((count, WIDTH)) < 0.2, rng.random((count, WIDTH)), 0)


@pytest.fixture
def filled(database: Database) -> Database:
    dense, sparse = vectors(len(DOCUMENTS))
    with database.writing() as connection:
        insert_documents(connection, 7, DOCUMENTS)
        insert_vectors(connection, 1, range(7, 11), dense, sparse_from_dense(sparse))
    return database


def test_they_are_found_by_id_and_key_as_they_were(filled: Database) -> None:
    with filled.reading() as connection:
        names = [document.id for document in DOCUMENTS]
        keys = find_keys(connection, [*names, "nowhere", "plain", "PLAIN", "2 "])
        assert keys == {name: key for key, name in enumerate(names, 7)}
        found = fetch_documents(connection, [10, 7, 8, 9, 4, 99])
        assert found == dict(enumerate(DOCUMENTS, 7))
        assert [repr(dict(found[key].metadata)) for key in range(7, 11)] == [repr(dict(d.metadata)) for d in DOCUMENTS]
        assert keys_among(connection, [8, 99, 10]) == {8, 10}
        numbers, ids = read_ids(connection, 7, 9)
        assert (numbers.tolist(), ids) == ([8, 9], [document.id for document in DOCUMENTS[1:3]])
        assert dict(read_metadata(connection, [7, 8, 99])) == {7: DOCUMENTS[0].metadata, 8: {}}
        assert page_documents(connection, 7, 2) == [(8, DOCUMENTS[1]), (9, DOCUMENTS[2])]
        assert page_documents(connection, 10, 2) == []
        for empty in (find_keys(connection, []), fetch_documents(connection, []), dict(read_metadata(connection, []))):
            assert empty == {}


def test_vectors_are_read_bit_for_bit(filled: Database) -> None:
    dense, sparse = vectors(len(DOCUMENTS))
    with filled.reading() as connection:
        rows = read_vectors(connection, 1, DIM, WIDTH, 7, 9, 100)
        assert (rows.keys.tolist(), rows.keys.dtype) == ([8, 9], np.int64)
        assert rows.dense.tobytes() == dense[1:3].tobytes()
        assert rows.sparse is not None
        assert (rows.sparse.to_dense() == sparse[1:3].astype(np.float32)).all()
        assert read_vectors(connection, 1, DIM, WIDTH, 0, 99, 3).keys.tolist() == [7, 8, 9]
        assert len(read_vectors(connection, 1, DIM, WIDTH, 10, 99, 3)) == 0
        some = fetch_vectors(connection, 1, DIM, WIDTH, [10, 7, 55])
        assert some.keys.tolist() == [7, 10]
        assert some.dense.tobytes() == dense[[0, 3]].tobytes()


def test_an_index_without_a_sparse_side_has_no_sparse_vectors(database: Database) -> None:
    dense, _ = vectors(2)
    with database.writing() as connection:
        insert_vectors(connection, 1, [1, 2], dense, None)
    with database.reading() as connection:
        assert read_vectors(connection, 1, DIM, None, 0, 9, 9).sparse is None
        with pytest.raises(ArtifactError, match="vectors of key 1 cannot be read"):
            read_vectors(connection, 1, DIM, WIDTH, 0, 9, 9)


def test_what_is_removed_is_noted(filled: Database) -> None:
    with filled.writing() as connection:
        connection.execute(create_vectors(2))
        insert_vectors(connection, 2, [8, 9], vectors(2)[0], None)
        remove_documents(connection, [1, 2], [8, 10], 5)
        assert connection.execute("SELECT number, key FROM gone").fetchall() == [(5, 8), (6, 10)]
        for table, left in (("documents", [7, 9]), ("vectors_1", [7, 9]), ("vectors_2", [9])):
            assert connection.execute(f"SELECT key FROM {table} ORDER BY key").fetchall() == [(key,) for key in left]


def test_many_keys_are_more_than_one_statement(database: Database) -> None:
    documents = [Document(f"d{i}", "w", metadata={"i": i}) for i in range(1_700)]
    with database.writing() as connection:
        insert_documents(connection, 1, documents)
        insert_vectors(connection, 1, range(1, 1_701), np.zeros((1_700, 2), np.float32), None)
    keys = np.arange(1_700, 0, -1)  # numbers of NumPy's
    with database.reading() as connection:
        assert len(fetch_documents(connection, keys)) == len(dict(read_metadata(connection, keys))) == 1_700
        assert fetch_vectors(connection, 1, 2, None, keys).keys.tolist() == list(range(1, 1_701))
        assert len(find_keys(connection, [document.id for document in documents])) == 1_700


def flips(value: object) -> Iterator[object]:
    """A value with one bit of it changed, every bit in turn, of its beginning and end."""
    if isinstance(value, int):
        for bit in range(33):
            yield value ^ (1 << bit)
        return
    data = value.encode() if isinstance(value, str) else bytes(value)  # type: ignore[arg-type]
    for place in [*range(min(len(data), 40)), *range(max(len(data) - 8, 0), len(data))]:
        for bit in range(8):
            flipped = bytearray(data)
            flipped[place] ^= 1 << bit
            if isinstance(value, bytes):
                yield bytes(flipped)
            else:
                try:
                    yield flipped.decode()
                except UnicodeDecodeError:
                    yield bytes(flipped)  # no text any more


def reads_documents(connection: Connection) -> object:
    return fetch_documents(connection, [7])


def reads_vectors(connection: Connection) -> object:
    return fetch_vectors(connection, 1, DIM, WIDTH, [7])


@pytest.mark.parametrize(
    ("table", "column", "read"),
    [
        *(("documents", column, reads_documents) for column in ("id", "title", "text", "metadata", "checksum")),
        *(("vectors_1", column, reads_vectors) for column in ("dense", "sparse", "checksum")),
    ],
)
def test_every_flipped_bit_of_a_row_is_found(
    filled: Database, table: str, column: str, read: Callable[[Connection], object]
) -> None:
    count = 0
    with filled.writing() as connection:
        (good,) = connection.execute(f"SELECT {column} FROM {table} WHERE key = 7").fetchone()
        for flipped in flips(good):
            connection.execute(f"UPDATE {table} SET {column} = ? WHERE key = 7", (flipped,))
            with pytest.raises(ArtifactError, match=r"database is damaged: the \w+ of key 7 cannot be read: restore"):
                read(connection)
            count += 1
        connection.execute(f"UPDATE {table} SET {column} = ? WHERE key = 7", (good,))
        read(connection)
    assert count >= 33


@pytest.mark.parametrize("value", [None, 7, 1.5, b"bytes", "", "[]", "{", "[" * 100_000, '{"a":' * 100_000])
def test_metadata_is_an_object_or_refused(filled: Database, value: object) -> None:
    """Also by who reads no checksum, as filters do."""
    with filled.writing() as connection:
        connection.execute("UPDATE documents SET metadata = ? WHERE key = 7", (value,))
        with pytest.raises(ArtifactError, match="of key 7 cannot be read"):
            fetch_documents(connection, [7])
        if value is None:
            assert dict(read_metadata(connection, [7])) == {7: {}}
        else:
            with pytest.raises(ArtifactError, match="the metadata of key 7 cannot be read"):
                list(read_metadata(connection, [7]))


def test_rows_that_changed_places_are_found(filled: Database) -> None:
    with filled.writing() as connection:
        for table in ("documents", "vectors_1"):
            connection.execute(f"UPDATE {table} SET key = 99 WHERE key = 8")
            connection.execute(f"UPDATE {table} SET key = 8 WHERE key = 9")
        with pytest.raises(ArtifactError, match="the document of key 8 cannot be read"):
            page_documents(connection, 7, 1)
        with pytest.raises(ArtifactError, match="the vectors of key 8 cannot be read"):
            read_vectors(connection, 1, DIM, WIDTH, 7, 10, 10)


def test_an_id_there_is_already_is_stored_twice_by_nobody(filled: Database) -> None:
    with pytest.raises(ArtifactError, match="UNIQUE"), filled.writing() as connection:
        insert_documents(connection, 20, [Document("plain", "again")])
    with filled.reading() as connection:
        assert find_keys(connection, ["plain"]) == {"plain": 7}
        assert isinstance(connection, sqlite3.Connection)
