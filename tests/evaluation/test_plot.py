"""Logarithmic axes have labels whatever their range, and pictures of one query or one system are drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightretriever.evaluation.plot import label_log, need_matplotlib, plot_bars, plot_queries

pytest.importorskip("matplotlib")


@settings(max_examples=40)
@given(low=st.floats(1e-6, 1e6), span=st.just(0.0) | st.floats(1e-4, 8))
def test_a_logarithmic_axis_has_two_labels_at_least(low: float, span: float) -> None:
    axes = need_matplotlib().Figure().subplots()
    axes.plot([1, 2], [low, low * 10**span], "o-")
    axes.set_yscale("log")
    label_log(axes.yaxis)
    start, end = sorted(axes.yaxis.get_view_interval())
    axes.figure.draw_without_rendering()
    shown = [label.get_text() for label in axes.yaxis.get_ticklabels() if start <= label.get_position()[1] <= end]
    assert len(shown) >= 2
    assert len(set(shown)) == len(shown)
    assert "" not in shown
    assert len(shown) <= 12


def test_pictures_of_one(tmp_path: Path) -> None:
    plot_queries(np.array([0.5]), np.array([0.25]), "nDCG@10", tmp_path / "queries.png")
    plot_bars({"nDCG@10": {"dense": 0.5}}, "mean", tmp_path / "bars.png")
    for name in ("queries", "bars"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
