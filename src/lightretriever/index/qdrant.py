"""A Qdrant server or cluster as the engine: the embedded engine's data model, over the network.

What is different from the embedded engine:
- **Nothing stops two writers.** The embedded shard is locked by the process that has it open; a collection is open
  to everyone who has its address and key. Any number of processes may search it; let one at a time write to it, or
  the later of two writes to one document stays, and BM25 statistics count what the other did not.
- A write is acknowledged when the server has applied it (``wait``) on more than half of the replicas: searches see
  it. The server flushes its write-ahead log by its own settings, so `flush` has nothing to do.
- The server builds its graph by itself; `optimise` waits until it is at rest.
- Scores travel as decimal text: they are taken back to float32, which is what the server computed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from typing import Any, TypeVar
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from qdrant_client import QdrantClient, models

from lightretriever.errors import ArtifactError
from lightretriever.index.backend import Payload, Points, Ranking
from lightretriever.index.edge import DENSE, DEPTH, SPARSE, graph_depth
from lightretriever.index.filter.language import Filter
from lightretriever.index.filter.tags import number_paths
from lightretriever.index.owner import check_owner
from lightretriever.index.qdrant_calls import LIMIT, WRITE_LIMIT, Gone, call, confirmed
from lightretriever.index.qdrant_collection import Binding, check_binding, real_name, stored_binding, unused_names
from lightretriever.index.qdrant_filter import NUMBER, server_filter
from lightretriever.index.qdrant_url import QdrantAddress
from lightretriever.types import SparseVectors

BATCH = 64  # queries sent at once
KEYS = 1_000  # ids sent at once
WRITE, WRITE_BYTES = 256, 8 << 20  # points, and bytes of JSON by estimate, sent at once; the server takes 32 MB
INDEXES = 100  # payload indexes at most: each costs memory, and metadata may have any number of fields
PARALLEL = 4  # writes under way at once
PATIENCE = 6 * 3600.0  # seconds that `optimise` waits for the server
_POLL = 0.2  # seconds between two looks at the server's state
_SHARD = 1_000_000  # points that a server's shard is taken to hold, for how far its graph is walked
T = TypeVar("T")

_EXACT = models.SearchParams(exact=True, quantization=models.QuantizationSearchParams(ignore=True))


class QdrantBackend:
    """A collection of a Qdrant server as a `Backend`. Use `QdrantServer`; several threads may use it at once.

    When another process has put another collection in this one's place, it goes over to that one, if it is of the
    same binding: see `QdrantServer`.
    """

    def __init__(self, client: QdrantClient, address: QdrantAddress, collection: str, binding: Binding) -> None:
        """Use `QdrantServer`."""
        self._client = client
        self._address = address
        self._binding = binding
        self.collection = collection
        self._process = os.getpid()
        self._indexed: set[str] = set()  # paths of numbers whose index is made, or is one too many

    def upsert(self, points: Points) -> None:
        self._index_numbers(points.payloads)
        batches = list(_batches(points))
        if len(batches) < 2:
            for batch in batches:
                self._write(points, batch)
            return
        with ThreadPoolExecutor(PARALLEL, thread_name_prefix="qdrant") as pool:
            for _ in pool.map(partial(self._write, points), batches):
                pass

    def delete(self, keys: Sequence[int]) -> None:
        for some in _chunks(keys, KEYS):
            ids = models.PointIdsList(points=[_id(key) for key in some])
            self._update(partial(self._client.delete, points_selector=ids, wait=True))

    def existing(self, keys: Sequence[int]) -> set[int]:
        return {_key(record) for record in self._retrieve(keys, payload=False)}

    def search_dense(self, vectors: NDArray[np.float32], k: int, where: Filter | None = None) -> list[Ranking]:
        limit = k if where is not None else max(k, DEPTH)
        params = _EXACT if where is not None else _graph(limit)
        found = self._search(vectors.tolist(), DENSE, limit, where, params)
        return [Ranking(ranking.keys[:k], ranking.scores[:k]) for ranking in found]

    def search_sparse(self, queries: SparseVectors, k: int, where: Filter | None = None) -> list[Ranking]:
        return self._search([_sparse_vector(queries, i) for i in range(len(queries))], SPARSE, k, where, None)

    def payloads(self, keys: Sequence[int], fields: Sequence[str] = ()) -> list[Payload]:
        found = {_key(record): record.payload for record in self._retrieve(keys, payload=list(fields) or True)}
        return [found.get(key) or {} for key in keys]

    def points(self, keys: Sequence[int]) -> Points:
        found = {_key(record): record for record in self._retrieve(keys, payload=True, vectors=True)}
        return _points([found[key] for key in dict.fromkeys(keys) if key in found], vectors=True)

    def page(self, start: int, size: int, vectors: bool = False) -> Points:
        scroll = partial(self._client.scroll, offset=_id(start), limit=size, with_vectors=vectors)
        records, _ = self._call(scroll)
        return _points(records, vectors)

    def count(self) -> int:
        return self._call(partial(self._client.count, exact=True)).count

    def info(self) -> Mapping[str, object]:
        state = self._call(self._client.get_collection)
        client, name = self._client, self._address.name
        params = state.config.params
        return {
            "engine": "qdrant",
            "url": self._address.url,
            "server_version": self._call(lambda _: client.info().version),
            "collection": self.collection,
            "unused_collections": self._call(lambda _: unused_names(client, name)),
            "status": str(state.status),
            "shards": params.shard_number,
            "replicas": params.replication_factor,
            "segments": state.segments_count,
            "indexed_vectors": state.indexed_vectors_count,
        }

    def flush(self) -> None:
        """Nothing: a write that returned was applied, and is in the server's write-ahead log."""

    def optimise(self) -> None:
        end, rested = time.monotonic() + PATIENCE, 0
        while rested < 2:  # it may be at rest for a moment, between a write and the work that the write calls for
            state = self._call(self._client.get_collection)
            status = str(state.status)
            rested = rested + 1 if status == "green" else 0
            if status == "red":
                said = getattr(state.optimizer_status, "error", "it does not say why")
                raise ArtifactError(f"{self._address.url}: the server cannot optimise the collection: {said}")
            if status == "grey":  # after the server's start it waits for a word before it goes on
                go_on = models.OptimizersConfigDiff()
                self._call(partial(self._client.update_collection, optimizers_config=go_on))
            if time.monotonic() > end:
                raise ArtifactError(
                    f"{self._address.url} is not optimised after {PATIENCE / 3600:g} hours: it goes on by itself, "
                    "and searches are right meanwhile"
                )
            if rested < 2:
                time.sleep(_POLL)

    def close(self) -> None:
        if os.getpid() == self._process:  # else its connection would say good-bye on the one that goes on
            self._client.close()

    def _index_numbers(self, payloads: Sequence[Payload]) -> None:
        """Have numbers indexed that come for the first time, so that ranges are quick; they are right without."""
        new = {path for payload in payloads for path in number_paths(payload)} - self._indexed
        if not new:
            return
        self._indexed |= set(self._call(self._client.get_collection).payload_schema)
        for path in sorted(new - self._indexed)[: max(0, INDEXES - len(self._indexed))]:
            self._call(partial(self._client.create_payload_index, field_name=path, field_schema=NUMBER, wait=False))
        self._indexed |= new

    def _write(self, points: Points, batch: range) -> None:
        stored = []
        for i in batch:
            vectors: dict[str, Any] = {DENSE: points.dense[i].tolist()}
            if points.sparse is not None:
                vectors[SPARSE] = _sparse_vector(points.sparse, i)
            stored.append(models.PointStruct(id=_id(points.keys[i]), vector=vectors, payload=dict(points.payloads[i])))
        self._update(partial(self._client.upsert, points=stored, wait=True))

    def _search(self, queries: list[Any], using: str, k: int, where: Filter | None, params: Any) -> list[Ranking]:
        wanted = None if where is None else server_filter(where)
        requests = [
            models.QueryRequest(
                query=query, using=using, filter=wanted, params=params, limit=k, with_payload=False, with_vector=False
            )
            for query in queries
        ]
        search = self._client.query_batch_points
        found = [self._call(partial(search, requests=some)) for some in _chunks(requests, BATCH)]
        return [_ranking(response.points) for response in chain.from_iterable(found)]

    def _retrieve(self, keys: Sequence[int], payload: bool | list[str], vectors: bool = False) -> list[Any]:
        retrieve = partial(self._client.retrieve, with_payload=payload, with_vectors=vectors)
        return [
            record
            for some in _chunks(keys, KEYS)
            for record in self._call(partial(retrieve, ids=[_id(key) for key in some]))
        ]

    def _update(self, action: Callable[[str], Any]) -> None:
        def update(collection: str) -> None:
            confirmed(action(collection))

        self._call(update, WRITE_LIMIT)

    def _call(self, action: Callable[[str], T], limit: float = LIMIT) -> T:
        """Make a call on the collection; on the one that is in its place, when it is gone."""
        check_owner(self._address.url, self._process)
        try:
            return call(self._address.url, partial(action, self.collection), limit=limit)
        except Gone:
            self._follow()
            return call(self._address.url, partial(action, self.collection), limit=limit)

    def _follow(self) -> None:
        client, address = self._client, self._address
        name = call(address.url, lambda: real_name(client, address.name))
        if name is None:
            raise ArtifactError(f"{address.url} does not exist: the collection was deleted, or the address is wrong")
        check_binding(address.url, call(address.url, lambda: stored_binding(client, name)), self._binding)
        self.collection = name
        self._indexed = set()


def _graph(limit: int) -> models.SearchParams:
    candidates, oversampling = graph_depth(_SHARD, limit)
    rescored = models.QuantizationSearchParams(rescore=True, oversampling=oversampling)
    return models.SearchParams(hnsw_ef=candidates, quantization=rescored)


def _batches(points: Points) -> Iterator[range]:
    """Rows to send together, bounded in number and in what they come to as JSON."""
    nonzeros = np.zeros(len(points.keys)) if points.sparse is None else np.diff(points.sparse.indptr)
    start, total = 0, 0.0
    for row, payload in enumerate(points.payloads):
        size = 22.0 * points.dense.shape[1] + 30.0 * nonzeros[row] + 4 * len(payload.get("text", "")) + 1_000
        if row - start == WRITE or (row > start and total + size > WRITE_BYTES):
            yield range(start, row)
            start, total = row, 0.0
        total += size
    if start < len(points.keys):
        yield range(start, len(points.keys))


def _chunks(values: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]


def _id(key: int) -> str:
    return str(UUID(int=key))


def _key(record: Any) -> int:
    return UUID(record.id).int


def _sparse_vector(sparse: SparseVectors, i: int) -> models.SparseVector:
    indices, values = sparse.row(i)
    return models.SparseVector(indices=indices.tolist(), values=values.tolist())


def _ranking(points: list[Any]) -> Ranking:
    pairs = sorted((-float(np.float32(point.score)), _key(point)) for point in points)
    return Ranking([key for _, key in pairs], [-score for score, _ in pairs])


def _points(records: list[Any], vectors: bool) -> Points:
    keys, payloads = [_key(record) for record in records], [record.payload or {} for record in records]
    if not vectors or not records:
        return Points(keys, np.empty((len(keys), 0), np.float32), None, payloads)
    dense = np.array([record.vector[DENSE] for record in records], dtype=np.float32)
    rows = [record.vector.get(SPARSE) for record in records]
    if all(row is None for row in rows):
        return Points(keys, dense, None, payloads)
    rows = [models.SparseVector(indices=[], values=[]) if row is None else row for row in rows]
    # The server may give a vector's terms in the order it keeps them: by index is how `SparseVectors` has them.
    pairs = [sorted(zip(row.indices, row.values, strict=True)) for row in rows]
    flat = [pair for row in pairs for pair in row]
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in pairs])]).astype(np.int64)
    indices = np.array([index for index, _ in flat], dtype=np.int32)
    values = np.array([value for _, value in flat], dtype=np.float32)
    width = int(indices.max(initial=-1)) + 1  # the engine does not know V; the index does
    return Points(keys, dense, SparseVectors(indptr, indices, values, width), payloads)
