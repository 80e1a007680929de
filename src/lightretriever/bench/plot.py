"""How encoding grows with the batch, and searching with the collection."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lightretriever.evaluation.plot import label_log, need_matplotlib

if TYPE_CHECKING:
    from lightretriever.bench.clock import Timing
    from lightretriever.bench.report import Bench

_COLORS = ("#1b7f5c", "#c2410c", "#1d4ed8", "#6b7280", "#b45309", "#7c3aed")


def plot_scaling(bench: Bench, path: Path) -> None:
    """Draw queries a second into a PNG: by queries in a batch, and by documents, each system a line.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    figure = need_matplotlib().Figure(figsize=(11, 4.6), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2)
    systems = list(dict.fromkeys(timing.system for timing in bench.encoding))
    kind = bench.encoding[0].way.partition(",")[0]
    by_batch = [(t, float(t.batch)) for t in bench.encoding if t.way.startswith(f"{kind},") and "new" not in t.way]
    ways = list(dict.fromkeys(timing.way for timing in bench.searching))
    sizes = {
        way: float(built.documents) for built in bench.built for way in ways if way.startswith(f"{built.documents:,} ")
    }
    singly = [(t, sizes[t.way]) for t in bench.searching if t.batch == 1]
    for axes, points, label, title in (
        (left, by_batch, "queries in a batch", f"encoding queries ({kind})"),
        (right, singly, "documents", "hybrid search end to end, one query at a time"),
    ):
        for number, system in enumerate(systems):
            _line(axes, [(x, t) for t, x in points if t.system == system], system, _COLORS[number % len(_COLORS)])
        axes.set(xscale="log", yscale="log", xlabel=label, ylabel="queries a second")
        label_log(axes.yaxis)
        measured = sorted({x for _, x in points})
        axes.set_xticks(measured, [f"{x:,.0f}" for x in measured], minor=False)
        axes.set_xticks([], minor=True)
        axes.set_title(title, fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    left.legend(fontsize=8, frameon=False)
    figure.savefig(path, format="png")


def _line(axes, points: list[tuple[float, Timing]], name: str, color: str) -> None:  # type: ignore[no-untyped-def]
    if points:
        points = sorted(points, key=lambda point: point[0])
        axes.plot([x for x, _ in points], [t.per_second for _, t in points], "o-", label=name, color=color)
