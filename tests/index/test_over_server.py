"""An index over a Qdrant server: found alike, resumed, replaced while copies search, and who is sent the key."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from index.conftest import RandomTower, make_documents, make_encoder, payload
from index.conftest import fill as fill_index
from index.rest_server import BUSY, RestServer, serve

from lightretriever import Encoded, Index
from lightretriever.cli.main import execute
from lightretriever.errors import ArtifactError, MismatchError, MissingExtraError
from lightretriever.index.engines.qdrant import calls, rebuild
from lightretriever.index.engines.qdrant.key import PLAIN_HTTP, SERVERS
from lightretriever.index.engines.qdrant.url import API_KEY
from lightretriever.index.ingest import IngestReport, index_corpus
from lightretriever.index.migrate import migrate_index
from lightretriever.index.search import MODES
from lightretriever.index.store.database import FILE, Database
from lightretriever.index.store.values import read_settings, write_settings
from lightretriever.text.corpus import Document

SECRET = "s3cret"


@pytest.fixture
def server() -> Iterator[RestServer]:
    with serve() as running:
        yield running


@pytest.fixture
def locked() -> Iterator[RestServer]:
    """A server that asks for a key."""
    with serve(key=SECRET) as running:
        yield running


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """No waiting between attempts; what would have been waited, in seconds."""
    waited: list[float] = []
    monkeypatch.setattr(calls.time, "sleep", waited.append)
    return waited


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(API_KEY, SECRET)
    for name in (SERVERS, PLAIN_HTTP):
        monkeypatch.delenv(name, raising=False)


def change(path: Path, **changes: str) -> None:
    """Change an index's settings, as somebody might before he hands it on."""
    database = Database(path / FILE)
    with database.writing() as connection:
        write_settings(connection, replace(read_settings(connection, database.file), **changes))
    database.close()


def assert_same_hits(ours: Index, theirs: Index, queries: list[str], modes: tuple[str, ...]) -> None:
    """The same documents with the same scores; as many as there are, because which of equal scores come first, or are
    cut off at k, is decided by the last bit of a sum, and engines add up in different orders."""
    for mode in modes:
        for condition in (None, {"even": True}):
            found = [index.search_many(queries, 120, mode, condition) for index in (ours, theirs)]
            for one, other in zip(*found, strict=True):
                assert {h.id: h.score for h in one} == pytest.approx({h.id: h.score for h in other}, abs=2e-5)
                assert {h.id: (h.title, h.text, h.metadata) for h in one} == {
                    h.id: (h.title, h.text, h.metadata) for h in other
                }


@pytest.mark.parametrize("sparse", ["lm", "bm25", "none"])
def test_an_index_over_a_server_finds_what_a_local_one_does(tmp_path: Path, server: RestServer, sparse: str) -> None:
    queries = ["w01 w02 w03", "w10", "w20 w21 w22 w23"]
    queries += [document.text for document in make_documents(3)]
    modes = ("dense",) if sparse == "none" else MODES
    local, documents, encoded = fill_index(tmp_path / "local.index", 120, sparse)
    engine = f"{server.url}/everest?shards=2"
    ids, payloads = [d.id for d in documents], [payload(d) for d in documents]
    with Index.create(tmp_path / "remote.index", make_encoder(), sparse=sparse, engine=engine) as remote:
        remote.add(ids, encoded, payloads)
        remote.optimise()
    shutil.copytree(tmp_path / "remote.index", tmp_path / "copy.index")
    with local, Index.open(tmp_path / "remote.index") as remote, Index.open(tmp_path / "copy.index") as copy:
        assert_same_hits(remote, local, queries, modes)
        assert remote.info()["engine"] == "qdrant"
        for index in (local, remote):
            index.delete(ids[:7])
            index.add(ids[10:12], RandomTower().encode(documents[30:32]), payloads[30:32])
        assert remote.count == copy.count == 113
        assert_same_hits(copy, local, queries, modes)


@pytest.mark.usefixtures("quick")
def test_an_index_is_built_over_a_server_and_resumed(tmp_path: Path, server: RestServer) -> None:
    path, engine, documents = tmp_path / "i", f"{server.url}/everest", make_documents(60)

    def build(engine: str) -> IngestReport:
        return index_corpus(path, documents, RandomTower(), make_encoder(), "bm25", engine=engine)

    server.faults = [("PUT /collections/everest-1/points", BUSY)] * (1 + len(calls.WAITS))
    with pytest.raises(ArtifactError, match="503"):
        build(engine)
    with pytest.raises(MismatchError, match="begun with engine"):
        build("local")
    assert build(engine).resumed
    assert build(engine).complete_before
    with Index.open(path) as index:
        assert index.count == 60
    assert not (path / "segments").exists()
    with pytest.raises(ArtifactError, match="everest exists already and holds 60 documents"):
        Index.create(tmp_path / "other", make_encoder(), "bm25", engine=engine)
    assert not (tmp_path / "other").exists()


def test_whole_engines_are_replaced_while_copies_search(tmp_path: Path, server: RestServer) -> None:
    engine, documents = f"{server.url}/everest", make_documents(80)
    ids, payloads = [d.id for d in documents], [payload(d) for d in documents]
    with Index.create(tmp_path / "i", make_encoder(), "bm25", engine=engine) as index:
        index.add(ids[:40], RandomTower().encode(documents[:40]), payloads[:40])
        shutil.copytree(tmp_path / "i", tmp_path / "copy")
        with Index.open(tmp_path / "copy") as copy:
            index.add(ids[40:], RandomTower().encode(documents[40:]), payloads[40:])
            index.refresh_bm25()
            assert index.settings.collection == "everest-2"
            assert [found.name for found in server.client.get_collections().collections] == ["everest-2"]
            assert copy.count == 80
            assert_same_hits(index, copy, ["w01 w02"], ("dense", "sparse"))
            index.set_table(make_encoder(seed=3).table)
            assert copy.count == 80
    for path in (tmp_path / "i", tmp_path / "copy"):  # the table of before is accepted still
        Index.open(path).close()
    with Index.open(tmp_path / "i") as index:
        encoder = make_encoder(seed=4, model="other", revision="r9")
        index.reindex(encoder, RandomTower(name="other", revision="r9"), "lm")
        assert (index.settings.collection, index.count, index.settings.model) == ("everest-3", 80, "other")
    with pytest.raises(MismatchError, match=r"documents of model 'other', the index folder is of 'tiny'"):
        Index.open(tmp_path / "copy")


def test_a_replacement_killed_before_the_alias_changed_hands_is_made_good(tmp_path: Path, server: RestServer) -> None:
    index = Index.create(tmp_path / "i", make_encoder(), "bm25", engine=f"{server.url}/everest")
    documents = make_documents(20)
    index.add([d.id for d in documents], RandomTower().encode(documents), [payload(d) for d in documents])
    server.faults = [("/collections/aliases", BUSY)] * 7
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calls.time, "sleep", lambda _: None)
        with pytest.raises(ArtifactError, match="503"):
            index.refresh_bm25()
    index.close()
    names = [alias.collection_name for alias in server.client.get_aliases().aliases]
    assert names == ["everest-1"]
    with Index.open(tmp_path / "i") as index:
        assert (index.count, index.info()["collection"]) == (20, "everest-2")
    assert [alias.collection_name for alias in server.client.get_aliases().aliases] == ["everest-2"]


def pairs(documents: list[Document]) -> tuple[list[str], list[dict[str, object]]]:
    return [document.id for document in documents], [payload(document) for document in documents]


def assert_holds(index: Index, documents: list[Document], tower: RandomTower) -> None:
    """The index answers as a new one of these documents would, of the same statistics."""
    stored = {document.id: document for document in index.documents()}
    assert stored == {document.id: document for document in documents}
    rows = index.engine.rows([document.id for document in documents])
    assert np.allclose(rows.dense, tower.encode(documents).dense, atol=1e-6)
    if index.bm25 is not None:
        impacts = index.bm25.impacts(index.sparse_side.counts(documents))
        assert rows.sparse is not None
        assert np.array_equal(rows.sparse.to_dense(), impacts.to_dense())


ADDING = """
import sys
sys.path[:0] = {path!r}
from index.conftest import RandomTower, make_documents, payload
from lightretriever import Encoded, Index
documents = make_documents(60, seed=7)[40:]
print("begun", flush=True)
for _ in range(3):
    for document in documents:
        with Index.open({index!r}) as index:
            index.add([document.id], RandomTower().encode([document]), [payload(document)])
"""


def test_statistics_are_taken_anew_while_this_process_and_another_write(
    tmp_path: Path, server: RestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuild, "PAGE", 8)
    documents, changed = make_documents(60), make_documents(60, seed=7)
    with Index.create(tmp_path / "i", make_encoder(), "bm25", engine=f"{server.url}/everest") as index:
        index.add(pairs(documents)[0], RandomTower().encode(documents), pairs(documents)[1])
        script = ADDING.format(path=sys.path, index=str(tmp_path / "i"))
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"begun\n"

            def write() -> None:
                for document in changed[:20]:
                    index.add([document.id], RandomTower().encode([document]), [payload(document)])
                index.delete([document.id for document in changed[20:25]])

            writer = threading.Thread(target=write)
            writer.start()
            number = 2
            while writer.is_alive() or process.poll() is None:
                index.refresh_bm25()
                assert index.settings.collection == f"everest-{number}"
                number += 1
            writer.join()
        assert process.returncode == 0
        index.refresh_bm25()
        assert index.info()["bm25"]["changes"] == 0
        assert index.info()["unused_collections"] == []
        assert_holds(index, [*changed[:20], *documents[25:40], *changed[40:]], RandomTower())


def test_another_model_takes_over_interrupted_and_overtaken(
    tmp_path: Path, server: RestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuild, "PAGE", 16)

    class Failing(RandomTower):
        def encode(self, documents: Sequence[Document], progress: Callable | None = None) -> Encoded:
            if self.calls == 2:
                raise ArtifactError("the tower fell")
            return super().encode(documents, progress)

    documents = make_documents(70)
    encoder, tower = make_encoder(seed=4, model="other", revision="r9"), RandomTower(name="other", revision="r9")
    failing = Failing(name="other", revision="r9")
    with Index.create(tmp_path / "i", make_encoder(), "bm25", engine=f"{server.url}/everest") as index:
        index.add(pairs(documents)[0], RandomTower().encode(documents), pairs(documents)[1])
        with pytest.raises(ArtifactError, match="the tower fell"):
            index.reindex(encoder, failing)
        assert (index.settings.model, index.info()["unused_collections"]) == ("tiny", ["everest-2"])
        index.delete(["d3"])
    with Index.open(tmp_path / "i") as index:
        assert index.info()["reindexing"]["to"] == "other"
        index.reindex(encoder, tower)
        assert (index.settings.model, index.settings.collection) == ("other", "everest-2")
        assert tower.calls == 3  # of five pages two were there
        kept = [document for document in documents if document.id != "d3"]
        assert_holds(index, kept, RandomTower())
        assert index.search("w01 w02", 3)
        failing.calls = 0
        failing.revision = "r10"
        with pytest.raises(ArtifactError, match="the tower fell"):
            index.reindex(make_encoder(seed=5, model="other", revision="r10"), failing)
        index.refresh_bm25()  # goes over to a collection after the one that was begun
        assert index.settings.collection == "everest-4"
        newest = RandomTower(name="other", revision="r10")
        index.reindex(make_encoder(seed=5, model="other", revision="r10"), newest)
        assert (index.settings.collection, index.settings.revision) == ("everest-5", "r10")
        assert index.info()["unused_collections"] == []
        assert_holds(index, kept, RandomTower())
        assert len(list((tmp_path / "i").glob("table*"))) == 1


def test_a_missing_client_names_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [
        name
        for name in sys.modules
        if name.startswith(("qdrant_client", "lightretriever.index.engines.qdrant", "lightretriever.index.server"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "qdrant_client", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'lightretriever\[qdrant\]'"):
        Index.create(tmp_path / "i", make_encoder(), engine="http://host/everest")
    assert not (tmp_path / "i").exists()


def test_a_folder_with_another_table_is_refused(tmp_path: Path, server: RestServer) -> None:
    Index.create(tmp_path / "i", make_encoder(), engine=f"{server.url}/everest").close()
    shutil.rmtree(tmp_path / "i")
    Index.create(tmp_path / "i", make_encoder(seed=1), engine=f"{server.url}/other").close()
    change(tmp_path / "i", engine=f"{server.url}/everest", collection="everest-1")
    with pytest.raises(MismatchError, match=r"/everest holds documents of table hash '\w+', the index folder is of"):
        Index.open(tmp_path / "i")


def fill(index: Index) -> None:
    documents = make_documents(4)
    index.add([d.id for d in documents], RandomTower().encode(documents), [payload(d) for d in documents])


@pytest.mark.usefixtures("key")
def test_the_caller_names_a_server_by_argument_or_environment(
    locked: RestServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{locked.url}/everest"
    with Index.create(tmp_path / "i", make_encoder(), engine=url) as index:
        fill(index)
    with Index.open(tmp_path / "i", engine=url) as index:
        assert index.count == 4
        index.set_table(make_encoder(3).table)
        index.optimise()
    with pytest.raises(ArtifactError, match=rf"refuses the key .*{SERVERS} names"):
        Index.open(tmp_path / "i")
    with pytest.raises(MismatchError, match=r"the index is held by .*/everest, not by local"):
        Index.open(tmp_path / "i", engine="local")
    monkeypatch.setenv(SERVERS, f"https://elsewhere.example {locked.url}")
    with Index.open(tmp_path / "i") as index:
        assert index.search("w01 w02", 2)


@pytest.mark.usefixtures("key")
def test_building_and_migrating_name_it_too(locked: RestServer, tmp_path: Path) -> None:
    url = f"{locked.url}/built"
    index_corpus(tmp_path / "built", make_documents(5), RandomTower(), make_encoder(), engine=url)
    with Index.create(tmp_path / "local", make_encoder()) as index:
        fill(index)
    assert migrate_index(tmp_path / "local", f"{locked.url}/moved", tmp_path / "moved").documents == 4
    assert migrate_index(tmp_path / "local", f"{locked.url}/moved", tmp_path / "moved").copied == 0


@pytest.mark.usefixtures("key")
def test_a_server_that_only_a_manifest_names_gets_no_key(
    locked: RestServer, server: RestServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(API_KEY)
    Index.create(tmp_path / "theirs", make_encoder(), "bm25", engine=f"{server.url}/everest").close()
    monkeypatch.setenv(API_KEY, SECRET)
    monkeypatch.setenv(SERVERS, locked.url)
    server.keys.clear()
    with Index.open(tmp_path / "theirs", model=RandomTower()) as index:  # type: ignore[arg-type]
        index.add_documents(make_documents(4))
        index.search("w01")
        index.refresh_bm25()
        index.set_table(make_encoder(3).table)
        index.delete(["d1"])
        index.info()
    migrate_index(tmp_path / "theirs", "local", tmp_path / "ours")
    for arguments in (["search", str(tmp_path / "theirs"), "w01"], ["info", str(tmp_path / "theirs")]):
        assert execute(arguments) == 0
    assert len(server.keys) > 20
    assert set(server.keys) == {None}


@pytest.mark.usefixtures("key")
def test_a_manifest_that_was_changed_leads_to_no_key(locked: RestServer, server: RestServer, tmp_path: Path) -> None:
    with Index.create(tmp_path / "i", make_encoder(), engine=f"{locked.url}/everest") as index:
        fill(index)
    change(tmp_path / "i", engine=f"{server.url}/everest")
    with pytest.raises(ArtifactError):
        Index.open(tmp_path / "i")
    with pytest.raises(MismatchError, match="the index is held by"):
        Index.open(tmp_path / "i", engine=f"{locked.url}/everest")
    assert server.keys
    assert set(server.keys) == {None}
