"""The curves of a run: losses, nDCG@10 and speed over its steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lightretriever.evaluation.plot import need_matplotlib

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

History = Sequence[Mapping[str, float]]
_LINEAR = 2.0  # below it the axis of losses is linear, since a loss may be 0


def plot_curves(history: History, path: Path, best_step: int) -> None:
    """Draw losses, nDCG@10 and speed over steps into a PNG.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    draw_curves(history, best_step).savefig(path)


def draw_curves(history: History, best_step: int) -> Figure:
    """The figure of `plot_curves`: a panel each for losses, nDCG@10 and speed."""
    steps = [line for line in history if "loss" in line]
    measured = [line for line in history if any(name.endswith("_ndcg@10") for name in line)]
    figure: Figure = need_matplotlib().Figure(figsize=(13, 4), dpi=110, layout="constrained")
    losses, ndcg, speed = figure.subplots(1, 3)
    names = ["loss", *(name for name in (steps[0] if steps else {}) if _is_loss(name))]
    for name in names:
        _line(losses, steps, name, label="sum" if name == "loss" else name, width=2 if name == "loss" else 1)
    losses.set(title="losses", xlabel="step")
    _scale(losses, [line[name] for line in steps for name in names if name in line])
    arms = sorted({name for line in measured for name in line if name.endswith("_ndcg@10")})
    for name in arms:
        _line(ndcg, measured, name, label=name[5:].removesuffix("_ndcg@10"), marker="o")
    if arms:
        ndcg.axvline(best_step, color="#6b7280", linewidth=0.8, linestyle=":")
    ndcg.set(title="nDCG@10, look-up queries", xlabel="step")
    _line(speed, steps, "tokens_per_second")
    speed.set(title="tokens per second", xlabel="step", ylim=(0, None))
    for panel in (losses, ndcg):
        if panel.get_legend_handles_labels()[0]:
            panel.legend(fontsize=8)
    return figure


def _is_loss(name: str) -> bool:
    plain = ("loss", "grad_norm", "learning_rate", "epoch", "step", "tokens_per_second")
    return name not in plain and not name.startswith(("stats/", "peak_memory_gb", "dataset/", "eval_"))


def _line(panel: Axes, lines: History, name: str, *, label: str = "", width: float = 1.5, marker: str = "") -> None:
    known = [line for line in lines if name in line]
    if len(known) == 1:
        marker = "o"  # a line through one point is not to be seen
    points = ([line["step"] for line in known], [line[name] for line in known])
    panel.plot(*points, marker=marker or "None", markersize=3, linewidth=width, label=label)


def _scale(panel: Axes, values: Sequence[float]) -> None:
    """A logarithmic axis where values are far apart, with labels between the powers of ten too; else a linear one."""
    if not values or max(values) <= 10 * max(min(values), _LINEAR):
        return
    from matplotlib.ticker import StrMethodFormatter, SymmetricalLogLocator

    panel.set_yscale("symlog", linthresh=_LINEAR)
    panel.yaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=_LINEAR, subs=[1, 2, 5]))
    panel.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
