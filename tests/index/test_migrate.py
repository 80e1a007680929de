"""From one engine to another and back: nothing lost, nothing changed, whatever interrupts it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from index.conftest import RandomTower, fill, make_documents, payload
from index.rest_server import BUSY, RestServer, serve

from lightretriever import Index
from lightretriever.artifact import read_json
from lightretriever.cli.main import execute
from lightretriever.errors import ArtifactError, MismatchError, UsageError
from lightretriever.index import migrate, qdrant_calls, state
from lightretriever.index.backend import Backend, Points, pages, point_key
from lightretriever.index.migrate import migrate_index
from lightretriever.index.qdrant import QdrantBackend

COUNT = 70


@pytest.fixture
def server() -> Iterator[RestServer]:
    with serve() as running:
        yield running


@pytest.fixture
def source(tmp_path: Path) -> Callable[[str], Path]:
    def make(sparse: str = "lm") -> Path:
        index, documents, encoded = fill(tmp_path / "source", COUNT, sparse)
        with index:
            weights = encoded.sparse
            weights.values[weights.indptr[3] : weights.indptr[4]] = 0.25  # one that is not the tower's
            index.add(["plain", "odd"], RandomTower().encode(documents[:2]), [{"text": ""}, {"text": "é\n☃", "n": 2.0}])
        return tmp_path / "source"

    return make


def contents(path: Path) -> list[Points]:
    with Index.open(path) as index:
        return list(pages(index.backend, 1_000, vectors=True))


def assert_equal(one: Path, other: Path) -> None:
    (ours,), (theirs,) = contents(one), contents(other)
    assert ours.keys == theirs.keys
    assert list(ours.payloads) == list(theirs.payloads)
    assert ours.dense.tobytes() == theirs.dense.tobytes()
    assert (ours.sparse is None) == (theirs.sparse is None)
    if ours.sparse is not None:
        assert np.array_equal(ours.sparse.to_dense(), theirs.sparse.to_dense())


@pytest.mark.parametrize("sparse", ["lm", "bm25", "none"])
def test_there_and_back_is_the_same_index(
    tmp_path: Path, source: Callable[[str], Path], server: RestServer, sparse: str
) -> None:
    first = source(sparse)
    there = migrate_index(first, f"{server.url}/everest", tmp_path / "remote")
    assert (there.documents, there.copied, there.passed_over, there.resumed) == (COUNT + 2, COUNT + 2, 0, False)
    back = migrate_index(tmp_path / "remote", "edge", tmp_path / "back")
    assert (back.documents, back.copied) == (COUNT + 2, COUNT + 2)
    for other in (tmp_path / "remote", tmp_path / "back"):
        assert_equal(first, other)
        assert not (other / migrate.NOTE).exists()
        ours, theirs = read_json(first / "manifest.json"), read_json(other / "manifest.json")
        theirs_alone = {name: ours[name] for name in ("engine", "shard", "generation", "unoptimised")}
        assert {**theirs, **theirs_alone} == {**ours, "documents": COUNT + 2}
    with Index.open(tmp_path / "remote") as remote, Index.open(first) as index:
        query = make_documents(1)[0].text
        hits = [[(hit.id, round(hit.score, 5)) for hit in one.search(query, 5)] for one in (index, remote)]
        assert hits[0] == hits[1]
        remote.add(["new"], RandomTower().encode(make_documents(1)), [payload(make_documents(1)[0])])


def test_an_interrupted_migration_goes_on(
    tmp_path: Path, source: Callable[[], Path], server: RestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qdrant_calls.time, "sleep", lambda _: None)
    monkeypatch.setattr(migrate, "PAGE", 10)
    monkeypatch.setattr(migrate, "_NOTED", 20)
    first, engine, output = source(), f"{server.url}/everest", tmp_path / "remote"
    written = 0
    original = qdrant_calls.confirmed

    def stop(result: object) -> None:
        nonlocal written
        written += 1
        if written == 4:
            raise KeyboardInterrupt
        original(result)

    monkeypatch.setattr("lightretriever.index.qdrant.confirmed", stop)
    with pytest.raises(KeyboardInterrupt):
        migrate_index(first, engine, output)
    assert read_json(output / migrate.NOTE)["documents"] == 20
    with pytest.raises(ArtifactError, match="half-built"):
        Index.open(output)
    with pytest.raises(MismatchError, match="has engine"):
        migrate_index(first, f"{engine}s", output)
    asked = len(server.requests)
    done = migrate_index(first, engine, output)
    assert (done.copied, done.passed_over, done.resumed) == (COUNT + 2 - 40, 40, True)
    assert server.requests[asked:].count(("PUT", "/collections/everest-1/points")) == 4  # of 8 pages
    assert_equal(first, output)
    again = migrate_index(first, engine, output)
    assert (again.documents, again.copied, again.resumed) == (COUNT + 2, 0, True)


def test_a_migration_goes_on_when_the_statistics_were_taken_anew(
    tmp_path: Path, source: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, output = source("bm25"), tmp_path / "other"

    def stop(phase: str) -> migrate.Progress:
        if phase == "comparing":
            raise KeyboardInterrupt
        return lambda *_: None

    with pytest.raises(KeyboardInterrupt):
        migrate_index(first, "edge", output, stop)
    with Index.open(first) as index:
        more = make_documents(COUNT + 30)[COUNT:]
        index.add([d.id for d in more], RandomTower().encode(more), [payload(d) for d in more])
        index.refresh_bm25()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(state, "note_closed", lambda *_: None)  # as when it is killed
        migrate_index(first, "edge", output, stop)
    for _ in range(2):  # begun, then complete
        done = migrate_index(first, "edge", output)
        assert (done.documents, done.resumed) == (COUNT + 32, True)
    assert_equal(first, output)
    with Index.open(first) as one, Index.open(output) as other:
        assert one.sparse_side.file.read_bytes() == other.sparse_side.file.read_bytes()
        assert [entry.name for entry in output.glob("bm25*")] == [other.manifest.statistics]


@pytest.mark.parametrize("change", ["payload", "dense", "sparse", "lost", "more"])
def test_what_is_not_equal_is_found_and_mended(
    tmp_path: Path, source: Callable[[], Path], server: RestServer, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, engine, output = source(), f"{server.url}/everest", tmp_path / "remote"
    key = point_key("d7")

    def tamper(backend: Backend) -> None:
        points = backend.points([key])
        stored = points.payloads[0]
        if change == "payload":
            changed = {**stored, "title": f"{stored['title']} "}
            backend.upsert(Points([key], points.dense, points.sparse, [changed]))
        elif change == "dense":
            backend.upsert(Points([key], np.nextafter(points.dense, np.float32(2)), points.sparse, points.payloads))
        elif change == "sparse":
            other = backend.points([point_key("d8")]).sparse
            backend.upsert(Points([key], points.dense, other, points.payloads))
        elif change == "lost":
            backend.delete([key])
        else:
            backend.upsert(Points([5], points.dense, points.sparse, points.payloads))

    optimise = QdrantBackend.optimise

    def optimise_and_tamper(self: QdrantBackend) -> None:
        optimise(self)
        tamper(self)

    monkeypatch.setattr(QdrantBackend, "optimise", optimise_and_tamper)
    unequal, first_one = (0, "") if change == "more" else (1, r" \(the first is 'd7'\)")
    surplus = ", and 1 are there that should not be" if change == "more" else ""
    message = (
        f"of {COUNT + 2} documents {unequal} are not as they are in what was copied{first_one}{surplus}: .* run the"
    )
    with pytest.raises(ArtifactError, match=message):
        migrate_index(first, engine, output)
    monkeypatch.setattr(QdrantBackend, "optimise", optimise)
    if change == "more":
        server.client.delete("everest", ["00000000-0000-0000-0000-000000000005"])
    done = migrate_index(first, engine, output)
    assert done.copied == (0 if change == "more" else 1)
    assert_equal(first, output)
    with Index.open(output) as remote:
        tamper(remote.backend)
    with pytest.raises(ArtifactError, match="migrate to another output"):
        migrate_index(first, engine, output)


def test_what_cannot_be_migrated_is_said(
    tmp_path: Path, source: Callable[[], Path], server: RestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, engine = source(), f"{server.url}/everest"
    with pytest.raises(UsageError, match="no engine"):
        migrate_index(first, "faiss", tmp_path / "new")
    other, _, _ = fill(tmp_path / "other", 5, "none")
    other.close()
    with pytest.raises(MismatchError, match="has sparse 'none', what is copied 'lm'"):
        migrate_index(first, "edge", tmp_path / "other")
    monkeypatch.setattr(qdrant_calls.time, "sleep", lambda _: None)
    server.faults = [("/points", BUSY)] * 9
    with pytest.raises(ArtifactError, match="503"):
        migrate_index(first, engine, tmp_path / "new")
    server.faults = []
    (tmp_path / "new" / migrate.NOTE).write_text(json.dumps({"from": "elsewhere", "last_key": "0", "documents": 0}))
    with pytest.raises(MismatchError, match="was begun from elsewhere"):
        migrate_index(first, engine, tmp_path / "new")
    (tmp_path / "new" / migrate.NOTE).write_text(json.dumps({"from": str(first.resolve()), "last_key": "z"}))
    with pytest.raises(ArtifactError, match=r"migration.json is damaged: .* remove it"):
        migrate_index(first, engine, tmp_path / "new")


def test_the_command_line_migrates(
    tmp_path: Path, source: Callable[[], Path], server: RestServer, capsys: pytest.CaptureFixture[str]
) -> None:
    first, output = source(), tmp_path / "remote"
    arguments = ["migrate", str(first), "--to", f"{server.url}/everest", "-o", str(output)]
    assert execute(arguments) == 0
    assert f"{COUNT + 2} documents, {COUNT + 2} copied now; each was read back and compared" in capsys.readouterr().err
    assert execute(["search", str(output), "w01 w02", "--json"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 10
    assert execute(["info", str(output), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["collection"] == "everest-1"
