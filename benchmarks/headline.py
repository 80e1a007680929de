"""The few figures that the README shows, out of what the benchmarks named beside them have saved.

`python benchmarks/headline.py [quality] [cost]` measures nothing itself: run those first, then
`python benchmarks/results.py`.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from quality import ALONE, FITTED, RAW
from results import SAVED, Result, report

from lightretriever.bench.encoding import LOOK_UP

FULL, LARGE = "minilm", "qwen2-0.5b shape"
SINGLY, BATCHES = "8 words, one at a time", "8 words, large batches"
COLLECTION, DOCUMENTS = "scifact", 1_000_000


def saved(name: str) -> Any:
    """What a benchmark saved."""
    return json.loads((SAVED / f"{name}.json").read_text(encoding="utf-8"))


def duration(seconds: float) -> str:
    """With two digits, in the unit that suits it."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size or unit == "µs":
            value = seconds / size
            return f"{value:.0f} {unit}" if value >= 10 else f"{value:.1f} {unit}"
    raise AssertionError


def of_quality() -> Result:
    """What look-up keeps of the full model's quality."""
    found = saved("quality")["data"]

    def shares(way: str, system: str) -> dict[str, float]:
        return {name: each[way][system] / each[RAW][f"symmetric {system}"] for name, each in found.items()}

    rows = []
    for system, called in (("dense", "dense"), ("hybrid", "hybrid with BM25")):
        full = [each[RAW][f"symmetric {system}"] for each in found.values()]
        of_all = [f"{len(found)} collections, {called}", f"{sum(full) / len(full):.3f}"]
        one = found[COLLECTION]
        of_one = [f"SciFact, {called}", f"{one[RAW][f'symmetric {system}']:.3f}"]
        for way in (FITTED, ALONE):
            kept = shares(way, system)
            least = min(kept, key=kept.__getitem__)
            mean = sum(each[way][system] for each in found.values()) / len(found)
            share = sum(kept.values()) / len(kept)
            of_all.append(f"{mean:.3f} (keeps {share:.1%}; least {kept[least]:.1%}, {least})")
            of_one.append(f"{one[way][system]:.3f}")
        rows += [of_all, of_one]
    notes = (
        "nDCG@10, test queries. The full model, all-MiniLM-L6-v2, is frozen, and in its column encodes the queries; "
        "a table is fitted to a collection's documents, never to queries. `benchmarks/quality.py`; each "
        "collection is in [docs/results.md](docs/results.md#what-look-up-keeps)."
    )
    header = ["", "full model", "look-up", "look-up, fitted to vectors alone"]
    return Result("headline_quality", header, rows, notes)


def of_cost() -> Result:
    """What it costs."""
    times = {(each["system"], each["way"]): each["p50"] for each in saved("bench")["encoding"]}
    fit = saved("fit_cost")["data"]["fit MODEL --texts CORPUS"]
    (scale,) = (row for row in saved("index_scale_latency")["rows"] if row[:3] == [f"{DOCUMENTS:,}", "384", "hybrid"])

    def against(name: str, way: str) -> list[str]:
        model, look_up = times[name, way], times[LOOK_UP, way]
        return [duration(model), f"{duration(look_up)} ({model / look_up:,.0f}×)", "`lightretriever bench --full`"]

    rows = [
        ["one query", *against(FULL, SINGLY)],
        ["… of many, each", *against(FULL, BATCHES)],
        ["one query, a model of Qwen2-0.5B's shape", *against(LARGE, SINGLY)],
        [
            "fitting the table",
            "",
            f"{fit['seconds'] / 60:.1f} min, {fit['peak_bytes'] / 1e9:.1f} GB",
            "`benchmarks/fit_cost.py`",
        ],
        [
            f"hybrid search of {DOCUMENTS:,} documents",
            "",
            f"{scale[3].split(' / ')[0]} ms, recall@10 {scale[-2]}",
            "`benchmarks/index_scale.py`",
        ],
    ]
    notes = (
        "Two cores, no GPU. Times are medians, tokenisation included. Everything else, what was missed too: "
        "[docs/results.md](docs/results.md)."
    )
    return Result("headline", ["", "full model", "look-up", "measured by"], rows, notes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    tables = {"quality": of_quality, "cost": of_cost}
    choices = [*tables, []]  # of which the last is what argparse checks where none is named
    parser.add_argument("tables", nargs="*", choices=choices, help="which of them; both by default")
    for name in parser.parse_args().tables or tables:
        report(tables[name]())


if __name__ == "__main__":
    main()
