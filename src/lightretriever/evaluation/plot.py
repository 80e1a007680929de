"""Pictures of comparisons: each query's value under full model and look-up, and systems as bars; logarithmic axes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from math import floor, log10
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightretriever.errors import MissingExtraError

_BETTER, _WORSE, _EQUAL = "#1b7f5c", "#c2410c", "#6b7280"
_BARS = ("#1b7f5c", "#c2410c", "#1d4ed8", "#8fc9b3", "#93b4f0", "#6b7280", "#b45309")


def need_matplotlib() -> Any:
    """The package's ``figure`` module, which draws without a display. Raises MissingExtraError without it."""
    try:
        import matplotlib.figure
    except ImportError:
        raise MissingExtraError("a report's plot", "eval") from None
    return matplotlib.figure


def label_log(axis: Any) -> None:
    """Give a logarithmic axis, its data drawn, labels: matplotlib itself has none between powers of ten far apart."""
    from matplotlib import ticker

    low, high = axis.get_view_interval()
    if high < 10 * low:
        digits = max(0, 1 - floor(log10(high - low)))
        axis.set_major_locator(ticker.MaxNLocator(5, steps=[1, 2, 5, 10]))
        axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:,.{digits}f}"))
    else:
        axis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0) if high < 1000 * low else (1.0,)))
        axis.set_major_formatter(ticker.FuncFormatter(lambda v, _: f"{v:,.0f}" if v >= 100 else f"{v:g}"))
    axis.set_minor_formatter(ticker.NullFormatter())


def plot_queries(full: NDArray[np.floating], look_up: NDArray[np.floating], measure: str, path: Path) -> None:
    """Draw n queries' values in 0 … 1, [n] each, into a PNG: one against the other, and the differences sorted.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    figure = need_matplotlib().Figure(figsize=(10, 4.6), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2)
    counts = Counter(zip(np.round(full, 3).tolist(), np.round(look_up, 3).tolist(), strict=True))
    places = np.array(list(counts))
    change = places[:, 1] - places[:, 0]
    left.plot([0, 1], [0, 1], color=_EQUAL, linewidth=0.8, zorder=1)
    left.scatter(
        places[:, 0],
        places[:, 1],
        s=np.clip(900 * np.array(list(counts.values())) / len(full), 10, 600),
        c=[_BETTER if value > 0 else _WORSE if value < 0 else _EQUAL for value in change],
        alpha=0.65,
        linewidths=0,
        zorder=2,
    )
    left.set(xlim=(-0.08, 1.08), ylim=(-0.08, 1.08), aspect="equal")
    left.set_xlabel(f"{measure}, full model")
    left.set_ylabel(f"{measure}, look-up")
    left.set_title("queries at each pair of values (larger: more)", fontsize=10)
    sorted_change = np.sort(look_up - full)
    better, worse = int((sorted_change > 1e-9).sum()), int((sorted_change < -1e-9).sum())
    rank = np.arange(1, len(sorted_change) + 1)
    for color, chosen in ((_BETTER, sorted_change > 1e-9), (_WORSE, sorted_change < -1e-9)):
        right.fill_between(rank, np.where(chosen, sorted_change, 0), step="mid", color=color, linewidth=0)
    right.axhline(0, color=_EQUAL, linewidth=0.8)
    right.set(ylim=(-1.04, 1.04), xlim=(0.5, len(rank) + 0.5))
    right.set_xlabel("queries, sorted")
    right.set_ylabel(f"{measure}, look-up less full model")
    equal = len(rank) - better - worse
    right.set_title(f"look-up worse on {worse}, equal on {equal}, better on {better}", fontsize=10)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def plot_bars(groups: Mapping[str, Mapping[str, float]], label: str, path: Path) -> None:
    """Draw groups of bars into a PNG: group (a measure, a collection) to (system to its value in 0 … 1).

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    systems = list(dict.fromkeys(system for values in groups.values() for system in values))
    width = 0.8 / max(len(systems), 1)
    inches = min(max(6.0, 1.2 + 0.22 * len(groups) * (len(systems) + 1)), 60)
    figure = need_matplotlib().Figure(figsize=(inches, 4.2), dpi=120, layout="constrained")
    axes = figure.subplots()
    for number, system in enumerate(systems):
        places = [i for i, values in enumerate(groups.values()) if system in values]
        heights = [values[system] for values in groups.values() if system in values]
        shift = (number - (len(systems) - 1) / 2) * width
        axes.bar(np.array(places) + shift, heights, width, label=system, color=_BARS[number % len(_BARS)])
    slanted = max(len(name) for name in groups) > 9 and len(groups) > 3
    axes.set_xticks(
        range(len(groups)), list(groups), rotation=30 if slanted else 0, ha="right" if slanted else "center"
    )
    axes.set_ylim(0, 1)
    axes.set_ylabel(label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, ncols=min(len(systems), 6), loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
    figure.savefig(path)
