"""Bytes of an index by what they hold."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from index.conftest import fill

from lightretriever.bench.storage import DATABASE, KINDS, TABLES, bytes_by_kind


@pytest.fixture
def path(tmp_path: Path) -> Path:
    index, _, _ = fill(tmp_path / "i", 300, "bm25")
    with index:
        index.optimise()
        return index.path


def test_every_byte_is_of_one_kind(path: Path) -> None:
    found = bytes_by_kind(path)
    assert tuple(found) == KINDS
    assert sum(found.values()) == sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    if not found[DATABASE]:
        assert min(found[kind] for kind in TABLES.values()) > 0
    folder = next(path.glob("segments/*/"))
    codes = sum((folder / f"dense.{name}.bin").stat().st_size for name in ("hi", "lo", "scales"))
    assert found["dense codes"] == codes > 0
    assert found["sparse lists"] == sum(file.stat().st_size for file in folder.glob("sparse.*")) > 0


def test_a_sqlite_that_does_not_tell_tables_apart(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lightretriever.index.store.database import Connection

    whole = Connection.execute

    def refuse(self: Connection, statement: str, *rest: object) -> sqlite3.Cursor:
        if "dbstat" in statement:
            raise sqlite3.OperationalError("no such table: dbstat")
        return whole(self, statement, *rest)

    monkeypatch.setattr(Connection, "execute", refuse)
    found = bytes_by_kind(path)
    assert found[DATABASE] == (path / "index.db").stat().st_size
    assert not found["texts"]
