"""The server: hybrid searches and embeddings a second, how long one takes, memory and the time to be ready.

`python benchmarks/serving.py INDEX --queries FILE`: any index will do (`index_scale.py --keep` makes large ones);
FILE has a query on each line, or JSON lines with `text`. wrk (Debian has it) makes the load on the same machine, one
query a request; a search is answered with ten hits and their texts. `--model MODEL` also has the document model read
queries behind the same endpoint; `--soak MINUTES` searches and writes for so long and looks at the memory.
"""

from __future__ import annotations

import argparse
import json
import os
import threading
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from results import Result, report
from serving_load import Load, Server, memory, paced, served, wrk

from lightretriever import Index
from lightretriever.counted import counted

CONNECTIONS, WORKERS = (1, 8, 64), (1, 2)
SEARCH, EMBED = "/search", "/v1/embeddings"
WRITTEN = 20  # documents in each write of a soak, one write a second


def read_queries(file: Path) -> list[str]:
    """The queries of a file."""
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [json.loads(line)["text"] if line.startswith("{") else line for line in lines]


def bodies(path: str, queries: Sequence[str]) -> list[str]:
    """A request's body for each query."""
    if path == SEARCH:
        return [json.dumps({"query": query}) for query in queries]
    return [json.dumps({"input": query, "encoding_format": "base64"}) for query in queries]


def measure(index: Path, queries: Sequence[str], workers: int, seconds: int) -> dict[str, object]:
    """One number of workers: every load, then memory."""
    with served(index, "--workers", str(workers)) as server:
        found: dict[str, object] = {"workers": workers, "ready_seconds": server.ready_seconds}
        for path in (SEARCH, EMBED):
            sent = bodies(path, queries)
            wrk(server, path, sent, 8, 1)  # warm
            loads = {str(n): vars(wrk(server, path, sent, n, seconds)) for n in CONNECTIONS}
            best = max(load["per_second"] for load in loads.values())
            loads["half"] = vars(paced(server, path, sent, best / 2, seconds))
            found[path] = loads
        found["memory"] = [memory(process) for process in server.workers]
    return found


def measure_model(index: Path, queries: Sequence[str], model: str, seconds: int) -> dict[str, object]:
    """The document model behind the same endpoint."""
    sent = [json.dumps({"input": q, "encoding_format": "base64", "input_type": "full"}) for q in queries]
    with served(index, "--model", model, "--limit", "seconds=300") as server:
        request = urllib.request.Request(server.url + EMBED, sent[0].encode(), {"content-type": "application/json"})
        urllib.request.urlopen(request).read()  # which loads it
        return {str(n): vars(wrk(server, EMBED, sent, n, seconds)) for n in CONNECTIONS[:2]}


def soak(index: Path, queries: Sequence[str], minutes: float) -> dict[str, object]:
    """Searches and writes for so long; the memory of the worker every tenth of it."""
    with Index.open(index) as opened:
        dim, sparse = opened.settings.dim, opened.settings.sparse
    if sparse == "lm":
        raise SystemExit("--soak writes documents with dense vectors alone: give an index whose sparse side is bm25")
    with served(index) as server:
        stop = threading.Event()
        writer = threading.Thread(target=_write, args=(server, dim, queries, stop))
        writer.start()
        seen, loads = [memory(server.workers[0])["anonymous"]], list[Load]()
        try:
            for _ in range(10):
                loads.append(wrk(server, SEARCH, bodies(SEARCH, queries), 8, max(round(minutes * 6), 1)))
                seen.append(memory(server.workers[0])["anonymous"])
        finally:
            stop.set()
            writer.join()
    return {"minutes": minutes, "anonymous": seen, "loads": [vars(load) for load in loads]}


def _write(server: Server, dim: int, queries: Sequence[str], stop: threading.Event) -> None:
    """Replace the same few documents again and again; they are removed in the end."""
    rng = np.random.default_rng(0)
    headers = {"content-type": "application/json"}
    names = [f"soak-{number}" for number in range(WRITTEN)]
    while not stop.wait(1):
        rows = rng.standard_normal((WRITTEN, dim)).astype(np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        written = [
            {"id": name, "text": str(rng.choice(queries)), "vector": row.tolist()}
            for name, row in zip(names, rows, strict=True)
        ]
        body = json.dumps({"documents": written}).encode()
        urllib.request.urlopen(urllib.request.Request(f"{server.url}/documents", body, headers)).read()
    for name in names:
        urllib.request.urlopen(urllib.request.Request(f"{server.url}/documents/{name}", method="DELETE")).read()


def row(name: str, workers: object, load: dict[str, float]) -> list[str]:
    times = f"{load['p50_ms']:.2f} / {load['p99_ms']:.2f}"
    return [name, str(workers), f"{load['per_second']:,.0f}", times, f"{load['refused']:,.0f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index", type=Path)
    parser.add_argument("--queries", type=Path, required=True)
    parser.add_argument("--seconds", type=int, default=10, help="of each load")
    parser.add_argument("--model", help="the document model, behind the same endpoint")
    parser.add_argument("--soak", type=float, default=0.0, metavar="MINUTES")
    given = parser.parse_args()
    queries = read_queries(given.queries)
    with Index.open(given.index) as opened:
        documents = opened.count
    found = [measure(given.index, queries, workers, given.seconds) for workers in WORKERS]
    rows = []
    for path, name in ((SEARCH, "hybrid search"), (EMBED, "embedding")):
        for one in found:
            loads: dict[str, dict[str, float]] = one[path]  # type: ignore[assignment]
            for connections, load in loads.items():
                at = "half as many, steadily" if connections == "half" else counted(int(connections), "connections")
                rows.append(row(f"{name}, {at}", one["workers"], load))
    data: dict[str, object] = {"documents": documents, "queries": len(queries), "measured": found}
    if given.model:
        data["model"] = {"name": given.model, "loads": measure_model(given.index, queries, given.model, given.seconds)}
        for connections, load in data["model"]["loads"].items():  # type: ignore[index]
            rows.append(row(f"embedding by {given.model}, {counted(int(connections), 'connections')}", 1, load))
    notes = [
        f"{documents:,} documents, {len(queries):,} queries; the load is made on the same two cores.",
        "Ready after " + ", ".join(f"{one['ready_seconds']:.2f} s" for one in found) + " with 1 and 2 workers;",
        "of its own each worker holds "
        + ", ".join(f"{held['anonymous'] / 1e6:,.0f} MB" for one in found for held in one["memory"])  # type: ignore[attr-defined]
        + " beyond mapped files.",
    ]
    if given.soak:
        data["soak"] = soaked = soak(given.index, queries, given.soak)
        held = [size / 1e6 for size in soaked["anonymous"]]  # type: ignore[attr-defined]
        notes.append(
            f"{given.soak:g} minutes of searches and writes: {held[1]:,.0f} MB after a tenth of it, {held[-1]:,.0f} MB "
            "in the end."
        )
    notes.append(f"Load average at the end: {os.getloadavg()[0]:.1f}.")
    header = ["what", "workers", "a second", "ms: median / 99 of 100", "refused"]
    report(Result("serving", header, rows, " ".join(notes), data | {"time": time.time()}))


if __name__ == "__main__":
    main()
