"""The few figures that the README shows, out of what the benchmarks named beside them have saved.

`python benchmarks/headline.py` measures nothing itself: run those first, then `python benchmarks/results.py`.
"""

from __future__ import annotations

import json
from typing import Any

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


def main() -> None:
    quality = saved("quality")["data"][COLLECTION]
    full, fitted = quality["raw table"], quality["fitted to sentences and documents' vectors"]
    times = {(each["system"], each["way"]): each["p50"] for each in saved("bench")["encoding"]}
    others = {
        name: [found["full model"], found["sentences and documents"]]
        for name, found in saved("fitting")["data"].items()
    }
    fit = saved("fit_cost")["data"]["fit MODEL --texts CORPUS"]
    (scale,) = (row for row in saved("index_scale_latency")["rows"] if row[:3] == [f"{DOCUMENTS:,}", "384", "hybrid"])
    recall = scale[-2]

    def against(name: str, way: str) -> list[str]:
        model, look_up = times[name, way], times[LOOK_UP, way]
        return [duration(model), f"{duration(look_up)} ({model / look_up:,.0f}×)", "`lightretriever bench --full`"]

    by = "`benchmarks/quality.py`"
    rows = [
        ["SciFact, nDCG@10, dense", f"{full['symmetric dense']:.3f}", f"{fitted['dense']:.3f}", by],
        *(
            [f"… {name}, dense", *(f"{value:.3f}" for value in both), "`benchmarks/fitting.py`"]
            for name, both in others.items()
        ),
        ["SciFact, hybrid with BM25", f"{full['symmetric hybrid']:.3f}", f"{fitted['hybrid']:.3f}", by],
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
            f"{scale[3].split(' / ')[0]} ms, recall@10 {recall}",
            "`benchmarks/index_scale.py`",
        ],
    ]
    notes = (
        "Two cores, no GPU. The full model is all-MiniLM-L6-v2, frozen; a table is fitted to a collection's documents, "
        "never to queries. Times are medians, tokenisation included. Everything else, what was missed too: "
        "[docs/results.md](docs/results.md)."
    )
    report(Result("headline", ["", "full model", "look-up", "measured by"], rows, notes))


if __name__ == "__main__":
    main()
