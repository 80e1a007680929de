"""An open index survives a fork: parent and children go on, each with connections of its own."""

from __future__ import annotations

import copy
import gc
import multiprocessing
import os
import pickle
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from index.conftest import WORDS, RandomTower, fill, make_encoder
from index.forked import ended, fork, forks
from index.ledger import GONE, check_searches, found_by_vector, holdings, put, remove

from lightretriever import Index
from lightretriever.errors import UsageError
from lightretriever.fusion import Fusion
from lightretriever.index.durability import FlushPolicy
from lightretriever.index.store import database

pytestmark = forks
QUERIES = [f"{word} {WORDS[0]}" for word in WORDS]
HELD = dict.fromkeys(range(60), 0)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    with Index.create(tmp_path / "an.index", make_encoder()) as index:
        put(index, list(HELD.items())[:40])
        index.optimise()
        put(index, list(HELD.items())[40:])
        yield index


def in_child(action: Callable[[], object]) -> None:
    assert ended(fork(action, 60)) == 0


def test_children_search_at_once(index: Index) -> None:
    expected = index.search_many(QUERIES)

    def search() -> None:
        assert index.search_many(QUERIES) == expected
        check_searches(index, HELD)

    children = [fork(search) for _ in range(4)]
    for _ in range(10):
        assert index.search_many(QUERIES) == expected
    assert [ended(child) for child in children] == [0] * 4


def test_an_engine_taken_before_the_fork_goes_on(index: Index) -> None:
    engine = index.engine
    in_child(lambda: holdings(engine))
    assert holdings(engine) == HELD


@contextmanager
def turns() -> Iterator[tuple[Callable[[], None], Callable[[], None]]]:
    """What tells another process to go on, and what waits for that; not for ever, as where that process has ended."""
    out, into = os.pipe()

    def wait() -> None:
        assert select.select([out], [], [], 100)[0], "nobody said to go on"
        os.read(out, 1)

    yield (lambda: os.write(into, b".") and None), wait
    os.close(out)
    os.close(into)


def test_each_sees_what_the_other_writes(index: Index) -> None:
    with turns() as (go, wait), turns() as (done, wait_for_child):

        def child() -> None:
            assert found_by_vector(index, [(0, 0)]) == [[(0, 0)]]
            done()
            wait()
            assert found_by_vector(index, [(0, 7), (100, 1)]) == [[(0, 7)], [(100, 1)]]
            put(index, [(1, 8), (101, 2)])
            remove(index, [(2, GONE)])
            index.set_fusion(Fusion(dense=0.25, sparse=0.75))
            index.optimise()
            done()
            wait()
            assert found_by_vector(index, [(0, 9)]) == [[(0, 9)]]
            index.close()

        started = fork(child)
        wait_for_child()
        put(index, [(0, 7), (100, 1)])
        go()
        wait_for_child()
        assert found_by_vector(index, [(1, 8), (101, 2)]) == [[(1, 8)], [(101, 2)]]
        assert index.fusion.dense == 0.25
        put(index, [(0, 9)])
        go()
        assert ended(started) == 0
        check_searches(index, gone_of())


def gone_of() -> dict[int, int]:
    held = {**HELD, 0: 9, 1: 8, 100: 1, 101: 2}
    del held[2]
    return held


def test_children_go_on_when_the_parent_closes(index: Index) -> None:
    # Leaving has a pipe of its own: a child that is fast must not take what tells another to begin.
    with turns() as (go, wait), turns() as (done, wait_for_child), turns() as (leave, wait_to_leave):

        def child(number: int) -> None:
            wait()
            for turn in range(5):
                put(index, [(200 + number, turn)])
                assert found_by_vector(index, [(200 + number, turn), (7, 0)]) == [[(200 + number, turn)], [(7, 0)]]
            done()
            wait_to_leave()
            index.close()

        children = [fork(lambda number=number: child(number)) for number in range(3)]  # type: ignore[misc]
        path = index.path
        index.close()
        for signal in (go, wait_for_child, leave):
            for _ in children:
                signal()
        assert [ended(started) for started in children] == [0] * 3
    with Index.open(path) as again:
        assert holdings(again.engine) == {**HELD, 200: 4, 201: 4, 202: 4}


def test_a_child_that_closes_or_drops_it_takes_nothing_away(index: Index) -> None:
    def leave() -> None:
        with index:
            pass
        index.close()
        with pytest.raises(UsageError, match="is closed"):
            index.search("w01")
        index.__dict__.clear()
        gc.collect()

    in_child(leave)
    put(index, [(70, 1)])
    assert holdings(index.engine) == {**HELD, 70: 1}


def test_a_child_that_ends_as_programs_do_takes_nothing_away(tmp_path: Path) -> None:
    fill(tmp_path / "an.index", 40)[0].close()
    program = f"""
import os, sys
from lightretriever import Index
with Index.open({str(tmp_path / "an.index")!r}) as index:
    expected = index.search("w03 w05")
    child = os.fork()
    if child == 0:
        assert index.search("w03 w05") == expected
        sys.exit(0)  # leaves the block, too
    assert os.waitpid(child, 0)[1] == 0
    assert index.search("w03 w05") == expected and index.count == 40
print("well")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.stdout == "well\n", done.stderr


def test_no_connection_of_the_parent_is_used_in_a_child(index: Index) -> None:
    """Connections know the process that opened them: every statement of a child's runs on one of its own."""
    index.search("w01")
    before = {id(connection) for connection in (*index._state.database._idle, index._state.database._writer)}

    def child() -> None:
        used: list[int] = []
        connect = database.sqlite3.connect

        def noted(*arguments: object, **options: object) -> object:
            connection = connect(*arguments, **options)  # type: ignore[call-overload]
            used.append(id(connection))
            return connection

        database.sqlite3.connect = noted  # type: ignore[assignment]
        assert not index._state.database._idle
        assert index._state.database._writer is None
        index.search("w01")
        put(index, [(3, 3)])
        now = {id(connection) for connection in (*index._state.database._idle, index._state.database._writer)}
        assert now == set(used)

    assert len(before) >= 2
    in_child(child)
    assert {id(connection) for connection in (*index._state.database._idle, index._state.database._writer)} == before


def test_locks_of_a_child_are_its_own(index: Index) -> None:
    """The parent's are gone when it closes; were the child to count on them, another process would take the log away
    under it."""
    path = index.path
    with turns() as (go, wait), turns() as (done, wait_for_child):

        def child() -> None:
            index.search("w01")
            done()
            wait()
            put(index, [(300, 1)])

        started = fork(child)
        wait_for_child()
        index.close()
        program = f"from lightretriever import Index; Index.open({str(path)!r}).close()"
        subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
        assert (path / "index.db-wal").exists(), "the child has it open still"
        go()
        assert ended(started) == 0
    with Index.open(path) as again:
        assert holdings(again.engine)[300] == 1


@pytest.mark.parametrize("times", [12, pytest.param(100, marks=pytest.mark.slow)])
def test_forks_while_other_threads_read_and_write(index: Index, times: int) -> None:
    stop, failed = threading.Event(), []

    def reads() -> None:
        while not stop.is_set():
            assert found_by_vector(index, [(5, 0)]) == [[(5, 0)]]

    def writes() -> None:
        version = 0
        while not stop.is_set():
            version += 1
            put(index, [(6, version)])
            assert found_by_vector(index, [(6, version)]) == [[(6, version)]]

    def builds() -> None:
        while not stop.is_set():
            index.optimise()
            time.sleep(0.02)

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            failed.append(error)
            raise

    threads = [threading.Thread(target=guarded, args=(work,)) for work in (reads, reads, writes, builds)]
    for thread in threads:
        thread.start()

    def child() -> None:
        assert found_by_vector(index, [(5, 0)]) == [[(5, 0)]]
        number = os.getpid() % 1000 + 1000
        put(index, [(number, 1)])
        assert found_by_vector(index, [(number, 1)]) == [[(number, 1)]]
        remove(index, [(number, GONE)])
        index.close()

    try:
        for _ in range(times):
            begun = time.monotonic()
            in_child(child)
            assert time.monotonic() - begun < 30
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failed
    assert set(holdings(index.engine)) == set(HELD)


def test_threads_that_fork_at_once_do_not_wait_for_each_other(tmp_path: Path) -> None:
    with fill(tmp_path / "one", 20)[0] as one, fill(tmp_path / "two", 20)[0] as two:
        codes = []

        def forks_often() -> None:
            for _ in range(10):
                one.search("w01")
                two.search("w01")
                codes.append(ended(fork(lambda: (one.search("w01"), two.search("w01")), 30)))

        threads = [threading.Thread(target=forks_often) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert codes == [0] * 30


def test_a_fork_in_the_midst_of_a_write_is_refused_in_the_child(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the parent's open transaction, and SQLite takes the parent's locks for its own: it cannot go on."""
    monkeypatch.setattr(database, "_QUIET", 0.2)

    def child() -> None:
        for path in (index.path, index.path):
            with pytest.raises(UsageError, match="was forked while"):
                index.search("w01")
            with pytest.raises(UsageError, match="was forked while"):
                Index.open(path)

    with index._state.database.writing() as connection:
        connection.execute("UPDATE state SET flushes = flushes + 1")
        in_child(child)
    put(index, [(80, 1)])
    check_searches(index, {**HELD, 80: 1})


def test_background_work_is_not_the_childs(index: Index) -> None:
    index.optimise(wait=False)

    def child() -> None:
        index.optimise()
        assert "background" not in index.info() or index.info()["background"] == "building"
        index.close()

    started = fork(child)
    index.wait()
    assert ended(started) in (0, 1)
    check_searches(index, HELD)


def test_a_clock_of_the_parents_is_not_the_childs(tmp_path: Path) -> None:
    path = tmp_path / "i"
    with Index.create(path, make_encoder(), flush=FlushPolicy(documents=1000, seconds=0.2)) as index:
        put(index, [(1, 1)])

        def child() -> None:
            put(index, [(2, 2)])
            time.sleep(0.5)
            assert not index._state.durability.pending
            index.close()

        in_child(child)
        assert holdings(index.engine) == {1: 1, 2: 2}


def _search(path: Path) -> list[str]:
    with Index.open(path) as index:
        return [hit.id for hit in index.search("w03 w05")]


_preloaded: Index | None = None


def _search_preloaded(number: int) -> list[str]:
    assert _preloaded is not None
    _preloaded.add([f"of {number}"], RandomTower().encode([next(_preloaded.documents())]), [{"text": "nothing"}])
    return [hit.id for hit in _preloaded.search("w03 w05", 3, "sparse")]


@pytest.mark.parametrize("how", ["fork", "spawn", "forkserver"])
def test_a_pool_gets_its_path(tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
    index, _, _ = fill(tmp_path / "an.index", 40)
    with index:
        expected = [hit.id for hit in index.search("w03 w05")]
        for copied in (pickle.dumps, copy.deepcopy, copy.copy):
            with pytest.raises(UsageError, match="cannot be pickled or copied: pass its path"):
                copied(index)
        with multiprocessing.get_context(how).Pool(2) as pool:
            assert pool.map_async(_search, [index.path] * 4).get(120) == [expected] * 4
        assert [hit.id for hit in index.search("w03 w05")] == expected


def test_a_pool_of_forks_goes_on_with_what_was_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As servers do that load an application before they fork their workers."""
    with fill(tmp_path / "an.index", 40)[0] as index:
        monkeypatch.setitem(globals(), "_preloaded", index)
        expected = [hit.id for hit in index.search("w03 w05", 3, "sparse")]
        with multiprocessing.get_context("fork").Pool(4) as pool:
            assert pool.map_async(_search_preloaded, range(20)).get(120) == [expected] * 20
        assert index.count == 60
        assert index.engine.existing([f"of {number}" for number in range(20)]) == {f"of {n}" for n in range(20)}
