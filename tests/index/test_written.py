"""What is written while a collection is being replaced: noted where somebody wants to know it, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lightretriever.index import written
from lightretriever.index.store.database import FILE, Database, create
from lightretriever.index.store.schema import VERSION, statements
from lightretriever.index.written import Written, note_written


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    create(tmp_path / FILE, statements(), VERSION)
    made = Database(tmp_path / FILE)
    yield made
    made.close()


def write(database: Database, *ids: str) -> None:
    with database.writing() as connection:
        note_written(connection, ids)


def test_ids_are_noted_while_they_are_watched_whoever_writes_them(database: Database) -> None:
    ours, elsewhere = Written(database), Database(database.file)
    write(database, "before")
    with ours.watching():
        write(database, "a", "b")
        write(elsewhere, "b", "ü")
        with pytest.raises(ZeroDivisionError), database.writing() as connection:
            note_written(connection, ["never written"])
            raise ZeroDivisionError
        assert ours.taken() == ["a", "b", "ü"]
        assert ours.taken() == []
        with pytest.raises(ZeroDivisionError), ours.waiting():
            write(database, "c")
            raise ZeroDivisionError
        write(elsewhere, "d")
        with ours.waiting():
            assert ours.taken() == ["d"]
    write(database, "after")
    assert ours.taken() == []
    elsewhere.close()


def test_what_a_killed_process_watched_is_forgotten_by_the_next(database: Database) -> None:
    killed = Written(database).watching()
    killed.__enter__()
    write(database, "a")
    with Written(database).watching():
        ours = Written(database)
        assert ours.taken() == []
        write(database, "b")
        assert ours.taken() == ["b"]


def test_writers_give_way_for_as_long_as_they_are_watched(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(written, "sleep", waited.append)
    ours = Written(database)
    ours.pause(3)
    with ours.watching():
        ours.pause(3)
        ours.give_way(0.5)
        ours.pause(3)
    ours.pause(3)
    assert waited == [1.5]
