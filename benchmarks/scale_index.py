"""One index of the benchmark of scale: built, then measured in a process that holds nothing else."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count, islice
from pathlib import Path

import numpy as np
from scale_data import Size, Truth, index_table
from scale_limits import DEPTHS, percentiles, recall

from lightretriever import Encoded, Hit, Index, QueryEncoder
from lightretriever.bench.machine import own_memory
from lightretriever.fusion import fuse_scores
from lightretriever.index.search import CANDIDATES
from lightretriever.types import take_sparse

MODES = ("dense", "sparse", "hybrid")
CALLERS = (1, 2, 4, 8)
CHUNK = 5_000  # documents in one call while building
LIVE = 10  # documents in one call while searching
EXTRA = 2_000  # documents that are added, again and again, while searching
ASKED = 5  # of so many queries one is asked while another thread adds


def build_index(size: Size) -> dict[str, float]:
    """Make the index, all documents added and optimised; returns documents a second, seconds and bytes on disk."""
    import json

    folder = size.folder / "index"
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was interrupted
    texts = json.loads((size.root / "texts.json").read_text())
    parents = np.load(size.root / "parents.npy")
    taken = 0.0
    with Index.create(folder, QueryEncoder(index_table(size.root, size.dim))) as index:
        for start in range(0, size.documents, CHUNK):
            rows = slice(start, min(start + CHUNK, size.documents))
            encoded = size.encoded(rows)
            ids = [str(row) for row in range(rows.start, rows.stop)]
            payloads = [{"text": texts[parent]} for parent in parents[rows]]
            begun = time.perf_counter()
            index.add(ids, encoded, payloads, flush=False)
            taken += time.perf_counter() - begun
        begun = time.perf_counter()
        index.add(ids[-1:], take(encoded, [len(ids) - 1]), payloads[-1:])  # flushes what came before too
        taken += time.perf_counter() - begun
        begun = time.perf_counter()
        index.optimise()
        optimised = time.perf_counter() - begun
    return {
        "ingest_per_second": size.documents / taken,
        "optimise_seconds": optimised,
        "bytes_on_disk": _bytes(folder / "shard"),
    }


def measure_index(size: Size, queries: int) -> dict[str, object]:
    """Open the index in this process; memory, latencies, recall, and callers side by side."""
    truth = size.truth()
    asked = [take(truth.queries, [i]) for i in range(min(queries, len(truth.queries)))]
    before = own_memory("before")
    with Index.open(size.folder / "index") as index:
        found: dict[str, object] = {"queries": len(asked), "engine": dict(index.info())}
        by_mode = {mode: {str(k): latency(index, asked, k, mode) for k in DEPTHS} for mode in MODES}
        found["ms"] = by_mode
        found["p50_ms"] = {mode: {k: times[0] for k, times in by_k.items()} for mode, by_k in by_mode.items()}
        found["ms_texts"] = {mode: latency(index, asked, 10, mode, texts=True) for mode in MODES}
        found["recall"] = recalls(index, truth, asked)
        memory = own_memory("searched")
        found["resident_bytes"], found["anonymous_bytes"] = memory.resident, memory.anonymous
        found["resident_before_bytes"] = before.resident
        found["callers"] = callers(index, asked)
    return {**found, "load_average": os.getloadavg()[0]}


def measure_live(size: Size, queries: int) -> dict[str, object]:
    """Open the index with its engine in a process of its own; latencies, alone and while documents are added."""
    truth = size.truth()
    asked = [take(truth.queries, [i]) for i in range(min(queries, len(truth.queries)))]
    few = asked[::ASKED]
    with Index.open(size.folder / "index", live=True) as index:
        found: dict[str, object] = {
            "ms_live": {mode: {str(k): latency(index, few, k, mode) for k in DEPTHS} for mode in MODES},
            "callers_live": callers(index, asked),
        }
        with adding(index, size) as added:
            begun = time.perf_counter()
            found["ms_adding"] = {
                mode: {str(k): latency(index, few[: 1 + 6000 // k], k, mode, warm=1) for k in DEPTHS} for mode in MODES
            }
            found["added_per_second"] = added[0] / (time.perf_counter() - begun)
    return found


def take(encoded: Encoded, rows: list[int]) -> Encoded:
    """Some rows of both sides."""
    return Encoded(encoded.dense[rows], None if encoded.sparse is None else take_sparse(encoded.sparse, rows))


def latency(index: Index, asked: list[Encoded], k: int, mode: str, texts: bool = False, warm: int = 20) -> list[float]:
    """p50, p99 and processor time of one query at a time, in milliseconds."""
    return percentiles(lambda i: index.search_encoded(asked[i], k, mode, texts=texts), len(asked), warm)


def recalls(index: Index, truth: Truth, asked: list[Encoded]) -> dict[str, dict[str, float]]:
    """Share of the exact answer found, by mode and k; the hybrid's is the exact lists fused the same way.

    Sparse documents count as found when they score as much as the exact list's k-th, since ties are many.
    """
    shares: dict[str, dict[str, float]] = {mode: {} for mode in MODES}
    for k in DEPTHS:
        found = {mode: [index.search_encoded(q, k, mode, texts=False)[0] for q in asked] for mode in MODES}
        shares["dense"][str(k)] = recall(_rows(found["dense"], k), truth.dense[: len(asked)], k)
        scored = zip(found["sparse"], truth.sparse_scores, strict=False)
        shares["sparse"][str(k)] = float(
            np.mean(
                [
                    sum(hit.score >= exact[k - 1] * (1 - 1e-5) for hit in hits) / max(1, (exact[:k] > 0).sum())
                    for hits, exact in scored
                ]
            )
        )
        exact = np.array([exact_hybrid(index, truth, i, k) for i in range(len(asked))])
        shares["hybrid"][str(k)] = recall(_rows(found["hybrid"], k), exact, k)
    return shares


def exact_hybrid(index: Index, truth: Truth, i: int, k: int) -> list[int]:
    """The first k documents of the exact lists of query i, as deep as a search takes them, fused as the index does."""
    depth = max(k, CANDIDATES)
    listed = truth.sparse[i, :depth] >= 0
    dense = zip(truth.dense[i, :depth].tolist(), truth.dense_scores[i, :depth].tolist(), strict=True)
    sparse = zip(truth.sparse[i, :depth][listed].tolist(), truth.sparse_scores[i, :depth][listed].tolist(), strict=True)
    return [row for row, _ in fuse_scores(dense, sparse, index.fusion)[:k]]


def callers(index: Index, asked: list[Encoded]) -> dict[str, dict[str, float | bool]]:
    """Hybrid searches a second with so many threads asking at once, and whether they gave what one alone gives."""
    alone = [index.search_encoded(query, 10, texts=False)[0] for query in asked]
    found: dict[str, dict[str, float | bool]] = {}
    for threads in CALLERS:
        with ThreadPoolExecutor(threads) as pool:
            begun = time.perf_counter()
            hits = list(pool.map(lambda query: index.search_encoded(query, 10, texts=False)[0], asked))
            rate = len(asked) / (time.perf_counter() - begun)
        found[str(threads)] = {"per_second": rate, "equal": hits == alone}
    return found


@contextmanager
def adding(index: Index, size: Size) -> Iterator[list[int]]:
    """Another thread adds LIVE documents at a time, durably, without a pause; yields how many so far."""
    extra = size.encoded(slice(0, EXTRA))
    stop, added = threading.Event(), [0]
    text = [{"text": "a document added while others search " * 10}] * LIVE

    def work() -> None:
        for start in (begin % EXTRA for begin in count(0, LIVE)):
            if stop.is_set():
                return
            rows = list(range(start, start + LIVE))
            index.add([f"extra-{row}" for row in rows], take(extra, rows), text)
            added[0] += LIVE

    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(work)
        try:
            yield added
        finally:
            stop.set()
            working.result()
            index.delete(f"extra-{row}" for row in range(EXTRA))


def _rows(found: list[list[Hit]], k: int) -> np.ndarray:
    """Documents found, int64 [q, k], −1 where there were fewer."""
    rows = np.full((len(found), k), -1, np.int64)
    for i, hits in enumerate(found):
        for place, hit in enumerate(islice(hits, k)):
            rows[i, place] = int(hit.id)
    return rows


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_blocks * 512 for file in folder.rglob("*") if file.is_file())
