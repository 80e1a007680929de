"""The embedded engine: one Qdrant Edge shard, in this process, on this disk.

What was measured of qdrant-edge-py 0.9, and is relied on here:
- A write is in the write-ahead log when ``update`` returns: SIGKILL loses none. A power cut may, until the log's files
  are synced, which is all that a flush here does mostly: the engine's own syncs some 40 files, up to half a second on a
  busy disk, in which nothing is answered. It empties the log, so it is called when that has grown.
- A rejected write has been logged already, and NaN, wrong order and huge integers are accepted: so everything is
  checked before it comes here.
- Calls hold the interpreter's lock, most of the time: threads do not speed searches up, and a close in the midst of
  another thread's call fails ("Already borrowed"). So calls are made one at a time. A batch saves a tenth of a loop.
- Segments are searched side by side, the queries of a batch one after the other in each: so are the two arms. A second
  graph doubles a dense search's work (0.32 to 0.64 ms at 100,000) for a recall@100 of 0.993 instead of 0.980.
- Payloads on a search double its time: lists are fetched bare, payloads for the final k only.
- Points added since the last ``optimise`` are scanned exactly, beside the graph.
- It lets go of its own lock before the last writes of a close are done: in 36 of 60 tries a process that asked all the
  while opened a shard so early that points had lost payloads, vectors or themselves. So a shard has a lock of ours.
"""

from __future__ import annotations

import os
import shutil
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from operator import itemgetter, methodcaller
from pathlib import Path
from threading import RLock
from typing import IO, Any, TypeVar
from uuid import UUID

import numpy as np
import qdrant_edge as qdrant
from numpy.typing import NDArray

from lightretriever.artifact import fsync_path
from lightretriever.errors import ArtifactError, LockedError
from lightretriever.index.backend import Payload, Points, Ranking
from lightretriever.index.edge_filter import engine_filter
from lightretriever.index.filter.language import Filter
from lightretriever.index.filter.tags import TAGS, intervals, number_paths
from lightretriever.index.owner import check_owner
from lightretriever.scratch import new_folder
from lightretriever.types import SparseVectors
from lightretriever.vectors.lock import lock_folder

DENSE, SPARSE = "dense", "sparse"
EXACT_BELOW = 5_000  # documents; below it a scan is as fast as the graph
RESERVE = 256 << 20  # bytes; the engine writes through maps, so a full disk kills the process: it must not come to that
SMALL_RESERVE = 64 << 20  # enough to open, and to delete
DEPTH = 100  # of the graph's lists
LINKS, LINK_EFFORT = 32, 200  # of a point in the graph, and candidates that they are chosen from
FEWEST_RESCORED, MOST_RESCORED = 128, 1200  # candidates that the graph gives, rescored with the vectors as they are
BATCH = 64  # queries handed over at once
MAX_INDEXES = 64  # of payload; numbers of further fields are found all the same, at 5 µs a document
WRITE, WRITE_CHARACTERS = 256, 1 << 25  # points, and characters of text, handed over at once
LOG = 20_000  # points written, after which a flush empties the log
T = TypeVar("T")

_EXACT = qdrant.SearchParams(exact=True, quantization=qdrant.QuantizationSearchParams(ignore=True))


@dataclass(slots=True)
class _Held:
    """A shard, the lock that keeps other processes from it until all is written, and the one between threads."""

    shard: qdrant.EdgeShard
    lock: IO[bytes]
    calling: RLock = field(default_factory=RLock)
    process: int = field(default_factory=os.getpid)

    def let_go(self) -> None:
        if os.getpid() != self.process:  # a copy of it, which must write nothing, and whose threads are not there
            return
        with self.calling:
            self.shard.close()
            self.lock.close()  # not where closing failed: the shard is open still


class EdgeBackend:
    """A Qdrant Edge shard as a `Backend`. Use `create` or `open`."""

    def __init__(self, held: _Held, path: Path) -> None:
        self._held = held
        self._let_go = weakref.finalize(self, held.let_go)  # in that order also where nobody calls `close`
        self._path = path
        self._dirty = False  # written to since the last flush
        self._logged = 0  # points in the log
        self._indexed = set(self._call(lambda shard: shard.info()).payload_schema)
        self._met: set[str] = set()  # paths of numbers that have no index yet
        self._points = self.count()  # when the graph was built, or the shard opened

    @staticmethod
    def create(path: Path, dim: int, sparse: bool) -> EdgeBackend:
        """Make an empty shard in a new folder.

        Args:
            path: does not exist yet.
            dim: d of the dense vectors.
            sparse: whether points have a sparse vector.

        Raises:
            ArtifactError: the engine cannot make it there.
        """
        check_room(path.parent, RESERVE)
        config = qdrant.EdgeConfig(
            vectors={DENSE: qdrant.EdgeVectorParams(dim, qdrant.Distance.Dot)},
            sparse_vectors={SPARSE: qdrant.EdgeSparseVectorParams()} if sparse else None,
            hnsw_config=qdrant.HnswIndexConfig(m=LINKS, ef_construct=LINK_EFFORT, full_scan_threshold=10_000),
            quantization_config=qdrant.TurboQuantQuantizationConfig(
                bits=qdrant.TurboQuantBitSize.Bits4, memory=qdrant.Memory.Pinned
            ),
            optimizers=qdrant.EdgeOptimizersConfig(
                default_segment_number=1,  # every segment more is one more graph to search
                max_segment_size=1 << 30,  # kB: all in one
                indexing_threshold=max(1, EXACT_BELOW * dim * 4 // 1024),  # kB of dense vectors
            ),
        )
        index = qdrant.KeywordIndexParams(memory=qdrant.Memory.Cold, enable_hnsw=False)  # filtered searches scan
        with new_folder(path) as folder:
            backend = EdgeBackend(_hold(folder, lambda: qdrant.EdgeShard.create(str(folder), config)), folder)
            backend._update(qdrant.UpdateOperation.create_field_index(TAGS, index))
            backend.close()
        return EdgeBackend.open(path)

    @staticmethod
    def open(path: Path) -> EdgeBackend:
        """Open a shard; this process owns it until `close`.

        Raises:
            LockedError: it is open already, here or in another process.
            ArtifactError: it is absent or damaged.
        """
        if not (path / "edge_config.json").is_file():
            raise ArtifactError(f"{path} holds no engine data: the index is not complete, make it again")
        check_room(path, SMALL_RESERVE)
        return EdgeBackend(_hold(path, lambda: _load(path)), path)

    def upsert(self, points: Points) -> None:
        self._met.update(path for payload in points.payloads for path in number_paths(payload))
        if self._lacking() and self.count() <= EXACT_BELOW:
            self._index_numbers()
        rows = points.dense.tolist()
        sparse = points.sparse
        for batch, characters in _batches(points.payloads):
            check_room(self._path, RESERVE + 8 * characters)  # UTF-8, once in the log and once in its place
            stored = []
            for i in batch:
                vectors: dict[str, Any] = {DENSE: rows[i]}
                if sparse is not None:
                    vectors[SPARSE] = _sparse_vector(sparse, i)
                stored.append(qdrant.Point(UUID(int=points.keys[i]), vectors, dict(points.payloads[i])))
            self._update(qdrant.UpdateOperation.upsert_points(stored), len(stored))

    def delete(self, keys: Sequence[int]) -> None:
        check_room(self._path, SMALL_RESERVE)
        self._update(qdrant.UpdateOperation.delete_points([UUID(int=key) for key in keys]), len(keys))

    def existing(self, keys: Sequence[int]) -> set[int]:
        return {record.id.int for record in self._retrieve(keys, payload=False)}

    def search_dense(self, vectors: NDArray[np.float32], k: int, where: Filter | None = None) -> list[Ranking]:
        # With a filter the graph would be walked over the few that pass, or not at all: a scan of them is exact.
        limit = k if where is not None else max(k, DEPTH)
        params = _EXACT if where is not None else _graph(self._points, limit)
        queries = [qdrant.Query.Nearest(row, using=DENSE) for row in vectors.tolist()]
        return [_ranking(points, k) for points in self._search(queries, limit, where, params)]

    def search_sparse(self, queries: SparseVectors, k: int, where: Filter | None = None) -> list[Ranking]:
        vectors = [_sparse_vector(queries, i) for i in range(len(queries))]
        found = self._search([qdrant.Query.Nearest(vector, using=SPARSE) for vector in vectors], k, where, None)
        return [_ranking(points, k) for points in found]

    def payloads(self, keys: Sequence[int], fields: Sequence[str] = ()) -> list[Payload]:
        found = {record.id.int: record.payload for record in self._retrieve(keys, payload=list(fields) or True)}
        return [found.get(key) or {} for key in keys]

    def points(self, keys: Sequence[int]) -> Points:
        found = {record.id.int: record for record in self._retrieve(keys, payload=True, vectors=True)}
        return _points([found[key] for key in dict.fromkeys(keys) if key in found], vectors=True)

    def page(self, start: int, size: int, vectors: bool = False) -> Points:
        request = qdrant.ScrollRequest(offset=UUID(int=start), limit=size, with_payload=True, with_vector=vectors)
        records, _ = self._call(lambda shard: shard.scroll(request))
        return _points(records, vectors)

    def count(self) -> int:
        return self._call(lambda shard: shard.count(qdrant.CountRequest(exact=True)))

    def info(self) -> Mapping[str, object]:
        state = self._call(lambda shard: shard.info())
        return {
            "engine": "qdrant-edge",
            "segments": state.segments_count,
            "indexed_vectors": state.indexed_vectors_count,
            "indexed_numbers": sorted(self._indexed - {TAGS}),
            "bytes_on_disk": self._size(),
        }

    def flush(self) -> None:
        check_owner(self._path.parent, self._held.process)
        if not self._dirty:
            return
        if self._logged < LOG and sys.platform != "win32":
            sync_log(self._path)
        else:
            self._call(lambda shard: shard.flush())
            self._logged = 0
        self._dirty = False

    def optimise(self) -> None:
        check_room(self._path, RESERVE + self._size())  # what is rebuilt is written anew before the old is dropped
        self._dirty = True
        self._index_numbers()
        for file in self._path.glob("segments/*/*_storage*/**/*"):
            if file.is_file():
                _read_through(file)
        check_owner(self._path.parent, self._held.process)  # before a lock that a thread over there may hold for ever
        with self._held.calling:
            self._call(lambda shard: shard.optimize())
            # The shard goes on with the files it was rebuilt from mapped: at 100,000 documents every flush then takes
            # 400 ms, and 7 ms after it was opened anew.
            self._call(lambda shard: shard.flush())  # closing does so, but keeps an error to itself
            self._call(lambda shard: shard.close())
            self._logged, self._dirty = 0, False
            self._held.shard = self._call(lambda _: _load(self._path))
        self._points = self.count()

    def close(self) -> None:
        if os.getpid() != self._held.process:
            return
        try:
            if self._logged or self._dirty:
                self._call(lambda shard: shard.flush())  # closing does so, but keeps an error to itself
        finally:
            self._call(lambda _: self._held.let_go())
            self._let_go.detach()

    def _search(self, queries: list[Any], k: int, where: Filter | None, params: Any) -> list[list[Any]]:
        wanted = None if where is None else engine_filter(where)
        requests = [
            qdrant.QueryRequest(k, query=query, filter=wanted, params=params, with_payload=False, with_vector=False)
            for query in queries
        ]
        found: list[list[Any]] = []
        for start in range(0, len(requests), BATCH):
            batch = qdrant.QueryBatchRequest(requests[start : start + BATCH])
            found += self._call(methodcaller("query_batch", batch))
        if any(found):  # what is asked for, and is there, earns an index
            self._met.update(interval.key for interval in intervals(where))
        return found

    def _lacking(self) -> list[str]:
        return sorted(self._met - self._indexed)[: max(0, MAX_INDEXES - len(self._indexed))]

    def _index_numbers(self) -> None:
        """Give an index to numbers that lack one. It reads all payloads, so upserts do it in a small shard only."""
        for path in self._lacking():
            index = qdrant.FloatIndexParams(memory=qdrant.Memory.Cold, enable_hnsw=False)
            self._update(qdrant.UpdateOperation.create_field_index(path, index))
            self._indexed.add(path)

    def _retrieve(self, keys: Sequence[int], payload: bool | list[str], vectors: bool = False) -> list[Any]:
        if not keys:
            return []
        ids: list[Any] = [UUID(int=key) for key in keys]
        return self._call(lambda shard: shard.retrieve(ids, with_payload=payload, with_vector=vectors))

    def _size(self) -> int:
        """Bytes on disk; the engine's files have holes, so blocks are counted where the system counts them."""
        files = [file.stat() for file in self._path.rglob("*") if file.is_file()]
        return sum(getattr(file, "st_blocks", file.st_size // 512) * 512 for file in files)

    def _update(self, operation: Any, points: int = 1) -> None:
        self._dirty = True
        self._logged += points
        self._call(lambda shard: shard.update(operation))

    def _call(self, action: Callable[[qdrant.EdgeShard], T]) -> T:
        check_owner(self._path.parent, self._held.process)
        with self._held.calling:
            return _call(self._path, lambda: action(self._held.shard))


def graph_depth(points: int, limit: int) -> tuple[int, float]:
    """How far the graph is walked: candidates, and how many of them for each point of a list.

    Look-up queries lie off the documents' own, so they need more than other queries, and more the more points there
    are: for a recall@10 of 0.99 256 candidates among 100,000 real passages (0.6 ms), 1,000 among a million, most of
    them made (2.3 ms). With half the links and half the effort 400 candidates found 0.988 and 0.936, in the same time;
    such a graph is built in 0.4 to 0.7 of the time (benchmarks/index_scale.py's data).
    """
    candidates = min(MOST_RESCORED, max(FEWEST_RESCORED, int(points**0.6 / 3.5)))
    return candidates, max(2.0, candidates / limit)


def _graph(points: int, limit: int) -> qdrant.SearchParams:
    candidates, oversampling = graph_depth(points, limit)
    rescored = qdrant.QuantizationSearchParams(rescore=True, oversampling=oversampling)
    return qdrant.SearchParams(hnsw_ef=candidates, quantization=rescored)


def sync_log(path: Path) -> None:
    """Make what is in a shard's log survive a power cut, without asking the engine, whoever has it open."""
    log = path / "wal"
    try:
        for file in log.iterdir():
            with suppress(FileNotFoundError):  # the engine was done with it
                fsync_path(file)
        fsync_path(log)
    except OSError as error:
        raise ArtifactError(
            f"{log} cannot be synced ({error.strerror}): see to the disk and open the index again"
        ) from None


def check_room(path: Path, needed: int) -> None:
    """Refuse to go on where fewer bytes than needed are free. Raises ArtifactError."""
    try:
        free = shutil.disk_usage(path).free
    except OSError as error:
        raise ArtifactError(f"{path} cannot be looked at ({error.strerror}): is it there still?") from None
    if free < needed:
        raise ArtifactError(
            f"{path}: the disk is full ({free >> 20:,} MB free, {needed >> 20:,} MB needed): "
            "make room and run again; what was acknowledged before is kept"
        )


def _hold(path: Path, begin: Callable[[], qdrant.EdgeShard]) -> _Held:
    try:
        lock = lock_folder(path)
    except LockedError:
        raise _is_held(path) from None
    except OSError as error:
        raise ArtifactError(f"{path} cannot be written to ({error.strerror}): the engine has to, to open it") from None
    try:
        return _Held(_call(path, begin), lock)
    except BaseException:
        lock.close()
        raise


def _is_held(path: Path) -> LockedError:
    return LockedError(f"{path.parent} is open already, or still being closed: wait until that is done")


def _load(path: Path) -> qdrant.EdgeShard:
    for codes in path.glob("segments/*/vector_storage-*/quantized.data"):
        _read_through(codes)
    return qdrant.EdgeShard.load(str(path))


def _read_through(file: Path) -> None:
    """Bring a file into the page cache in one sweep.

    The engine reads the quantised vectors through a map, one page fault at a time, and drops them from the cache
    when it has copied them: opening 100,000 documents took 6 s on a busy disk, and takes 0.4 s after a sweep. Building
    the graph reads the points in the order of their keys, all over the files: where the system had dropped the pages
    of a million documents meanwhile, it stood still at 370 faults a second, until a sweep of 4 s.
    """
    with file.open("rb", buffering=0) as stream:
        while stream.read(1 << 20):
            pass


def _call(path: Path, action: Callable[[], T]) -> T:
    """Run one engine call. The engine raises bare Exception for everything, and a BaseException when it panics."""
    try:
        return action()
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        message = (str(error).splitlines() or [type(error).__name__])[0]
        if "WouldBlock" in message:  # the engine's own lock, of which a process forked from the last owner has a copy
            raise _is_held(path) from None
        raise ArtifactError(f"{path}: the engine failed: {message}") from None


def _batches(payloads: Sequence[Payload]) -> Iterator[tuple[range, int]]:
    """Rows to hand over together, and how many characters their texts have."""
    start = characters = 0
    for row, payload in enumerate(payloads):
        size = len(payload["text"])
        if row - start == WRITE or (row > start and characters + size > WRITE_CHARACTERS):
            yield range(start, row), characters
            start, characters = row, 0
        characters += size
    if start < len(payloads):
        yield range(start, len(payloads)), characters


def _sparse_vector(sparse: SparseVectors, i: int) -> qdrant.SparseVector:
    indices, values = sparse.row(i)
    return qdrant.SparseVector(indices.tolist(), values.tolist())


def _ranking(points: list[Any], k: int) -> Ranking:
    """The first k, equal scores by key. A key is a UUID object made when it is read, at 2 µs: only those are read."""
    scored = sorted(((point.score, point) for point in points), key=itemgetter(0), reverse=True)
    if len(scored) > k:
        last = scored[k - 1][0]
        scored = [pair for pair in scored if pair[0] >= last]  # all that tie with the k-th: their keys decide
    pairs = sorted((-score, point.id.int) for score, point in scored)[:k]
    return Ranking([key for _, key in pairs], [-score for score, _ in pairs])


def _points(records: list[Any], vectors: bool) -> Points:
    keys, payloads = [record.id.int for record in records], [record.payload or {} for record in records]
    if not vectors or not records:
        return Points(keys, np.empty((len(keys), 0), np.float32), None, payloads)
    dense = np.array([record.vector[DENSE] for record in records], dtype=np.float32)
    if SPARSE not in records[0].vector:
        return Points(keys, dense, None, payloads)
    rows = [record.vector[SPARSE] for record in records]
    lengths = [len(row.indices) for row in rows]
    indices = np.concatenate([np.array(row.indices, dtype=np.int32) for row in rows])
    values = np.concatenate([np.array(row.values, dtype=np.float32) for row in rows])
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    width = int(indices.max(initial=-1)) + 1  # the engine does not know V; the index does
    return Points(keys, dense, SparseVectors(indptr, indices, values, width), payloads)
