"""How long searches, writes and syncs wait while an index is written and built anew.

    lightretriever encode data/acl-anthology --model minilm -o acl.vectors
    python benchmarks/live.py --table minilm.table --vectors acl.vectors …

One index; one thread searches without a break, another adds, replaces and deletes without a break. Each
phase says how long a search and a write took, at worst, and apart from the write how long the disk took to have it;
"building" ends when all of it is one segment.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from results import Result, report

from lightretriever import Encoded, Index, QueryEncoder
from lightretriever.index.engines.local.build import DUE
from lightretriever.text.corpus import Document
from lightretriever.vectors.folder import VectorsFolder

BATCH = 32  # documents in one call of add
BEFORE_BUILDING = DUE - 500  # documents in no segment, after which one would soon be built of them


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--table", type=Path, required=True, help="a token table of the vectors' model")
    options.add_argument("--vectors", type=Path, nargs="+", required=True, help="vectors folders")
    options.add_argument("--documents", type=int, default=100_000, help="how many to start with")
    options.add_argument("--seconds", type=float, default=20.0, help="of each phase but the building")
    chosen = options.parse_args()
    folder = Path(tempfile.mkdtemp(dir=Path.cwd(), prefix=".live."))
    try:
        found = measure(folder / "index", chosen.table, chosen.vectors, chosen.documents, chosen.seconds)
    finally:
        shutil.rmtree(folder)
    report(shown(found))


def measure(path: Path, table_path: Path, vectors: list[Path], wanted: int, seconds: float) -> dict[str, object]:
    """Build the index, then the phases."""
    parts = read_vectors(vectors)
    queries: list[str] = []
    with Index.create(path, QueryEncoder.load(table_path), sparse="bm25") as index:
        stored = 0
        spare: list[tuple[list[Document], Encoded]] = []
        start = time.perf_counter()
        for documents, encoded in parts:
            if stored >= wanted:
                spare.append((documents, encoded))
                if len(spare) * BATCH > 4_000:
                    break
                continue
            put(index, documents, encoded, flush=False)
            queries += [document.title or document.text[:60] for document in documents[:2]]
            stored += len(documents)
        index.refresh_bm25()
        built = time.perf_counter() - start
    if not spare:
        raise SystemExit(f"the vectors hold {stored:,} documents: ask for fewer, so that some are left to add")
    phases: dict[str, object] = {}
    with Index.open(path) as index:
        for documents, encoded in spare[:2]:  # what is loaded on first use
            index.search(queries[0], 10)
            put(index, documents, encoded)
        index.delete([document.id for document in spare[0][0]])
        index.search(queries[0], 10)
        for name in ("searching", "searching and writing", "searching, writing, building"):
            phases[name] = phase(index, name, queries, spare, seconds)
        count = index.count
    return {"documents": wanted, "left": count, "seconds_to_build": built, "phases": phases}


def phase(
    index: Index, name: str, queries: list[str], spare: list[tuple[list[Document], Encoded]], seconds: float
) -> dict[str, float]:
    """Seconds of searches and of writes, as milliseconds at several quantiles."""
    stop = threading.Event()
    searches: list[float] = []
    writes: list[float] = []
    syncs: list[float] = []

    def search() -> None:
        number = 0
        while not stop.is_set():
            start = time.perf_counter()
            index.search(queries[number % len(queries)], 10)
            searches.append(time.perf_counter() - start)
            number += 1

    def write() -> None:
        number = 0
        while not stop.is_set():
            documents, encoded = spare[number % len(spare)]
            for change in (
                partial(put, index, documents, encoded, flush=False),
                partial(index.delete, [document.id for document in documents[: BATCH // 4]], flush=False),
            ):
                for taken, action in ((writes, change), (syncs, index.flush)):
                    start = time.perf_counter()
                    action()
                    taken.append(time.perf_counter() - start)
            number += 1
            if "building" not in name and index.info()["fresh"] > BEFORE_BUILDING:
                stop.set()

    threads = [threading.Thread(target=search)]
    if "writing" in name:
        threads.append(threading.Thread(target=write))
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    if "building" in name:
        index.optimise(wait=False)
        index.wait()
    else:
        stop.wait(seconds)
    took = time.perf_counter() - start
    stop.set()
    for thread in threads:
        thread.join()
    result = {"seconds": took, "searches_per_second": len(searches) / took}
    for kind, taken in (("search", searches), ("write", writes), ("sync", syncs)):
        if taken:
            for quantile in (50, 99, 99.9, 100):
                result[f"{kind}_p{quantile:g}_ms"] = float(np.percentile(taken, quantile)) * 1e3
    result["documents_per_second"] = len(writes) / 2 * BATCH / took
    return result


def put(index: Index, documents: list[Document], encoded: Encoded, flush: bool | None = None) -> None:
    payloads = [{"title": document.title, "text": document.text} for document in documents]
    index.add([document.id for document in documents], encoded, payloads, flush=flush)


def read_vectors(folders: list[Path]) -> Iterator[tuple[list[Document], Encoded]]:
    """Documents and dense vectors, `BATCH` at a time; ids told apart by folder."""
    for number, path in enumerate(folders):
        for documents, encoded in VectorsFolder.open(path).parts():
            for start in range(0, len(documents), BATCH):
                some = documents[start : start + BATCH]
                named = [Document(f"{number}:{document.id}", document.text, document.title) for document in some]
                dense = np.asarray(encoded.dense[start : start + BATCH], np.float32)
                yield named, Encoded(dense / np.linalg.norm(dense, axis=1, keepdims=True))


def shown(found: dict[str, object]) -> Result:
    """The table."""
    phases: dict[str, dict[str, float]] = found["phases"]  # type: ignore[assignment]
    header = (
        "while",
        "search p50",
        "p99",
        "p99.9",
        "longest",
        "write p50",
        "p99",
        "longest",
        "sync p50",
        "p99",
        "longest",
        "searches/s",
        "written/s",
    )
    rows = []
    for name, row in phases.items():
        cells = [row.get(f"search_p{q}_ms") for q in ("50", "99", "99.9", "100")]
        cells += [row.get(f"{kind}_p{q}_ms") for kind in ("write", "sync") for q in ("50", "99", "100")]
        rates = [f"{row[f'{kind}_per_second']:.0f}" for kind in ("searches", "documents")]
        rows.append([name, *("–" if cell is None else f"{cell:.1f}" for cell in cells), *rates])
    building = phases["searching, writing, building"]["seconds"]
    notes = (
        f"An index of {found['documents']:,} documents, hybrid searches of k = 10 with texts; milliseconds. One "
        f"thread searches without a break, another adds and replaces {BATCH} documents and deletes {BATCH // 4} of "
        "them, by turns; after each it is synced, which is what the disk takes, whatever else is written to it. The "
        f"last phase lasts until a process of its own has built all as one segment: {building:.0f} s."
    )
    return Result("live", header, rows, notes, found)


if __name__ == "__main__":
    main()
