"""An engine's files go from one process to the next whole, however early the next one asks for them."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from index.conftest import RandomTower, fill, make_documents, make_encoder

from lightretriever import Index
from lightretriever.errors import ArtifactError, LockedError
from lightretriever.index import index as opening
from lightretriever.index import ingest, migrate, state
from lightretriever.index.backend import Points, document_payload, pages, point_key
from lightretriever.index.edge import EdgeBackend
from lightretriever.index.wire import receive, send

DOCUMENTS = 400
TURNS = 4  # the engine's own lock alone lets about half of them fail
BEFORE = """
import sys
sys.path[:0] = {path!r}
from pathlib import Path
from lightretriever.index.edge import EdgeBackend
from index.test_handover import points
backend = EdgeBackend.open(Path({shard!r}))
backend.delete(points().keys[::3])
backend.upsert(points())
print("written", flush=True)
{ending}
"""


def points() -> Points:
    documents = make_documents(DOCUMENTS)
    encoded = RandomTower().encode(documents)
    payloads = [document_payload(document) for document in documents]
    return Points([point_key(document.id) for document in documents], encoded.dense, encoded.sparse, payloads)


def open_at_once(shard: Path) -> EdgeBackend:
    """Ask for it again and again, until it is free."""
    end = time.monotonic() + 20
    while True:
        try:
            return EdgeBackend.open(shard)
        except LockedError:
            assert time.monotonic() < end, "nobody lets go of it"
            time.sleep(0.001)


def check_whole(backend: EdgeBackend) -> None:
    wanted = points()
    rows = {key: row for row, key in enumerate(wanted.keys)}
    found = list(pages(backend, 128, vectors=True))
    assert sum(len(page.keys) for page in found) == len(rows)
    for page in found:
        chosen = [rows[key] for key in page.keys]
        assert list(page.payloads) == [wanted.payloads[row] for row in chosen]
        assert np.array_equal(page.dense, wanted.dense[chosen])


@pytest.mark.parametrize("ending", ["backend.close()", ""])
def test_an_engine_is_free_when_all_is_written_and_not_before(tmp_path: Path, ending: str) -> None:
    shard = tmp_path / "shard"
    EdgeBackend.create(shard, RandomTower.dim, True).close()
    script = BEFORE.format(path=sys.path, shard=str(shard), ending=ending)
    for _ in range(TURNS):
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as before:
            assert before.stdout is not None
            assert before.stdout.readline() == b"written\n"
            backend = open_at_once(shard)
        check_whole(backend)
        backend.close()


def test_an_engine_in_its_own_process_writes_nothing_more_when_its_owner_is_gone(tmp_path: Path) -> None:
    shard = tmp_path / "shard"
    EdgeBackend.create(shard, RandomTower.dim, True).close()
    for _ in range(TURNS):
        command = [sys.executable, "-m", "lightretriever.index.worker", "open", str(shard)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as engine:
            assert engine.stdin is not None
            assert engine.stdout is not None
            assert receive(engine.stdout) == ["ok", None]
            send(engine.stdin, ["delete", [points().keys[::3]]])
            receive(engine.stdout)
            send(engine.stdin, ["upsert", [points()]])  # and nobody is there to hear that it is done
            engine.stdout.close()
            engine.stdin.close()
            backend = open_at_once(shard)
            check_whole(backend)
            assert engine.wait() == 1  # at once, with nothing brought to an end
        backend.close()


def test_an_engine_that_was_killed_as_it_was_made_is_whole_or_not_there(tmp_path: Path) -> None:
    made = []
    for turn in range(12):
        folder = tmp_path / str(turn)
        folder.mkdir()
        command = [
            sys.executable,
            "-m",
            "lightretriever.index.worker",
            "create",
            str(folder / "shard"),
            "4",
            "sparse",
            "0",
        ]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as engine:
            while not any(folder.iterdir()):
                time.sleep(0.0005)
            time.sleep(turn * 0.001)
            engine.kill()
        made.append((folder / "shard").exists())
        if made[-1]:
            EdgeBackend.open(folder / "shard").close()
    assert not all(made)


def test_an_index_that_nobody_closed_is_let_go_of(tmp_path: Path) -> None:
    fill(tmp_path / "i", 20)
    gc.collect()
    with Index.open(tmp_path / "i") as index:
        assert index.count == 20


def test_an_index_that_its_owner_rebuilt_as_the_next_one_came_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "i"
    fill(path, 50)[0].close()

    def rebuilt(model: object) -> object:  # by another process, say, while this one loads its document model
        with monkeypatch.context() as patch:
            patch.setattr(opening, "_tower", lambda model: model)
            with Index.open(path, live=True) as before:
                before.optimise()
        return model

    monkeypatch.setattr(opening, "_tower", rebuilt)
    with Index.open(path) as index:
        assert (index.manifest.shard, index.count) == ("shard-2", 50)

    def half_built(model: object) -> object:
        with monkeypatch.context() as patch:
            patch.setattr(opening, "_tower", lambda model: model)
            with Index.open(path) as before:
                before.update_manifest(replace(before.manifest, state="building"))
        return model

    monkeypatch.setattr(opening, "_tower", half_built)
    with pytest.raises(ArtifactError, match="half-built"):
        Index.open(path)


def test_what_another_process_finished_as_this_one_came_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "source", 50)[0].close()

    def build() -> ingest.IngestReport:
        return ingest.index_corpus(tmp_path / "built", make_documents(50), RandomTower(), make_encoder())

    def copy() -> migrate.Migration:
        return migrate.migrate_index(tmp_path / "source", "edge", tmp_path / "copied")

    def late(path: Path, *values: object, engine: str) -> state.State:
        monkeypatch.undo()
        if path.name == "built":
            build()
        with Index.open(path, live=True) as before:
            before.optimise()
        return state.open_state(path, *values, engine=engine)

    monkeypatch.setattr(ingest, "open_state", late)
    assert build().complete_before
    copy()
    monkeypatch.setattr(migrate, "open_state", late)
    assert (copy().copied, copy().documents) == (0, 50)
    for name in ("built", "copied"):
        with Index.open(tmp_path / name) as index:
            assert (index.manifest.shard, index.count) == ("shard-2", 50)


@contextmanager
def searched(backend: EdgeBackend) -> Iterator[list[ArtifactError]]:
    """Threads ask an engine all the while, each until it is refused; gives what they were refused with."""
    wanted, stop, refused = points(), threading.Event(), []
    backend.upsert(wanted)

    def ask() -> None:
        try:
            while not stop.is_set():
                backend.payloads(wanted.keys)
        except ArtifactError as error:
            refused.append(error)

    askers = [threading.Thread(target=ask) for _ in range(2)]
    for asker in askers:
        asker.start()
    try:
        time.sleep(0.05)
        yield refused
    finally:
        stop.set()
        for asker in askers:
            asker.join()


def test_an_engine_is_closed_beside_searches(tmp_path: Path) -> None:
    shard = tmp_path / "shard"
    EdgeBackend.create(shard, RandomTower.dim, True).close()
    for _ in range(TURNS):
        backend = EdgeBackend.open(shard)
        with searched(backend):
            backend.close()
    again = EdgeBackend.open(shard)
    check_whole(again)
    again.close()


def test_an_engine_is_optimised_beside_searches(tmp_path: Path) -> None:
    backend = EdgeBackend.create(tmp_path / "shard", RandomTower.dim, True)
    with searched(backend) as refused:
        for _ in range(3):
            backend.optimise()
            time.sleep(0.02)
        assert not refused
    backend.close()
