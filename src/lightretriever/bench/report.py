"""Everything that one run measured: as JSON and back, and as tables, ratios first."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lightretriever.artifact import new_file
from lightretriever.bench.clock import Timing
from lightretriever.bench.encoding import LOOK_UP, Rate
from lightretriever.bench.machine import Memory
from lightretriever.bench.queries import LogRates
from lightretriever.bench.searching import Built
from lightretriever.errors import ArtifactError

KIND = "bench"
FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class Bench:
    """One run of the benchmark.

    Attributes:
        machine, date, command: what ran where and when.
        load: average load of the machine before and after; empty where it does not say.
        about: what was measured: model, table, passages, queries.
        skipped: what was not, and how it would be.
        encoding, searching: timings of queries' encoding and of whole searches.
        difference: largest of a number between the vectors of the static encoders.
        built: indexes, by number of documents.
        rates: of building tables and encoding documents.
        table: bytes of the token table's rows by how they are stored.
        log: what a log of queries says; None without one.
        memory: of processes.
    """

    machine: str
    date: str
    command: str
    load: list[float]
    about: list[str]
    skipped: list[str]
    encoding: list[Timing]
    searching: list[Timing]
    difference: float
    built: list[Built]
    rates: list[Rate]
    table: dict[str, int]
    log: LogRates | None
    memory: list[Memory]


@dataclass(frozen=True, slots=True)
class Table:
    """Cells as they are shown; all columns but the first are numbers."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def as_saved(bench: Bench) -> dict[str, object]:
    """A run as its file has it, for JSON."""
    return {"kind": KIND, "format_version": FORMAT_VERSION, **asdict(bench)}


def save(bench: Bench, path: Path) -> None:
    """Write a run as JSON, whole or not at all."""
    with new_file(path) as temporary:
        temporary.write_text(json.dumps(as_saved(bench), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def load(path: Path) -> Bench:
    """Read what `save` wrote.

    Raises:
        ArtifactError: it is absent, something else, or from a newer version.
    """
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(f"{path} does not exist: give a file that `lightretriever bench -o` wrote") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ArtifactError(
            f"{path} cannot be read as JSON ({reason}): give a file that `lightretriever bench -o` wrote"
        ) from None
    saved = isinstance(found, dict) and found.pop("kind", None) == KIND
    if not saved or found.pop("format_version", 0) != FORMAT_VERSION:
        raise ArtifactError(f"{path} holds no results of this version's bench: measure again")
    parts = {"encoding": Timing, "searching": Timing, "built": Built, "rates": Rate, "memory": Memory}
    try:
        for name, kind in parts.items():
            found[name] = [kind(**one) for one in found[name]]
        found["log"] = LogRates(**found["log"]) if found["log"] else None
        return Bench(**found)
    except (KeyError, TypeError):
        raise ArtifactError(f"{path} is damaged: measure again") from None


def tables(bench: Bench) -> list[Table]:
    """The tables of a run, in the order that they are shown in."""
    found = [
        _ratios(bench),
        _timings("Encoding queries", bench.encoding),
        _timings("Hybrid search end to end, 10 hits with their texts", bench.searching),
        Table(
            "Building",
            ["what", "of", "a second", "measured on", "the whole"],
            [
                [r.what, r.system, f"{r.per_second:,.0f} {r.unit}", f"{r.count:,}", _seconds(r.whole)]
                for r in bench.rates
            ]
            + [row for built in bench.built for row in _indexing(built)],
        ),
        _storage(bench),
        Table(
            "Memory of a process",
            ["process", "resident", "of which anonymous"],
            [[m.process, _bytes(m.resident), "" if m.anonymous is None else _bytes(m.anonymous)] for m in bench.memory],
        ),
    ]
    if bench.log is not None:
        found.append(_log(bench.log))
    return [table for table in found if table.rows]


def remarks(bench: Bench) -> str:
    """One paragraph: what was measured, how, and what was not."""
    parts = [
        *bench.about,
        "All in one run, systems taking turns, tokenisation included. Ratios are of the medians of single calls "
        "(p50), by the clock and by the processor's time over all threads, which other programs' load changes little; "
        "queries a second are the median over the turns, and the best turn's.",
    ]
    if bench.difference:
        parts.append(f"The static encoders' vectors differ by at most {bench.difference:.0e} in any number.")
    if bench.load:
        parts.append(f"Average load of the machine: {' before, '.join(f'{one:.1f}' for one in bench.load)} after.")
    return " ".join([*parts, *bench.skipped])


def markdown(bench: Bench) -> str:
    """All tables and the paragraph, ratios first."""
    parts = []
    for table in tables(bench):
        lines = [table.header, ["---"] + ["---:"] * (len(table.header) - 1), *table.rows]
        parts.append(f"**{table.title}**\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines))
    return "\n\n".join([*parts, remarks(bench)])


def _ratios(bench: Bench) -> Table:
    found: dict[str, dict[str, Timing]] = {}
    for timing in (*bench.encoding, *bench.searching):
        found.setdefault(timing.way, {})[timing.system] = timing
    others = list(dict.fromkeys(name for timings in found.values() for name in timings if name != LOOK_UP))
    searched = {timing.way for timing in bench.searching}
    rows = []
    for way, timings in found.items():
        own = timings[LOOK_UP]
        cells = [_ratio(own, timings[name]) if name in timings else "" for name in others]
        rows.append([f"{'search' if way in searched else 'encoding'}, {way}", *cells])
    return Table("So many times as long as by look-up (in brackets: processor time)", ["queries", *others], rows)


def _ratio(own: Timing, other: Timing) -> str:
    busy = f" ({_times(other.busy / own.busy)})" if own.busy > 0 else ""
    return f"{_times(other.p50 / own.p50)}{busy}"


def _timings(title: str, timings: Sequence[Timing]) -> Table:
    rows = [
        [
            t.way,
            t.system,
            f"{t.batch:,}",
            _short(t.p50),
            _short(t.p99),
            _short(t.busy),
            _rate(t.per_second),
            _rate(t.best),
            _short(t.batch * t.p50),
        ]
        for t in timings
    ]
    header = [
        "queries",
        "system",
        "batch",
        "p50 a query",
        "p99",
        "processor",
        "queries a second",
        "at best",
        "p50 of a call",
    ]
    return Table(title, header, rows)


def _indexing(built: Built) -> list[list[str]]:
    name = f"{built.documents:,} documents"
    whole = _seconds(built.documents / built.add_per_second)
    return [
        ["index, adding", name, f"{built.add_per_second:,.0f} documents", f"{built.documents:,}", whole],
        ["index, building", name, "", f"{built.documents:,}", _seconds(built.optimise_seconds)],
    ]


def _storage(bench: Bench) -> Table:
    rows = [[f"token table, {dtype}", _bytes(size), ""] for dtype, size in bench.table.items()]
    for built in bench.built:
        kinds = {**built.bytes, "all": sum(built.bytes.values())}
        rows += [
            [f"{built.documents:,} documents, {kind}", _bytes(size), f"{size / built.documents:,.0f}"]
            for kind, size in kinds.items()
            if size
        ]
    return Table("Storage", ["what", "bytes", "bytes a document"], rows)


def _log(log: LogRates) -> Table:
    rows = [
        ["queries in the log", f"{log.queries:,}"],
        ["of them different", f"{log.distinct:,}"],
        ["with a row for a phrase", f"{log.phrases:.1%}"],
        ["with a row of their own", f"{log.whole:.1%}"],
        ["tokens that such rows stand for", f"{log.tokens:.1%}"],
    ]
    rows += [[f"in a cache of the latest {int(size):,}", f"{share:.1%}"] for size, share in log.cached.items()]
    return Table("The log of queries", ["what", "how many"], rows)


def _times(ratio: float) -> str:
    return f"{ratio:,.0f}×" if ratio >= 20 else f"{ratio:.1f}×"


def _rate(per_second: float) -> str:
    return f"{per_second:,.0f}" if per_second >= 20 else f"{per_second:.1f}"


def _short(seconds: float) -> str:
    if seconds < 1e-3:
        return f"{seconds * 1e6:,.3g} µs"
    return f"{seconds * 1e3:,.3g} ms" if seconds < 1 else f"{seconds:.2f} s"


def _seconds(seconds: float) -> str:
    return "" if not seconds else f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:,.0f} min"


def _bytes(size: float) -> str:
    return f"{size / 1e6:,.1f} MB" if size < 1e8 else f"{size / 1e6:,.0f} MB"
