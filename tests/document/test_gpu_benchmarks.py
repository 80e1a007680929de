"""The benchmarks that are for a GPU, tried without one."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


Load = Callable[[str], ModuleType]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    """Gives a benchmark by its name."""

    def named(name: str) -> ModuleType:
        monkeypatch.syspath_prepend(str(BENCHMARKS))
        return importlib.import_module(name)

    return named


def test_encoding_is_measured_against_products(
    load: Load, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = load("gpu_encoding")
    monkeypatch.setattr(sys, "argv", ["gpu_encoding.py", "--quick", "--device", "cpu", "--rounds", "1"])
    module.main()
    said = capsys.readouterr().out
    rows = [line.split(" | ") for line in said.splitlines() if "×" in line and line.startswith("|")]
    assert [row[0].removeprefix("| ") for row in rows][::2] == ["plain loop", "DocumentEncoder"]
    assert len(rows) == 4
    assert all(float(row[-1].removesuffix(" |")) > 0.999 for row in rows)  # all encode the same


def test_operations_are_those_of_the_matrices(load: Load) -> None:
    module = load("gpu_encoding")
    shape = module.Shape(3, 8, 2, 1, 16, 50)
    dense, sparse = module.make_tower(shape, "cpu", 8)
    layer = 8 * 8 + 2 * 8 * 4 + 8 * 8 + 3 * 8 * 16  # query, key and value of one head each, output, feed-forward
    one = 2 * 3 * (5 * layer + 2 * 8 * 15)  # 15 pairs of positions that see each other, products with keys and values
    assert module.operations(dense, [5]) == one
    assert module.operations(sparse, [5]) == one + 2 * 3 * 8 * 50


def test_padding_is_what_is_beyond_the_real_tokens(load: Load) -> None:
    module = load("padding")
    assert module.padding([[4, 2], [1]]) == pytest.approx(2 / 7)
    found = module.measure([100, 50] * 512)
    assert found["in order, 64 texts"] == pytest.approx(1 / 3)
    assert max(share for name, share in found.items() if "window" in name) < 0.2
