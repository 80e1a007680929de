"""An index that is written and rebuilt while it is searched."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from index.conftest import RandomTower, make_documents, make_encoder, payload

from lightretriever import Encoded, Index, QueryEncoder
from lightretriever.errors import ArtifactError, InputError, LightRetrieverError, MismatchError, UsageError
from lightretriever.fusion import Fusion
from lightretriever.index import plans, remote, upkeep
from lightretriever.index.backend import point_key
from lightretriever.index.durability import FlushPolicy
from lightretriever.index.folder import next_part
from lightretriever.index.rebuild import Rebuild
from lightretriever.index.remote import RemoteBackend
from lightretriever.index.state import Current
from lightretriever.text.corpus import Document
from lightretriever.types import take_sparse

TOWER = RandomTower()
PARTS = {"manifest.json", "owner", "checksums.json"}
QUERIES = ["w01 w02", "w03", "w10 w11 w12", "w30 w05"]


class Tired(RandomTower):
    def encode(self, documents: list[Document]) -> Encoded:
        raise ArtifactError(f"the tower is tired of {len(documents)}")


def put(index: Index, documents: list[Document]) -> None:
    index.add([d.id for d in documents], TOWER.encode(documents), [payload(d) for d in documents])


@pytest.mark.skipif(sys.platform == "win32", reason="a pipe cannot be asked there")
def test_an_engine_whose_owner_is_gone_before_it_begins_makes_nothing(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "lightretriever.index.worker",
        "create",
        str(tmp_path / "shard"),
        "4",
        "sparse",
        "0",
    ]
    assert subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 1
    assert not (tmp_path / "shard").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="no process can be stopped there")
def test_an_engine_that_stops_as_it_starts_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Index.create(tmp_path / "i", make_encoder()) as index:
        put(index, make_documents(3))
    stopped = tmp_path / "python"
    stopped.write_text("#!/bin/sh\nkill -STOP $$\n")
    stopped.chmod(0o700)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", str(stopped))
        patch.setattr(remote, "START", 1.0)
        with pytest.raises(ArtifactError, match="was not ready within 1 s, stopped or waiting for its disk"):
            Index.open(tmp_path / "i", live=True)
    with Index.open(tmp_path / "i", live=True) as index:
        assert index.count == 3


def same_answers(one: Index, other: Index) -> None:
    for mode in ("dense", "sparse", "hybrid"):
        for left, right in zip(one.search_many(QUERIES, 20, mode), other.search_many(QUERIES, 20, mode), strict=True):
            assert [hit.score for hit in left] == pytest.approx([hit.score for hit in right], abs=1e-5)
            of_right = {hit.id: hit for hit in right}
            for hit in left:  # all but what is tied with the last
                if hit.score > left[-1].score + 1e-4:
                    assert hit.score == pytest.approx(of_right[hit.id].score, abs=1e-5)
                    assert (hit.title, hit.text) == (of_right[hit.id].title, of_right[hit.id].text)
                    assert hit.metadata == of_right[hit.id].metadata


def rebuilt(path: Path, documents: list[Document], sparse: str = "lm", encoder: QueryEncoder | None = None) -> Index:
    """An index made of the documents at once, to compare with."""
    index = Index.create(path, encoder or make_encoder(), sparse=sparse)
    put(index, documents)
    return index


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Index]:
    with Index.create(tmp_path / "live", make_encoder(), live=True) as index:
        put(index, make_documents(200))
        yield index


def test_a_live_index_answers_as_another(live: Index, tmp_path: Path) -> None:
    with rebuilt(tmp_path / "other", make_documents(200)) as other:
        same_answers(live, other)
        assert live.search("w01", 5, filter={"even": True}) == other.search("w01", 5, filter={"even": True})
    assert live.delete(["d3", "nowhere"]) == 1
    assert live.count == 199
    assert "d3" not in {hit.id for hit in live.search("w01", 200)}


def test_searches_and_writes_go_on_while_the_graph_is_built(live: Index, tmp_path: Path) -> None:
    documents = {d.id: d for d in make_documents(200)}
    stop = threading.Event()
    failures: list[BaseException] = []

    def ask() -> None:
        try:
            while not stop.is_set():
                assert len(live.search("w01 w02", 5)) >= 3  # a hit may be deleted as it is found
        except BaseException as error:
            failures.append(error)

    askers = [threading.Thread(target=ask) for _ in range(2)]
    for asker in askers:
        asker.start()
    first = live.manifest.shard
    for turn in range(2):
        live.optimise(wait=False)
        number = 0
        while live.info().get("background"):
            new = Document(f"n{turn}-{number}", f"w{number % 38:02d} w01 of {turn} and {number}")
            changed = Document(f"d{number}", f"w{number % 38:02d} w02 of {turn} and {number}")
            put(live, [new, changed])
            documents[new.id], documents[changed.id] = new, changed
            gone = f"d{number + 100}"
            live.delete(gone)
            documents.pop(gone, None)
            number = (number + 1) % 100
        live.wait()
    stop.set()
    for asker in askers:
        asker.join()
    assert not failures
    assert live.manifest.shard != first
    there = {entry.name for entry in live.path.iterdir()}
    assert there | PARTS == PARTS | {live.manifest.shard, "table"}
    with rebuilt(tmp_path / "other", list(documents.values())) as other:
        same_answers(live, other)
    live.close()
    with Index.open(live.path) as again:
        assert {d.id for d in again.documents()} == set(documents)


def test_the_graph_is_built_when_enough_was_written(live: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "OPTIMISE_DOCUMENTS", 250)
    put(live, make_documents(100))
    live.wait()
    assert live.manifest.unoptimised == 0
    put(live, make_documents(10))
    live.wait()
    assert live.manifest.unoptimised == 10


def test_stale_statistics_are_taken_anew_with_the_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "OPTIMISE_DOCUMENTS", 40)
    documents = make_documents(60)
    with Index.create(tmp_path / "a", make_encoder(), sparse="bm25", live=True) as index:
        put(index, documents[:20])  # whose statistics are taken
        put(index, documents[20:])
        index.wait()
        assert index.info()["bm25"]["documents"] == 60
        assert index.info()["bm25"]["changes"] == index.manifest.unoptimised == 0
        with Index.create(tmp_path / "b", make_encoder(), sparse="bm25") as other:
            put(other, documents)
            same_answers(index, other)


def test_a_load_that_begins_upkeep_by_itself_ends_with_statistics_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "OPTIMISE_DOCUMENTS", 550)  # reached by the second chunk of three
    build, left = Rebuild._build, []

    def late(self: Rebuild, *values: object) -> object:
        """Under way still when all is stored and flushed."""
        end, state = time.monotonic() + 10, self._state
        while (state.current.backend.count() < 1_100 or state.durability.pending) and time.monotonic() < end:
            time.sleep(0.01)
        left.append(state.durability.pending)
        return build(self, *values)

    monkeypatch.setattr(Rebuild, "_build", late)
    with Index.create(tmp_path / "a", make_encoder(), sparse="bm25", model=TOWER, live=True) as index:
        assert index.add_documents(make_documents(1_100)).documents == 1_100
        assert left == [0, 0]
        assert index.info()["bm25"]["documents"] == 1_100
        assert index.info()["bm25"]["changes"] == 0


def test_a_failure_in_the_background_changes_nothing(live: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Rebuild, "_copy", lambda *_: (_ for _ in ()).throw(ArtifactError("the disk is full")))
        live.optimise(wait=False)
        with pytest.raises(ArtifactError, match="the disk is full"):
            live.wait()
        assert live.info()["background"] == "failed optimising: the disk is full"
    assert len(live.search("w01", 5)) == 5
    live.optimise()
    assert "background" not in live.info()


def test_closing_ends_work_in_the_background(live: Index) -> None:
    live.optimise(wait=False)
    with pytest.raises(UsageError, match="busy optimising"):
        live.optimise()
    live.close()
    with Index.open(live.path) as again:
        assert again.count == 200
        assert {entry.name for entry in live.path.iterdir()} == PARTS | {"shard", "table"}


def test_a_dead_engine_is_said_and_loses_nothing(live: Index) -> None:
    live.backend.kill()
    with pytest.raises(ArtifactError, match=r"engine's process \d+ is gone: open the index again"):
        live.search("w01")
    with pytest.raises(ArtifactError, match="is gone"):
        put(live, make_documents(1))
    with pytest.raises(ArtifactError, match="is gone"):
        live.close()
    with Index.open(live.path, live=True) as again:
        assert again.count == 200
    again = Index.open(live.path, live=True)
    again.backend.kill()
    with pytest.raises(ArtifactError, match="is gone"):  # its files are not what a closed index's are
        again.close()
    assert json.loads((live.path / "checksums.json").read_text())["closed"] is False


@pytest.mark.parametrize("is_live", [False, True])
def test_another_table_of_the_model_takes_over_at_once(tmp_path: Path, is_live: bool) -> None:
    documents = make_documents(30)
    with rebuilt(tmp_path / "a", documents) as made:
        made.close()
    with Index.open(tmp_path / "a", live=is_live) as index:
        for wrong, message in [
            (make_encoder(1, model="huge", revision="r9"), "'huge'"),
            (make_encoder(1, dim=8), "8 dimensions, the index 16"),
        ]:
            with pytest.raises(MismatchError, match=message):
                index.set_table(wrong.table)
        make_encoder(1).table.save(tmp_path / "new")
        index.set_table(tmp_path / "new")
        with rebuilt(tmp_path / "b", documents, encoder=make_encoder(1)) as other:
            same_answers(index, other)
    with Index.open(tmp_path / "a") as again:
        assert again.encoder.table.hash == make_encoder(1).table.hash
        assert {entry.name for entry in again.path.iterdir()} == PARTS | {"shard", "table-2"}


@pytest.mark.parametrize(("is_live", "sparse"), [(False, "lm"), (True, "bm25")])
def test_another_model_takes_over_when_all_is_encoded(
    tmp_path: Path, is_live: bool, sparse: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = make_documents(150)
    rebuilt(tmp_path / "a", documents, sparse).close()
    tower = RandomTower(name="huge", revision="r9", dim=24)
    encoder = make_encoder(5, model="huge", revision="r9", dim=24)
    with Index.open(tmp_path / "a", live=is_live) as index:
        with pytest.raises(MismatchError, match="'tiny'"):
            index.reindex(make_encoder(), tower)
        with monkeypatch.context() as patch, pytest.raises(LightRetrieverError, match="the tower is tired"):
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
    with Index.open(tmp_path / "a", live=is_live) as index:
        changed = Document("d0", "w07 w08 anew")
        index.add(["d0"], TOWER.encode([changed]), [payload(changed)])
        index.delete(["d1"])
        tower.seen = 0
        seen: list[int] = []
        with monkeypatch.context() as patch:
            patch.setattr(tower, "encode", lambda some: seen.append(len(some)) or RandomTower.encode(tower, some))
            index.reindex(encoder, tower)
        assert sum(seen) < 120  # what was encoded before the interruption is not again
        assert index.info()["model"] == "huge"
        assert "reindexing" not in index.info()
        if sparse == "bm25":
            assert index.info()["bm25"]["changes"] == 2  # since the statistics were taken, before the interruption
            index.refresh_bm25()
        wanted = [changed, *documents[2:]]
        with Index.create(tmp_path / "b", encoder, sparse=sparse) as other:
            other.add([d.id for d in wanted], RandomTower.encode(tower, wanted), [payload(d) for d in wanted])
            same_answers(index, other)


def test_a_document_without_text_cannot_be_encoded_anew(tmp_path: Path) -> None:
    with Index.create(tmp_path / "a", make_encoder(), sparse="none") as index:
        index.add(["bare"], Encoded(TOWER.encode(make_documents(1)).dense))
        with pytest.raises(InputError, match="'bare' has no text"):
            index.reindex(make_encoder(), TOWER)
        assert index.count == 1


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
        assert add(index, 1, flush=True)
    with Index.create(tmp_path / "c", make_encoder()) as index:
        assert add(index, 0)
    for wrong in ({"documents": 0}, {"seconds": 0.0}):
        with pytest.raises(UsageError, match="flush at least"):
            FlushPolicy(**wrong)


def test_threads_get_what_one_caller_gets(live: Index) -> None:
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


def test_what_is_set_as_a_reindex_begins_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rebuilt(tmp_path / "a", make_documents(50)).close()
    weights, other = Fusion(dense=0.25, sparse=0.75), make_encoder(1).table
    with Index.open(tmp_path / "a") as index:
        setter = threading.Thread(target=lambda: (index.set_fusion(weights), index.set_table(other)))

        def meanwhile(*given: object) -> str:
            """Another thread comes when the manifest is read; it waits, or is done before the next is written."""
            if not setter.ident:
                setter.start()
                setter.join(0.5)
            return next_part(*given)

        monkeypatch.setattr(plans, "next_part", meanwhile)
        with pytest.raises(ArtifactError, match="tired"):
            index.reindex(make_encoder(0, "huge", "r9"), Tired(name="huge", revision="r9"))
        setter.join()
        assert (index.fusion, index.encoder.table.hash) == (weights, other.hash)
        assert index.info()["reindexing"] == {"stale": True, "to": "huge"}
    with Index.open(tmp_path / "a") as index:
        assert (index.fusion, index.encoder.table.hash) == (weights, other.hash)


def test_a_closed_index_writes_no_manifest(tmp_path: Path) -> None:
    index = rebuilt(tmp_path / "a", make_documents(5))
    manifest = index.manifest
    index.close()
    with pytest.raises(UsageError, match="closed"):
        index.update_manifest(replace(manifest, shard="shard-7"))
    with Index.open(tmp_path / "a") as index:
        assert index.count == 5


def test_what_was_encoded_for_the_model_before_is_not_stored(tmp_path: Path) -> None:
    rebuilt(tmp_path / "a", make_documents(50)).close()
    late = Document("late", "w01 w02 w03")

    class Turned(RandomTower):
        def encode(self, documents: list[Document]) -> Encoded:
            encoded = RandomTower.encode(self, documents)
            return Encoded(-encoded.dense, encoded.sparse)

    class Slow(RandomTower):
        """While it encodes, the index goes over to another model, of as many dimensions."""

        def encode(self, documents: list[Document]) -> Encoded:
            encoded = RandomTower.encode(self, documents)
            index.reindex(make_encoder(0, "huge", "r9"), Turned(name="huge", revision="r9"))
            return encoded

    with Index.open(tmp_path / "a", model=Slow()) as index:
        assert index.add_documents([{"id": "late", "text": late.text}]).documents == 1
        assert index.backend.points([point_key("late")]).dense == pytest.approx(-TOWER.encode([late]).dense, abs=1e-5)

        class Ids(list):
            """Read when the call was begun, and the index goes back to the model that it had."""

            def __iter__(self) -> Iterator[str]:
                if index.manifest.model == "huge":
                    index.reindex(make_encoder(), RandomTower())
                return list.__iter__(self)

        with pytest.raises(MismatchError, match="went over from 'huge' to 'tiny' before the documents were stored"):
            index.add(Ids(["later"]), TOWER.encode([late]), [payload(late)])
        assert index.count == 51
        assert type(index.model) is RandomTower


@pytest.mark.parametrize("in_between", ["gone on with", "under way"])
def test_no_fewer_than_none_were_written_since_a_graph_was_built(tmp_path: Path, in_between: str) -> None:
    late = make_documents(53)[50:]
    with rebuilt(tmp_path / "a", make_documents(50), "bm25") as index:
        put(index, make_documents(50))
        if in_between == "gone on with":
            with pytest.raises(ArtifactError, match="tired"):
                index.reindex(make_encoder(0, "huge", "r9"), Tired(name="huge", revision="r9"))
            index.refresh_bm25()
            put(index, late)
        tower = RandomTower(name="huge", revision="r9")
        optimised = []

        def encode(documents: list[Document]) -> Encoded:
            if in_between == "under way" and not optimised:
                optimised.append(index.optimise())
            return TOWER.encode(documents)

        tower.encode = encode
        index.reindex(make_encoder(0, "huge", "r9"), tower)
        assert index.manifest.model == "huge"
        assert (index.manifest.unoptimised, index.manifest.bm25_changes) == (0, 0)


def test_closing_as_a_new_engine_took_over_ends_both(live: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    before = live.backend
    assert isinstance(before, RemoteBackend)
    go_over = Rebuild._go_over

    def close_then(*given: object) -> Current:
        old = go_over(*given)
        closer = threading.Thread(target=live.close)
        closer.start()
        closer.join(5)
        return old

    monkeypatch.setattr(Rebuild, "_go_over", close_then)
    live.optimise()
    with pytest.raises(ArtifactError, match="is gone"):
        before.count()
    with Index.open(live.path) as index:
        assert (index.count, index.manifest.shard) == (200, "shard-2")


def test_closing_as_a_graph_is_built_is_what_is_said(live: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = Rebuild._copy

    def close_then(*given: object) -> None:
        copy(*given)
        closer = threading.Thread(target=live.close)
        closer.start()
        closer.join(5)

    monkeypatch.setattr(Rebuild, "_copy", close_then)
    with pytest.raises(ArtifactError, match="was closed before the work"):
        live.optimise()
    with Index.open(live.path) as index:
        assert index.count == 200


@pytest.mark.skipif(os.name == "nt", reason="no process can be stopped there")
@pytest.mark.parametrize("waiting", [1, 3])
def test_an_engine_that_does_not_answer_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waiting: int
) -> None:
    documents = make_documents(10)
    index = Index.create(tmp_path / "i", make_encoder(), live=True)
    index.add([d.id for d in documents], RandomTower().encode(documents), [payload(d) for d in documents])
    pid = index.info()["engine_pid"]
    assert isinstance(pid, int)
    monkeypatch.setattr(remote, "PATIENCE", 1.0)
    os.kill(pid, signal.SIGSTOP)
    said: list[str] = []

    def search() -> None:
        try:
            index.search("w01 w02")
        except ArtifactError as error:
            said.append(str(error))

    begun = time.monotonic()
    threads = [threading.Thread(target=search) for _ in range(waiting)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert time.monotonic() - begun < 20
    assert len(said) == waiting
    assert all(f"the engine's process {pid} did not answer for 1 s" in line for line in said)
    with pytest.raises(ArtifactError, match=f"process {pid} did not answer .* open the index again"):
        index.close()
    with Index.open(tmp_path / "i", live=True) as index:
        assert index.count == 10
