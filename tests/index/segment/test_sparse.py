"""The sparse side of a segment against plain dense products, and what a search may cost beside its answer."""

from __future__ import annotations

import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from index.segment.one_query import score_sparse, search_sparse
from numpy.typing import NDArray

from lightretriever.errors import ArtifactError, InputError
from lightretriever.index.segment.sparse import (
    SparsePart,
    SparseScratch,
    build_sparse,
)
from lightretriever.index.segment.sparse import search_sparse as search_sparse_many
from lightretriever.types import SparseVectors, sparse_from_dense, take_sparse

NEAR = 1e-5  # of the greatest score that a query could have


def made(documents: int, width: int, seed: int, values: int = 0) -> SparseVectors:
    """Rows whose tokens have frequencies from all documents down to one, some rows empty; impacts from an even range,
    or, so that many tie, one of a few values."""
    rng = np.random.default_rng(seed)
    frequency = np.geomspace(1, 1 / max(documents, 2), width)
    held = rng.random((documents, width)) < frequency
    held[rng.random(documents) < 0.1] = False
    impacts = rng.integers(1, values + 1, held.shape) if values else rng.uniform(0.001, 3, held.shape)
    return sparse_from_dense((held * impacts).astype(np.float32))


def question(width: int, terms: int, rng: np.random.Generator) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    tokens = rng.choice(width, min(terms, width), replace=False).astype(np.int32)
    return tokens, rng.integers(1, 4, len(tokens)).astype(np.float32)


def products(
    vectors: SparseVectors, tokens: NDArray[np.int32], counts: NDArray[np.float32]
) -> tuple[NDArray[np.float64], float]:
    """Inner products with all documents, and the greatest that there could be."""
    known = tokens < vectors.width
    held = vectors.to_dense()[:, tokens[known]].astype(np.float64)
    return held @ counts[known], float(held.max(axis=0, initial=0) @ counts[known])


def agree(
    places: NDArray[np.int32], scores: NDArray[np.float32], wanted: NDArray[np.float64], greatest: float, k: int
) -> None:
    """Whether a list is the k best of ``wanted``, as far as the codes of impacts allow one to say."""
    assert places.dtype == np.int32 and scores.dtype == np.float32
    assert len(places) == min(k, np.count_nonzero(wanted))
    assert len(set(places.tolist())) == len(places)
    assert (wanted[places] > 0).all()
    assert np.allclose(scores, wanted[places], rtol=1e-6, atol=NEAR * greatest)
    assert np.allclose(scores, np.sort(wanted)[::-1][: len(scores)], rtol=1e-6, atol=NEAR * greatest)
    order = np.lexsort((places, -scores))
    assert (order == np.arange(len(order))).all()


@settings(max_examples=150)
@given(
    documents=st.integers(1, 400),
    width=st.integers(1, 60),
    terms=st.integers(0, 90),
    k=st.integers(1, 500),
    seed=st.integers(0, 1 << 20),
    values=st.sampled_from([0, 1, 3]),
    allowed=st.sampled_from([None, 0.0, 0.01, 0.5, 1.0]),
)
def test_the_best_are_those_of_the_dense_product(
    documents: int, width: int, terms: int, k: int, seed: int, values: int, allowed: float | None
) -> None:
    vectors, rng = made(documents, width, seed, values), np.random.default_rng(seed + 1)
    part = build_sparse([vectors])
    tokens, counts = question(width + 10, terms, rng)  # some are beyond the vocabulary
    mask = None if allowed is None else (rng.random(documents) < allowed).astype(np.uint8)
    wanted, greatest = products(vectors, tokens, counts)
    found = search_sparse(part, tokens, counts, k, mask, SparseScratch())
    agree(*found, wanted if mask is None else wanted * mask, greatest, k)
    everywhere = rng.permutation(documents).astype(np.int32)
    scores = score_sparse(part, everywhere, tokens, counts)
    assert np.allclose(scores, wanted[everywhere], rtol=1e-6, atol=NEAR * greatest)
    assert (score_sparse(part, found[0], tokens, counts) == found[1]).all()


@pytest.mark.parametrize("passing", [0, 1, 5, 6, 40])
def test_few_that_pass_are_scored_one_by_one(passing: int) -> None:
    vectors, rng = made(2_000, 30, 7), np.random.default_rng(passing)
    part, mask = build_sparse([vectors]), np.zeros(2_000, np.uint8)
    mask[rng.choice(2_000, passing, replace=False)] = 1
    for _ in range(20):
        tokens, counts = question(40, 12, rng)
        wanted, greatest = products(vectors, tokens, counts)
        for k in (3, 100):
            agree(*search_sparse(part, tokens, counts, k, mask, SparseScratch()), wanted * mask, greatest, k)


def test_queries_together_find_what_each_finds() -> None:
    vectors, rng, scratch = made(3_000, 40, 8), np.random.default_rng(1), SparseScratch()
    part, queries = build_sparse([vectors]), made(50, 45, 9, values=3)
    mask = (rng.random(3_000) < 0.5).astype(np.uint8)
    for allowed in (None, mask):
        together = search_sparse_many(part, queries, 20, allowed, scratch)
        assert together.places.shape == (50, 20)
        for i in range(50):
            alone = search_sparse(part, *queries.row(i), 20, allowed, scratch)
            assert [array.tolist() for array in together.row(i)] == [array.tolist() for array in alone]
            assert (together.places[i, together.counts[i] :] == -1).all()


@pytest.fixture(scope="module")
def many() -> tuple[SparseVectors, SparsePart]:
    """Several windows of documents, the last one ragged, with columns and postings."""
    rng = np.random.default_rng(5)
    parts = []
    for _ in range(3):
        lengths = rng.integers(0, 60, 9_001)
        rows = np.repeat(np.arange(len(lengths)), lengths)
        tokens = np.minimum((4_000 ** rng.random(len(rows))).astype(np.int64) - 1, 3_999)
        pairs = np.unique(rows * 4_000 + tokens)
        indptr = np.searchsorted(pairs, np.arange(len(lengths) + 1) * 4_000).astype(np.int64)
        values = (np.log(4_000 / (1 + pairs % 4_000)) * rng.uniform(0.2, 0.9, len(pairs)) + 1e-4).astype(np.float32)
        parts.append(SparseVectors(indptr, (pairs % 4_000).astype(np.int32), values, 4_000))
    part = build_sparse(parts)
    whole = SparseVectors(
        np.concatenate([[0], np.cumsum(np.concatenate([np.diff(p.indptr) for p in parts]))]).astype(np.int64),
        np.concatenate([p.indices for p in parts]),
        np.concatenate([p.values for p in parts]),
        4_000,
    )
    assert part.column_of.max() > 10 and len(part.places) > 100_000
    return whole, part


@pytest.fixture(scope="module")
def large(many: tuple[SparseVectors, SparsePart]) -> SparsePart:
    """The same documents eight times over."""
    return build_sparse([many[0]] * 8)


def scan(vectors: SparseVectors, tokens: NDArray[np.int32], counts: NDArray[np.float32]) -> NDArray[np.float64]:
    weights = np.zeros(vectors.width)
    weights[tokens] = counts
    sums = np.concatenate([[0], np.cumsum(weights[vectors.indices] * vectors.values)])
    exact = np.zeros(len(vectors))
    np.add.at(
        exact, np.repeat(np.arange(len(vectors)), np.diff(vectors.indptr)), weights[vectors.indices] * vectors.values
    )
    assert np.allclose(exact, np.diff(sums[vectors.indptr]))
    return exact


@pytest.mark.parametrize("k", [1, 10, 100, 1_000, 30_000])
@pytest.mark.parametrize("terms", [1, 5, 12, 100, 3_000])
def test_many_documents_are_searched_window_by_window(
    many: tuple[SparseVectors, SparsePart], k: int, terms: int
) -> None:
    vectors, part = many
    rng, scratch = np.random.default_rng(k + terms), SparseScratch()
    for common in (True, False):
        tokens = np.unique((4_000 ** rng.random(terms)).astype(np.int32) - 1 if common else rng.choice(4_000, terms))
        tokens = tokens.astype(np.int32)
        counts = rng.integers(1, 3, len(tokens)).astype(np.float32)
        wanted = scan(vectors, tokens, counts)
        greatest = float((part.scales[tokens] * 65_280) @ counts)
        range_of = np.zeros(len(part), np.uint8)
        range_of[19_990:26_001] = 7
        masks = [None, range_of, *((rng.random(len(part)) < share).astype(np.uint8) for share in (0.5, 0.02, 0.001))]
        for mask in masks:
            found = search_sparse(part, tokens, counts, k, mask, scratch)
            agree(*found, wanted if mask is None else wanted * (mask > 0), greatest, k)


@pytest.mark.parametrize("k", [1, 10, 100])
def test_columns_that_are_left_out_of_the_sums_still_count(
    many: tuple[SparseVectors, SparsePart], large: SparsePart, k: int
) -> None:
    """A rare token beside frequent ones: soon no column is summed up, for none of them can do without the rare one."""
    rng, scratch = np.random.default_rng(k), SparseScratch()
    frequent = np.flatnonzero(large.column_of >= 0)
    for rare in (0, 1, 1, 2, 3, 3):
        tokens = np.concatenate([rng.choice(frequent, 9, replace=False), rng.choice(np.arange(60, 900), rare, False)])
        tokens = tokens.astype(np.int32)
        counts = np.concatenate([np.full(9, 1 / 4), np.full(rare, 2)]).astype(np.float32)
        wanted = np.tile(scan(many[0], tokens, counts), 8)
        greatest = float((large.scales[tokens] * 65_280) @ counts)
        agree(*search_sparse(large, tokens, counts, k, None, scratch), wanted, greatest, k)


def test_more_terms_than_the_units_of_bounds_can_tell_apart() -> None:
    rng = np.random.default_rng(3)
    vectors = made(200, 6_000, 11)
    tokens, counts = question(6_000, 6_000, rng)
    wanted, greatest = products(vectors, tokens, counts)
    agree(*search_sparse(build_sparse([vectors]), tokens, counts, 20, None, SparseScratch()), wanted, greatest, 20)


def test_of_documents_that_are_all_the_same_the_first_are_listed() -> None:
    row = SparseVectors(np.array([0, 3]), np.array([2, 5, 9], np.int32), np.array([0.5, 1, 2], np.float32), 10)
    part = build_sparse([take_sparse(row, np.zeros(20_000, np.intp))])
    for k in (1, 7, 100, 5_000):
        places, scores = search_sparse(
            part, np.array([9, 2], np.int32), np.ones(2, np.float32), k, None, SparseScratch()
        )
        assert (places == np.arange(k)).all()
        assert (scores == scores[0]).all() and scores[0] == pytest.approx(2.5, rel=1e-5)


def test_a_better_document_behind_many_equal_ones_is_found() -> None:
    same = SparseVectors(np.array([0, 1]), np.array([1], np.int32), np.ones(1, np.float32), 3)
    better = SparseVectors(np.array([0, 1]), np.array([1], np.int32), np.full(1, 1.0001, np.float32), 3)
    part = build_sparse([take_sparse(same, np.zeros(30_000, np.intp)), better])
    places, _ = search_sparse(part, np.array([1], np.int32), np.ones(1, np.float32), 3, None, SparseScratch())
    assert places.tolist() == [30_000, 0, 1]


def test_weights_that_lie_far_apart_are_all_seen() -> None:
    vectors = sparse_from_dense(np.tile(np.array([[1e-6, 0, 0], [0, 1e6, 0], [1e-6, 0, 1]], np.float32), (300, 1)))
    part = build_sparse([vectors])
    tokens, counts = np.arange(3, dtype=np.int32), np.ones(3, np.float32)
    places, scores = search_sparse(part, tokens, counts, 900, None, SparseScratch())
    assert len(places) == 900 and (places[:300] % 3 == 1).all() and (places[300:600] % 3 == 2).all()
    assert scores[-1] == pytest.approx(1e-6, rel=1e-4)


def test_nothing_is_found_for_no_tokens_unknown_ones_and_no_documents(many: tuple[SparseVectors, SparsePart]) -> None:
    nothing = build_sparse([])
    for part in (many[1], nothing, build_sparse([made(3, 4, 0)])):
        for tokens in ([], [900_000], [-1, 2**31 - 1]):
            places, scores = search_sparse(
                part, np.array(tokens, np.int32), np.ones(len(tokens), np.float32), 5, None, SparseScratch()
            )
            assert len(places) == len(scores) == 0


@pytest.mark.parametrize("count", [0.0, -1.0, float("nan"), float("inf"), 3e38])
def test_counts_that_are_no_positive_numbers_are_refused(many: tuple[SparseVectors, SparsePart], count: float) -> None:
    tokens, counts = np.array([3, 900], np.int32), np.array([1, count], np.float32)
    mask = np.zeros(len(many[1]), np.uint8)
    mask[5] = 1
    for allowed in (None, mask):
        with pytest.raises(InputError, match="positive and finite"):
            search_sparse(many[1], tokens, counts, 5, allowed, SparseScratch())


@pytest.mark.parametrize(
    ("tokens", "value"),
    [([1, 1], 1.0), ([2, 1], 1.0), ([-1, 1], 1.0), ([1, 5], 1.0), ([1, 2], 0.0), ([1, 2], -1.0), ([1, 2], np.nan)],
)
def test_rows_that_are_no_impacts_are_refused_by_their_place(tokens: list[int], value: float) -> None:
    bad = SparseVectors(np.array([0, 2]), np.array(tokens, np.int32), np.array([1, value], np.float32), 5)
    with pytest.raises(InputError, match="document 7"):
        build_sparse([made(7, 5, 0), bad])


def test_batches_may_differ_in_width_and_are_stored_where_the_caller_says() -> None:
    vectors = made(500, 40, 2)
    narrow = SparseVectors(vectors.indptr[:101], vectors.indices[: vectors.indptr[100]] % 1, vectors.values, 1)
    narrow = sparse_from_dense(vectors.to_dense()[:100, :7])
    made_by_name: dict[str, NDArray] = {}

    def allocate(name: str, shape: tuple[int, ...], dtype: np.dtype) -> NDArray:
        made_by_name[name] = np.zeros(shape, dtype)
        return made_by_name[name]

    part = build_sparse([narrow, vectors], allocate)
    assert set(made_by_name) == set(part.arrays())
    assert all(np.shares_memory(array, made_by_name[name]) for name, array in part.arrays().items() if len(array))
    again = SparsePart.of({name: array.copy() for name, array in part.arrays().items()})
    tokens, counts = question(40, 8, np.random.default_rng(0))
    first, second = (search_sparse(p, tokens, counts, 50, None, SparseScratch()) for p in (part, again))
    assert (first[0] == second[0]).all() and (first[1] == second[1]).all()
    assert first[0].max() > 100


def test_postings_take_six_bytes_and_columns_two(many: tuple[SparseVectors, SparsePart]) -> None:
    part = many[1]
    columns = int(part.column_of.max()) + 1
    assert (part.places.nbytes + part.codes.nbytes) == 6 * len(part.places)
    assert part.high.nbytes + part.low.nbytes <= 2 * columns * (len(part) + 64)


def damaged() -> Iterator[tuple[str, dict[str, NDArray]]]:
    good = build_sparse([made(2_000, 50, 4)]).arrays()
    assert len(good["high"]) and len(good["places"])
    for name, array in good.items():
        yield f"{name} too long", {**good, name: np.concatenate([array, array[:1]])}
        yield f"{name} of another type", {**good, name: array.astype(np.float64)}
        yield f"{name} gone", {other: array for other, array in good.items() if other != name}
    for name, value in (("starts", -5), ("starts", 1 << 40), ("column_of", 999), ("column_of", -9)):
        array = good[name].copy()
        array[7] = value
        yield f"{name} of {value}", {**good, name: array}
    for value in (np.nan, np.inf, -1):
        scales = good["scales"].copy()
        scales[3] = value
        yield f"scale {value}", {**good, "scales": scales}
    yield "documents", {**good, "documents": good["documents"] + 64}


def test_arrays_that_do_not_fit_are_refused() -> None:
    for what, arrays in damaged():
        with pytest.raises(ArtifactError, match="again"):
            SparsePart.of(arrays)
            pytest.fail(what)


@given(seed=st.integers(0, 1 << 20))
@settings(max_examples=20)
def test_whatever_the_large_arrays_hold_only_places_of_the_part_are_found(seed: int) -> None:
    rng = np.random.default_rng(seed)
    arrays = {name: array.copy() for name, array in build_sparse([made(2_000, 50, 4)]).arrays().items()}
    for name in ("places", "codes", "high", "low"):
        chosen = rng.integers(0, len(arrays[name]), 200)
        info = np.iinfo(arrays[name].dtype)
        arrays[name][chosen] = rng.integers(info.min, info.max, 200, endpoint=True)
    part, scratch = SparsePart.of(arrays), SparseScratch()
    for _ in range(5):
        places, _ = search_sparse(part, *question(50, 10, rng), 30, None, scratch)
        assert ((places >= 0) & (places < 2_000)).all()


def test_a_search_leaves_its_scratch_as_it_was_and_takes_no_memory_of_the_collections_size(
    large: SparsePart,
) -> None:
    part = large
    rng, scratch = np.random.default_rng(0), SparseScratch()
    questions = [question(4_000, 12, rng) for _ in range(50)]
    mask = (rng.random(len(part)) < 0.5).astype(np.uint8)
    expected = [search_sparse(part, *one, 100, mask, SparseScratch()) for one in questions]
    search_sparse(part, *questions[0], 100, mask, scratch)
    lists = scratch.reserve(100)
    tracemalloc.start()
    try:
        for one, (places, scores) in zip(questions, expected, strict=True):
            found = search_sparse(part, *one, 100, mask, scratch)
            assert found[0].tolist() == places.tolist() and found[1].tolist() == scores.tolist()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < len(part) / 2  # half a byte a document
    assert not scratch.sums.any()
    assert all(one is other for one, other in zip(lists, scratch.reserve(50), strict=True))


def test_a_search_holds_no_lock_on_the_interpreter(large: SparsePart) -> None:
    """A thread gets on during one search although this one would not be asked to make room for it for a minute; where
    places are sorted, NumPy makes some, so that a few steps would say nothing."""
    scratch, tokens = SparseScratch(), np.arange(4_000, dtype=np.int32)
    counts = np.ones(len(tokens), np.float32)
    search_sparse(large, tokens, counts, 10, None, scratch)
    progress, ready, stop, interval = [0], threading.Event(), threading.Event(), sys.getswitchinterval()

    def count() -> None:
        ready.set()
        while not stop.is_set():
            progress[0] += 1
            time.sleep(1e-4)

    thread = threading.Thread(target=count)
    thread.start()
    ready.wait()
    sys.setswitchinterval(60)
    most = 0
    try:
        for _ in range(50):
            before = progress[0]
            search_sparse(large, tokens, counts, 10, None, scratch)
            most = max(most, progress[0] - before)
            if most > 20:
                break
    finally:
        sys.setswitchinterval(interval)
        stop.set()
        thread.join()
    assert most > 20
