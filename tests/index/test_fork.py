"""An index belongs to the process that opened it: a forked one is told so, and leaves it alone."""

from __future__ import annotations

import copy
import gc
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from index.conftest import WORDS, RandomTower, fill, make_encoder

from lightretriever import Index
from lightretriever.errors import LockedError, UsageError
from lightretriever.index import folder

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of forking a process with threads, which is the point
]


def fork(action: Callable[[], object]) -> int:
    child = os.fork()
    if child:
        return child
    signal.alarm(60)
    status = 1
    try:
        status = 0 if action() else 2
    finally:
        os._exit(status)


def refuses(index: Index, call: Callable[[], object]) -> bool:
    try:
        call()
    except LockedError as error:
        return str(index.path) in str(error) and f"opened in process {os.getppid()}" in str(error)
    return False


@pytest.fixture(params=[False, True], ids=["plain", "live"])
def index(request: pytest.FixtureRequest, tmp_path: Path):  # type: ignore[no-untyped-def]
    fill(tmp_path / "an.index", 40)[0].close()
    with Index.open(tmp_path / "an.index", live=request.param) as index:
        yield index


def test_children_are_refused_while_the_parent_searches(index: Index) -> None:
    queries = [f"{word} {WORDS[0]}" for word in WORDS]
    expected = index.search_many(queries)
    encoded, documents = index.encoder.encode(queries), list(index.documents())

    def all_refused() -> bool:
        calls: list[Callable[[], object]] = [
            lambda: index.search("w01"),
            lambda: index.search_encoded(encoded),
            lambda: index.count,
            lambda: list(index.documents()),
            lambda: index.add([document.id for document in documents], RandomTower().encode(documents)),
            lambda: index.add_documents([{"id": "1", "text": "w01"}]),
            lambda: index.delete(["d1"]),
            lambda: index.flush(),
            lambda: index.info(),
            lambda: index.set_fusion(index.fusion),
            lambda: index.set_table(make_encoder().table),
            lambda: index.optimise(wait=False),
            lambda: index.refresh_bm25(),
            lambda: index.wait(),
            lambda: index.snapshot(index.path.with_name("out")),
            lambda: index.backend,
            lambda: index.encoder,
        ]
        return all(refuses(index, call) for call in calls * 3)

    children = [fork(all_refused) for _ in range(2)]
    for _ in range(20):
        assert index.search_many(queries) == expected
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    assert index.search_many(queries) == expected


def test_an_engine_taken_before_the_fork_is_refused_too(index: Index) -> None:
    engine, encoded, first = index.backend, index.encoder.encode(["w03 w05"]), index.backend.page(0, 1, True)
    assert encoded.sparse is not None
    expected = engine.search_dense(encoded.dense, 5)

    def all_refused() -> bool:
        calls: list[Callable[[], object]] = [
            lambda: engine.search_dense(encoded.dense, 5),
            lambda: engine.search_sparse(encoded.sparse, 5),  # type: ignore[arg-type]
            lambda: engine.upsert(first),
            lambda: engine.delete(first.keys),
            lambda: engine.existing(first.keys),
            lambda: engine.payloads(first.keys),
            lambda: engine.points(first.keys),
            lambda: engine.page(0, 5),
            lambda: engine.count(),
            lambda: engine.info(),
            lambda: engine.flush(),
            lambda: engine.optimise(),
        ]
        refused = [refuses(index, call) for call in calls]
        engine.close()
        return all(refused)

    assert os.waitpid(fork(all_refused), 0)[1] == 0
    assert engine.search_dense(encoded.dense, 5) == expected


def test_a_child_that_closes_or_drops_it_takes_nothing_away(index: Index) -> None:
    expected = index.search("w03 w05")

    def leave() -> bool:
        with index:
            pass
        index.close()
        held = index._state
        index.__dict__.clear()
        held.__dict__.clear()
        gc.collect()
        return True

    assert os.waitpid(fork(leave), 0)[1] == 0
    assert index.search("w03 w05") == expected
    assert index.add(["new"], RandomTower().encode(list(index.documents())[:1])).documents == 1
    program = f"from lightretriever import Index; Index.open({str(index.path)!r})"
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert other.returncode and f"is open already in process {os.getpid()}" in other.stderr, "its lock was let go of"
    index.close()
    with Index.open(index.path) as again:
        assert again.count == 41


def test_a_child_that_ends_as_programs_do_takes_nothing_away(tmp_path: Path) -> None:
    """At its end a program runs what was registered for it, and drops what is left."""
    fill(tmp_path / "an.index", 40)[0].close()
    program = f"""
import os, sys
from lightretriever import Index
for live in (False, True):
    with Index.open({str(tmp_path / "an.index")!r}, live=live) as index:
        expected = index.search("w03 w05")
        child = os.fork()
        if child == 0:
            sys.exit(0)  # leaves the block, too
        assert os.waitpid(child, 0)[1] == 0
        assert index.search("w03 w05") == expected and index.count == 40
print("well")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.stdout == "well\n", done.stderr


@pytest.mark.parametrize("live", [False, True])
def test_a_child_that_outlives_its_killed_parent_is_what_the_message_names(
    tmp_path: Path, live: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "STARTING", 0.5)
    fill(tmp_path / "an.index", 40)[0].close()
    program = f"""
import os, time
from lightretriever import Index
with Index.open({str(tmp_path / "an.index")!r}, live={live}) as index:
    child = os.fork()
    if child:
        print(child, flush=True)
    time.sleep(120)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
    try:
        begun = time.monotonic()
        message = f"is open still in a process that was forked from process {parent.pid}, which is gone: end that one"
        with pytest.raises(LockedError, match=message):
            Index.open(tmp_path / "an.index")
        assert time.monotonic() - begun < 10
    finally:
        os.kill(child, signal.SIGKILL)
    with Index.open(tmp_path / "an.index") as index:
        assert index.count == 40


def _search(path: Path) -> list[str]:
    with Index.open(path) as index:
        return [hit.id for hit in index.search("w03 w05")]


@pytest.mark.parametrize("how", ["fork", "spawn"])
def test_a_pool_gets_its_path(tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
    index, _, _ = fill(tmp_path / "an.index", 40)
    expected = [hit.id for hit in index.search("w03 w05")]
    for copied in (pickle.dumps, copy.deepcopy, copy.copy):
        with pytest.raises(UsageError, match="cannot be pickled or copied: pass its path"):
            copied(index)
    index.close()
    with multiprocessing.get_context(how).Pool(1) as pool:
        assert pool.map_async(_search, [index.path] * 2).get(120) == [expected] * 2
