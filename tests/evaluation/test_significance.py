"""Paired tests: known values, exact enumeration, and what cannot be tested."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightretriever.errors import InputError
from lightretriever.evaluation.significance import paired_t, paired_test, randomisation


@pytest.mark.parametrize(
    ("t", "n", "p"),  # quantiles as printed in any table of Student's distribution
    [(1.0, 2, 0.5), (12.706, 2, 0.05), (2.228, 11, 0.05), (3.169, 11, 0.01), (2.042, 31, 0.05), (1.96, 100_001, 0.05)],
)
def test_students_t_at_the_tables_quantiles(t: float, n: int, p: float) -> None:
    differences = np.where(np.arange(n) % 2, 1.0, -1.0)
    differences -= differences.mean()
    differences /= differences.std(ddof=1)
    assert paired_t(differences + t / np.sqrt(n)) == pytest.approx(p, rel=2e-3)
    assert paired_t(-differences - t / np.sqrt(n)) == pytest.approx(p, rel=2e-3)


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=8))
@settings(max_examples=50)
def test_randomisation_of_few_queries_tries_all_signs(values: list[int]) -> None:
    seen = abs(sum(values))
    sums = [
        abs(sum(sign * value for sign, value in zip(signs, values, strict=True)))
        for signs in product((1, -1), repeat=len(values))
    ]
    assert randomisation(np.array(values) / 4) == pytest.approx(sum(found >= seen for found in sums) / len(sums))


def test_randomisation_of_many_queries_is_repeatable_and_agrees_with_t() -> None:
    differences = np.random.default_rng(3).normal(0.1, 1, 400)
    p = randomisation(differences)
    assert p == randomisation(differences)
    assert p == pytest.approx(paired_t(differences), abs=0.02)
    assert randomisation(differences + 1) == 1 / 10_001  # as small as so many draws can tell, never 0


def test_wins_losses_and_equal_systems() -> None:
    a, b = {"1": 1.0, "2": 0.5, "3": 0.2}, {"3": 0.2, "2": 0.75, "1": 0.0}
    found = paired_test(a, b)
    assert (found.better, found.equal, found.worse) == (1, 1, 1)
    assert found.difference == pytest.approx(0.25)
    same = paired_test(a, a)
    assert (same.randomisation, same.t, same.equal) == (1.0, 1.0, 3)
    assert paired_test({"1": 1.0}, {"1": 0.0}).t == 1.0
    with pytest.raises(InputError, match=r"one side only: \['3', '4'\]"):
        paired_test(a, {"1": 0.0, "2": 0.0, "4": 1.0})
