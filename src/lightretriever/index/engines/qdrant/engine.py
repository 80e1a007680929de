"""A Qdrant server or cluster as the engine: documents are points of a collection there.

- **Nothing stops two writers.** A collection is open to everyone who has its address and key. Any number of processes
  may search it; let one at a time write to it, or the later of two writes to one document stays, and BM25 statistics
  count what the other did not.
- A write is acknowledged when the server has applied it (``wait``) on more than half of the replicas: searches see
  it. The server flushes its write-ahead log by its own settings, so `flush` has nothing to do.
- The server builds its graph by itself; `optimise` waits until it is at rest.
- A process forked from the one that opened it goes on with a connection of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain
from threading import Event
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from qdrant_client import QdrantClient, models

from lightretriever.errors import ArtifactError
from lightretriever.index.engines.engine import START, Asked, Found, Rows, check_vocabulary, ends_of
from lightretriever.index.engines.qdrant.arms import (
    arm_queries,
    lists_of,
    other_queries,
    requests_of_points,
    with_others,
)
from lightretriever.index.engines.qdrant.batches import KEYS, chunks, row_batches, side_by_side
from lightretriever.index.engines.qdrant.calls import WRITE_LIMIT, Connection, Gone, confirmed
from lightretriever.index.engines.qdrant.collection import (
    Binding,
    Contents,
    bind_collection,
    check_contents,
    real_name,
    unused_names,
)
from lightretriever.index.engines.qdrant.filter import NUMBER, server_filter
from lightretriever.index.engines.qdrant.points import (
    DENSE,
    Payload,
    document_payload,
    place_of,
    point_at,
    point_id,
    point_vectors,
    stored_document,
    stored_metadata,
    stored_rows,
)
from lightretriever.index.engines.qdrant.rest import wait_for_rest
from lightretriever.index.filter.language import Filter
from lightretriever.index.filter.tags import number_paths
from lightretriever.index.tenant import check_owner
from lightretriever.text.corpus import Document

BATCH = 64  # queries sent at once
INDEXES = 100  # payload indexes at most: each costs memory, and metadata may have any number of fields
SAMPLE = 256  # documents whose mean vector stands for that of all
MANY = 100_000  # a longer list than this is asked for only where there are so many documents: the server makes room
T = TypeVar("T")


class QdrantEngine:
    """A collection of a Qdrant server as an `Engine`. Use `QdrantServer`; several threads may use it at once.

    When another process has put another collection in this one's place, it goes over to that one, if it is of the
    same binding: see `QdrantServer`.

    Attributes:
        connection: to the server.
        collection: the name of the one in use.
        contents: what its documents have, and what they belong to.
        follows: whether it goes over to what has taken the collection's place, where that is gone.
    """

    keeps_counts = False

    def __init__(self, connection: Connection, collection: str, contents: Contents) -> None:
        """Use `QdrantServer`."""
        self.connection = connection
        self.collection = collection
        self.contents = contents
        self.follows = True
        self._summed: tuple[NDArray[np.float64], int] | None = None
        self._indexed: set[str] = set()  # paths of numbers whose index is made, or is one too many

    def store(self, rows: Rows, tenant: str | None) -> int:
        points = {point_id(document.id): document for document in rows.documents}
        stored = self._retrieve(list(points), payload=False if tenant is None else ["metadata"])
        if tenant is not None:
            for record in stored:
                check_owner(points[record.id], stored_metadata(record.payload), tenant)
        payloads = [document_payload(document) for document in rows.documents]
        self._index_numbers(payloads)
        side_by_side(partial(self._write, rows, payloads), list(row_batches(rows, payloads)))
        return len(stored)

    def delete(self, ids: Sequence[str], where: Filter | None) -> int:
        points, deleted = list(dict.fromkeys(map(point_id, ids))), 0
        for some in chunks(points, KEYS):
            passing = self._passing(some, where)
            if passing:
                self._update(partial(_delete, passing))
            deleted += len(passing)
        return deleted

    def search(self, asked: Asked) -> Found:
        check_vocabulary(asked, 0)
        depth = asked.depth if asked.depth <= MANY else max(1, min(asked.depth, self.count()))
        queries = arm_queries(asked, depth)
        answers = self._query([query.request for query in queries])
        lists, ends = lists_of(asked, depth, queries, answers), None
        if asked.both and asked.dense is not None:
            others = other_queries(asked, lists)
            lists = with_others(lists, others, self._query([query.request for query in others]))
            ends = ends_of(asked.dense, *self._total())
        ids, fetch = partial(self._ids, lists.points), partial(self._fetch, lists.points)
        return Found(lists.dense, lists.sparse, ids, fetch, partial(self._dense_scores, lists.points), ends)

    def existing(self, ids: Sequence[str]) -> set[str]:
        points = {point_id(name): name for name in ids}
        return {points[record.id] for record in self._retrieve(list(points), payload=False)}

    def documents(self, ids: Sequence[str]) -> dict[str, Document]:
        """Those of the ids that there are, without their vectors."""
        records = self._retrieve(list(dict.fromkeys(map(point_id, ids))), payload=True)
        found = (stored_document(record.payload) for record in records)
        return {document.id: document for document in found}

    def rows(self, ids: Sequence[str]) -> Rows:
        points = list(dict.fromkeys(map(point_id, ids)))
        found = {record.id: record for record in self._retrieve(points, payload=True, vectors=True)}
        return self._rows([found[point] for point in points if point in found], vectors=True)

    def page(self, after: int, size: int, vectors: bool = False) -> tuple[Rows, int]:
        if after + 1 >= 1 << 128:
            return self._rows([], vectors), after
        start = point_at(after + 1)
        records, _ = self._call(
            lambda client, name: client.scroll(name, offset=start, limit=size, with_payload=True, with_vectors=vectors)
        )
        rows = self._rows(records, vectors)
        last = place_of(records[-1]) if records else after
        if records and last <= after:
            raise ArtifactError(f"{self._url}: the server gives the same documents again and again")
        return rows, last

    def count(self) -> int:
        return self._call(lambda client, name: client.count(name, exact=True)).count

    def info(self) -> Mapping[str, object]:
        state = self._state()
        alias, params = self.connection.address.name, state.config.params
        return {
            "engine": "qdrant",
            "url": self._url,
            "server_version": self._call(lambda client, _: client.info().version),
            "collection": self.collection,
            "unused_collections": self._call(lambda client, _: unused_names(client, alias)),
            "status": str(state.status),
            "shards": params.shard_number,
            "replicas": params.replication_factor,
            "segments": state.segments_count,
            "indexed_vectors": state.indexed_vectors_count,
        }

    def flush(self) -> None:
        """Nothing: a write that returned was applied, and is in the server's write-ahead log."""

    def optimise(self, stopped: Event | None = None) -> None:
        """See `Engine`; ends early where another thread sets ``stopped``."""
        wait_for_rest(self._url, self._state, lambda: self._call(_go_on), stopped or Event())

    def bind(self, binding: Binding) -> None:
        """Bind the collection to another table of its model; folders with the one before are accepted still."""
        self._call(lambda client, name: bind_collection(client, name, binding))
        self.contents = Contents(self.contents.dim, self.contents.width, binding)

    def close(self) -> None:
        self.connection.close()

    @property
    def _url(self) -> str:
        return self.connection.address.url

    def _ids(self, points: Sequence[str], keys: NDArray[np.int64]) -> list[str | None]:
        found = self._found(points, keys.tolist(), texts=False)
        return [None if document is None else document.id for document in found]

    def _fetch(self, points: Sequence[str], keys: Sequence[int]) -> list[Document | None]:
        return self._found(points, keys, texts=True)

    def _found(self, points: Sequence[str], keys: Sequence[int], texts: bool) -> list[Document | None]:
        wanted = [points[key] for key in keys]
        records = self._retrieve(list(dict.fromkeys(wanted)), payload=True if texts else ["id"])
        found = {record.id: stored_document(record.payload, texts) for record in records}
        return [found.get(point) for point in wanted]

    def _dense_scores(
        self, points: Sequence[str], vector: NDArray[np.float32], keys: Sequence[int]
    ) -> NDArray[np.float32]:
        """Worked out by the server: the documents' vectors need not travel."""
        wanted = [points[key] for key in keys]
        requests = requests_of_points(DENSE, vector.tolist(), list(dict.fromkeys(wanted)))
        found = {point.id: point.score for answer in self._query(requests) for point in answer.points}
        missing = [point for point in dict.fromkeys(wanted) if point not in found]
        found |= {record.id: 0.0 for record in self._retrieve(missing, payload=False)}  # it has no vector
        return np.array([found.get(point, np.nan) for point in wanted], np.float32)

    def _total(self) -> tuple[NDArray[np.float64], int]:
        """The sum of some documents' vectors, and of how many: of the first points, whose ids are hashes, so that they
        are a sample. Taken once; again as long as there are few."""
        if self._summed is not None:
            return self._summed
        sample = self.page(START, SAMPLE, vectors=True)[0].dense
        summed = sample.sum(axis=0, dtype=np.float64), len(sample)
        if len(sample) == SAMPLE:
            self._summed = summed
        return summed

    def _state(self) -> models.CollectionInfo:
        return self._call(lambda client, name: client.get_collection(name))

    def _rows(self, records: Sequence[Any], vectors: bool) -> Rows:
        return stored_rows(records, self.contents.dim, self.contents.width, vectors)

    def _index_numbers(self, payloads: Sequence[Payload]) -> None:
        """Have numbers indexed that come for the first time, so that ranges are quick; they are right without."""
        new = {path for payload in payloads for path in number_paths(payload)} - self._indexed
        if not new:
            return
        self._indexed |= set(self._state().payload_schema)
        for path in sorted(new - self._indexed)[: max(0, INDEXES - len(self._indexed))]:
            self._call(partial(_index, path))
        self._indexed |= new

    def _write(self, rows: Rows, payloads: Sequence[Payload], batch: range) -> None:
        points = [
            models.PointStruct(
                id=point_id(rows.documents[i].id), vector=point_vectors(rows, i), payload=dict(payloads[i])
            )
            for i in batch
        ]
        self._update(lambda client, name: client.upsert(name, points, wait=True))

    def _query(self, requests: Sequence[models.QueryRequest]) -> list[Any]:
        """An answer for each; both arms of a query in one request. Over HTTP, where the server's own work was nothing,
        that took 3.1 ms, two requests one after the other 5.4, side by side 5.2; where it was 5 ms an arm 13, 15, 11.
        """

        def ask(some: Sequence[models.QueryRequest]) -> list[Any]:
            answers = self._call(lambda client, name: client.query_batch_points(name, requests=some))
            if len(answers) != len(some):
                raise ArtifactError(f"{self._url}: the server answered {len(answers)} of {len(some)} queries")
            return answers

        return list(chain.from_iterable(side_by_side(ask, list(chunks(requests, BATCH)))))

    def _retrieve(self, points: Sequence[str], payload: bool | list[str], vectors: bool = False) -> list[Any]:
        """Those of the points that there are; of distinct ids."""
        records: list[Any] = []
        for some in chunks(points, KEYS):
            records += self._call(partial(_records, some, payload, vectors))
        if not {record.id for record in records} <= set(points):
            raise ArtifactError(f"{self._url}: the server gives documents that were not asked for")
        return records

    def _passing(self, points: Sequence[str], where: Filter | None) -> list[str]:
        """Those of the points that there are and that pass."""
        if where is None:
            return [record.id for record in self._retrieve(points, payload=False)]
        wanted = models.Filter(must=[models.HasIdCondition(has_id=list(points)), server_filter(where)])
        records, _ = self._call(
            lambda client, name: client.scroll(name, wanted, limit=len(points), with_payload=False, with_vectors=False)
        )
        return [str(record.id) for record in records]

    def _update(self, action: Callable[[QdrantClient, str], Any]) -> None:
        self._call(lambda client, name: confirmed(action(client, name)), WRITE_LIMIT)

    def _call(self, action: Callable[[QdrantClient, str], T], limit: float | None = None) -> T:
        """Make a call on the collection; on the one that is in its place, when it is gone."""

        def act(client: QdrantClient) -> T:
            return action(client, self.collection)

        try:
            return self.connection.call(act, limit=limit)
        except Gone:
            if not self.follows:
                raise
            self._follow()
            return self.connection.call(act, limit=limit)

    def _follow(self) -> None:
        call, alias = self.connection.call, self.connection.address.name
        name = call(lambda client: real_name(client, alias))
        if name is None:
            raise ArtifactError(f"{self._url} does not exist: the collection was deleted, or the address is wrong")
        check_contents(self._url, call(lambda client: client.get_collection(name)), self.contents)
        self.collection = name
        self._indexed, self._summed = set(), None


def _records(points: Sequence[str], payload: bool | list[str], vectors: bool, client: QdrantClient, name: str) -> Any:
    return client.retrieve(name, list(points), with_payload=payload, with_vectors=vectors)


def _delete(points: list[str], client: QdrantClient, name: str) -> Any:
    ids: list[Any] = list(points)
    return client.delete(name, models.PointIdsList(points=ids), wait=True)


def _index(path: str, client: QdrantClient, name: str) -> Any:
    return client.create_payload_index(name, path, NUMBER, wait=False)


def _go_on(client: QdrantClient, name: str) -> Any:
    return client.update_collection(name, optimizers_config=models.OptimizersConfigDiff())
