"""A collection as the engine: failures that pass and that do not, what is sent, and what comes back and should not."""

from __future__ import annotations

import os
import socket
import threading
from dataclasses import replace
from functools import partial
from threading import Event

import httpx
import numpy as np
import pytest
from index.engines.data import DIM, WIDTH, assert_equal, make_rows, names, part
from index.engines.qdrant.conftest import CONTENTS, make, reach
from index.rest_server import AFTER, BEFORE, BUSY, SLOW_WRITE, RestServer, serve
from qdrant_client import models

from lightretriever.errors import ArtifactError
from lightretriever.index.engines.engine import Asked, Rows, pages
from lightretriever.index.engines.qdrant import arms, batches, calls, engine, rest
from lightretriever.index.engines.qdrant.batches import row_batches
from lightretriever.index.engines.qdrant.collection import Contents
from lightretriever.index.engines.qdrant.key import SERVERS
from lightretriever.index.engines.qdrant.points import document_payload, point_id
from lightretriever.index.engines.qdrant.url import API_KEY
from lightretriever.text.corpus import Document
from lightretriever.types import sparse_from_dense, take_sparse


@pytest.mark.parametrize("fault", [BEFORE, AFTER, BUSY, SLOW_WRITE])
def test_a_write_that_fails_for_a_while_is_written_once(
    server: RestServer, quick: list[float], fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "WRITE", 10)  # several writes under way at once
    made, rows = make(server), make_rows(45)
    server.faults = [("PUT /collections/everest-1/points", fault)] * 4
    assert made.store(rows, None) == 0
    assert server.faults == []
    assert server.requests.count(("PUT", "/collections/everest-1/points")) == 5 + 4
    assert made.count() == 45
    assert len(quick) == 4
    assert_equal(made.rows([document.id for document in rows.documents]), rows)
    server.faults = [("/points/delete", fault)]
    assert made.delete([f"d{i}" for i in range(5)], None) == 5
    assert (server.faults, made.count()) == ([], 40)


def test_waits_grow_and_end(server: RestServer, quick: list[float]) -> None:
    made = make(server)
    server.faults = [("/points", BUSY)] * 100
    with pytest.raises(ArtifactError, match=r"/everest: the engine failed: 503 1 of 2 replicas are not available$"):
        made.store(make_rows(3), None)
    assert len(quick) == len(calls.WAITS)
    assert all(limit / 2 <= waited <= limit for waited, limit in zip(quick, calls.WAITS, strict=True))


def test_searches_come_back_after_a_fault(server: RestServer, quick: list[float]) -> None:
    made, rows = make(server), make_rows(30)
    made.store(rows, None)
    expected = made.search(Asked(rows.dense[:3], rows.sparse, 4))
    server.faults = [("/query/batch", BEFORE), ("/query/batch", BUSY)]
    found = made.search(Asked(rows.dense[:3], rows.sparse, 4))
    assert [names(found, one) for one in found.dense] == [names(expected, one) for one in expected.dense]
    assert len(quick) == 2


def test_what_does_not_pass_is_not_tried_again(server: RestServer, quick: list[float]) -> None:
    made = make(server)
    with pytest.raises(ArtifactError, match="the engine failed: 400 "):
        made.search(Asked(np.ones((1, 5), np.float32), None, 3))
    server.client.delete_collection("everest-1")
    with pytest.raises(ArtifactError, match="/everest does not exist: the collection was deleted"):
        made.count()
    assert quick == []


def test_an_unreachable_server_is_said_at_once(quick: list[float]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    url = f"http://127.0.0.1:{port}/everest"
    for enter in (lambda: reach(url).open(CONTENTS), lambda: reach(url).create(CONTENTS)):
        with pytest.raises(ArtifactError, match=r"/everest: cannot be reached \(.*\): is the server running") as error:
            enter()
        assert "\n" not in str(error.value)
    assert quick == []


def test_a_server_that_is_no_qdrant_is_said(server: RestServer) -> None:
    with pytest.raises(ArtifactError, match="the engine failed: 404 no such call"):
        reach(f"{server.url}/no/prefix/everest").open(CONTENTS)


def test_a_key_comes_from_the_environment_and_a_prefix_from_the_url(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(prefix="/behind/proxy", key="secret") as server:
        url = f"{server.url}/everest"
        with pytest.raises(ArtifactError, match=f"refuses the key .*: set {API_KEY} .*{SERVERS} names"):
            reach(url).create(CONTENTS)
        monkeypatch.setenv(API_KEY, "secret\n")
        made = reach(url).create(CONTENTS)
        assert made.count() == 0
        monkeypatch.setenv(API_KEY, "schlüssel")
        with pytest.raises(ArtifactError, match="characters that no key has"):
            reach(url).open(CONTENTS)


def test_both_arms_of_many_queries_travel_together(server: RestServer) -> None:
    made, rows = make(server), make_rows(150)
    made.store(rows, None)
    before = len(server.requests)
    found = made.search(Asked(rows.dense, rows.sparse, 3))
    asked = [path for _, path in server.requests[before:]]
    assert asked == ["/collections/everest-1/points/query/batch"] * len(asked)
    assert len(asked) == -(-2 * 150 // engine.BATCH)  # every document of these has a token
    assert all(names(found, ranking)[0] == f"d{i}" for i, ranking in enumerate(found.dense))
    before = len(server.requests)
    one = made.search(Asked(rows.dense[:1], take_sparse(rows.sparse, [0]), 3))
    one.dense_scores(rows.dense[0], one.sparse[0].keys.tolist())
    assert len(server.requests) == before + 2
    nothing = made.search(Asked(np.zeros((2, DIM), np.float32), sparse_from_dense(np.zeros((2, 5), np.float32)), 3))
    assert [len(ranking) for ranking in [*nothing.dense, *nothing.sparse]] == [0] * 4
    assert len(server.requests) == before + 2


def test_a_list_longer_than_there_are_documents_is_asked_for_as_long_as_that(
    server: RestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, rows = make(server), make_rows(9)
    made.store(rows, None)
    limits: list[int] = []

    def noted(asked: Asked, depth: int) -> list[arms.ArmQuery]:
        limits.append(depth)
        return arms.arm_queries(asked, depth)

    monkeypatch.setattr(engine, "arm_queries", noted)
    assert len(made.search(Asked(rows.dense[:1], None, 10**12)).dense[0]) == 9
    assert limits == [9]


def test_numbers_are_indexed_when_they_first_come(server: RestServer, monkeypatch: pytest.MonkeyPatch) -> None:
    made, rows = make(server), make_rows(9)
    indexed = ("PUT", "/collections/everest-1/index")
    before = server.requests.count(indexed)
    assert before == 1  # of the tags
    made.store(part(rows, range(5)), None)  # with the number "group"
    made.store(rows, None)
    assert server.requests.count(indexed) == before + 1
    monkeypatch.setattr(engine, "INDEXES", 2)
    many = Document("many", "", metadata={f"n{i}": i for i in range(9)})
    made.store(Rows([many], rows.dense[:1], take_sparse(rows.sparse, [0])), None)
    assert server.requests.count(indexed) == before + 2


def testrow_batches_are_bounded_in_points_and_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = make_rows(7)
    payloads = [document_payload(document) for document in rows.documents]
    monkeypatch.setattr(batches, "WRITE", 3)
    assert list(row_batches(rows, payloads)) == [range(3), range(3, 6), range(6, 7)]
    monkeypatch.setattr(batches, "WRITE_BYTES", 1)
    assert list(row_batches(rows, payloads)) == [range(i, i + 1) for i in range(7)]
    monkeypatch.setattr(batches, "WRITE_BYTES", 1 << 20)
    for field in ("text", "title", "metadata"):  # of any of them a document may have megabytes
        long = [dict(payload, **{field: "x" * 300_000}) for payload in payloads]
        assert max(map(len, row_batches(rows, long))) == 1


def test_optimise_waits_for_the_server(monkeypatch: pytest.MonkeyPatch, server: RestServer) -> None:
    made = make(server)
    states = iter(["green", "yellow", "grey", "yellow", "green", "green", "red"])
    state = made._state
    monkeypatch.setattr(made, "_state", lambda: state().model_copy(update={"status": next(states)}))
    monkeypatch.setattr(rest, "_POLL", 0.001)
    made.optimise()
    assert ("PATCH", "/collections/everest-1") in server.requests
    with pytest.raises(ArtifactError, match="cannot optimise"):
        made.optimise()
    states = iter(["yellow"] * 100)
    stopped = Event()
    stopped.set()
    made.optimise(stopped)
    monkeypatch.setattr(rest, "PATIENCE", 0.0)
    with pytest.raises(ArtifactError, match="goes on by itself"):
        made.optimise()


def damage(server: RestServer, **changed: object) -> None:
    """Give document d1 other vectors or another payload, as something else that writes there might."""
    stored = server.client.retrieve("everest-1", [point_id("d1")], with_payload=True, with_vectors=True)[0]
    values = {"id": point_id("d1"), "payload": stored.payload, "vector": stored.vector, **changed}
    server.client.upsert("everest-1", [models.PointStruct(**values)])


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        ({}, "no id"),
        ({"id": 7}, "no id"),
        ({"id": "d1", "title": "", "metadata": "{}"}, "no title or text"),
        ({"id": "d1", "title": "", "text": "", "metadata": "[1]"}, "damaged metadata"),
        ({"id": "d1", "title": "", "text": "", "metadata": "{"}, "damaged metadata"),
        ({"id": "d1", "title": "", "text": "", "metadata": "[" * 99_999}, "damaged metadata"),
        ({"id": "d1", "title": "", "text": ""}, "damaged metadata"),
    ],
)
def test_a_payload_that_is_none_of_ours_is_said(server: RestServer, payload: dict, said: str) -> None:
    made, rows = make(server), make_rows(3)
    made.store(rows, None)
    damage(server, payload=payload)
    found = made.search(Asked(rows.dense[1:2], None, 1))
    for read in (lambda: found.fetch([0]), lambda: list(pages(made, 9)), lambda: made.rows(["d1"])):
        with pytest.raises(ArtifactError, match=f"the engine holds a document with {said}"):
            read()


def test_vectors_that_are_none_of_ours_are_said(server: RestServer) -> None:
    made, rows = make(server), make_rows(3)
    made.store(rows, None)
    for indices, values in (([3, 3], [1.0, 2.0]), ([2**31 + 5], [1.0]), ([4], [0.0])):
        sparse = models.SparseVector.model_construct(indices=indices, values=values)
        server.client._client.collections["everest-1"].sparse_vectors["sparse"][1] = sparse
        with pytest.raises(ArtifactError, match=r"a sparse vector that is none of ours \('d1'\)"):
            made.rows(["d1"])
        assert len(made.rows(["d0", "d2"])) == 2


def test_a_token_beyond_the_vocabulary_makes_it_wider(server: RestServer) -> None:
    made, rows = make(server), make_rows(2)
    wide = np.zeros((2, WIDTH + 9), np.float32)
    wide[0, WIDTH + 8] = 1
    made.store(Rows(rows.documents, rows.dense, sparse_from_dense(wide)), None)
    assert made.rows(["d0"]).sparse.width == WIDTH + 9
    assert made.rows(["d1"]).sparse.width == WIDTH


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_goes_on_with_a_connection_of_its_own(
    server: RestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = partial(calls.QdrantClient, limits=httpx.Limits(max_connections=10))  # as the client does for other machines
    monkeypatch.setattr(calls, "QdrantClient", kept)
    made, rows = make(server), make_rows(20)
    made.store(rows, None)
    found = made.search(Asked(rows.dense[:2], None, 5))
    wanted = [names(found, ranking) for ranking in found.dense]

    def asked_again(row: int) -> bool:
        """Over one socket for both they would get each other's answers."""
        again = [made.search(Asked(rows.dense[row : row + 1], None, 5)) for _ in range(20)]
        return all(names(one, one.dense[0]) == wanted[row] for one in again)

    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if asked_again(1) and names(found, found.dense[0]) == wanted[0] else 2
            made.close()
        finally:
            os._exit(code)
    assert asked_again(0)
    assert os.waitpid(child, 0)[1] == 0
    assert made.count() == 20
    made.close()
    with pytest.raises(ArtifactError, match="/everest was closed: open it again"):
        made.count()


def test_threads_share_an_engine(server: RestServer) -> None:
    made, rows = make(server), make_rows(40)
    made.store(rows, None)
    wrong: list[object] = []

    def ask(i: int) -> None:
        try:
            for _ in range(5):
                found = made.search(Asked(rows.dense[i : i + 1], take_sparse(rows.sparse, [i]), 3))
                if names(found, found.dense[0])[0] != f"d{i}":
                    wrong.append(i)
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_an_engine_without_sparse_vectors_sends_none(server: RestServer) -> None:
    made, rows = make(server, Contents(DIM, None, CONTENTS.binding)), make_rows(4)
    made.store(replace(rows, sparse=None), None)
    stored = server.client.retrieve("everest-1", [point_id("d1")], with_vectors=True)
    assert list(stored[0].vector) == ["dense"]
