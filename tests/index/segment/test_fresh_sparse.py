"""The postings of documents that are in no segment yet: the answers of dense products, while more are appended."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from index.segment.one_query import score_fresh, search_fresh

from lightretriever.errors import InputError
from lightretriever.index.segment.fresh_sparse import FreshSparse
from lightretriever.index.segment.sparse import SparseScratch
from lightretriever.types import SparseVectors, sparse_from_dense, take_sparse


def made(documents: int, width: int, rng: np.random.Generator, values: int = 0) -> SparseVectors:
    held = rng.random((documents, width)) < rng.random(width)
    impacts = rng.integers(1, values + 1, held.shape) if values else rng.uniform(0.001, 3, held.shape)
    return sparse_from_dense((held * impacts).astype(np.float32))


@settings(max_examples=100)
@given(
    sizes=st.lists(st.tuples(st.integers(0, 40), st.integers(1, 30)), max_size=6),
    terms=st.integers(0, 35),
    k=st.integers(1, 120),
    seed=st.integers(0, 1 << 20),
    values=st.sampled_from([0, 2]),
    masked=st.booleans(),
)
def test_the_best_are_those_of_the_dense_product(
    sizes: list[tuple[int, int]], terms: int, k: int, seed: int, values: int, masked: bool
) -> None:
    rng, fresh, scratch = np.random.default_rng(seed), FreshSparse(), SparseScratch()
    dense = np.zeros((0, 40))
    for documents, width in sizes:
        batch = made(documents, width, rng, values)
        fresh.append(batch)
        dense = np.vstack([dense, np.pad(batch.to_dense(), ((0, 0), (0, 40 - width)))])
        view = fresh.view()
        tokens = rng.choice(40, terms, replace=False).astype(np.int32)
        counts = rng.integers(1, 4, terms).astype(np.float32)
        mask = (rng.random(len(dense) + 5) < 0.5).astype(np.uint8) if masked else None
        wanted = dense[:, tokens].astype(np.float64) @ counts
        allowed = wanted if mask is None else wanted * mask[: len(dense)]
        places, scores = search_fresh(view, tokens, counts, k, mask, scratch)
        assert len(places) == min(k, np.count_nonzero(allowed)) and (allowed[places] > 0).all()
        assert np.allclose(scores, allowed[places], rtol=1e-5)
        assert np.allclose(scores, np.sort(allowed)[::-1][: len(scores)], rtol=1e-5)
        assert (np.lexsort((places, -scores)) == np.arange(len(places))).all()
        everywhere = rng.permutation(len(dense)).astype(np.int32)
        assert np.allclose(score_fresh(view, everywhere, tokens, counts, scratch), wanted[everywhere], rtol=1e-5)
        assert not scratch.fresh_sums.any()


def test_a_view_stays_as_it_was_while_more_is_appended() -> None:
    rng, fresh = np.random.default_rng(0), FreshSparse()
    tokens, counts, scratch = np.arange(8, dtype=np.int32), np.ones(8, np.float32), SparseScratch()
    scratch.reserve_sums(1_000)  # so that a place of what comes later would be found, not written outside
    one, better = (sparse_from_dense(np.full((1, 8), value, np.float32)) for value in (1, 9))
    for batch in (made(9, 8, rng), one):
        fresh.append(batch)
    view = fresh.view()
    assert len(view.places) > view.postings + 8  # what comes next is written into the same arrays
    before = search_fresh(view, tokens, counts, 100, None, scratch)
    for batch in (better, *(made(50, width, rng) for width in (8, 5, 300))):
        fresh.append(batch)
        after = search_fresh(view, tokens, counts, 100, None, scratch)
        assert [array.tolist() for array in before] == [array.tolist() for array in after]
    assert len(view) == 10 and len(fresh) == 161
    assert len(search_fresh(fresh.view(), tokens, counts, 200, None, scratch)[0]) > 100


def test_a_bad_row_adds_nothing_of_its_batch() -> None:
    fresh, rng = FreshSparse(), np.random.default_rng(0)
    fresh.append(made(4, 6, rng))
    bad = made(3, 6, rng)
    bad.values[-1] = np.nan
    with pytest.raises(InputError, match="document 6"):
        fresh.append(bad)
    assert len(fresh) == 4
    found = search_fresh(fresh.view(), np.arange(6, dtype=np.int32), np.ones(6, np.float32), 10, None, SparseScratch())
    assert found[0].max() < 4


@pytest.mark.parametrize("count", [0.0, -2.0, float("nan"), float("inf")])
def test_counts_that_are_no_positive_numbers_are_refused(count: float) -> None:
    fresh = FreshSparse()
    fresh.append(made(4, 6, np.random.default_rng(0)))
    with pytest.raises(InputError, match="positive and finite"):
        search_fresh(fresh.view(), np.array([1], np.int32), np.array([count], np.float32), 2, None, SparseScratch())


def test_who_searches_while_batches_are_appended_sees_whole_ones_only() -> None:
    """Every batch holds each of its documents' marks equally often, so that a part of one would be seen."""
    batch = take_sparse(sparse_from_dense(np.array([[1, 1, 1, 1]], np.float32)), np.zeros(16, np.intp))
    fresh, stop, wrong, looked = FreshSparse(), threading.Event(), [], [0, 0]
    tokens, counts = np.arange(4, dtype=np.int32), np.ones(4, np.float32)

    def look(number: int) -> None:
        scratch, last = SparseScratch(), 0
        while not stop.is_set():
            view = fresh.view()
            places, scores = search_fresh(view, tokens, counts, 100_000, None, scratch)
            whole = len(places) == len(view) and len(view) % 16 == 0 and (scores == 4).all() and len(view) >= last
            if not whole:
                wrong.append((len(places), len(view)))
            last = len(view)
            looked[number] += 1

    threads = [threading.Thread(target=look, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    appended = 0
    while appended < 500 or (min(looked) < 20 and appended < 5_000):
        fresh.append(batch)
        appended += 1
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong and min(looked) > 0 and len(fresh) == 16 * appended
