"""An engine's files go from one process to the next whole, however early the next one asks for them."""

from __future__ import annotations

import gc
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from index.conftest import RandomTower, fill, make_documents

from lightretriever import Index
from lightretriever.errors import LockedError
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
