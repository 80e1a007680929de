"""Neighbour lists: their form, and that they follow from codes and options alone."""

import numpy as np
import pytest
from made_clusters import clustered

from lightretriever.index.segment.codes import encode
from lightretriever.index.segment.graph import GraphOptions, batches, build_graph


@pytest.fixture(scope="module")
def hi():
    return encode(clustered(3000, 32)).hi


def test_lists_are_the_same_however_many_threads_build(hi):
    one, two, four = (build_graph(hi, GraphOptions(degree=12, width=40), threads) for threads in (1, 2, 4))
    assert all((a == b).all() and (a == c).all() for a, b, c in zip(one, two, four, strict=True))


def test_another_seed_gives_others(hi):
    one, two = (build_graph(hi, GraphOptions(degree=12, width=40, seed=seed))[0] for seed in (0, 1))
    assert (one != two).any()


def test_the_form_of_lists(hi):
    lists, starts = build_graph(hi, GraphOptions(degree=12, width=40), 2)
    assert lists.shape == (3000, 12)
    assert lists.dtype == starts.dtype == np.int32
    assert lists.max() < 3000
    assert lists.min() == -1
    assert (np.diff((lists < 0).astype(int), axis=1) >= 0).all()  # filled up at the end
    assert (lists != np.arange(3000)[:, None]).all()
    for row in lists:
        named = row[row >= 0]
        assert len(set(named.tolist())) == len(named)


def test_everything_is_reached(hi):
    lists, starts = build_graph(hi, GraphOptions(degree=12, width=40), 2)
    reached, new = set(starts[:1].tolist()), starts[:1]
    while len(new):
        new = np.setdiff1d(lists[new], [-1, *reached])
        reached |= set(new.tolist())
    assert len(reached) >= 0.999 * len(hi)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 60, 1000])
def test_few_places(count):
    lists, starts = build_graph(encode(clustered(count, 16)).hi, GraphOptions(degree=8, width=20))
    assert len(lists) == count
    assert len(starts) == min(count, 32)
    assert (lists[:, 0] >= 0).all() == (count > 1)


def test_batches_cover_all_in_order():
    for count in (0, 1, 2, 10, 12_345):
        bounds = list(batches(count))
        assert [begin for begin, _ in bounds] == [1, *(end for _, end in bounds)][: len(bounds)]
        assert not bounds or bounds[-1][1] == count
