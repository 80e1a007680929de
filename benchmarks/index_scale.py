"""The index at 10,000 to 1,000,000 documents: what it costs to build, to hold and to ask, and what it finds.

Real passages' vectors (`lightretriever encode`) as far as the folders given reach, then made ones of the same spectrum
and neighbourhoods (made_vectors.py), with texts of words out of the passages that they were made of; BM25 of the texts;
queries, real questions, looked up in a table that is fitted to the passages. Each index is built in one process and
measured in another that holds nothing else; faiss, an exact scan and a term-at-a-time scan are measured beside it.
`--keep FOLDER` keeps everything: a second run makes and measures only what is not there, and shows all that is. Needs
the `dev` extra: `python benchmarks/index_scale.py --vectors DIR… --queries-from FILE… --documents 10000 100000`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from pathlib import Path

from results import Result, report
from scale_data import Size, prepare, prepare_dim
from scale_index import ADDED, BATCH, CALLERS, MODES, PROCESSES, RATE, build_index, measure_index, measure_writing
from scale_limits import DEPTHS, measure_limits

Found = dict  # of one size, as it is saved


def alone(work: Callable, *arguments: object) -> dict:
    """The work's result, done in a fresh process, so that no other's memory is counted as its."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def kept(file: Path, work: Callable, *arguments: object) -> dict:
    """What the file holds, or else what the work gives, which the file then holds."""
    if not file.exists():
        file.write_text(json.dumps(alone(work, *arguments), indent=1))
    return json.loads(file.read_text())


def measure(size: Size, queries: int, limits: bool) -> None:
    """Everything about one size, into its folder; without ``limits`` the index alone."""
    size.truth()
    kept(size.folder / "built.json", build_index, size)
    kept(size.folder / "measured.json", measure_index, size, queries)
    kept(size.folder / "writing.json", measure_writing, size, queries)
    if limits:
        kept(size.folder / "limits.json", measure_limits, size)


def measured(root: Path) -> list[Found]:
    """Every size that was measured in the folder, now or before, by dimension and number of documents."""
    found = []
    for file in root.glob("*/writing.json"):
        dim, documents = file.parent.name.split("-")
        one: Found = {"documents": int(documents), "dim": int(dim), "limits": {}}
        for name in ("built.json", "measured.json", "writing.json"):
            one |= json.loads((file.parent / name).read_text())
        limits = file.with_name("limits.json")
        if limits.exists():
            one["limits"] = json.loads(limits.read_text())
        found.append(one)
    return sorted(found, key=lambda one: (one["dim"], one["documents"]))


def both(pair: list[float]) -> str:
    return f"{pair[0]:.2f} / {pair[1]:.2f}"


def sizes_table(found: list[Found]) -> tuple[list[str], list[list[str]]]:
    header = [
        "documents",
        "d",
        "ingest",
        "optimise",
        "open and search",
        "on disk",
        "resident (anonymous)",
        "recall@10, @100: dense",
        "sparse",
        "hybrid",
    ]
    rows = [
        [
            f"{one['documents']:,}",
            str(one["dim"]),
            f"{one['ingest_per_second']:,.0f}/s ({one['ingest_busy_ms']:.2f} ms)",
            f"{one['optimise_seconds']:,.0f} s",
            " / ".join(f"{seconds * 1000:,.0f}" for seconds in one["open_seconds"]) + " ms",
            f"{one['bytes_on_disk'] / 1e6:,.0f} MB",
            f"{one['resident_bytes'] / 1e6:,.0f} ({one['anonymous_bytes'] / 1e6:,.0f}) MB",
            *(", ".join(f"{one['recall'][mode][k]:.3f}" for k in ("10", "100")) for mode in MODES),
        ]
        for one in found
    ]
    return header, rows


def latency_table(found: list[Found]) -> tuple[list[str], list[list[str]]]:
    header = ["documents", "d", "what", *(f"k = {k}" for k in DEPTHS), "k = 10, texts", "recall@10", "CPU, k = 10"]
    rows = []
    for one in found:
        name = [f"{one['documents']:,}", str(one["dim"])]
        for mode in MODES:
            cells = [both(one["ms"][mode][str(k)]) for k in DEPTHS]
            share, busy = f"{one['recall'][mode]['10']:.3f}", f"{one['ms'][mode]['10'][2]:.2f}"
            rows.append([*name, mode, *cells, both(one["ms_texts"][mode]), share, busy])
        times = one["ms_adding"]
        rows += [[*name, f"{mode}, adding", *(both(times[mode][str(k)]) for k in DEPTHS), "", "", ""] for mode in MODES]
        for system, limit in one["limits"].items():
            cells = [both(limit["ms"][str(k)]) for k in DEPTHS]
            share, busy = f"{limit['recall']['10']:.3f}", f"{limit['ms']['10'][2]:.2f}"
            rows.append([*name, f"*{system}*", *cells, "", share, busy])
    return header, rows


def callers_table(found: list[Found]) -> tuple[list[str], list[list[str]]]:
    header = ["documents", "d", *(f"{n} threads" for n in CALLERS), *(f"{n} processes" for n in PROCESSES)]
    header += [f"batches of {BATCH}", "the same, with texts", "same hits"]
    rows = []
    for one in found:
        callers = one["callers"]
        rates = [f"{by['per_second']:,.0f}/s" for by in callers.values()]
        equal = "yes" if all(by["equal"] for by in callers.values()) else "no"
        rows.append([f"{one['documents']:,}", str(one["dim"]), *rates, equal])
    return header, rows


def made_table(made: dict) -> tuple[list[str], list[list[str]]]:
    header = ["vectors", "1st neighbour", "10th", "100th", "variance in 10, 50, 100, 200 axes"]
    rows = []
    for name, similarities in made["neighbours"].items():
        cells = [" / ".join(f"{value:.2f}" for value in quartiles) for quartiles in similarities.values()]
        rows.append([name, *cells, ", ".join(f"{share:.0%}" for share in made["spectrum"][name])])
    return header, rows


def publish(made: dict, found: list[Found]) -> None:
    """Print and save the four tables."""
    real = f"{made['real']:,} of the documents are real passages' vectors ({made['model']}), the rest made"
    loads = ", ".join(f"{one['load_average']:.1f}" for one in found)
    report(
        Result(
            "index_scale",
            *sizes_table(found),
            f"{real}. Sparse: BM25 over word pieces. Ingest in documents a second through `Index.add`, one flush at "
            "the end, counting words included, and milliseconds of processor time for each; open and search: until the "
            "first answer of an index, the process's first (with loading the compiled code), then its second; resident "
            "memory of a process that opened the index and answered all queries, of which what is not anonymous are "
            "pages of files that the system can take back. Recall against exact answers; the hybrid's are the exact "
            "lists fused the "
            f"same way. Load average after each: {loads}.",
            {"index": found, "made": made},
        )
    )
    asked = " to ".join(str(count) for count in sorted({one["queries"] for one in found}))
    rates = ", ".join(f"{one['added_per_second']:,.0f}" for one in found)
    report(
        Result(
            "index_scale_latency",
            *latency_table(found),
            f"Milliseconds a query, p50 / p99, {asked} real questions one at a time through "
            "`Index.search_encoded`, without texts unless said. Adding: meanwhile another process adds documents, "
            f"durably, {ADDED} a call and {RATE} a second ({rates} came of it). In italics what the index is measured "
            "against, on one thread: faiss's graph with "
            "m = 16, ef_construct = 100, ef = max(128, k); BLAS and a partition; a scan of the terms' postings, which "
            "holds neither texts nor ids. CPU: milliseconds of processor time of a query, p50, which the load of other "
            "programs changes little.",
        )
    )
    report(
        Result(
            "index_scale_callers",
            *callers_table(found),
            "Hybrid searches a second, k = 10, with so many threads of one process asking at once, with so many "
            "processes of which each has the index open, and in batches; and whether each got what one alone gets.",
        )
    )
    how = (
        f"A made vector is a mixture of {made['mixed']} real ones, neighbours of each other, and noise of the real "
        f"covariance times {made['noise']}²."
        if made["mixed"]
        else "All are real."
    )
    report(
        Result(
            "index_scale_vectors",
            *made_table(made),
            "Inner product with the nearest neighbours among as many vectors of the same kind (at most 20,000), "
            f"quartiles. {how}",
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", nargs="+", type=Path, required=True, metavar="DIR", help="vectors folders")
    parser.add_argument("--queries-from", nargs="*", type=Path, default=[], metavar="FILE", help="queries.jsonl")
    parser.add_argument("--documents", nargs="+", type=int, default=[10_000, 100_000])
    parser.add_argument("--largest", type=int, help="documents to make at first; a later run may then measure more")
    parser.add_argument("--dim", nargs="+", type=int, default=[384])
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="work here, and keep it")
    parser.add_argument("--index-only", action="store_true", help="not what it is measured against")
    parser.add_argument("--again", action="store_true", help="measure again what was kept")
    parser.add_argument("--quick", action="store_true", help="10,000 documents, 100 queries")
    options = parser.parse_args()
    if options.quick:
        options.documents, options.queries = [10_000], 100
    with nullcontext(options.keep) if options.keep else tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        root.mkdir(parents=True, exist_ok=True)
        largest = max(options.largest or 0, *options.documents)
        made = prepare(root, options.vectors, options.queries_from, largest, options.queries)
        for dim in options.dim:
            prepare_dim(root, made, dim, max(options.documents))
            for documents in options.documents:
                size = Size(root, dim, documents)
                if options.again:
                    for name in ("measured.json", "writing.json"):
                        (size.folder / name).unlink(missing_ok=True)
                print(f"{documents:,} documents, d = {dim} (load {os.getloadavg()[0]:.1f})", flush=True)
                measure(size, options.queries, not options.index_only)
        publish(made, measured(root))


if __name__ == "__main__":
    main()
