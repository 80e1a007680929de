"""A database with the tables of a new index."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lightretriever.index.store.database import Connection, Database, create
from lightretriever.index.store.schema import VERSION, statements


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    create(tmp_path / "index.db", statements(), VERSION)
    database = Database(tmp_path / "index.db")
    with database.writing() as connection:
        yield connection
    database.close()
