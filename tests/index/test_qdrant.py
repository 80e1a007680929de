"""A Qdrant server as the engine: addresses, failures that pass and that do not, keys, aliases, and an index over it."""

from __future__ import annotations

import shutil
import socket
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from index.conftest import RandomTower, fill, make_documents, make_encoder, payload, unit_rows
from index.rest_server import AFTER, BEFORE, BUSY, SLOW_WRITE, RestServer, serve

from lightretriever import Index
from lightretriever.errors import ArtifactError, MismatchError, MissingExtraError, UsageError
from lightretriever.index import qdrant, qdrant_calls
from lightretriever.index.backend import Points, document_payload, point_key
from lightretriever.index.ingest import IngestReport, index_corpus
from lightretriever.index.qdrant import QdrantBackend
from lightretriever.index.qdrant_key import SERVERS
from lightretriever.index.qdrant_server import QdrantServer
from lightretriever.index.qdrant_url import API_KEY, QdrantAddress, check_engine, parse_address
from lightretriever.index.search import MODES
from lightretriever.types import sparse_from_dense

DIM, WIDTH = 8, 20
BINDING = {"model": "tiny", "table_hash": "aa"}


@pytest.fixture
def server() -> Iterator[RestServer]:
    with serve() as running:
        yield running


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """No waiting between attempts; what would have been waited, in seconds."""
    waited: list[float] = []
    monkeypatch.setattr(qdrant_calls.time, "sleep", waited.append)
    return waited


def make(server: RestServer, binding: dict[str, str] = BINDING) -> QdrantBackend:
    return QdrantServer(parse_address(f"{server.url}/everest")).create(DIM, True, binding)


def make_points(n: int, seed: int = 0) -> Points:
    rng = np.random.default_rng(seed)
    documents = make_documents(n)
    weights = np.where(rng.random((n, WIDTH)) < 0.3, rng.random((n, WIDTH)) + 0.1, 0).astype(np.float32)
    weights[0] = 0  # a document without a term
    keys = [point_key(document.id) for document in documents]
    return Points(keys, unit_rows(rng, n, DIM), sparse_from_dense(weights), [document_payload(d) for d in documents])


def test_an_address_is_read_and_spelled_one_way() -> None:
    address = parse_address("https://Example.org:443/proxied/qdrant/my%20docs/?replicas=2&shards=6&quantisation=scalar")
    assert address == QdrantAddress("https://example.org:443/proxied/qdrant", "my docs", 6, 2, "scalar")
    assert str(address) == ("https://example.org:443/proxied/qdrant/my%20docs?quantisation=scalar&replicas=2&shards=6")
    assert str(parse_address("http://host/everest?replicas=1&shards=0")) == "http://host:6333/everest"
    assert parse_address("http://[::1]:7000/x").server == "http://[::1]:7000"
    assert check_engine("edge") == "edge"


@given(
    st.sampled_from(["http", "https"]),
    st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters='<>:"/\\|?*'), min_size=1, max_size=9),
    st.integers(0, 99),
    st.integers(1, 9),
)
def test_a_spelled_address_is_the_same_address(scheme: str, name: str, shards: int, replicas: int) -> None:
    if "%" in name or name.partition(";")[0] in (".", ".."):  # refused, where it may lead elsewhere
        return
    address = QdrantAddress(f"{scheme}://host:6333/a", name, shards, replicas)
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("edges", "no engine: edge is one"),
        ("ftp://host/name", "no engine"),
        ("http:///name", "no engine"),
        ("http://host:6333", "names no collection"),
        ("http://host:6333/..", "has '..' in its path, which may lead elsewhere"),
        ("http://host:6333/a%3Ab", "names no collection"),
        ("http://host:port/name", "no URL"),
        ("http://me:secret@host/name", "LIGHTRETRIEVER_QDRANT_API_KEY, not into the URL"),
        ("http://good.org\\@evil.org/name", "names a host in characters|key into"),
        ("http://exa mple/name", "names a host in characters"),
        ("http://host/name?api_key=secret", "'api_key' of the engine's URL is no option"),
        ("http://host/name?shards=many", "shards .* is 'many': a number from 1 on"),
        ("http://host/name?replicas=0", "replicas .* is '0'"),
        ("http://host/name?quantisation=ternary", "choose one of turbo, scalar, binary, none"),
    ],
)
def test_what_is_no_address_is_said(url: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as error:
        check_engine(url)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("fault", [BEFORE, AFTER, BUSY, SLOW_WRITE])
def test_a_write_that_fails_for_a_while_is_written_once(
    server: RestServer, quick: list[float], fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qdrant, "WRITE", 10)  # several writes under way at once
    backend, points = make(server), make_points(45)
    server.faults = [("/points", fault)] * 4
    backend.upsert(points)
    assert server.faults == []
    assert len([path for _, path in server.requests if path.endswith("/points")]) == 5 + 4
    assert backend.count() == 45
    assert len(quick) == 4
    stored = backend.points(points.keys)
    assert stored.keys == points.keys
    assert np.array_equal(stored.dense, points.dense)
    for row in range(45):
        assert np.array_equal(stored.sparse.row(row)[0], points.sparse.row(row)[0])
        assert np.array_equal(stored.sparse.row(row)[1], points.sparse.row(row)[1])
    server.faults = [("/points/delete", fault)]
    backend.delete(points.keys[:5])
    assert (server.faults, backend.count()) == ([], 40)


def test_waits_grow_and_end(server: RestServer, quick: list[float]) -> None:
    backend, points = make(server), make_points(3)
    server.faults = [("/points", BUSY)] * 100
    with pytest.raises(ArtifactError, match=r"/everest: the engine failed: 503 1 of 2 replicas are not available$"):
        backend.upsert(points)
    assert len(quick) == len(qdrant_calls.WAITS)
    assert all(limit / 2 <= waited <= limit for waited, limit in zip(quick, qdrant_calls.WAITS, strict=True))


def test_searches_come_back_after_a_fault(server: RestServer, quick: list[float]) -> None:
    backend, points = make(server), make_points(30)
    backend.upsert(points)
    expected = backend.search_dense(points.dense[:3], 4)
    server.faults = [("/query/batch", BEFORE), ("/query/batch", BUSY)]
    assert backend.search_dense(points.dense[:3], 4) == expected
    assert len(quick) == 2


def test_what_does_not_pass_is_not_tried_again(server: RestServer, quick: list[float]) -> None:
    backend = make(server)
    with pytest.raises(ArtifactError, match="the engine failed: 400 "):
        backend.search_dense(np.ones((1, 5), np.float32), 3)
    server.client.delete_collection("everest-1")
    with pytest.raises(ArtifactError, match="/everest does not exist: the collection was deleted"):
        backend.count()
    assert quick == []


def test_an_unreachable_server_is_said_at_once(quick: list[float]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    address = parse_address(f"http://127.0.0.1:{port}/everest")
    for enter in (
        lambda: QdrantServer(address).open(BINDING),
        lambda: QdrantServer(address).create(4, True, BINDING),
    ):
        with pytest.raises(ArtifactError, match=r"/everest: cannot be reached \(.*\): is the server running") as error:
            enter()
        assert "\n" not in str(error.value)
    assert quick == []


def test_a_server_that_is_no_qdrant_is_said(server: RestServer) -> None:
    with pytest.raises(ArtifactError, match="the engine failed: 404 no such call"):
        QdrantServer(parse_address(f"{server.url}/no/prefix/everest")).open(BINDING)


def test_a_key_comes_from_the_environment_and_a_prefix_from_the_url(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(prefix="/behind/proxy", key="secret") as server:
        address = parse_address(f"{server.url}/everest")
        with pytest.raises(ArtifactError, match=f"refuses the key .*: set {API_KEY} .*{SERVERS} names"):
            QdrantServer(address).create(DIM, True, BINDING)
        monkeypatch.setenv(API_KEY, "secret\n")
        backend = QdrantServer(address).create(DIM, True, BINDING)
        assert backend.count() == 0
        monkeypatch.setenv(API_KEY, "schlüssel")
        with pytest.raises(ArtifactError, match="characters that no key has"):
            QdrantServer(address).open(BINDING)


def test_a_collection_belongs_to_what_it_was_made_with(server: RestServer) -> None:
    backend, address = make(server), parse_address(f"{server.url}/everest")
    reached = QdrantServer(address)
    assert make(server).collection == backend.collection  # empty and of the same binding: a killed creation's
    other, third = ({**BINDING, "table_hash": name} for name in ("bb", "cc"))
    with pytest.raises(MismatchError, match="documents of table hash 'aa', the index folder is of 'bb'"):
        reached.open(other)
    backend.upsert(make_points(3))
    with pytest.raises(ArtifactError, match="exists already and holds 3 documents"):
        make(server)
    reached.bind("everest-1", other)
    reached.bind("everest-1", other)  # once more, as after an answer that was lost
    assert reached.open(other).count() == reached.open(BINDING).count() == 3
    reached.bind("everest-1", third)
    assert reached.open(other).count() == reached.open(third).count() == 3
    with pytest.raises(MismatchError, match="documents of table hash 'cc', the index folder is of 'aa'"):
        reached.open(BINDING)
    with pytest.raises(MismatchError, match="documents of model 'tiny', the index folder is of 'big'"):
        reached.open({**third, "model": "big"})
    server.client.create_collection("others", {})
    with pytest.raises(ArtifactError, match="lightretriever did not make"):
        QdrantServer(replace(address, name="others")).open(BINDING)
    with pytest.raises(ArtifactError, match="nowhere does not exist"):
        QdrantServer(replace(address, name="nowhere")).open(BINDING)


def test_a_new_collection_takes_the_place_of_the_old_in_one_step(server: RestServer) -> None:
    reached, here = QdrantServer(parse_address(f"{server.url}/everest")), make(server)
    here.upsert(make_points(10))
    elsewhere = reached.open(BINDING, "everest-1")
    following = reached.make(reached.next_name(), DIM, True, {**BINDING, "dim": 9})
    following.upsert(make_points(4, seed=1))
    assert (following.collection, here.count(), following.count()) == ("everest-2", 10, 4)
    assert here.info()["unused_collections"] == ["everest-2"]
    reached.settle("everest-1")  # the alias stands for it already
    assert here.count() == 10
    reached.settle("everest-2")
    reached.settle("everest-2")  # once more, as after an answer that was lost
    reached.settle("everest-1")  # by a copy that does not know yet
    assert [found.name for found in server.client.get_collections().collections] == ["everest-2"]
    assert elsewhere.count() == 4  # it looks where the alias leads, and finds what it was bound to
    assert elsewhere.info()["collection"] == "everest-2"
    assert reached.open(BINDING, "everest-1").collection == "everest-2"
    reached.make("everest-3", DIM, True, {**BINDING, "model": "other"})
    reached.settle("everest-3")
    with pytest.raises(MismatchError, match="documents of model 'other', the index folder is of 'tiny'"):
        elsewhere.count()
    reached.drop("everest-3")
    reached.drop("everest-3")
    assert not reached.exists("everest-3")


def test_numbers_are_indexed_when_they_first_come(server: RestServer, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = make(server)
    indexed = ("PUT", "/collections/everest-1/index")
    before = server.requests.count(indexed)
    assert before == 1  # of the tags
    backend.upsert(make_points(5))  # with the numbers "group" and "ratio"
    backend.upsert(make_points(9))
    assert server.requests.count(indexed) == before + 2
    monkeypatch.setattr(qdrant, "INDEXES", 3)
    points = make_points(1)
    many = [dict(points.payloads[0], numbers={f"n{i}": [i] for i in range(9)})]
    backend.upsert(replace(points, payloads=many))
    assert server.requests.count(indexed) == before + 3


def test_batches_are_bounded_in_points_and_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    points = make_points(7)
    monkeypatch.setattr(qdrant, "WRITE", 3)
    assert list(qdrant._batches(points)) == [range(3), range(3, 6), range(6, 7)]
    monkeypatch.setattr(qdrant, "WRITE_BYTES", 1)
    assert list(qdrant._batches(points)) == [range(i, i + 1) for i in range(7)]


@pytest.mark.usefixtures("quick")
def test_optimise_waits_for_the_server(monkeypatch: pytest.MonkeyPatch, server: RestServer) -> None:
    backend = make(server)
    asked = backend._client.get_collection
    states = iter(["green", "yellow", "grey", "yellow", "green", "green", "red"])

    def state(name: str) -> object:
        return asked(name).model_copy(update={"status": next(states)})

    monkeypatch.setattr(backend._client, "get_collection", state)
    backend.optimise()
    assert ("PATCH", "/collections/everest-1") in server.requests
    with pytest.raises(ArtifactError, match="cannot optimise"):
        backend.optimise()
    states = iter(["yellow"] * 100)
    monkeypatch.setattr(qdrant, "PATIENCE", 0.0)
    with pytest.raises(ArtifactError, match="goes on by itself"):
        backend.optimise()


def assert_same_hits(ours: Index, theirs: Index, queries: list[str], modes: tuple[str, ...]) -> None:
    """The same documents with the same scores; as many as there are, because which of equal scores come first, or are
    cut off at k, is decided by the last bit of a sum, and engines add up in different orders."""
    for mode in modes:
        for condition in (None, {"even": True}):
            found = [index.search_many(queries, 120, mode, condition) for index in (ours, theirs)]
            for one, other in zip(*found, strict=True):
                assert {h.id: h.score for h in one} == pytest.approx({h.id: h.score for h in other}, rel=1e-6, abs=1e-6)
                assert {h.id: (h.title, h.text, h.metadata) for h in one} == {
                    h.id: (h.title, h.text, h.metadata) for h in other
                }


@pytest.mark.parametrize("sparse", ["lm", "bm25", "none"])
def test_an_index_over_a_server_finds_what_the_embedded_one_does(
    tmp_path: Path, server: RestServer, sparse: str
) -> None:
    queries = ["w01 w02 w03", "w10", "w20 w21 w22 w23"]
    queries += [document.text for document in make_documents(3)]
    modes = ("dense",) if sparse == "none" else MODES
    embedded, documents, encoded = fill(tmp_path / "edge.index", 120, sparse)
    engine = f"{server.url}/everest?shards=2"
    ids, payloads = [d.id for d in documents], [payload(d) for d in documents]
    with Index.create(tmp_path / "remote.index", make_encoder(), sparse=sparse, engine=engine) as remote:
        remote.add(ids, encoded, payloads)
        remote.optimise()
    shutil.copytree(tmp_path / "remote.index", tmp_path / "copy.index")
    with embedded, Index.open(tmp_path / "remote.index") as remote, Index.open(tmp_path / "copy.index") as copy:
        assert_same_hits(remote, embedded, queries, modes)
        assert remote.info()["engine"] == "qdrant"
        for index in (embedded, remote):
            index.delete(ids[:7])
            index.add(ids[10:12], RandomTower().encode(documents[30:32]), payloads[30:32])
        assert remote.count == copy.count == 113
        assert_same_hits(copy, embedded, queries, modes)


@pytest.mark.usefixtures("quick")
def test_an_index_is_built_over_a_server_and_resumed(tmp_path: Path, server: RestServer) -> None:
    path, engine, documents = tmp_path / "i", f"{server.url}/everest", make_documents(60)

    def build(engine: str) -> IngestReport:
        return index_corpus(path, documents, RandomTower(), make_encoder(), "bm25", engine=engine)

    server.faults = [("/points", BUSY)] * (1 + len(qdrant_calls.WAITS))
    with pytest.raises(ArtifactError, match="503"):
        build(engine)
    with pytest.raises(MismatchError, match="begun with engine"):
        build("edge")
    assert build(engine).resumed
    assert build(engine).complete_before
    with Index.open(path) as index:
        assert index.count == 60
    assert not (path / "shard").exists()
    with pytest.raises(ArtifactError, match="everest exists already and holds 60 documents"):
        Index.create(tmp_path / "other", make_encoder(), "bm25", engine=engine)
    assert not (tmp_path / "other").exists()


def test_whole_engines_are_replaced_while_copies_search(tmp_path: Path, server: RestServer) -> None:
    engine, documents = f"{server.url}/everest", make_documents(80)
    ids, payloads = [d.id for d in documents], [payload(d) for d in documents]
    with Index.create(tmp_path / "i", make_encoder(), "bm25", engine=engine, live=True) as index:
        index.add(ids[:40], RandomTower().encode(documents[:40]), payloads[:40])
        shutil.copytree(tmp_path / "i", tmp_path / "copy")
        (tmp_path / "copy/owner").unlink()
        with Index.open(tmp_path / "copy") as copy:
            index.add(ids[40:], RandomTower().encode(documents[40:]), payloads[40:])
            index.refresh_bm25()
            assert index.manifest.shard == "everest-2"
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
        assert (index.manifest.shard, index.count, index.manifest.model) == ("everest-3", 80, "other")
    with pytest.raises(MismatchError, match=r"documents of model 'other', the index folder is of 'tiny'"):
        Index.open(tmp_path / "copy")


def test_a_replacement_killed_before_the_alias_changed_hands_is_made_good(tmp_path: Path, server: RestServer) -> None:
    index = Index.create(tmp_path / "i", make_encoder(), "bm25", engine=f"{server.url}/everest")
    documents = make_documents(20)
    index.add([d.id for d in documents], RandomTower().encode(documents), [payload(d) for d in documents])
    server.faults = [("/collections/aliases", BUSY)] * 7
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(qdrant_calls.time, "sleep", lambda _: None)
        with pytest.raises(ArtifactError, match="503"):
            index.refresh_bm25()
    index.close()
    names = [alias.collection_name for alias in server.client.get_aliases().aliases]
    assert names == ["everest-1"]
    with Index.open(tmp_path / "i") as index:
        assert (index.count, index.info()["collection"]) == (20, "everest-2")
    assert [alias.collection_name for alias in server.client.get_aliases().aliases] == ["everest-2"]


def test_a_missing_client_names_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith(("qdrant_client", "lightretriever.index.qdrant"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "qdrant_client", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'lightretriever\[qdrant\]'"):
        Index.create(tmp_path / "i", make_encoder(), engine="http://host/everest")
    assert not (tmp_path / "i").exists()


def test_a_folder_with_another_table_is_refused(tmp_path: Path, server: RestServer) -> None:
    Index.create(tmp_path / "i", make_encoder(), engine=f"{server.url}/everest").close()
    shutil.rmtree(tmp_path / "i")
    Index.create(tmp_path / "i", make_encoder(seed=1), engine=f"{server.url}/other").close()
    manifest = tmp_path / "i/manifest.json"
    manifest.write_text(manifest.read_text().replace("/other", "/everest").replace("other-1", "everest-1"))
    (tmp_path / "i/checksums.json").unlink()
    with pytest.raises(MismatchError, match=r"/everest holds documents of table hash '\w+', the index folder is of"):
        Index.open(tmp_path / "i")
