"""A collection takes another's place: beside writers and readers, interrupted, gone on with, failing at every step."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from index.engines.data import DIM, WIDTH, assert_equal, make_rows, names, part
from index.engines.qdrant.conftest import CONTENTS, make, reach
from index.rest_server import BUSY, RestServer

from lightretriever.errors import ArtifactError, MismatchError
from lightretriever.index.engines.engine import Asked, Rows, pages
from lightretriever.index.engines.qdrant import rebuild
from lightretriever.index.engines.qdrant.collection import Contents
from lightretriever.index.engines.qdrant.engine import QdrantEngine
from lightretriever.index.engines.qdrant.rebuild import Successor, Watch, replace_collection
from lightretriever.index.engines.qdrant.server import QdrantServer
from lightretriever.text.corpus import Document
from lightretriever.types import sparse_from_dense

OTHER = Contents(DIM + 4, WIDTH, {"model": "other", "table_hash": "bb"})


def encoded(rows: Rows) -> Rows:
    """Vectors of another model: made of each document alone, as a tower makes them."""
    dense = np.empty((len(rows), OTHER.dim), np.float32)
    weights = np.zeros((len(rows), WIDTH), np.float32)
    for i, document in enumerate(rows.documents):
        rng = np.random.default_rng(list(document.input.encode()))
        dense[i] = rng.normal(size=OTHER.dim)
        weights[i, rng.choice(WIDTH, 5, replace=False)] = 1
    dense /= np.linalg.norm(dense, axis=1, keepdims=True)
    return Rows(rows.documents, dense.astype(np.float32), sparse_from_dense(weights))


class Writers:
    """Those of one process; an index has theirs in its database."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._noted: list[set[str]] = []
        self.pace: list[float] = []

    @contextmanager
    def changing(self, ids: list[str]) -> Iterator[None]:
        with self._lock:
            yield
            for noted in self._noted:
                noted.update(ids)
        if self._noted and self.pace:
            time.sleep(self.pace[-1] * len(ids))

    @contextmanager
    def watching(self) -> Iterator[None]:
        with self._lock:
            self._noted.append(set())
        try:
            yield
        finally:
            self._noted.clear()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        with self._lock:
            yield

    def taken(self) -> list[str]:
        ids = sorted(self._noted[0])
        self._noted[0].clear()
        return ids

    def give_way(self, seconds: float) -> None:
        self.pace.append(seconds)

    @property
    def watched(self) -> bool:
        return bool(self._noted)


@dataclass
class Held:
    """What an index keeps: which engine, noted where a killed process would find it, and who writes."""

    engine: QdrantEngine
    noted: str = "everest-1"
    writers: Writers = field(default_factory=Writers)
    model: dict[str, Document] = field(default_factory=dict)

    def store(self, rows: Rows) -> None:
        with self.writers.changing([document.id for document in rows.documents]):
            other = self.engine.contents.dim == OTHER.dim
            self.engine.store(encoded(rows) if other else rows, None)
            self.model |= {document.id: document for document in rows.documents}

    def delete(self, ids: list[str]) -> None:
        with self.writers.changing(ids):
            self.engine.delete(ids, None)
            for name in ids:
                self.model.pop(name, None)

    def go_over(self, engine: QdrantEngine) -> None:
        self.noted, self.engine = engine.collection, engine

    def replace(self, successor: Successor, watch: Watch | None = None) -> QdrantEngine:
        return replace_collection(self.engine, successor, self.writers, self.go_over, watch)


def collections(server: RestServer) -> list[str]:
    return sorted(found.name for found in server.client.get_collections().collections)


def alias(server: RestServer) -> list[str]:
    return [found.collection_name for found in server.client.get_aliases().aliases]


def check(held: Held) -> None:
    """The engine has the documents that were stored, no others, with the vectors that its model makes of them."""
    stored = list(pages(held.engine, 10_000, vectors=True))
    found = {document.id: document for page in stored for document in page.documents}
    assert found == held.model
    for page in stored:
        assert_equal(page, encoded(page))


@pytest.fixture
def held(server: RestServer) -> Held:
    made = Held(make(server))
    made.store(make_rows(120))
    return made


def other(**changes: object) -> Successor:
    return replace(Successor("everest-2", OTHER, encoded), **changes)


def test_another_collection_takes_the_place_of_the_one_in_use(server: RestServer, held: Held) -> None:
    before, seen = held.engine, []
    after = held.replace(other(), Watch(lambda done, total: seen.append((done, total))))
    assert held.engine is after is not before
    assert (collections(server), alias(server), after.collection) == (["everest-2"], ["everest-2"], "everest-2")
    assert seen[-1] == (120, 120)
    check(held)
    held.store(make_rows(130, seed=2))
    check(held)
    with pytest.raises(MismatchError, match="documents of model 'other', the index folder is of 'tiny'"):
        before.count()
    before.close()
    assert after.count() == 130  # its connection is its own


def test_a_search_that_began_before_ends_well_where_the_contents_are_alike(server: RestServer, held: Held) -> None:
    question = make_rows(120).dense[:1]
    found = held.engine.search(Asked(question, None, 5))
    held.replace(Successor("everest-2", CONTENTS, lambda rows: rows))
    assert collections(server) == ["everest-2"]
    assert names(found, found.dense[0])[0] == "d0"
    assert found.dense_scores(question[0], [int(found.dense[0].keys[0])]) == pytest.approx([1], abs=1e-5)


@contextmanager
def beside(*actions: Callable[[int], None]) -> Iterator[list[BaseException]]:
    """Each action again and again in a thread of its own; what they raised."""
    stop, raised = threading.Event(), []

    def run(action: Callable[[int], None]) -> None:
        turn = 0
        try:
            while not stop.is_set():
                action(turn)
                turn += 1
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(action,)) for action in actions]
    for thread in threads:
        thread.start()
    try:
        yield raised
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_what_is_written_meanwhile_is_in_the_new_one(
    server: RestServer, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuild, "PAGE", 10)
    monkeypatch.setattr(rebuild, "LAST", 3)
    rng, batches = np.random.default_rng(4), [make_rows(160, seed) for seed in range(4)]

    def replaced(rows: Rows, turn: int) -> Rows:
        documents = [replace(document, text=f"{document.text} at {turn}") for document in rows.documents]
        return Rows(documents, rows.dense, rows.sparse)

    def write(turn: int) -> None:
        chosen = rng.choice(160, int(rng.integers(1, 6)), replace=False).tolist()
        held.store(replaced(part(batches[turn % 4], chosen), turn))

    def delete(turn: int) -> None:
        held.delete([f"d{(turn * 7 + i) % 160}" for i in range(3)])
        time.sleep(0.002)

    def search(turn: int) -> None:
        engine = held.engine
        query = np.zeros((1, engine.contents.dim), np.float32)
        query[0, turn % DIM] = 1
        try:
            found = engine.search(Asked(query, None, 10))
            documents = found.fetch(found.dense[0].keys.tolist())
            assert len(found.dense[0]) == 10
            assert all(document is None or document.text.startswith("text") for document in documents)
        except MismatchError:  # the other took its place: an index asks that one
            assert held.engine is not engine or held.writers.watched

    with beside(write, delete, search) as raised:
        time.sleep(0.1)
        held.replace(other())
        time.sleep(0.1)
    assert raised == []
    assert (collections(server), held.noted) == (["everest-2"], "everest-2")
    check(held)


def test_what_is_written_at_the_last_moment_is_in_the_new_one(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting, turn = held.writers.waiting, 0

    @contextmanager
    def late() -> Iterator[None]:
        nonlocal turn
        turn += 1
        rows = part(make_rows(120, seed=9), [turn])
        held.store(replace(rows, documents=[replace(rows.documents[0], text=f"late {turn}")]))
        held.delete([f"d{turn + 50}"])
        with waiting():
            yield

    monkeypatch.setattr(held.writers, "waiting", late)
    held.replace(other())
    assert turn > 1
    check(held)


def test_what_is_meant_for_a_collection_that_is_gone_is_in_no_other(server: RestServer, held: Held) -> None:
    def transform(rows: Rows) -> Rows:
        server.client.delete_collection("everest-2")
        return Rows(rows.documents, -rows.dense, rows.sparse)

    with pytest.raises(ArtifactError, match="404"):
        held.replace(Successor("everest-2", CONTENTS, transform))
    assert_equal(held.engine.rows([f"d{i}" for i in range(120)]), make_rows(120))


class Stop(Exception):
    """Ends a replacement as a kill would, from within."""


def test_an_interrupted_one_is_gone_on_with(server: RestServer, held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuild, "PAGE", 16)
    made: list[str] = []

    def until(limit: int) -> Callable[[Rows], Rows]:
        def transform(rows: Rows) -> Rows:
            if len(made) >= limit:
                raise Stop
            made.extend(document.id for document in rows.documents)
            return encoded(rows)

        return transform

    with pytest.raises(Stop):
        held.replace(other(lasting=True, transform=until(60)))
    assert collections(server) == ["everest-1", "everest-2"]
    assert held.engine.info()["unused_collections"] == ["everest-2"]
    done = len(made)
    assert done == 64
    changed = part(make_rows(120), [int(name[1:]) for name in made[:5]])
    held.delete(made[5:8])
    held.store(replace(changed, documents=[replace(document, text="new") for document in changed.documents]))
    with pytest.raises(MismatchError, match="documents of model 'other', the index folder is of 'third'"):
        third = replace(OTHER, binding={**OTHER.binding, "model": "third"})
        held.replace(other(lasting=True, contents=third))
    held.replace(other(lasting=True, transform=until(1_000)))
    check(held)
    assert len(made) == 120 + 5 - 3 + 3  # what was deleted had been made; what was changed is made again
    assert collections(server) == ["everest-2"]


def test_what_does_not_last_is_deleted_when_it_fails(server: RestServer, held: Held) -> None:
    def fail(_: Rows) -> Rows:
        raise ArtifactError("no")

    with pytest.raises(ArtifactError, match="no"):
        held.replace(other(transform=fail))
    assert (collections(server), alias(server), held.noted) == (["everest-1"], ["everest-1"], "everest-1")
    assert held.engine.count() == 120
    held.store(make_rows(5))
    assert not held.writers.watched


def test_it_can_be_stopped(server: RestServer, held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuild, "PAGE", 16)
    stopped = threading.Event()
    watch = Watch(lambda done, _: stopped.set() if done > 40 else None, stopped)
    with pytest.raises(ArtifactError, match="closed before everest-2 was full"):
        held.replace(other(), watch)
    assert (collections(server), held.engine.count()) == (["everest-1"], 120)


def test_where_the_index_cannot_note_it_nothing_is_lost(server: RestServer, held: Held) -> None:
    def fail(_: QdrantEngine) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        replace_collection(held.engine, other(), held.writers, fail)
    assert collections(server) == ["everest-1", "everest-2"]  # it may have been noted all the same
    assert (alias(server), held.engine.count()) == (["everest-1"], 120)


@pytest.mark.usefixtures("quick")
def test_killed_between_the_note_and_the_alias_it_is_made_good(server: RestServer, held: Held) -> None:
    copy = reach(f"{server.url}/everest").open(CONTENTS, "everest-1")
    server.faults = [("/collections/aliases", BUSY)] * 7
    with pytest.raises(ArtifactError, match="503"):
        held.replace(other())
    assert (held.noted, alias(server), held.engine.count()) == ("everest-2", ["everest-1"], 120)
    check(held)
    assert copy.count() == 120  # others have the old one still
    with reach(f"{server.url}/everest") as reached:
        reached.settle(held.noted)
    assert (collections(server), alias(server)) == (["everest-2"], ["everest-2"])
    check(held)


@pytest.mark.parametrize("name", ["another-1", "elsewhere", "everest-1", "everest", "everest-02", ""])
def test_a_name_of_no_later_collection_is_refused(server: RestServer, held: Held, name: str) -> None:
    reach(f"{server.url}/another").create(CONTENTS)
    with pytest.raises(ArtifactError, match=f"'{name}' is no name for what comes after the collection 'everest-1'"):
        held.replace(Successor(name, CONTENTS, lambda rows: rows))
    assert (collections(server), held.engine.count(), held.noted) == (["another-1", "everest-1"], 120, "everest-1")


def test_what_another_process_is_filling_is_left_alone(server: RestServer, held: Held) -> None:
    filled = reach(f"{server.url}/everest").make("everest-2", OTHER)
    filled.store(encoded(make_rows(3)), None)
    with pytest.raises(ArtifactError, match="a collection 'everest-2' already"):
        held.replace(other())
    with pytest.raises(MismatchError, match="of dimensions"):
        held.replace(other(lasting=True, contents=replace(OTHER, dim=7)))
    assert (filled.count(), collections(server), held.noted) == (3, ["everest-1", "everest-2"], "everest-1")


def test_of_names_it_takes_the_next(held: Held) -> None:
    server_of = QdrantServer(held.engine.connection.another())
    assert server_of.next_name() == "everest-2"
    held.replace(other(name=server_of.next_name()))
    assert server_of.next_name() == "everest-3"


REPLACING = """
import sys
sys.path[:0] = {path!r}
from pathlib import Path
from index.engines.qdrant.conftest import CONTENTS, reach
from index.engines.qdrant.test_rebuild import Writers, encoded, other
from lightretriever.index.engines.qdrant import rebuild
rebuild.PAGE = 8
engine = reach({url!r}).open(CONTENTS, "everest-1")
print("begun", flush=True)
rebuild.replace_collection(
    engine, other(lasting=True), Writers(), lambda new: Path({note!r}).write_text(new.collection) and None
)
print("done", flush=True)
"""


@pytest.mark.slow
def test_killed_at_any_moment_it_is_gone_on_with(server: RestServer, held: Held, tmp_path: Path) -> None:
    note, url, rng = tmp_path / "note", f"{server.url}/everest", np.random.default_rng(0)
    script = REPLACING.format(path=sys.path, url=url, note=str(note))
    kills = 0
    while not note.exists() or note.read_text() != "everest-2":
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"begun\n"
            time.sleep(float(rng.uniform(0, 0.06)) * (1 + kills))
            process.kill()
        kills += 1
        if not note.exists():
            assert alias(server) == ["everest-1"]
            assert reach(url).open(CONTENTS, "everest-1").count() == len(held.model)
            held.delete([f"d{kills}"])
            held.store(make_rows(3, seed=kills))
    assert kills > 3
    held.engine = reach(url).open(OTHER, note.read_text())
    with reach(url) as reached:
        reached.settle("everest-2")
    assert (alias(server), collections(server)) == (["everest-2"], ["everest-2"])
    check(held)
