"""From one engine to another and back: nothing lost, nothing changed, whatever interrupts it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from index.conftest import RandomTower, fill, make_documents, payload
from index.rest_server import BUSY, RestServer, serve

from lightretriever import Index
from lightretriever.cli.main import execute
from lightretriever.errors import ArtifactError, MismatchError, UsageError
from lightretriever.index import migrate
from lightretriever.index.bm25 import BM25
from lightretriever.index.engines.engine import Engine, Rows, pages
from lightretriever.index.engines.qdrant import calls
from lightretriever.index.engines.qdrant import engine as qdrant_engine
from lightretriever.index.engines.qdrant.engine import QdrantEngine
from lightretriever.index.engines.qdrant.points import point_id
from lightretriever.index.folder import load_settings
from lightretriever.index.migrate import migrate_index
from lightretriever.text.analysers.analyser import PIECES, Analyser
from lightretriever.types import take_sparse

COUNT = 70


@pytest.fixture
def server() -> Iterator[RestServer]:
    with serve() as running:
        yield running


@pytest.fixture
def source(tmp_path: Path) -> Callable[[str], Path]:
    def make(sparse: str = "lm", analyser: Analyser | None = None) -> Path:
        index, documents, encoded = fill(tmp_path / "source", COUNT, sparse, analyser)
        with index:
            weights = encoded.sparse
            weights.values[weights.indptr[3] : weights.indptr[4]] = 0.25  # one that is not the tower's
            index.add(["plain", "odd"], RandomTower().encode(documents[:2]), [{"text": ""}, {"text": "é\n☃", "n": 2.0}])
        return tmp_path / "source"

    return make


def contents(path: Path) -> Rows:
    """All documents, by id, with the vectors that a search has."""
    with Index.open(path) as index:
        (rows,) = pages(index.engine, 1_000, vectors=True)
        sparse = rows.sparse
        if index.engine.keeps_counts and index.bm25 is not None:
            assert sparse is not None
            sparse = index.bm25.impacts(sparse)
    order = sorted(range(len(rows)), key=lambda row: rows.documents[row].id)
    taken = None if sparse is None else take_sparse(sparse, order)
    return Rows([rows.documents[row] for row in order], rows.dense[order], taken)


def assert_equal(one: Path, other: Path) -> None:
    ours, theirs = contents(one), contents(other)
    assert list(ours.documents) == list(theirs.documents)
    assert ours.dense.tobytes() == theirs.dense.tobytes()
    assert (ours.sparse is None) == (theirs.sparse is None)
    if ours.sparse is not None:
        assert np.array_equal(ours.sparse.to_dense(), theirs.sparse.to_dense())


@pytest.mark.parametrize("sparse", ["lm", "bm25", "none"])
def test_there_and_back_is_the_same_index(
    tmp_path: Path, source: Callable[..., Path], server: RestServer, sparse: str
) -> None:
    first = source(sparse, Analyser(PIECES) if sparse == "bm25" else None)
    if sparse == "bm25":  # a folder takes statistics anew whenever all of it is built
        with Index.open(first) as index:
            index.refresh_bm25()
    there = migrate_index(first, f"{server.url}/everest", tmp_path / "remote")
    assert (there.documents, there.copied, there.passed_over, there.resumed) == (COUNT + 2, COUNT + 2, 0, False)
    back = migrate_index(tmp_path / "remote", "local", tmp_path / "back")
    assert (back.documents, back.copied) == (COUNT + 2, COUNT + 2)
    own = ("engine", "collection", "table", "vectors", "engine_named")
    for other in (tmp_path / "remote", tmp_path / "back"):
        assert_equal(first, other)
        ours, theirs = load_settings(first), load_settings(other)
        assert replace(theirs, **{name: getattr(ours, name) for name in own}) == ours
    with Index.open(tmp_path / "remote") as remote, Index.open(first) as index:
        query = make_documents(1)[0].text
        ours, theirs = index.search(query, 5), remote.search(query, 5)
        assert [hit.id for hit in ours] == [hit.id for hit in theirs]
        assert [hit.score for hit in ours] == pytest.approx([hit.score for hit in theirs], abs=1e-5)
        remote.add(["new"], RandomTower().encode(make_documents(1)), [payload(make_documents(1)[0])])


def test_a_server_counts_tokens_where_the_folder_counts_words(
    tmp_path: Path, source: Callable[..., Path], server: RestServer, capsys: pytest.CaptureFixture[str]
) -> None:
    words = source("bm25")
    command = ["migrate", str(words), "--to", f"{server.url}/everest", "-o", str(tmp_path / "remote")]
    for _ in range(2):
        assert execute(command) == 0
        assert "counts the model's tokens" in capsys.readouterr().err
    with Index.open(words) as index, Index.open(tmp_path / "remote") as remote:
        assert (index.info()["analyser"], remote.info()["analyser"]) == ("words", "pieces")
        documents = list(index.documents())
        statistics = BM25.of([index.sparse_side.tokens(documents)], index.sparse_side.width)
        query = make_documents(1)[0].text
        tokens = remote.encoder.encode_sparse([query]).to_dense()
        wanted = tokens @ statistics.impacts(index.sparse_side.tokens(documents)).to_dense().T
        expected = {one.id: score for one, score in zip(documents, wanted[0].tolist(), strict=True) if score > 0}
        found = {hit.id: hit.score for hit in remote.search(query, 100, "sparse")}
        assert found == pytest.approx(expected, rel=1e-5)


def test_an_interrupted_migration_goes_on(
    tmp_path: Path, source: Callable[[], Path], server: RestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls.time, "sleep", lambda _: None)
    monkeypatch.setattr(migrate, "PAGE", 10)
    first, engine, output = source(), f"{server.url}/everest", tmp_path / "remote"
    written = 0
    original = calls.confirmed

    def stop(result: object) -> None:
        nonlocal written
        written += 1
        if written == 4:
            raise KeyboardInterrupt
        original(result)

    monkeypatch.setattr(qdrant_engine, "confirmed", stop)
    with pytest.raises(KeyboardInterrupt):
        migrate_index(first, engine, output)
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


def test_a_migration_goes_on_when_the_statistics_were_taken_anew(tmp_path: Path, source: Callable[[str], Path]) -> None:
    first, output = source("bm25"), tmp_path / "other"

    def stop(phase: str) -> migrate.Progress:
        if phase == "comparing":
            raise KeyboardInterrupt
        return lambda *_: None

    with pytest.raises(KeyboardInterrupt):
        migrate_index(first, "local", output, stop)
    with Index.open(first) as index:
        more = make_documents(COUNT + 30)[COUNT:]
        index.add([d.id for d in more], RandomTower().encode(more), [payload(d) for d in more])
        index.refresh_bm25()
    with pytest.raises(KeyboardInterrupt):
        migrate_index(first, "local", output, stop)
    for _ in range(2):  # begun, then complete
        done = migrate_index(first, "local", output)
        assert (done.documents, done.resumed) == (COUNT + 32, True)
    assert_equal(first, output)
    with Index.open(first) as one, Index.open(output) as other:
        assert one.bm25 is not None
        assert other.bm25 is not None
        assert one.bm25.pack() == other.bm25.pack()


@pytest.mark.parametrize("change", ["text", "dense", "sparse", "lost", "more"])
def test_what_is_not_equal_is_found_and_mended(
    tmp_path: Path, source: Callable[[], Path], server: RestServer, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, engine, output = source(), f"{server.url}/everest", tmp_path / "remote"

    def tamper(engine: Engine) -> None:
        rows, eighth = engine.rows(["d7"]), engine.rows(["d8"])
        (document,) = rows.documents
        if change == "text":
            engine.store(replace(rows, documents=[replace(document, title=f"{document.title} ")]), None)
        elif change == "dense":
            engine.store(replace(rows, dense=np.nextafter(rows.dense, np.float32(2))), None)
        elif change == "sparse":
            engine.store(replace(rows, sparse=eighth.sparse), None)
        elif change == "lost":
            engine.delete(["d7"], None)
        else:
            engine.store(replace(rows, documents=[replace(document, id="stray")]), None)

    optimise = QdrantEngine.optimise

    def optimise_and_tamper(self: QdrantEngine) -> None:
        optimise(self)
        tamper(self)

    monkeypatch.setattr(QdrantEngine, "optimise", optimise_and_tamper)
    unequal, first_one = (0, "") if change == "more" else (1, r" \(the first is 'd7'\)")
    surplus = ", and 1 are there that should not be" if change == "more" else ""
    message = (
        f"of {COUNT + 2} documents {unequal} are not as they are in what was copied{first_one}{surplus}: .* run the"
    )
    with pytest.raises(ArtifactError, match=message):
        migrate_index(first, engine, output)
    monkeypatch.setattr(QdrantEngine, "optimise", optimise)
    if change == "more":
        server.client.delete("everest", [point_id("stray")])
    done = migrate_index(first, engine, output)
    assert done.copied == (0 if change == "more" else 1)
    assert_equal(first, output)
    with Index.open(output) as remote:
        tamper(remote.engine)
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
        migrate_index(first, "local", tmp_path / "other")
    monkeypatch.setattr(calls.time, "sleep", lambda _: None)
    server.faults = [("/points", BUSY)] * 9
    with pytest.raises(ArtifactError, match="503"):
        migrate_index(first, engine, tmp_path / "new")
    server.faults = []
    moved, _, _ = fill(tmp_path / "moved", 5)
    moved.close()
    with pytest.raises(MismatchError, match=r"was begun from .*source, now it is .*moved"):
        migrate_index(tmp_path / "moved", engine, tmp_path / "new")


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
