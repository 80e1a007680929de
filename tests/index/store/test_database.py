"""One file, many readers, a writer at a time: transactions, patience, forks of others, and what is none of ours."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from index.forked import fork, forks

from lightretriever.errors import ArtifactError, LockedError, UsageError
from lightretriever.index.store import database as databases
from lightretriever.index.store.database import APPLICATION, Connection, Database, create
from lightretriever.index.store.schema import VERSION, check_schema, create_vectors, statements

NOBODY = 65_534


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    create(tmp_path / "index.db", statements(), VERSION)
    database = Database(tmp_path / "index.db")
    yield database
    database.close()


def note(connection: sqlite3.Connection, name: str) -> None:
    connection.execute("INSERT INTO written VALUES (?)", (name,))


def names(database: Database) -> set[str]:
    with database.reading() as connection:
        return {name for (name,) in connection.execute("SELECT id FROM written")}


def test_a_transaction_is_seen_whole_or_not_at_all(database: Database) -> None:
    with database.writing() as connection:
        note(connection, "one")
        assert names(database) == set()
        note(connection, "two")
    assert names(database) == {"one", "two"}
    with pytest.raises(ZeroDivisionError), database.writing() as connection:
        note(connection, "three")
        raise ZeroDivisionError
    with pytest.raises(KeyboardInterrupt), database.writing() as connection:
        note(connection, "four")
        raise KeyboardInterrupt
    assert names(database) == {"one", "two"}


def test_a_reader_sees_one_moment_until_it_ends(database: Database) -> None:
    with database.reading() as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM written").fetchone() == (0,)
        with database.writing() as connection:
            note(connection, "one")
        assert reader.execute("SELECT count(*) FROM written").fetchone() == (0,)
    assert names(database) == {"one"}  # a transaction that was left open ended with the block


def test_an_inner_block_is_part_of_the_outer_one(database: Database) -> None:
    with pytest.raises(ZeroDivisionError), database.writing() as outer:
        note(outer, "one")
        with database.writing() as inner:
            assert inner is outer
            note(inner, "two")
        assert names(database) == set()
        raise ZeroDivisionError
    assert names(database) == set()
    with database.writing() as outer, database.writing(durable=False):
        note(outer, "three")
    assert names(database) == {"three"}


@pytest.mark.parametrize(("durable", "level"), [(True, 2), (False, 1)])
def test_a_durable_commit_is_brought_to_the_disk(database: Database, durable: bool, level: int) -> None:
    with database.writing(durable) as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (level,)
        note(connection, "one")


def test_threads_write_one_after_the_other(database: Database) -> None:
    def write(number: int) -> None:
        for turn in range(20):
            with database.writing(durable=False) as connection:
                (before,) = connection.execute("SELECT documents FROM state").fetchone()
                note(connection, f"{number} {turn}")
                connection.execute("UPDATE state SET documents = ?", (before + 1,))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.reading() as connection:
        assert connection.execute("SELECT documents FROM state").fetchone() == (80,)
    assert len(names(database)) == 80


def test_a_connection_tells_whether_anybody_committed(database: Database) -> None:
    with database.reading() as connection:
        assert isinstance(connection, Connection)
        assert connection.moved()
        assert not connection.moved()
        with database.writing() as writer:
            note(writer, "one")
            assert not connection.moved()
        assert connection.moved()
        assert not connection.moved()
        with closing(sqlite3.connect(database.file)) as other:
            note(other, "two")
            other.commit()
        assert connection.moved()


def test_others_that_write_for_too_long_are_named(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(databases, "PATIENCE", 0.3)
    with closing(sqlite3.connect(database.file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        note(other, "theirs")
        begun = time.monotonic()
        with (
            pytest.raises(LockedError, match=r"is being written to by another process for more than 0\.3 s: try again"),
            database.writing() as connection,
        ):
            note(connection, "ours")
        assert 0.2 < time.monotonic() - begun < 10
        assert names(database) == set()  # readers wait for nobody
        other.execute("COMMIT")
    with database.writing() as connection:
        note(connection, "ours")
    assert names(database) == {"theirs", "ours"}


def test_a_writer_waits_for_one_that_is_soon_done(database: Database) -> None:
    other = sqlite3.connect(database.file, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    note(other, "theirs")
    timer = threading.Timer(0.3, lambda: other.execute("COMMIT"))
    timer.start()
    with database.writing() as connection:
        note(connection, "ours")
    timer.join()
    other.close()
    assert names(database) == {"theirs", "ours"}


def test_a_closed_one_says_so(database: Database) -> None:
    names(database)
    database.close()
    database.close()
    assert database.closed
    blocks: list[Callable[[], object]] = [database.reading, database.writing]
    for block in blocks:
        with pytest.raises(UsageError, match=f"{database.file.parent} is closed: open it again"), block():  # type: ignore[attr-defined]
            pass


def test_closing_waits_for_the_writer_and_no_other_begins(database: Database) -> None:
    inside, waiting, said = threading.Event(), threading.Event(), list[BaseException]()

    def write() -> None:
        with database.writing() as connection:
            inside.set()
            time.sleep(0.3)
            note(connection, "one")

    def write_too() -> None:
        inside.wait(10)
        waiting.set()
        try:
            with database.writing() as connection:
                note(connection, "two")
        except BaseException as error:
            said.append(error)

    threads = [threading.Thread(target=each) for each in (write, write_too)]
    for thread in threads:
        thread.start()
    assert waiting.wait(10)
    time.sleep(0.05)
    database.close()
    for thread in threads:
        thread.join(10)
    again = Database(database.file)
    found = names(again)
    again.close()
    assert found == {"one", "two"} or (found == {"one"} and [type(error) for error in said] == [UsageError])
    assert database._writer is None and not database._idle
    assert not database.file.with_name("index.db-wal").exists()  # the last connection was closed


def test_an_absent_file_is_named_and_not_made(tmp_path: Path) -> None:
    database = Database(tmp_path / "index.db")
    for block in (database.reading, database.writing):
        with pytest.raises(ArtifactError, match=r"index\.db does not exist: .* is no index, or not complete"), block():
            pass
    assert list(tmp_path.iterdir()) == []


def test_another_file_in_its_place_is_what_is_read_and_written(database: Database) -> None:
    with database.writing() as connection:
        note(connection, "old")
    assert names(database) == {"old"}
    with database.reading() as held:
        held.execute("BEGIN")
        held.execute("SELECT * FROM written").fetchall()
        folder = database.file.parent
        folder.rename(folder.with_name("aside"))
        with pytest.raises(ArtifactError, match="does not exist"):
            names(database)
        folder.mkdir()
        create(database.file, statements(), VERSION)
        assert held.execute("SELECT id FROM written").fetchall() == [("old",)]  # as it was
        assert names(database) == set()
        with database.writing() as connection:
            note(connection, "new")
    assert names(database) == {"new"}
    with closing(sqlite3.connect(folder.with_name("aside") / "index.db")) as old:
        assert old.execute("SELECT id FROM written").fetchall() == [("old",)]
    shutil.rmtree(folder.with_name("aside"))
    assert names(database) == {"new"}


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "text": lambda _: b"no database at all" * 1_000,
    "truncated": lambda good: good[: len(good) // 2],
    "a page of zeros": lambda good: good[: databases.PAGE] + bytes(databases.PAGE) + good[2 * databases.PAGE :],
    "pages of noise": lambda good: good[: databases.PAGE] + os.urandom(len(good) - databases.PAGE),
    "a header alone": lambda good: good[:100],
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_is_said_to_be(database: Database, damage: Callable[[bytes], bytes]) -> None:
    with database.writing() as connection:
        for number in range(2_000):
            note(connection, f"a name that is somewhat long, {number}")
    database.close()
    database.file.write_bytes(damage(database.file.read_bytes()))
    broken = Database(database.file)
    with (
        pytest.raises(ArtifactError, match=r"index\.db is (damaged|no index)") as raised,
        broken.reading() as connection,
    ):
        check_schema(connection, broken.file)
        for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall():
            connection.execute(f"SELECT * FROM {name}").fetchall()
    assert "\n" not in str(raised.value)
    broken.close()


def test_an_empty_file_is_no_index(tmp_path: Path) -> None:
    (tmp_path / "index.db").touch()
    database = Database(tmp_path / "index.db")
    with pytest.raises(ArtifactError, match="is no index of lightretriever"), database.reading() as connection:
        check_schema(connection, database.file)
    database.close()


FOREIGN = {
    "a trigger": "CREATE TRIGGER more AFTER INSERT ON documents BEGIN DELETE FROM documents; END",
    "a view": "CREATE VIEW more AS SELECT * FROM documents",
    "another table": "CREATE TABLE more(x)",
    "another index": "CREATE INDEX more ON documents(text)",
    "a virtual table": "CREATE VIRTUAL TABLE more USING fts5(x)",
    "vectors of another shape": "CREATE TABLE vectors_2(key INTEGER PRIMARY KEY, dense BLOB)",
    "vectors of no number": create_vectors(1).replace("vectors_1", "vectors_x"),
    "vectors that are a view": "CREATE VIEW vectors_2 AS SELECT * FROM vectors_1",
    "one column more": "ALTER TABLE documents ADD COLUMN more",
    "one table less": "DROP TABLE gone",
    "one index less": "DROP INDEX documents_by_id",
}


@pytest.mark.parametrize("change", FOREIGN.values(), ids=FOREIGN)
def test_a_file_that_would_do_more_than_is_asked_is_refused(database: Database, change: str) -> None:
    with database.reading() as connection:
        check_schema(connection, database.file)
    with closing(sqlite3.connect(database.file)) as other:
        try:
            other.execute(change)
        except sqlite3.OperationalError as error:
            pytest.skip(str(error))
        other.commit()
    with (
        pytest.raises(ArtifactError, match=r"index\.db is damaged: .* is no part of an index|it lacks"),
        database.reading() as connection,
    ):
        check_schema(connection, database.file)


def test_tables_of_vectors_may_be_several(database: Database) -> None:
    with database.writing() as connection:
        connection.execute(create_vectors(2))
        connection.execute(create_vectors(1_234_567_890))
        check_schema(connection, database.file)


@pytest.mark.parametrize(
    ("pragma", "message"),
    [
        (f"user_version = {VERSION + 1}", "is of a newer version of lightretriever: upgrade it"),
        ("user_version = 0", "is of an older version of lightretriever: make the index again"),
        (f"application_id = {APPLICATION + 1}", "is no index of lightretriever: make the index again"),
    ],
)
def test_files_of_other_versions_and_programs_are_refused(database: Database, pragma: str, message: str) -> None:
    with closing(sqlite3.connect(database.file)) as other:
        other.execute(f"PRAGMA {pragma}")
    with pytest.raises(ArtifactError, match=message), database.reading() as connection:
        check_schema(connection, database.file)


def test_a_full_disk_keeps_what_there_was(database: Database) -> None:
    with database.writing() as connection:
        note(connection, "one")
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    with (
        pytest.raises(ArtifactError, match=r"cannot be written \(the disk is full\): make room and run again"),
        database.writing() as connection,
    ):
        for number in range(100_000):
            note(connection, f"a name that is somewhat long, {number}")
    assert names(database) == {"one"}
    with database.writing() as connection:
        note(connection, "two")
    assert names(database) == {"one", "two"}


def as_nobody(action: Callable[[], object]) -> Callable[[], object]:
    def act() -> None:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        action()

    return act


def ends_well(action: Callable[[], object]) -> None:
    assert os.waitpid(fork(action), 0)[1] == 0


only_reads = [
    *forks,
    pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="another user is needed"),
]


class TestAUserWhoMayOnlyRead:
    pytestmark = only_reads

    @pytest.fixture
    def readable(self, database: Database) -> Database:
        database.file.parent.chmod(0o755)
        return database

    def test_it_reads_what_is_closed_and_writes_nothing(self, readable: Database) -> None:
        with readable.writing() as connection:
            note(connection, "one")
        readable.close()

        def read() -> None:
            database = Database(readable.file)
            assert not database.writable
            assert names(database) == {"one"}
            with (
                pytest.raises(ArtifactError, match="is read-only: it can be searched, not changed"),
                database.writing(),
            ):
                pass
            database.close()

        ends_well(as_nobody(read))
        assert [entry.name for entry in readable.file.parent.iterdir()] == ["index.db"]

    def test_it_sees_what_who_may_write_has_committed(self, readable: Database) -> None:
        with readable.writing() as connection:
            note(connection, "one")  # which is in the log still
        ends_well(as_nobody(lambda: reads_alone(readable.file, {"one"})))
        with readable.writing() as connection:
            note(connection, "two")
        ends_well(as_nobody(lambda: reads_alone(readable.file, {"one", "two"})))

    def test_it_notices_when_somebody_begins_to_write_and_ends(self, readable: Database) -> None:
        """While nobody writes there are no locks that it could take; so it must look whether that is so still."""
        with readable.writing() as connection:
            note(connection, "0")
        readable.close()
        (asked, ask), (heard, answer) = os.pipe(), os.pipe()

        def follow() -> None:
            os.close(ask)
            database = Database(readable.file)
            expected = {"0"}
            for number in range(1, 6):
                assert names(database) == expected
                os.write(answer, b".")
                assert os.read(asked, 1) == b"."
                expected.add(str(number))
            assert names(database) == expected

        child = fork(as_nobody(follow), seconds=30)
        os.close(answer)
        for number in range(1, 6):
            assert os.read(heard, 1) == b"."  # else it ended
            writer = Database(readable.file)
            with writer.writing() as connection:
                note(connection, str(number))
            if number % 2:
                writer.close()
            os.write(ask, b".")
        assert os.waitpid(child, 0)[1] == 0
        for end in (asked, ask, heard):
            os.close(end)


def reads_alone(file: Path, expected: set[str]) -> None:
    database = Database(file)
    assert names(database) == expected
    database.close()


def test_connections_are_used_again(database: Database) -> None:
    for _ in range(50):
        names(database)
    assert len(database._idle) == 1
    with database.reading(), database.reading(), suppress(KeyError), database.reading():
        raise KeyError
    assert len(database._idle) == 3
    names(database)
    assert len(database._idle) == 3
