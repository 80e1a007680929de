"""Threads and processes search, write, build and go over to other tables and models at once: each answer is checked.

Every writer has numbers of its own, so it knows what is stored under them at any time; all see each other's.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from index.conftest import RandomTower, make_encoder
from index.forked import ended, fork, forks
from index.ledger import GONE, TOWER, Write, apply, check_searches, document, found_by_vector, holdings, put, remove
from index.test_kills import MODELS

from lightretriever import Index
from lightretriever.errors import LockedError, MismatchError, UsageError
from lightretriever.index.engines.local import build
from lightretriever.index.engines.local.engine import Moment
from lightretriever.index.store import database
from lightretriever.text.corpus import Document

pytestmark = forks
ROOM = 40
"""Numbers of one writer."""


def work(index: Index, writer: int, rounds: int, upkeep: tuple[str, ...]) -> None:
    """Write under the numbers of one writer, and see after each write that all is as it must be."""
    rng, held = random.Random(writer), dict[int, int]()
    for turn in range(rounds):
        verb = rng.choice(["put", "put", "put", "remove", *upkeep])
        if verb in ("put", "remove"):
            count = rng.randrange(1, 9)
            numbers = rng.sample(range(writer * ROOM, (writer + 1) * ROOM), count)
            write = [(number, GONE if verb == "remove" else turn) for number in numbers]
            store(index, verb, write)
            apply(held, write)
        else:
            with suppress(LockedError, UsageError, MismatchError):  # others are at it
                keep_up(index, verb, rng)
        look(index, writer, held, turn)


def store(index: Index, verb: str, write: Write) -> None:
    """Again, where the index went over to another model between encoding and storing."""
    for _ in range(20):
        try:
            return (remove if verb == "remove" else put)(index, write)
        except MismatchError:
            continue
    raise AssertionError("it goes over all the time")


def look(index: Index, writer: int, held: dict[int, int], turn: int) -> None:
    """What a writer stored is found, each document in its last version, and nothing else of its numbers."""
    numbers = range(writer * ROOM, (writer + 1) * ROOM)
    asked = [(number, held.get(number, turn)) for number in numbers]
    for (number, version), found in zip(asked, found_by_vector(index, asked, 3), strict=True):
        if number in held:
            assert found[:1] == [(number, version)]
        for other, of in found:
            if other in numbers:
                assert held.get(other) == of
    some = index.search_encoded(TOWER.encode([document(0, 0)]), 1_000, "dense", {"version": {"$gte": 0}})[0]
    mine = {int(hit.id[1:]): hit.metadata["version"] for hit in some if int(hit.id[1:]) in numbers}
    assert mine == held


def keep_up(index: Index, verb: str, rng: random.Random) -> None:
    model = index.settings.model
    match verb:
        case "optimise":
            index.optimise()
        case "build":
            build.build_due(index.path, index._state.database)
        case "table":
            index.set_table(make_encoder(rng.randrange(3), model, MODELS[model]).table)
        case "reindex":
            other = next(name for name in MODELS if name != model)
            index.reindex(make_encoder(0, other, MODELS[other]), RandomTower(name=other, revision=MODELS[other]))


def in_threads(works: list[Callable[[], None]]) -> None:
    failed: list[BaseException] = []

    def guarded(one: Callable[[], None]) -> None:
        try:
            one()
        except BaseException as error:
            failed.append(error)
            raise

    threads = [threading.Thread(target=guarded, args=(one,)) for one in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed, failed


UPKEEP = [(), ("optimise",), ("build", "optimise"), ("table",), ("optimise", "table", "build"), ("reindex", "optimise")]


@pytest.mark.parametrize("rounds", [12, pytest.param(150, marks=pytest.mark.slow)])
@pytest.mark.parametrize("upkeep", UPKEEP)
def test_threads_and_processes_at_once(
    tmp_path: Path, upkeep: tuple[str, ...], rounds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes of two threads each over one index, opened in each anew but in one that was forked."""
    monkeypatch.setattr(build, "DUE", 30)
    path = tmp_path / "i"
    with Index.create(path, make_encoder()) as index:
        put(index, [(9_000, 0)])

        def process(number: int, opened: Index) -> None:
            in_threads([lambda writer=writer: work(opened, writer, rounds, upkeep) for writer in (number, number + 1)])  # type: ignore[misc]

        def anew() -> None:
            with Index.open(path) as opened:
                process(2, opened)

        children = [fork(anew, 500), fork(lambda: process(4, index), 500)]
        try:
            process(0, index)
        finally:
            codes = [ended(child) for child in children]
        assert codes == [0, 0]
        index.wait()
        held = holdings(index.engine)
        assert held[9_000] == 0
        check_searches(index, held)
        index.optimise()
        check_searches(index, held)


def test_a_document_that_is_only_replaced_is_always_found(tmp_path: Path) -> None:
    """Between the lists of a search and the fetching of texts, too, and where a filter is asked."""
    with Index.create(tmp_path / "i", make_encoder()) as index:
        put(index, [(number, 0) for number in range(5)])
        stop = threading.Event()

        def replaces() -> None:
            version = 0
            while not stop.is_set():
                version += 1
                put(index, [(number, version) for number in range(5)], flush=False)

        def searches() -> None:
            try:
                for turn in range(300):
                    where = {"version": {"$gte": -1 - turn % 7}} if turn % 2 else None
                    hits = index.search("w01 w02", 10, "dense", where)
                    assert len({hit.id for hit in hits}) == 5, (turn, where)
            finally:
                stop.set()

        in_threads([replaces, searches])


def test_a_search_that_is_always_overtaken_keeps_writers_waiting_at_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch, writers = Moment.fetch, []

    def overtaken(moment: Moment, keys: Sequence[int]) -> list[Document | None]:
        version = len(writers) + 1
        writers.append(threading.Thread(target=put, args=(index, [(number, version) for number in range(5)])))
        writers[-1].start()
        writers[-1].join(0.5)
        return fetch(moment, keys)

    with Index.create(tmp_path / "i", make_encoder()) as index:
        put(index, [(number, 0) for number in range(5)])
        monkeypatch.setattr(Moment, "fetch", overtaken)
        hits = index.search("w01 w02", 10, "dense")
        for writer in writers:
            writer.join()
        assert len({hit.id for hit in hits}) == 5
        assert len(writers) == 4 and not any(writer.is_alive() for writer in writers)


def test_two_builders(tmp_path: Path) -> None:
    """One waits for the other, and nothing is lost."""
    with Index.create(tmp_path / "i", make_encoder()) as index, Index.open(tmp_path / "i") as other:
        put(index, [(number, 0) for number in range(100)])

        def builds(of: Index) -> None:
            for _ in range(15):
                of.optimise()

        in_threads([lambda: builds(index), lambda: builds(other)])
        with build.building(index.path):
            other.optimise(wait=False)
            time.sleep(0.3)
            assert "optimising" in str(other.info()["background"])
        other.wait()
        check_searches(index, dict.fromkeys(range(100), 0))
        assert len(list((index.path / "segments").glob("*/keys.bin"))) == 1


def test_a_writer_that_takes_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others are told in a line, and searches do not wait."""
    with Index.create(tmp_path / "i", make_encoder()) as index:
        put(index, [(1, 1)])
        held, enough = tmp_path / "held", tmp_path / "enough"

        def writer() -> None:
            with Index.open(tmp_path / "i") as other, other._state.database.writing():
                held.touch()
                while not enough.exists():
                    time.sleep(0.01)

        child = fork(writer)
        while not held.exists():
            time.sleep(0.01)
        monkeypatch.setattr(database, "PATIENCE", 0.3)
        with Index.open(tmp_path / "i") as late:
            begun = time.monotonic()
            with pytest.raises(
                LockedError, match=r"being written to by another process for more than 0\.3 s: try again"
            ):
                put(late, [(2, 2)])
            assert time.monotonic() - begun < 5
            check_searches(late, {1: 1})
            enough.touch()
            assert ended(child) == 0
            put(late, [(2, 2)])
        check_searches(index, {1: 1, 2: 2})


def test_closing_while_others_search(tmp_path: Path) -> None:
    """Who searches gets an answer, or is told that it is closed."""
    for _ in range(5):
        with Index.create(tmp_path / "i", make_encoder(), overwrite=True) as index:
            put(index, [(1, 1)])

            def searches(index: Index = index) -> None:
                with pytest.raises(UsageError, match="is closed: open it again"):
                    while True:
                        assert found_by_vector(index, [(1, 1)]) == [[(1, 1)]]

            def closes(index: Index = index) -> None:
                time.sleep(0.1)
                index.close()

            in_threads([searches, searches, closes])
