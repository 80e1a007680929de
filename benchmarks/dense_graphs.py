"""Graphs for dense search, ours and libraries': what each costs and finds, over the same vectors with the same queries.

`python benchmarks/dense_graphs.py --documents docs.npy --queries queries.npy [--name real]`, float32 [n, d] of unit
rows each. Libraries that are not installed are named and left out: `pip install faiss-cpu usearch hnswlib voyager`.
Every one searches on one thread with widths from 100 on until it finds 0.99 of the ten best; that row is shown.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from results import Result, report
from scale_limits import percentiles, recall

from lightretriever.axes import principal_axes
from lightretriever.index.segment.codes import encode
from lightretriever.index.segment.dense import build, search
from lightretriever.index.segment.scratch import DenseScratch

Floats = NDArray[np.float32]
K = 100
WIDTHS = (100, 128, 160, 200, 256, 320, 400, 512, 640, 800, 1024)
ENOUGH = 0.99  # of the ten best
THREADS = 2  # that build
SAMPLE = 8_192


@dataclass(frozen=True)
class Graph:
    """One that was built.

    Attributes:
        ask: places of the best K for float32 [q, d], one row or many, at a width.
        size: bytes of all that is kept.
        maps: whether processes can share it by mapping its file.
    """

    ask: Callable[[Floats, int], NDArray]
    size: int
    maps: str


def ours(documents: Floats) -> Graph:
    rotation = principal_axes(documents[:SAMPLE], documents.shape[1])[0]  # as a build of an index takes them
    part = build(encode(documents @ rotation), threads=THREADS, rotation=rotation)
    scratch = DenseScratch(len(part))

    def ask(queries: Floats, width: int) -> NDArray:
        return search(part, queries, K, None, scratch, ef=width).places

    return Graph(ask, sum(array.nbytes for array in part.arrays().values()), "yes")


def faiss_graph(documents: Floats) -> Graph:
    import faiss

    faiss.omp_set_num_threads(THREADS)
    dim, inner = documents.shape[1], faiss.METRIC_INNER_PRODUCT
    index = faiss.IndexHNSWSQ(dim, faiss.ScalarQuantizer.QT_8bit, 16, inner)
    index.hnsw.efConstruction = 128
    index.train(documents[:20_000])
    index.add(documents)
    faiss.omp_set_num_threads(1)

    def ask(queries: Floats, width: int) -> NDArray:
        index.hnsw.efSearch = width
        return index.search(queries, K)[1]

    return Graph(ask, faiss.serialize_index(index).nbytes, "yes")


def usearch_graph(documents: Floats) -> Graph:
    from usearch.index import Index

    index = Index(ndim=documents.shape[1], metric="ip", dtype="i8", connectivity=16, expansion_add=128)
    index.add(np.arange(len(documents)), documents, threads=THREADS)

    def ask(queries: Floats, width: int) -> NDArray:
        index.expansion_search = width
        keys = index.search(queries, K, threads=1).keys
        return keys.reshape(len(queries), -1)

    return Graph(ask, index.serialized_length, "yes")


def hnswlib_graph(documents: Floats) -> Graph:
    import hnswlib

    index = hnswlib.Index("ip", documents.shape[1])
    index.init_index(len(documents), ef_construction=128, M=16)
    index.set_num_threads(THREADS)
    index.add_items(documents)
    index.set_num_threads(1)

    def ask(queries: Floats, width: int) -> NDArray:
        index.set_ef(width)
        return index.knn_query(queries, K, num_threads=1)[0]

    return Graph(ask, saved_size(index.save_index), "no")


def voyager_graph(documents: Floats) -> Graph:
    import voyager

    index = voyager.Index(
        voyager.Space.InnerProduct, documents.shape[1], M=16, ef_construction=128,
        storage_data_type=voyager.StorageDataType.Float8,
    )  # fmt: skip
    index.add_items(documents, num_threads=THREADS)

    def ask(queries: Floats, width: int) -> NDArray:
        return index.query(queries, K, num_threads=1, query_ef=width)[0]

    return Graph(ask, saved_size(index.save), "no")


SYSTEMS = {
    "ours": (ours, "int8, 16 bits to rank", "numba"),
    "faiss HNSW": (faiss_graph, "int8, trained", "faiss-cpu"),
    "usearch": (usearch_graph, "int8", "usearch"),
    "hnswlib": (hnswlib_graph, "float32", "hnswlib"),
    "voyager": (voyager_graph, "8-bit floats", "voyager"),
}


def saved_size(save: Callable[[str], None]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        save(str(Path(folder) / "index"))
        return (Path(folder) / "index").stat().st_size


def installed_size(package: str) -> int:
    """Bytes of a distribution's files."""
    files = importlib.metadata.files(package) or ()
    return sum(Path(file.locate()).stat().st_size for file in files if Path(file.locate()).is_file())


def frees_lock(graph: Graph, queries: Floats) -> bool:
    """Whether another thread goes on while one asks: it has its turns many times, not only before and after."""
    done, turns = threading.Event(), 0

    def work() -> None:
        graph.ask(queries, WIDTHS[-1])
        done.set()

    thread = threading.Thread(target=work)
    thread.start()
    while not done.is_set():
        time.sleep(0.0005)
        turns += 1
    thread.join()
    return turns > 10


def exact(documents: Floats, queries: Floats) -> Iterator[NDArray]:
    """Places of the K best of each query, best first."""
    for query in queries:
        scores = documents @ query
        best = np.argpartition(-scores, K)[:K]
        yield best[np.argsort(-scores[best])]


def measure(name: str, documents: Floats, queries: Floats, truth: NDArray) -> dict:
    """The row of one system."""
    make, code, package = SYSTEMS[name]
    begun, worked = time.perf_counter(), time.process_time()
    graph = make(documents)
    built, worked = time.perf_counter() - begun, time.process_time() - worked
    for width in WIDTHS:
        found = np.concatenate([graph.ask(queries[i : i + 1], width) for i in range(len(queries))])
        if recall(found, truth, 10) >= ENOUGH:
            break
    p50, _, processor = percentiles(lambda i: graph.ask(queries[i : i + 1], width), len(queries))
    return {
        "system": name, "code": code, "width": width, "p50": p50, "processor": processor,
        "recall": [recall(found, truth, k) for k in (10, K)], "built": built, "worked": worked,
        "bytes": graph.size / len(documents), "installed": installed_size(package),
        "frees": frees_lock(graph, queries[:200]), "maps": graph.maps,
    }  # fmt: skip


def cells(row: dict) -> list[str]:
    return [
        row["system"], row["code"], str(row["width"]), f"{row['p50']:.3f} ({row['processor']:.3f})",
        f"{row['recall'][0]:.4f}, {row['recall'][1]:.4f}", f"{row['built']:.0f} s ({row['worked']:.0f} s)",
        f"{row['bytes']:,.0f}", f"{row['installed'] / 1e6:.1f} MB", "yes" if row["frees"] else "no", row["maps"],
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=Path, required=True)
    parser.add_argument("--queries", type=Path, required=True)
    parser.add_argument("--asked", type=int, default=1000, help="queries at most")
    parser.add_argument("--name", default="documents")
    options = parser.parse_args()
    documents = np.load(options.documents)
    queries = np.load(options.queries)[: options.asked]
    truth, rows, missing = np.stack(list(exact(documents, queries))), [], []
    for name in SYSTEMS:
        try:
            rows.append(measure(name, documents, queries, truth))
        except ImportError as error:
            missing.append(error.name or name)
    lacking = f" Not installed, so left out: {', '.join(missing)}." if missing else ""
    report(
        Result(
            f"dense_graphs_{options.name}",
            ["graph", "codes", "width", "p50 ms (processor)", "recall@10, @100", "build (processor)",
             "bytes a document", "installed", "frees the lock", "mapped by many"],
            [cells(row) for row in rows],
            f"{len(documents):,} vectors of {documents.shape[1]} dimensions, {len(queries):,} queries, the best {K}, "
            f"one thread; the least width that finds {ENOUGH} of the ten best (the largest tried where none does); "
            f"built by {THREADS} threads.{lacking}",
            rows,
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
