"""What 100 million and 10 billion documents need: shards, replicas, memory, disk, cores a query. Arithmetic, no more.

`python benchmarks/sizing.py` starts from what was measured of Qdrant's engine in one process, see `QDRANT`; or from
figures of your own: `--measured 1000000,384,4.1e9,3.2e9,2500,0.9,2.8` (documents, dimensions, bytes
on disk, bytes resident, documents a second at ingest, and milliseconds of a dense and a sparse search, p50, k = 100),
which may be given more than once. The machine that you would buy, and what you ask of it, are options. The tables go
into docs/sizing.md.

The rules, each in a function below:
  memory, disk   grow with the documents.
  a search       asks every shard once. Its dense part grows with the logarithm of a shard's documents (a walk in a
                 graph), its sparse part with their number (posting lists are read to the end).
  a shard        is as large as the slowest answer allows, and has a machine's core to itself while it answers.
  machines       are as many as memory, disk and cores each call for, whichever is most; and at least one a replica.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass

from results import Result, report

from lightretriever.index.engines.qdrant.collection import LINKS

SIZES = (100_000_000, 10_000_000_000)
GRAPH = LINKS * 2 * 4 * 1.1  # bytes of graph a document: 2 m links of 4 bytes on the lowest level, a tenth above it


@dataclass(frozen=True)
class Measured:
    """One index that was measured; times in milliseconds, p50, top 100, one caller."""

    documents: int
    dim: int
    bytes_on_disk: float
    resident_bytes: float
    ingest_per_second: float
    dense_ms: float
    sparse_ms: float
    source: str


QDRANT = (
    Measured(1_000_000, 384, 4_131e6, 3_498e6, 2_094, 5.83, 2.74, "qdrant-edge-py 0.9"),
    Measured(100_000, 1024, 750.9e6, 943.8e6, 4_541, 1.86, 1.16, "qdrant-edge-py 0.9"),
)
"""Qdrant's own engine in one process, as an index's engine before this package had one of its own: the same graph and
codes as a server has. Measured on 2026-11-22 on two cores of an AMD EPYC."""


@dataclass(frozen=True)
class Machine:
    """One node, and what is asked of all of them."""

    memory: float
    disk: float
    cores: int
    fill: float
    latency_ms: float
    queries_per_second: float
    replicas: int


@dataclass(frozen=True)
class Need:
    """What so many documents need."""

    shards: int
    shard_documents: int
    memory: float
    codes: float
    disk: float
    core_ms: float
    latency_ms: float
    cores: float
    machines: int
    because: str
    ingest_hours: float


def search_ms(measured: Measured, documents: float) -> tuple[float, float]:
    """Dense and sparse milliseconds in a shard of so many documents."""
    walk = math.log(max(documents, 2)) / math.log(max(measured.documents, 2))
    return measured.dense_ms * walk, measured.sparse_ms * documents / measured.documents


def largest_shard(measured: Measured, latency_ms: float) -> int:
    """The most documents whose both searches, one after the other, take so long; found by halving."""
    low, high = 1.0, 1e12
    while high / low > 1.0001:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if sum(search_ms(measured, middle)) <= latency_ms else (low, middle)
    return int(low)


def need(measured: Measured, documents: int, machine: Machine) -> Need:
    """Shards by the slowest answer, then machines by whatever runs out first."""
    shards = max(1, math.ceil(documents / largest_shard(measured, machine.latency_ms)))
    each = math.ceil(documents / shards)
    dense, sparse = search_ms(measured, each)
    memory = documents * measured.resident_bytes / measured.documents * machine.replicas
    disk = documents * measured.bytes_on_disk / measured.documents * machine.replicas
    core_ms = shards * (dense + sparse)
    cores = core_ms / 1000 * machine.queries_per_second
    by = {
        "memory": math.ceil(memory / (machine.memory * machine.fill)),
        "disk": math.ceil(disk / (machine.disk * machine.fill)),
        "cores": math.ceil(cores / (machine.cores * machine.fill)),
        "replicas": machine.replicas,
    }
    because = max(by, key=lambda name: by[name])
    return Need(
        shards=shards,
        shard_documents=each,
        memory=memory,
        codes=documents * (measured.dim / 2 + GRAPH) * machine.replicas,
        disk=disk,
        core_ms=core_ms,
        latency_ms=dense + sparse,
        cores=cores,
        machines=by[because],
        because=because,
        ingest_hours=documents * machine.replicas / (measured.ingest_per_second * by[because]) / 3600,
    )


def from_options(texts: Sequence[str]) -> list[Measured]:
    """Figures from the command line."""
    found = []
    for text in texts:
        values = [float(value) for value in text.split(",")]
        if len(values) != 7 or not all(value > 0 for value in values):
            raise SystemExit(f"--measured {text}: seven numbers above 0 are needed, see --help")
        found.append(Measured(int(values[0]), int(values[1]), *values[2:], source="command line"))
    return found


def inputs(found: Sequence[Measured]) -> Result:
    """What everything is worked out from."""
    header = ["measured at", "d", "disk, a document", "memory, a document", "ingest", "dense", "sparse", "source"]
    rows = [
        [
            f"{one.documents:,}",
            str(one.dim),
            f"{one.bytes_on_disk / one.documents:,.0f} bytes",
            f"{one.resident_bytes / one.documents:,.0f} bytes",
            f"{one.ingest_per_second:,.0f}/s",
            f"{one.dense_ms:.2f} ms",
            f"{one.sparse_ms:.2f} ms",
            one.source,
        ]
        for one in found
    ]
    notes = (
        "Bytes are those of the whole index, texts included, divided by its documents. Searches: p50, top 100, without "
        "texts, one caller, one core. Ingest without the graph."
    )
    return Result("sizing_measured", header, rows, notes, [vars(one) for one in found])


def table(found: Sequence[Measured], machine: Machine) -> Result:
    """What each size needs."""
    header = ["documents", "d", "shards", "a shard", "memory", "of it codes and graph", "disk", "a query", "core time"]
    header += [f"cores at {machine.queries_per_second:g}/s", "machines", "ingest"]
    rows, data = [], []
    for one in found:
        for documents in SIZES:
            what = need(one, documents, machine)
            rows.append(
                [
                    f"{documents / 1e6:,.0f} M",
                    str(one.dim),
                    f"{what.shards:,} × {machine.replicas}",
                    f"{what.shard_documents / 1e6:,.1f} M",
                    _bytes(what.memory),
                    _bytes(what.codes),
                    _bytes(what.disk),
                    f"{what.latency_ms:,.0f} ms",
                    f"{what.core_ms / 1000:,.2f} s",
                    f"{what.cores:,.0f}",
                    f"{what.machines:,} ({what.because})",
                    f"{what.ingest_hours:,.1f} h",
                ]
            )
            data.append({"documents": documents, "dim": one.dim, **vars(what)})
    notes = (
        f"Machines of {_bytes(machine.memory)} memory, {_bytes(machine.disk)} disk and {machine.cores} cores, each "
        f"filled to {machine.fill:.0%}; {machine.replicas} replicas, in memory and disk alike; shards as large as both "
        f"arms' searches, one after the other, within {machine.latency_ms:g} ms allow. A query takes as long as one "
        "shard, and the core time of all shards together, which is what it costs. In brackets what decides the number "
        f"of machines. Codes and graph: d/2 bytes at 4 bits and 2 × {LINKS} links of 4 bytes and a tenth, computed, "
        "not measured: what has to be in memory for the dense arm, if the rest is left to the disk and its cache. "
        "Ingest: every machine at the measured rate, each replica written."
    )
    return Result("sizing", header, rows, notes, data)


def _bytes(value: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9)):
        if value >= size:
            return f"{value / size:,.0f} {unit}" if value >= 10 * size else f"{value / size:,.1f} {unit}"
    return f"{value / 1e6:,.0f} MB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measured", action="append", default=[], metavar="N,D,DISK,MEMORY,RATE,DENSE,SPARSE")
    parser.add_argument("--memory", type=float, default=256, metavar="GB", help="of a machine")
    parser.add_argument("--disk", type=float, default=4_000, metavar="GB", help="of a machine")
    parser.add_argument("--cores", type=int, default=32, help="of a machine")
    parser.add_argument("--fill", type=float, default=0.7, help="share of a machine that is planned for")
    parser.add_argument("--latency", type=float, default=50, metavar="MS", help="of both arms' searches in a shard")
    parser.add_argument("--queries-per-second", type=float, default=100)
    parser.add_argument("--replicas", type=int, default=2)
    options = parser.parse_args()
    found = from_options(options.measured) or QDRANT
    machine = Machine(
        memory=options.memory * 1e9,
        disk=options.disk * 1e9,
        cores=options.cores,
        fill=options.fill,
        latency_ms=options.latency,
        queries_per_second=options.queries_per_second,
        replicas=options.replicas,
    )
    report(inputs(found))
    print()
    report(table(found, machine))


if __name__ == "__main__":
    main()
