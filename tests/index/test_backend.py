"""What every engine must do; an engine more is one more entry in ENGINES."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from index import rest_server
from index.conftest import make_documents, sparse_scores, unit_rows
from qdrant_client import QdrantClient

from lightretriever.errors import ArtifactError, LockedError
from lightretriever.index import edge
from lightretriever.index.backend import (
    Backend,
    Points,
    document_payload,
    pages,
    point_key,
)
from lightretriever.index.edge import EdgeBackend
from lightretriever.index.filter.language import In, matches, parse_filter
from lightretriever.index.qdrant_server import QdrantServer
from lightretriever.index.qdrant_url import parse_address
from lightretriever.index.remote import RemoteBackend
from lightretriever.types import sparse_from_dense, take_sparse

DIM, WIDTH = 12, 30
BINDING = {"model": "tiny", "dim": DIM}
SERVER = "LIGHTRETRIEVER_QDRANT_URL"  # of a real server: http(s)://host:6333; collections are made there and deleted


FILTERS: list[dict[str, object]] = [
    {"group": 3},
    {"group": {"$in": [1, 2]}, "even": True},
    {"tags": "t1"},
    {"ratio": {"$gt": 0.5}},
    {"ratio": {"$gte": 0.5, "$lt": 1.5}, "group": {"$ne": 0}},
    {"$or": [{"group": {"$lte": 1}}, {"$not": {"tags": {"$in": ["t0", "u1"]}}}]},
]


@contextmanager
def embedded(path: Path) -> Iterator[Backend]:
    backend = EdgeBackend.create(path / "shard", DIM, True)
    yield backend
    backend.close()


@contextmanager
def own_process(path: Path) -> Iterator[Backend]:
    backend = RemoteBackend.create(path / "shard", DIM, True)
    yield backend
    backend.close()


@contextmanager
def local_mode(_: Path) -> Iterator[Backend]:
    """The client's own engine in this process: its data model and filters, without graph, network and server."""
    address = parse_address("http://nowhere/everest")
    backend = QdrantServer(address, QdrantClient(":memory:")).create(DIM, True, BINDING)
    yield backend
    backend.close()


@contextmanager
def over_rest(_: Path) -> Iterator[Backend]:
    """The same behind HTTP: what is sent to a server, and what comes back from one."""
    with rest_server.serve() as server:
        backend = QdrantServer(parse_address(f"{server.url}/everest")).create(DIM, True, BINDING)
        yield backend
        backend.close()


@contextmanager
def real_server(_: Path) -> Iterator[Backend]:
    if SERVER not in os.environ:
        pytest.skip(f"no Qdrant server: {SERVER} is not set")
    address = parse_address(f"{os.environ[SERVER].rstrip('/')}/lightretriever-test-{uuid4().hex}")
    server = QdrantServer(address)
    backend = server.create(DIM, True, BINDING)
    try:
        yield backend
    finally:
        server.drop(backend.collection)
        server.close()


ENGINES: dict[str, Callable[[Path], AbstractContextManager[Backend]]] = {
    "edge": embedded,
    "edge in a process of its own": own_process,
    "local mode": local_mode,
    "REST": over_rest,
    "server": real_server,
}


def make_points(n: int) -> Points:
    rng = np.random.default_rng(n)
    documents = make_documents(n)
    weights = np.where(rng.random((n, WIDTH)) < 0.2, rng.random((n, WIDTH)) + 0.1, 0).astype(np.float32)
    keys = [point_key(document.id) for document in documents]
    return Points(keys, unit_rows(rng, n, DIM), sparse_from_dense(weights), [document_payload(d) for d in documents])


def rows(points: Points, some: slice) -> Points:
    chosen = range(*some.indices(len(points.keys)))
    return Points(points.keys[some], points.dense[some], take_sparse(points.sparse, chosen), points.payloads[some])


@pytest.fixture(params=ENGINES)
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    with ENGINES[request.param](tmp_path) as made:
        yield made


def test_of_documents_that_tie_with_the_last_the_smallest_keys_are_listed(backend: Backend) -> None:
    points = make_points(30)
    dense = np.where(np.arange(30)[:, None] < 3, points.dense[:1], -points.dense[:1])  # three alike before 27 alike
    backend.upsert(Points(points.keys, dense, points.sparse, points.payloads))
    wanted = sorted(points.keys[:3]) + sorted(points.keys[3:])
    for k in (2, 3, 7, 30):
        assert backend.search_dense(points.dense[:1], k)[0].keys == wanted[:k]


def test_an_engine_keeps_the_protocol(backend: Backend) -> None:
    """One story rather than many tests: making an engine costs more than all that is asked of it."""
    points = make_points(120)
    assert (backend.count(), backend.existing(points.keys), list(pages(backend, 7))) == (0, set(), [])
    assert backend.search_dense(points.dense[:2], 5)[1].keys == []
    backend.upsert(rows(points, slice(100)))
    backend.upsert(rows(points, slice(60, 120)))  # some of them again
    assert backend.count() == 120
    assert backend.existing([*points.keys[:3], point_key("nowhere")]) == set(points.keys[:3])
    assert backend.payloads([points.keys[5], point_key("nowhere"), points.keys[2]]) == [
        points.payloads[5],
        {},
        points.payloads[2],
    ]
    assert backend.payloads([points.keys[5]], ["id"]) == [{"id": "d5"}]

    rng = np.random.default_rng(1)
    queries = unit_rows(rng, 70, DIM)
    counts = sparse_from_dense((rng.random((70, WIDTH)) < 0.1).astype(np.float32))
    arms = [
        (queries @ points.dense.T, lambda k, where=None: backend.search_dense(queries, k, where)),
        (sparse_scores(counts, points.sparse), lambda k, where=None: backend.search_sparse(counts, k, where)),
    ]
    even = In("even", (True,))
    for scores, search in arms:
        for allowed, found in (
            (np.ones(120, bool), search(10)),
            (np.arange(120) % 2 == 0, search(10, even)),
        ):
            for row, ranking in zip(scores, found, strict=True):
                listed = row[allowed & (row != 0)]
                assert ranking.scores == pytest.approx(sorted(listed, reverse=True)[:10], abs=1e-5)
                of_keys = [row[points.keys.index(key)] for key in ranking.keys]
                assert of_keys == pytest.approx(ranking.scores, abs=1e-5)
                pairs = list(zip([-score for score in ranking.scores], ranking.keys, strict=True))
                assert pairs == sorted(pairs)

    parts = list(pages(backend, 50, vectors=True))
    assert [len(page.keys) for page in parts] == [50, 50, 20]
    some = backend.points([points.keys[7], point_key("nowhere"), points.keys[3], points.keys[7]])
    assert some.keys == [points.keys[7], points.keys[3]]
    assert backend.points([point_key("nowhere")]).keys == []
    for page in [*parts, some]:
        for i, key in enumerate(page.keys):
            row = points.keys.index(key)
            assert np.allclose(page.dense[i], points.dense[row], atol=1e-6)
            assert np.array_equal(page.sparse.row(i)[0], points.sparse.row(row)[0])
            assert np.allclose(page.sparse.row(i)[1], points.sparse.row(row)[1], atol=1e-6)
            assert page.payloads[i] == points.payloads[row]
    assert [page.dense.shape for page in pages(backend, 100)] == [(100, 0), (20, 0)]

    metadata = [document.metadata for document in make_documents(120)]
    for conditions in FILTERS:
        where = parse_filter(conditions)
        passing = {key for key, held in zip(points.keys, metadata, strict=True) if matches(where, held)}
        assert 0 < len(passing) < 120
        assert set(backend.search_dense(queries[:1], 120, where)[0].keys) == passing
        assert {key for ranking in backend.search_sparse(counts, 120, where) for key in ranking.keys} <= passing

    backend.delete([*points.keys[:50], point_key("nowhere")])
    assert backend.count() == 70
    assert backend.existing(points.keys) == set(points.keys[50:])
    backend.optimise()
    backend.flush()
    assert backend.count() == 70
    assert not set(points.keys[:50]) & {key for ranking in backend.search_dense(queries, 70) for key in ranking.keys}
    json.dumps(backend.info())


def test_an_engine_says_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = EdgeBackend.create(tmp_path / "shard", DIM, True)
    with pytest.raises(LockedError, match="open already"):
        EdgeBackend.open(tmp_path / "shard")
    points = make_points(3)
    with pytest.raises(ArtifactError, match=r"engine failed: .*dim: 12, got 5"):
        backend.search_dense(np.ones((1, 5), np.float32), 3)
    with monkeypatch.context() as patch:
        patch.setattr(edge, "RESERVE", 1 << 60)
        for write in (
            lambda: backend.upsert(points),
            backend.optimise,
            lambda: EdgeBackend.create(tmp_path / "other", DIM, False),
        ):
            with pytest.raises(ArtifactError, match=r"the disk is full .* make room"):
                write()
    assert backend.count() == 0
    backend.close()
    with pytest.raises(ArtifactError, match="engine failed"):
        backend.count()
    (tmp_path / "shard/edge_config.json").write_text("{")
    with pytest.raises(ArtifactError, match="engine failed"):
        EdgeBackend.open(tmp_path / "shard")
    with pytest.raises(ArtifactError, match="no engine data"):
        EdgeBackend.open(tmp_path)


def test_batches_are_bounded_in_points_and_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge, "WRITE", 3)
    monkeypatch.setattr(edge, "WRITE_CHARACTERS", 10)
    payloads = [{"text": "x" * size} for size in (1, 1, 1, 1, 50, 5, 5, 1)]
    batches = list(edge._batches(payloads))
    assert batches == [(range(3), 3), (range(3, 4), 1), (range(4, 5), 50), (range(5, 7), 10), (range(7, 8), 1)]
    assert list(edge._batches([])) == []


def test_keys_are_uuids_of_version_5() -> None:
    import uuid

    assert point_key("a") == point_key("a") != point_key("b")
    assert uuid.UUID(int=point_key("a")).version == 5
