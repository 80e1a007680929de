"""The fit's products are compiled, let other threads run, and are shared out over columns."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from made_bags import made_bags
from made_tokenizers import LINES, wordpiece

from lightretriever.tables import kernels, ridge
from lightretriever.text.tokenizer import id_count

WIDTH = id_count(wordpiece())


@pytest.mark.parametrize("name", ["multiply", "add_transposed", "add_normal", "try_corrections"])
def test_every_product_is_compiled_without_the_interpreters_lock(name: str) -> None:
    function = getattr(kernels, name)
    assert hasattr(function, "nopython_signatures"), "a plain Python function"
    assert function.targetoptions.get("nogil")


def test_columns_are_solved_by_threads_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(4)
    bags = made_bags([f"{line} {row}" for row in range(30) for line in LINES], wordpiece(), WIDTH, 64)
    targets = random.normal(size=(len(bags), 8)).astype(np.float32)
    prior = random.normal(size=(WIDTH, 8)).astype(np.float32)
    expected = ridge.solve_ridge(bags, targets, prior, 0.1)
    both = threading.Barrier(2)  # each waits for the other once: they are at it at the same time
    seen: set[int] = set()

    def watched(product: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: object) -> object:
            if threading.get_ident() not in seen:
                seen.add(threading.get_ident())
                both.wait(timeout=60)
            return product(*arguments)

        return run

    for name in ("multiply", "add_normal", "add_transposed"):
        monkeypatch.setattr(ridge, name, watched(getattr(ridge, name)))
    np.testing.assert_array_equal(ridge.solve_ridge(bags, targets, prior, 0.1), expected)
    assert len(seen) == 2
