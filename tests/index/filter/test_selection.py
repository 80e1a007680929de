"""Sets of keys against Python's own."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from lightretriever.index.filter.selection import Selection, distinct, intersect, invert, union

key_sets = st.sets(st.integers(0, 40) | st.integers(10**12, 10**12 + 5))


def as_keys(found: set[int]) -> np.ndarray:
    return np.array(sorted(found), np.int64)


@given(
    st.lists(st.integers(0, 40) | st.integers(10**12, 10**12 + 5), unique=True),
    st.lists(st.integers(-5, 50) | st.integers(10**12 - 3, 10**12 + 9), unique=True),
    st.booleans(),
)
@example([], [], True)
@example([7], [], False)
def test_a_selection_among_keys(chosen_keys: list[int], keys: list[int], inverted: bool) -> None:
    selection = Selection(np.array(sorted(chosen_keys), np.int64), inverted)
    mask = selection.among(np.array(sorted(keys), np.int64))
    assert mask.dtype == np.uint8
    assert mask.tolist() == [int((key in chosen_keys) != inverted) for key in sorted(keys)]


@given(st.lists(st.tuples(key_sets, st.booleans()), min_size=1, max_size=4))
def test_what_is_in_every_selection(parts: list[tuple[set[int], bool]]) -> None:
    universe = set().union(*(found for found, _ in parts), {7, 41, 10**12})
    found = intersect([Selection(as_keys(keys), inverted) for keys, inverted in parts])
    expected = universe.intersection(*(universe - keys if inverted else keys for keys, inverted in parts))
    everything = as_keys(universe)
    assert everything[found.among(everything) == 1].tolist() == sorted(expected)
    assert everything[invert(found).among(everything) == 1].tolist() == sorted(universe - expected)


@given(st.lists(key_sets, max_size=4), st.randoms(use_true_random=False))
def test_each_key_once_and_ascending(parts: list[set[int]], drawn) -> None:
    together = [key for part in parts for key in part]
    drawn.shuffle(together)
    expected = sorted(set(together))
    assert union([as_keys(part) for part in parts]).tolist() == expected
    assert distinct(np.array(together, np.int64)).tolist() == expected
