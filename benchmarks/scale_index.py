"""One index of the benchmark of scale: built, then measured in a process that holds nothing else."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import count, islice
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path

import numpy as np
from scale_data import Size, Truth, index_table
from scale_limits import DEPTHS, percentiles, recall

from lightretriever import Encoded, Hit, Index, QueryEncoder
from lightretriever.bench.machine import own_memory
from lightretriever.bench.storage import bytes_by_kind
from lightretriever.fusion import fuse_exact
from lightretriever.index.search import CANDIDATES
from lightretriever.text.analysers.analyser import PIECES, Analyser
from lightretriever.types import concatenate_sparse, take_sparse

MODES = ("dense", "sparse", "hybrid")
CALLERS, PROCESSES = (1, 2, 4, 8), (1, 2)
CHUNK = 5_000  # documents in one call while building
ADDED = 10  # documents in one call while searching
RATE = 300  # documents a second, while searching
EXTRA = 2_000  # documents that are added, again and again, while searching
BATCH = 64  # queries in one call of a batch
ASKED = 5  # of so many queries one is asked while another process adds
SPAWN = multiprocessing.get_context("spawn")


def build_index(size: Size) -> dict[str, float]:
    """Make the index, all documents added and optimised; returns documents a second, seconds and bytes on disk."""
    folder = size.folder / "index"
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was interrupted
    taken, busy = 0.0, 0.0
    encoder, tokens = (
        QueryEncoder(index_table(size.root, size.dim)),
        Analyser(PIECES),
    )  # which the exact scan counts too
    with Index.create(folder, encoder, sparse="bm25", analyser=tokens) as index:
        for start in range(0, size.documents, CHUNK):
            rows = slice(start, min(start + CHUNK, size.documents))
            encoded = size.encoded(rows)
            ids = [str(row) for row in range(rows.start, rows.stop)]
            payloads = [{"text": text} for text in size.texts(rows)]
            begun, worked = time.perf_counter(), time.process_time()
            index.add(ids, encoded, payloads, flush=False)
            taken, busy = taken + time.perf_counter() - begun, busy + time.process_time() - worked
        begun = time.perf_counter()
        index.add(ids[-1:], take(encoded, [len(ids) - 1]), payloads[-1:])  # flushes what came before too
        taken += time.perf_counter() - begun
        begun = time.perf_counter()
        index.optimise()
        optimised = time.perf_counter() - begun
    return {
        "ingest_per_second": size.documents / taken,
        "ingest_busy_ms": busy / size.documents * 1000,
        "optimise_seconds": optimised,
        "bytes_on_disk": sum(bytes_by_kind(folder).values()),
        "bytes": bytes_by_kind(folder),
    }


def measure_index(size: Size, queries: int) -> dict[str, object]:
    """Open the index in this process; memory, latencies, recall, and callers side by side."""
    truth = size.truth()
    asked = [take(truth.queries, [i]) for i in range(min(queries, len(truth.queries)))]
    before = own_memory("before")
    opening = [open_and_search(size.folder / "index", asked[0]) for _ in range(2)]
    with Index.open(size.folder / "index") as index:
        found: dict[str, object] = {"queries": len(asked), "engine": dict(index.info()), "open_seconds": opening}
        by_mode = {mode: {str(k): latency(index, asked, k, mode) for k in DEPTHS} for mode in MODES}
        found["ms"] = by_mode
        found["p50_ms"] = {mode: {k: times[0] for k, times in by_k.items()} for mode, by_k in by_mode.items()}
        found["ms_texts"] = {mode: latency(index, asked, 10, mode, texts=True) for mode in MODES}
        memory = own_memory("searched")
        found["resident_bytes"], found["anonymous_bytes"] = memory.resident, memory.anonymous
        found["recall"] = recalls(index, truth, asked)
        found["resident_before_bytes"] = before.resident
        found["callers"] = callers(index, asked)
    return {**found, "load_average": os.getloadavg()[0]}


def measure_writing(size: Size, queries: int) -> dict[str, object]:
    """Latencies while another process adds documents; the index is as it was afterwards."""
    truth = size.truth()
    asked = [take(truth.queries, [i]) for i in range(min(queries, len(truth.queries)))][::ASKED]
    with Index.open(size.folder / "index") as index:
        with adding(size) as added:
            before, begun = added.value, time.perf_counter()
            times = {
                mode: {str(k): latency(index, asked[: 1 + 6000 // k], k, mode, warm=1) for k in DEPTHS}
                for mode in MODES
            }
            rate = (added.value - before) / (time.perf_counter() - begun)
        index.delete(f"extra-{row}" for row in range(EXTRA))
        index.wait()
        index.optimise()
    return {"ms_adding": times, "added_per_second": rate}


def open_and_search(path: Path, query: Encoded) -> float:
    """Seconds from nothing to the first answer."""
    begun = time.perf_counter()
    with Index.open(path) as index:
        index.search_encoded(query, 10)
        return time.perf_counter() - begun


def take(encoded: Encoded, rows: list[int]) -> Encoded:
    """Some rows of both sides."""
    return Encoded(encoded.dense[rows], None if encoded.sparse is None else take_sparse(encoded.sparse, rows))


def latency(index: Index, asked: list[Encoded], k: int, mode: str, texts: bool = False, warm: int = 20) -> list[float]:
    """p50, p99 and processor time of one query at a time, in milliseconds."""
    return percentiles(lambda i: index.search_encoded(asked[i], k, mode, texts=texts), len(asked), warm)


def recalls(index: Index, truth: Truth, asked: list[Encoded]) -> dict[str, dict[str, float]]:
    """Share of the exact answer found, by mode and k; the hybrid's is the exact lists fused the same way.

    Sparse documents count as found when they score as much as the exact list's k-th, since ties are many; to 1e-4, for
    weights are kept with 16 bits.
    """
    shares: dict[str, dict[str, float]] = {mode: {} for mode in MODES}
    for k in DEPTHS:
        found = {mode: [index.search_encoded(q, k, mode, texts=False)[0] for q in asked] for mode in MODES}
        shares["dense"][str(k)] = recall(_rows(found["dense"], k), truth.dense[: len(asked)], k)
        scored = zip(found["sparse"], truth.sparse_scores, strict=False)
        shares["sparse"][str(k)] = float(
            np.mean(
                [
                    sum(hit.score >= exact[k - 1] * (1 - 1e-4) for hit in hits) / max(1, (exact[:k] > 0).sum())
                    for hits, exact in scored
                ]
            )
        )
        exact = np.array([exact_hybrid(index, truth, one, i, k) for i, one in enumerate(asked)])
        shares["hybrid"][str(k)] = recall(_rows(found["hybrid"], k), exact, k)
    return shares


def exact_hybrid(index: Index, truth: Truth, asked: Encoded, i: int, k: int) -> list[int]:
    """The first k documents of the exact lists of query i, as deep as a search takes them, fused as the index does.

    What the index says of a document's scores is exact too. One in the exact lists that it did not list itself counts
    without what the other arm's list of a thousand does not tell: at most what its last one has.
    """
    depth = max(k, CANDIDATES)
    found = index.find(asked, depth)
    scores: dict[int, tuple[float, float]] = {}
    for row, score in zip(truth.dense[i].tolist(), truth.dense_scores[i].tolist(), strict=True):
        scores[row] = (score, 0.0)
    for row, score in zip(truth.sparse[i].tolist(), truth.sparse_scores[i].tolist(), strict=True):
        scores[row] = (scores.get(row, (0.0, 0.0))[0], score)
    for arm, ranking in (("dense", found.dense), ("sparse", found.sparse)):
        count = int(ranking.counts[0])
        rows = [int(name or -1) for name in found.ids(ranking.keys[0, :count])]
        for row, score, other in zip(rows, ranking.scores[0].tolist(), ranking.others[0].tolist(), strict=False):
            scores[row] = (score, other) if arm == "dense" else (other, score)
    listed = {*truth.dense[i, :depth].tolist(), *truth.sparse[i, :depth].tolist()} - {-1}
    assert found.ends is not None
    fused = fuse_exact(
        {row: scores[row] for row in listed}, (float(found.ends[0, 0]), float(found.ends[0, 1])), index.fusion
    )
    return [row for row, _ in fused[:k]]


def callers(index: Index, asked: list[Encoded]) -> dict[str, dict[str, float | bool]]:
    """Hybrid searches a second with so many threads, or processes, asking at once, and in batches; and whether they
    gave what one alone gives."""
    alone = [index.search_encoded(query, 10, texts=False)[0] for query in asked]
    found: dict[str, dict[str, float | bool]] = {}

    def measured(name: str, work: Callable[[], list[list[Hit]]]) -> None:
        begun = time.perf_counter()
        hits = work()
        found[name] = {"per_second": len(asked) / (time.perf_counter() - begun), "equal": hits == alone}

    for threads in CALLERS:
        with ThreadPoolExecutor(threads) as pool:
            measured(f"{threads}", lambda: list(pool.map(lambda query: _ask(index, query), asked)))
    for processes in PROCESSES:
        begun = SPAWN.Barrier(processes)
        with ProcessPoolExecutor(processes, SPAWN, _open, (index.path, asked[0], begun)) as pool:
            list(pool.map(_ask_opened, asked[:1] * processes))  # each has begun
            ask = partial(pool.map, _ask_opened, asked, chunksize=max(1, len(asked) // (4 * processes)))
            measured(f"{processes} processes", lambda ask=ask: list(ask()))
    whole = [joined(asked[start : start + BATCH]) for start in range(0, len(asked), BATCH)]
    measured("batches", lambda: [hits for part in whole for hits in index.search_encoded(part, 10, texts=False)])
    alone = [index.search_encoded(query, 10)[0] for query in asked]
    measured("batches, texts", lambda: [hits for part in whole for hits in index.search_encoded(part, 10)])
    return found


def joined(queries: list[Encoded]) -> Encoded:
    """Several queries as one batch."""
    sparse = [query.sparse for query in queries if query.sparse is not None]
    return Encoded(np.concatenate([query.dense for query in queries]), concatenate_sparse(sparse) if sparse else None)


_opened: list[Index] = []  # of a process that asks


def _open(path: Path, query: Encoded, begun: Barrier) -> None:
    _opened.append(Index.open(path))
    _ask_opened(query)
    begun.wait(300)


def _ask(index: Index, query: Encoded) -> list[Hit]:
    return index.search_encoded(query, 10, texts=False)[0]


def _ask_opened(query: Encoded) -> list[Hit]:
    return _ask(_opened[0], query)


@contextmanager
def adding(size: Size) -> Iterator[Synchronized[int]]:
    """Another process adds documents durably, `RATE` a second, `ADDED` a call; yields how many so far."""
    added, stop = SPAWN.Value("q", 0), SPAWN.Event()
    process = SPAWN.Process(target=_add, args=(size, added, stop))
    process.start()
    try:
        while not added.value:
            if not process.is_alive():
                raise SystemExit("the process that adds documents ended")
            time.sleep(0.1)
        yield added
    finally:
        stop.set()
        process.join()


def _add(size: Size, added: Synchronized[int], stop: Event) -> None:
    extra = size.encoded(slice(0, EXTRA))
    texts = [{"text": text} for text in size.texts(slice(0, EXTRA))]
    with Index.open(size.folder / "index") as index:
        due = time.perf_counter()
        for start in (begin % EXTRA for begin in count(0, ADDED)):
            rows = list(range(start, start + ADDED))
            index.add([f"extra-{row}" for row in rows], take(extra, rows), texts[start : start + ADDED])
            added.value += ADDED
            due += ADDED / RATE
            if stop.wait(max(0, due - time.perf_counter())):
                return


def _rows(found: list[list[Hit]], k: int) -> np.ndarray:
    """Documents found, int64 [q, k], −1 where there were fewer."""
    rows = np.full((len(found), k), -1, np.int64)
    for i, hits in enumerate(found):
        for place, hit in enumerate(islice(hits, k)):
            rows[i, place] = int(hit.id)
    return rows
