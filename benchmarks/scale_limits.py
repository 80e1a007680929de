"""What an index is measured against: faiss's graph, an exact float32 scan, and a term-at-a-time scan in numba."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from scale_data import Size
from term_scan import Scanner

EF = 128
DEPTHS = (10, 100, 1000)
SCANS = 50  # queries that the exact dense scan is timed with


def percentiles(ask: Callable[[int], object], queries: int, warm: int = 20) -> list[float]:
    """p50 and p99 in milliseconds of ``ask(i)`` for each query, one at a time, after a few to warm up.

    The third number is the p50 of the processor's time, over all threads of this process: on a busy machine, what a
    quiet one would show.
    """
    for i in range(min(warm, queries)):
        ask(i)
    taken, worked = [], []
    for i in range(queries):
        begun, busy = time.perf_counter(), time.process_time()
        ask(i)
        worked.append(time.process_time() - busy)
        taken.append(time.perf_counter() - begun)
    return [float(value * 1000) for value in (*np.percentile(taken, (50, 99)), np.median(worked))]


def recall(found: np.ndarray, truth: np.ndarray, k: int) -> float:
    """Mean share of the first k of ``truth`` [q, …] in ``found`` [q, k]."""
    return float(
        np.mean([len(set(f[:k].tolist()) & set(t[:k].tolist())) / k for f, t in zip(found, truth, strict=True)])
    )


def measure_limits(size: Size) -> dict[str, dict]:
    """System to build seconds, bytes, p50 and p99 by k, and recall by k; all on one thread but the graph's building."""
    return {"faiss HNSW": _graph(size), "exact float32 scan": _scan(size), "numba term at a time": _terms(size)}


def _graph(size: Size) -> dict:
    import faiss

    truth = size.truth()
    begun = time.perf_counter()
    index = faiss.IndexHNSWFlat(size.dim, 16, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = 100
    dense = size.dense()
    for start in range(0, len(dense), 50_000):
        index.add(np.ascontiguousarray(dense[start : start + 50_000]))
    built = time.perf_counter() - begun
    faiss.omp_set_num_threads(1)
    queries, found = truth.queries.dense, {}
    for k in DEPTHS:
        index.hnsw.efSearch = max(EF, k)
        found[k] = index.search(queries, k)[1]
    times = {}
    for k in DEPTHS:
        index.hnsw.efSearch = max(EF, k)
        times[str(k)] = percentiles(lambda i, k=k: index.search(queries[i : i + 1], k), len(queries))
    return {
        "build_seconds": built,
        "bytes": size.documents * (size.dim * 4 + 2 * 16 * 4 + 8),
        "ms": times,
        "recall": {str(k): recall(found[k], truth.dense, k) for k in DEPTHS},
    }


def _scan(size: Size) -> dict:
    dense, queries = np.array(size.dense()), size.truth().queries.dense

    def ask(i: int, k: int) -> np.ndarray:
        scores = dense @ queries[i]
        best = np.argpartition(-scores, k - 1)[:k]
        return best[np.argsort(-scores[best])]

    times = {str(k): percentiles(lambda i, k=k: ask(i, k), min(SCANS, len(queries)), warm=3) for k in DEPTHS}
    return {"build_seconds": 0.0, "bytes": dense.nbytes, "ms": times, "recall": {str(k): 1.0 for k in DEPTHS}}


def _terms(size: Size) -> dict:
    truth = size.truth()
    begun = time.perf_counter()
    postings = size.postings()
    built = time.perf_counter() - begun
    scanner, sparse = Scanner(postings, size.documents), truth.queries.sparse
    assert sparse is not None
    rows = [sparse.row(i) for i in range(len(sparse))]
    times = {str(k): percentiles(lambda i, k=k: scanner.search(*rows[i], k), len(rows)) for k in DEPTHS}
    touched = [int(np.diff(postings.starts)[tokens].sum()) for tokens, _ in rows]
    return {
        "build_seconds": built,
        "bytes": postings.bytes,
        "ms": times,
        "recall": {str(k): 1.0 for k in DEPTHS},
        "postings_a_query": float(np.mean(touched)),
    }
