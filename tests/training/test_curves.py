"""What the curves of a run show."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

from lightretriever.training.curves import draw_curves, plot_curves


def _history(*losses: float) -> list[dict[str, float]]:
    return [
        {"step": step, "loss": loss, "dense": loss, "tokens_per_second": 9.0, "eval_dense_ndcg@10": 0.5}
        for step, loss in enumerate(losses, 1)
    ]


def test_one_point_is_to_be_seen() -> None:
    for panel in draw_curves(_history(3.0), 1).axes:
        assert {line.get_marker() for line in panel.lines if len(line.get_xdata()) == 1} == {"o"}


@pytest.mark.parametrize("losses", [(400.0, 0.1), (25.0, 0.0), (3.0, 2.9), (900.0, 80.0), (0.2, 0.1), (5e6, -1.0)])
def test_the_axis_of_losses_has_labels(losses: tuple[float, ...]) -> None:
    figure = draw_curves(_history(*losses), 1)
    figure.canvas.draw()
    panel = figure.axes[0]
    low, high = panel.get_ylim()
    shown = [tick for tick in panel.yaxis.get_ticklabels() if tick.get_text() and low <= tick.get_position()[1] <= high]
    assert len(shown) >= 2


def test_a_run_without_steps_has_curves_too(tmp_path: Path) -> None:
    plot_curves([], tmp_path / "curves.png", 0)
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
