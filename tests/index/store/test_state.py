"""The row of counts: read, added to, set; and refused when it is none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lightretriever.errors import ArtifactError
from lightretriever.index.store.database import Connection, Database, create
from lightretriever.index.store.schema import VERSION, statements
from lightretriever.index.store.state import change_state, read_state, set_state


def test_counts_begin_at_nothing_and_add_up(connection: Connection) -> None:
    before = read_state(connection)
    assert (before.documents, before.next_key, before.next_gone, before.first_gone, before.changes) == (0, 1, 1, 1, 0)
    change_state(connection, documents=5, next_key=5, changes=7)
    change_state(connection, documents=-2, next_gone=2)
    assert read_state(connection) == replace(before, documents=3, next_key=6, next_gone=3, changes=7)
    set_state(connection, changes=0, first_gone=3)
    assert read_state(connection) == replace(before, documents=3, next_key=6, next_gone=3, changes=0, first_gone=3)


def test_no_two_indexes_are_one(tmp_path: Path) -> None:
    found = set()
    for name in "abcd":
        create(tmp_path / name, statements(), VERSION)
        database = Database(tmp_path / name)
        with database.reading() as connection:
            found.add(read_state(connection).identity)
        database.close()
    assert len(found) == 4


@pytest.mark.parametrize("value", [-1, 1.5, "many", b"7"])
@pytest.mark.parametrize(
    "field", ["version", "documents", "next_key", "next_gone", "first_gone", "changes", "identity"]
)
def test_what_is_no_count_is_refused(connection: Connection, field: str, value: object) -> None:
    connection.execute(f"UPDATE state SET {field} = ?", (value,))
    with pytest.raises(ArtifactError, match="row of counts in the index's database is damaged"):
        read_state(connection)


def test_no_row_is_refused(connection: Connection) -> None:
    connection.execute("DELETE FROM state")
    with pytest.raises(ArtifactError, match="row of counts in the index's database is damaged"):
        read_state(connection)
