"""An index that is written, rebuilt and changed while it is searched, by threads and by processes."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from index.conftest import RandomTower, make_documents, make_encoder, payload

from lightretriever import Encoded, Index, QueryEncoder
from lightretriever.errors import ArtifactError, InputError, LockedError, MismatchError, UsageError
from lightretriever.fusion import Fusion
from lightretriever.index.durability import FlushPolicy
from lightretriever.index.engines.local import build, writer
from lightretriever.text.corpus import Document
from lightretriever.types import take_sparse

TOWER = RandomTower()
ALIKE = 5e-5  # of scores that segments and fresh rows give alike: impacts are stored in steps
QUERIES = ["w01 w02", "w03", "w10 w11 w12", "w30 w05"]


class Tired(RandomTower):
    def encode(self, documents: Sequence[Document], progress: Any = None) -> Encoded:
        raise ArtifactError(f"the tower is tired of {len(documents)} ({progress})")


def put(index: Index, documents: list[Document]) -> None:
    index.add([d.id for d in documents], TOWER.encode(documents), [payload(d) for d in documents])


def same_answers(one: Index, other: Index) -> None:
    for mode in ("dense", "sparse", "hybrid"):
        for left, right in zip(one.search_many(QUERIES, 20, mode), other.search_many(QUERIES, 20, mode), strict=True):
            assert [hit.score for hit in left] == pytest.approx([hit.score for hit in right], abs=ALIKE)
            of_right = {hit.id: hit for hit in right}
            for hit in left:  # all but what is tied with the last
                if hit.score > left[-1].score + 1e-4:
                    assert hit.score == pytest.approx(of_right[hit.id].score, abs=ALIKE)
                    assert (hit.title, hit.text) == (of_right[hit.id].title, of_right[hit.id].text)
                    assert hit.metadata == of_right[hit.id].metadata


def made(path: Path, documents: list[Document], sparse: str = "lm", encoder: QueryEncoder | None = None) -> Index:
    """An open index made of the documents at once."""
    index = Index.create(path, encoder or make_encoder(), sparse=sparse)
    put(index, documents)
    return index


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Index]:
    with made(tmp_path / "live", make_documents(200)) as index:
        yield index


@contextmanager
def asking(question: Callable[[], None], threads: int = 2) -> Iterator[None]:
    """Threads ask as long as the block goes on; whatever is wrong with an answer is raised at its end."""
    stop, failures, asked = threading.Event(), list[BaseException](), [0] * threads

    def ask(number: int) -> None:
        try:
            while not stop.is_set():
                question()
                asked[number] += 1
        except BaseException as error:
            failures.append(error)

    askers = [threading.Thread(target=ask, args=(number,)) for number in range(threads)]
    for asker in askers:
        asker.start()
    try:
        yield
    finally:
        stop.set()
        for asker in askers:
            asker.join()
    if failures:
        raise failures[0]
    assert min(asked) > 0


@contextmanager
def another_process(path: Path, program: str) -> Iterator[Callable[[str], str]]:
    """What a process says to each line that it is given, the index being open there; ``line`` is the line."""
    script = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from index.conftest import *
with Index.open({str(path)!r}, RandomTower()) as index:
    for line in map(str.strip, sys.stdin):
        print({program}, flush=True)
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:

        def ask(line: str) -> str:
            assert other.stdin is not None and other.stdout is not None
            print(line, file=other.stdin, flush=True)
            return other.stdout.readline().strip()

        yield ask
        assert other.stdin is not None
        other.stdin.close()
        assert other.wait(60) == 0


def test_a_search_sees_every_write_that_has_returned_here_and_elsewhere(live: Index) -> None:
    program = "'nowhere' if line not in {hit.id for hit in index.search('w01', 300, 'dense')} else 'found'"
    with another_process(live.path, program) as elsewhere, Index.open(live.path) as here:
        for number in range(20):
            name = f"new{number}"
            put(live, [Document(name, f"w{number:02d} w01")])
            assert elsewhere(name) == "found"
            assert name in {hit.id for hit in here.search("w01", 300, "dense")}
            live.delete([name])
            assert elsewhere(name) == "nowhere"
            assert name not in {hit.id for hit in here.search("w01", 300, "dense")}
            if number == 10:
                live.optimise()


def test_what_a_killed_build_left_goes_with_the_next_though_nothing_is_to_build(live: Index) -> None:
    live.optimise()
    (kept,) = (live.path / "segments").glob("*/")
    shutil.copytree(kept, kept.with_name("0123456789abcdef"))
    live.optimise()
    assert list((live.path / "segments").glob("*/")) == [kept]


def test_what_another_process_writes_is_seen_at_once(live: Index) -> None:
    program = "index.add_documents([Document(line, 'w07 w01')]).documents if line[0] != '-' else index.delete(line[1:])"
    with another_process(live.path, program) as write:
        for number in range(10):
            assert write(f"theirs{number}") == "1"
            hits = live.search("w01", 300, "dense")
            assert f"theirs{number}" in {hit.id for hit in hits}
            assert live.count == 201
            assert write(f"-theirs{number}") == "1"
            assert f"theirs{number}" not in {hit.id for hit in live.search("w01", 300, "dense")}


def test_several_processes_write_at_once_and_nothing_is_lost(live: Index) -> None:
    program = "sum(index.add_documents([Document(f'{line}-{i}', f'w{i:02d}')]).documents for i in range(30))"
    with another_process(live.path, program) as one, another_process(live.path, program) as two:
        said: list[str] = []
        threads = [
            threading.Thread(target=lambda ask=ask, n=n: said.append(ask(n))) for ask, n in ((one, "a"), (two, "b"))
        ]
        for thread in threads:
            thread.start()
        for number in range(30):
            put(live, [Document(f"c-{number}", f"w{number:02d}")])
        for thread in threads:
            thread.join()
    assert said == ["30", "30"]
    assert live.count == 290
    names = {document.id for document in live.documents()}
    assert {f"{who}-{number}" for who in "abc" for number in range(30)} < names


def test_searches_and_writes_go_on_while_a_segment_is_built(live: Index, tmp_path: Path) -> None:
    documents = {d.id: d for d in make_documents(200)}

    def ask() -> None:
        assert len(live.search("w01 w02", 5)) >= 3  # a hit may be deleted as it is found
        live.info()

    with asking(ask):
        for turn in range(2):
            live.optimise(wait=False)
            number = 0
            while number < 20 or live.info().get("background"):
                new = Document(f"n{turn}-{number}", f"w{number % 38:02d} w01 of {turn} and {number}")
                changed = Document(f"d{number}", f"w{number % 38:02d} w02 of {turn} and {number}")
                put(live, [new, changed])
                documents[new.id], documents[changed.id] = new, changed
                gone = f"d{number + 100}"
                live.delete(gone)
                documents.pop(gone, None)
                number = (number + 1) % 100
            live.wait()
    assert live.info()["segments"] and live.info()["damaged"] == {}
    assert len(list((live.path / "segments").glob("*/"))) == 1
    with made(tmp_path / "other", list(documents.values())) as other:
        same_answers(live, other)
        live.optimise()
        assert (live.info()["unoptimised"], live.info()["segments"]) == (0, [len(documents)])
        same_answers(live, other)
    live.close()
    with Index.open(live.path) as again:
        assert {d.id for d in again.documents()} == set(documents)


def test_a_segment_is_built_when_enough_was_written(live: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "DUE", 250)
    built: list[Path] = []

    def here(path: Path) -> None:
        built.append(path)
        build.build_due(path, live._state.database)

    monkeypatch.setattr("lightretriever.index.upkeep.start_building", here)
    put(live, make_documents(40))
    assert (built, live.info()["segments"]) == ([], [])
    put(live, make_documents(100))
    assert (built, live.info()["segments"], live.info()["unoptimised"]) == ([live.path], [200], 0)
    put(live, make_documents(10))
    assert (len(built), live.info()["unoptimised"]) == (1, 20)  # ten fresh, and ten that they took the place of


@pytest.mark.slow
def test_a_process_of_its_own_builds_what_is_due(live: Index) -> None:
    documents = [Document(f"m{number}", f"w{number % 38:02d}") for number in range(build.DUE)]
    put(live, documents)
    end = time.monotonic() + 120
    while not live.info()["segments"] and time.monotonic() < end:
        assert len(live.search("w01", 5)) == 5
        time.sleep(0.1)
    live.wait()
    assert live.info()["segments"] == [200 + build.DUE]
    assert len(live.search("w01", 5000, "dense")) == 200 + build.DUE


def test_the_statistics_of_a_small_index_follow_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    documents = make_documents(100)
    with Index.create(tmp_path / "a", make_encoder(), sparse="bm25") as index:
        for start in range(0, 100, 10):
            put(index, documents[start : start + 10])
            changes = index.info()["bm25"]["changes"]
            assert changes <= 0.2 * index.count
        index.refresh_bm25()
        assert index.info()["bm25"]["documents"] == 100
        with made(tmp_path / "b", documents, "bm25") as other:
            same_answers(index, other)
        monkeypatch.setattr(writer, "SMALL", 100)
        before = index.search("w01 w02", 5, "sparse")
        put(index, make_documents(100, seed=1)[50:])
        assert index.info()["bm25"] == {**index.info()["bm25"], "documents": 100, "changes": 50, "stale": True}
        index.delete([document.id for document in documents[50:]])
        assert index.info()["bm25"]["changes"] == 100
        kept = {hit.id: hit.score for hit in index.search("w01 w02", 100, "sparse")}
        assert all(kept[hit.id] == hit.score for hit in before if hit.id in kept)


def test_statistics_taken_anew_are_in_force_in_every_process(tmp_path: Path) -> None:
    documents = make_documents(60)
    with made(tmp_path / "a", documents, "bm25") as index:
        index.optimise()
        program = "[round(hit.score, 4) for hit in index.search(line, 5, 'sparse')]"
        with another_process(index.path, program) as elsewhere:

            def scores() -> str:
                return str([round(hit.score, 4) for hit in index.search("w01 w02", 5, "sparse")])

            before = scores()
            assert elsewhere("w01 w02") == before
            index.delete([document.id for document in documents[:25]])
            put(index, [Document(f"m{number}", "w01 w09") for number in range(25)])
            stale = scores()
            assert elsewhere("w01 w02") == stale
            index.refresh_bm25()
            fresh = scores()
            assert elsewhere("w01 w02") == fresh
            assert len({before, stale, fresh}) == 3


def test_a_failure_in_the_background_changes_nothing(live: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(build, "write_arrays", lambda *_: (_ for _ in ()).throw(ArtifactError("the disk is full")))
        with pytest.raises(ArtifactError, match="the disk is full"):
            live.optimise()
        assert live.info()["background"] == "failed optimising: the disk is full"
    assert len(live.search("w01", 5)) == 5
    assert list((live.path / "segments").glob("*/")) == []
    live.optimise()
    assert "background" not in live.info()


def test_building_everything_waits_for_the_build_that_is_under_way(live: Index) -> None:
    for optimise in (live.optimise, lambda: (live.optimise(wait=False), live._upkeep._background.wait())):
        lock = build.building(live.path)
        with pytest.raises(LockedError, match="is being built already: wait until that is done"):
            build.build_due(live.path, live._state.database)
        letting_go = threading.Timer(1.0, lock.close)
        letting_go.start()
        optimise()
        letting_go.join()
        assert live.info()["segments"] == [live.count]
    with build.building(live.path):
        live.optimise(wait=False)
        live.close()  # ends what waits


def test_what_a_process_that_builds_fails_with_is_said(live: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(live.path / "nowhere"))
    live.optimise(wait=False)
    with pytest.raises(ArtifactError, match="a process to build it cannot be started"):
        live.wait()


def test_looking_whether_it_is_being_built_is_in_nobody_s_way(live: Index) -> None:
    def look() -> None:
        assert not build.is_building(live.path)

    with asking(look, threads=4):
        time.sleep(0.3)

    def look_on() -> None:
        build.is_building(live.path)

    with asking(look_on, threads=3):
        for _ in range(300):
            with build.building(live.path):
                assert build.is_building(live.path)


def test_closing_ends_work_in_the_background(live: Index) -> None:
    live.optimise(wait=False)
    with pytest.raises(UsageError, match="busy optimising"):
        live.optimise()
    live.close()
    with Index.open(live.path) as again:
        assert again.count == 200
        again.optimise()
        assert len(list((live.path / "segments").glob("*/"))) == 1


def test_another_table_of_the_model_takes_over_at_once(tmp_path: Path) -> None:
    documents = make_documents(30)
    with made(tmp_path / "a", documents) as index, Index.open(tmp_path / "a") as here:
        for wrong, message in [
            (make_encoder(1, model="huge", revision="r9"), "'huge'"),
            (make_encoder(1, dim=8), "8 dimensions, the index 16"),
        ]:
            with pytest.raises(MismatchError, match=message):
                index.set_table(wrong.table)
        make_encoder(1).table.save(tmp_path / "new")
        with another_process(index.path, "index.encoder.table.hash") as elsewhere:
            assert elsewhere("") == make_encoder().table.hash
            index.set_table(tmp_path / "new")
            assert elsewhere("") == here.encoder.table.hash == make_encoder(1).table.hash
        with made(tmp_path / "b", documents, encoder=make_encoder(1)) as other:
            same_answers(index, other)
            same_answers(here, other)
    with Index.open(tmp_path / "a") as again:
        assert again.encoder.table.hash == make_encoder(1).table.hash
        assert [entry.name for entry in again.path.glob("table*")] == ["table-2"]


def test_a_search_is_by_one_table_or_the_other_while_they_are_exchanged(live: Index) -> None:
    tables = [make_encoder(seed).table for seed in range(3)]
    answers = []
    for table in tables:
        live.set_table(table)
        answers.append([(hit.id, round(hit.score, 4)) for hit in live.search("w03 w11", 10, "dense")])

    def ask() -> None:
        assert [(hit.id, round(hit.score, 4)) for hit in live.search("w03 w11", 10, "dense")] in answers

    with asking(ask):
        for turn in range(12):
            live.set_table(tables[turn % 3])
    assert len(list(live.path.glob("table*"))) == 1


@pytest.mark.parametrize("sparse", ["lm", "bm25"])
def test_another_model_takes_over_when_all_is_encoded(
    tmp_path: Path, sparse: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = make_documents(150)
    made(tmp_path / "a", documents, sparse).close()
    tower = RandomTower(name="huge", revision="r9", dim=24)
    encoder = make_encoder(5, model="huge", revision="r9", dim=24)
    with Index.open(tmp_path / "a") as index:
        with pytest.raises(MismatchError, match="'tiny'"):
            index.reindex(make_encoder(), tower)
        with monkeypatch.context() as patch, pytest.raises(ArtifactError, match="the tower is tired"):
            count = 0

            def tired(documents: list[Document]) -> Encoded:
                nonlocal count
                count += len(documents)
                if count > 100:
                    raise ArtifactError("the tower is tired")
                return RandomTower.encode(tower, documents)

            patch.setattr(tower, "encode", tired)
            index.reindex(encoder, tower)
        assert index.info()["reindexing"] == {"stale": True, "to": "huge"}
        assert index.info()["model"] == "tiny"
    with Index.open(tmp_path / "a") as index, Index.open(tmp_path / "a") as here:
        changed = Document("d0", "w07 w08 anew")
        index.add(["d0"], TOWER.encode([changed]), [payload(changed)])
        index.delete(["d1"])
        seen: list[int] = []
        with monkeypatch.context() as patch:
            patch.setattr(tower, "encode", lambda some: seen.append(len(some)) or RandomTower.encode(tower, some))
            index.reindex(encoder, tower)
        assert 0 < sum(seen) < 120  # what was encoded before the interruption is not again
        wanted = [changed, *documents[2:]]
        with Index.create(tmp_path / "b", encoder, sparse=sparse) as other:
            other.add([d.id for d in wanted], RandomTower.encode(tower, wanted), [payload(d) for d in wanted])
            for one in (index, here):
                assert one.info()["model"] == "huge"
                assert "reindexing" not in one.info()
                assert (one.info()["unoptimised"], one.info()["segments"]) == (0, [149])
                if sparse == "bm25":
                    assert one.info()["bm25"]["changes"] == 0
                same_answers(one, other)


def test_one_that_was_begun_for_another_model_is_dropped(tmp_path: Path) -> None:
    documents = make_documents(100)
    with made(tmp_path / "a", documents) as index:
        with pytest.raises(ArtifactError, match="tired"):
            index.reindex(make_encoder(0, "huge", "r9"), Tired(name="huge", revision="r9"))
        assert index.info()["reindexing"] == {"stale": True, "to": "huge"}
        index.reindex(make_encoder(3, "next", "r2", dim=8), RandomTower("next", "r2", dim=8))
        assert index.info()["model"] == "next"
        assert [entry.name for entry in index.path.glob("table*")] == [index.settings.table]
        with index._state.database.reading() as connection:
            tables = connection.execute("SELECT name FROM sqlite_schema WHERE name GLOB 'vectors_*'").fetchall()
        assert tables == [(f"vectors_{index.settings.vectors}",)]


def test_writes_go_on_while_another_model_takes_over(live: Index, tmp_path: Path) -> None:
    documents = {d.id: d for d in make_documents(200)}
    huge, encoder = RandomTower(name="huge", revision="r9"), make_encoder(0, "huge", "r9")
    begun = threading.Event()

    class Slow(RandomTower):
        def encode(self, documents: Sequence[Document], progress: Any = None) -> Encoded:
            begun.set()
            time.sleep(0.02)
            return RandomTower.encode(self, documents, progress)

    def ask() -> None:
        assert len(live.search("w01 w02", 5)) >= 3

    with asking(ask):
        live.reindex(encoder, Slow(name="huge", revision="r9"), wait=False)
        assert begun.wait(10)
        for number in range(40):
            new, changed = (
                Document(f"n{number}", f"w{number % 38:02d} w05"),
                Document(f"d{number}", f"w{number % 38:02d}"),
            )
            try:
                put(live, [new, changed])
            except MismatchError:
                assert live.settings.model == "huge"  # it went over between the look and the write
                live.add([new.id, changed.id], huge.encode([new, changed]), [payload(new), payload(changed)])
            live.delete(f"d{number + 100}")
            documents[new.id], documents[changed.id] = new, changed
            documents.pop(f"d{number + 100}")
        live.wait()
    assert live.settings.model == "huge"
    assert live.count == len(documents)
    with made(tmp_path / "other", list(documents.values()), encoder=encoder) as other:
        same_answers(live, other)


def test_what_is_set_as_a_reindex_goes_on_is_kept(tmp_path: Path) -> None:
    weights, other = Fusion(dense=0.25, sparse=0.75), make_encoder(1).table
    with made(tmp_path / "a", make_documents(50)) as index:

        class Setting(Tired):
            def encode(self, documents: Sequence[Document], progress: Any = None) -> Encoded:
                index.set_fusion(weights)
                index.set_table(other)
                return Tired.encode(self, documents, progress)

        with pytest.raises(ArtifactError, match="tired"):
            index.reindex(make_encoder(0, "huge", "r9"), Setting(name="huge", revision="r9"))
        assert (index.fusion, index.encoder.table.hash) == (weights, other.hash)
        assert index.info()["reindexing"] == {"stale": True, "to": "huge"}
    with Index.open(tmp_path / "a") as index:
        assert (index.fusion, index.encoder.table.hash) == (weights, other.hash)
        index.reindex(make_encoder(0, "huge", "r9"), RandomTower(name="huge", revision="r9"))
        assert (index.fusion, index.settings.model) == (weights, "huge")


def test_what_was_encoded_for_the_model_before_is_not_stored(tmp_path: Path) -> None:
    made(tmp_path / "a", make_documents(50)).close()
    late = Document("late", "w01 w02 w03")

    class Turned(RandomTower):
        def encode(self, documents: Sequence[Document], progress: Any = None) -> Encoded:
            encoded = RandomTower.encode(self, documents, progress)
            return Encoded(-encoded.dense, encoded.sparse)

    class Slow(RandomTower):
        """While it encodes, the index goes over to another model, of as many dimensions."""

        def encode(self, documents: Sequence[Document], progress: Any = None) -> Encoded:
            encoded = RandomTower.encode(self, documents, progress)
            index.reindex(make_encoder(0, "huge", "r9"), Turned(name="huge", revision="r9"))
            return encoded

    with Index.open(tmp_path / "a", model=Slow()) as index:
        assert index.add_documents([{"id": "late", "text": late.text}]).documents == 1
        assert index.engine.rows(["late"]).dense == pytest.approx(-TOWER.encode([late]).dense, abs=1e-6)

        class Ids(list):
            """Read when the call was begun, and the index goes back to the model that it had."""

            def __iter__(self) -> Iterator[str]:
                if index.settings.model == "huge":
                    index.reindex(make_encoder(), RandomTower())
                return list.__iter__(self)

        with pytest.raises(MismatchError, match="went over from 'huge' to 'tiny' before the documents were stored"):
            index.add(Ids(["later"]), TOWER.encode([late]), [payload(late)])
        assert index.count == 51
        assert type(index.model) is RandomTower


def test_a_document_without_text_cannot_be_encoded_anew(tmp_path: Path) -> None:
    with Index.create(tmp_path / "a", make_encoder(), sparse="none") as index:
        index.add(["bare"], Encoded(TOWER.encode(make_documents(1)).dense))
        with pytest.raises(InputError, match="'bare' has no text"):
            index.reindex(make_encoder(0, "huge", "r9"), RandomTower(name="huge", revision="r9"))
        assert (index.count, index.settings.model) == (1, "tiny")


def test_writes_are_flushed_as_the_policy_says(tmp_path: Path) -> None:
    documents = make_documents(30)
    encoded = TOWER.encode(documents)

    def add(index: Index, row: int, flush: bool | None = None) -> bool:
        one = Encoded(encoded.dense[[row]], take_sparse(encoded.sparse, [row]))
        return index.add([documents[row].id], one, [payload(documents[row])], flush=flush).durable

    with Index.create(tmp_path / "a", make_encoder(), flush=FlushPolicy(documents=4)) as index:
        assert [add(index, row) for row in range(8)] == [False, False, False, True] * 2
        assert [add(index, 8, flush=True), add(index, 9, flush=False)] == [True, False]
        index.flush()
        assert [add(index, row) for row in range(10, 14)] == [False, False, False, True]
    with Index.create(tmp_path / "b", make_encoder(), flush=FlushPolicy(documents=1000, seconds=0.05)) as index:
        assert not add(index, 0)
        end = time.monotonic() + 10
        while index._state.durability.pending and time.monotonic() < end:
            time.sleep(0.01)
        assert index._state.durability.pending == 0
        assert add(index, 1, flush=True)
    with Index.create(tmp_path / "c", make_encoder()) as index:
        assert add(index, 0)
    for wrong in ({"documents": 0}, {"seconds": 0.0}):
        with pytest.raises(UsageError, match="flush at least"):
            FlushPolicy(**wrong)


def test_threads_get_what_one_caller_gets(live: Index) -> None:
    live.optimise()
    put(live, make_documents(50, seed=1))
    alone = [live.search(query, 10) for query in QUERIES]
    found: dict[int, list] = {}

    def ask(number: int) -> None:
        found[number] = [live.search(query, 10) for query in QUERIES * 5]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(found[number] == alone * 5 for number in range(6))
    assert np.array_equal(sorted(found), range(6))


def test_a_closed_index_says_so_whatever_is_asked(live: Index) -> None:
    live.close()
    calls: list[Callable[[], object]] = [
        lambda: live.search("w01"),
        lambda: live.count,
        lambda: live.info(),
        lambda: list(live.documents()),
        lambda: put(live, make_documents(1)),
        lambda: live.delete(["d1"]),
        lambda: live.set_fusion(Fusion()),
        lambda: live.set_table(make_encoder().table),
        lambda: live.optimise(),
        lambda: live.reindex(make_encoder(), TOWER),
        lambda: live.flush(),
        lambda: live.settings,
        lambda: live.engine,
        lambda: live.bm25,
    ]
    for call in calls:
        with pytest.raises(UsageError, match="is closed: open it again"):
            call()
    live.close()


def test_closing_while_others_search_and_write_ends_them_cleanly(tmp_path: Path) -> None:
    documents = make_documents(60)
    for _ in range(3):
        index = made(tmp_path / f"i{_}", documents)
        said: list[BaseException] = []

        def work(step: Callable[[], object], said: list[BaseException] = said) -> None:
            try:
                while True:
                    step()
            except BaseException as wrong:
                said.append(wrong)

        steps: list[Callable[[], object]] = [
            lambda index=index: index.search("w01"),
            lambda index=index: put(index, documents[:3]),
            lambda index=index: index.info(),
        ]
        threads = [threading.Thread(target=work, args=(step,)) for step in steps]
        for thread in threads:
            thread.start()
        time.sleep(0.2)
        index.close()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
        assert [type(error) for error in said] == [UsageError] * 3, said
        with Index.open(index.path) as again:
            assert again.count == 60
