"""The dense side of a segment: scans are exact, walks nearly, and neither finds what it may not."""

import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from index.segment.one_query import scan, search
from made_clusters import clustered, queries_off, unit

from lightretriever.artifact import plain_view
from lightretriever.axes import principal_axes
from lightretriever.errors import ArtifactError
from lightretriever.index.segment.codes import decode, encode
from lightretriever.index.segment.dense import FEW, DensePart, build, head_of, score
from lightretriever.index.segment.dense import search as search_many
from lightretriever.index.segment.dense_kernels import _promising, narrow_query
from lightretriever.index.segment.graph import GraphOptions
from lightretriever.index.segment.scratch import DenseScratch

COUNT = 20_000


@pytest.fixture(scope="module")
def rows():
    return clustered(COUNT)


@pytest.fixture(scope="module")
def part(rows):
    return build(encode(rows), GraphOptions(), threads=2)


@pytest.fixture(scope="module")
def queries(rows):
    return queries_off(rows, 100)


def exact(part, query, k, mask=None, vectors=None):
    """Places and scores by NumPy, in float64, of what the codes stand for: their ``vectors`` where they are at hand."""
    vectors = decode(part.codes).astype(np.float64) if vectors is None else vectors
    scores = vectors @ query.astype(np.float64)
    allowed = part.scales > 0
    if mask is not None:
        allowed &= mask > 0
    order = np.lexsort((np.arange(len(scores)), -scores))
    order = order[allowed[order]][:k]
    return order, scores[order]


def recall(part, queries, k, mask=None, **options):
    scratch, vectors = DenseScratch(len(part)), decode(part.codes).astype(np.float64)
    shares = []
    for query in queries:
        places, _ = search(part, query, k, mask, scratch, **options)
        wanted = exact(part, query, k, mask, vectors)[0]
        shares.append(len(set(places.tolist()) & set(wanted.tolist())) / len(wanted))
    return np.mean(shares)


def check_exact(found, wanted):
    """Scores to 1e-4, and the order of all that differ by more."""
    (places, scores), (wanted_places, wanted_scores) = found, wanted
    np.testing.assert_allclose(scores, wanted_scores, atol=1e-4)
    assert len(set(places.tolist())) == len(places)
    for place, value in zip(wanted_places, wanted_scores, strict=True):
        if value > wanted_scores[-1] + 1e-4:
            assert place in places


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_scan_is_exact(data):
    seed, n = data.draw(st.integers(0, 10**6)), data.draw(st.integers(1, 700))
    dim, k = data.draw(st.sampled_from([1, 3, 64, 100, 384])), data.draw(st.integers(1, 800))
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n, dim)) * rng.integers(0, 2, (n, 1))
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    part = build(encode(rows / np.where(norms > 0, norms, 1)))
    query = unit(rng.standard_normal((1, dim)))[0]
    mask = (rng.random(n) < data.draw(st.sampled_from([0.0, 0.02, 0.5, 1.0]))).astype(np.uint8)
    for given_mask in (None, mask):
        found = scan(part.codes, n, query, k, given_mask, DenseScratch())
        assert found[0].dtype == np.int32
        assert found[1].dtype == np.float32
        check_exact(found, exact(part, query, k, given_mask))
        assert (np.diff(found[1]) <= 0).all()


def test_a_scan_of_near_equals_is_exact(rows, queries):
    """Scores that rounding to bytes would shuffle: thousands within a hundredth."""
    near = unit(rows[:1] + 0.01 * np.random.default_rng(2).standard_normal((3000, 64)) / 8)
    part = build(encode(near))
    for query in queries[:10]:
        check_exact(scan(part.codes, 3000, query, 100, None, DenseScratch()), exact(part, query, 100))


def test_equal_scores_go_by_place():
    rows = np.tile(unit(np.arange(1, 9)[None]), (50, 1))
    places, scores = search(build(encode(rows)), rows[0], 20, None, DenseScratch())
    assert places.tolist() == list(range(20))
    assert len(set(scores.tolist())) == 1


def test_rows_beyond_the_count_are_not_read(rows):
    codes = encode(rows[:100])
    places, _ = scan(codes, 10, rows[50], 100, None, DenseScratch())
    assert sorted(places.tolist()) == list(range(10))


def test_walks_find_what_is_nearest(part, queries):
    assert len(part) >= FEW
    assert part.neighbours.shape == (COUNT, 48)
    assert recall(part, queries, 10) >= 0.98
    assert recall(part, queries, 100) >= 0.95
    assert recall(part, queries, 100, ef=400) >= 0.99


def test_a_walk_scores_as_a_scan_does(part, queries):
    scratch = DenseScratch()
    for query in queries[:20]:
        places, scores = search(part, query, 10, None, scratch)
        assert (score(part, query, places) == scores).all()
        walked = dict(zip(places.tolist(), scores.tolist(), strict=True))
        scanned = dict(
            zip(*(array.tolist() for array in scan(part.codes, COUNT, query, 10, None, scratch)), strict=True)
        )
        assert all(walked[place] == scanned[place] for place in walked.keys() & scanned.keys())


@pytest.mark.parametrize("share", [0.9, 0.5, 0.1, 0.003])
def test_with_a_mask_as_without(part, queries, share):
    mask = (np.random.default_rng(9).random(COUNT) < share).astype(np.uint8)
    scratch = DenseScratch()
    for query in queries[:20]:
        assert mask[search(part, query, 10, mask, scratch)[0]].all()
    assert recall(part, queries, 10, mask) >= 0.98


def test_a_mask_that_leaves_out_what_is_near(part, queries, rows):
    """All that pass lie far from the query, where a walk of any sensible width does not come."""
    near = rows @ queries[0]
    mask = (near < np.quantile(near, 0.8)).astype(np.uint8)
    found = search(part, queries[0], 10, mask, DenseScratch())
    check_exact(found, exact(part, queries[0], 10, mask))


@pytest.fixture(scope="module")
def turned_rows():
    """Rows with a spectrum that falls, as embeddings have; a part of them as they are, and one of them turned."""
    rows = unit(clustered(FEW + 2_000, 200) / np.arange(1, 201) ** 0.5 + 0.02)
    axes = principal_axes(rows[:4_000], 200)[0]
    return rows, build(encode(rows), threads=2), build(encode(rows @ axes), threads=2, rotation=axes)


def test_axes_turn_and_leave_products_as_they_are(turned_rows):
    rows, _, part = turned_rows
    axes = part.rotation.astype(np.float64)
    np.testing.assert_allclose(axes.T @ axes, np.eye(200), atol=1e-6)
    spread = np.square(rows @ part.rotation).mean(axis=0)
    assert spread[:64].sum() > 0.9 * spread.sum()
    assert (part.head, head_of(384), head_of(1024), head_of(100)) == (64, 128, 320, 100)
    wanted = [row @ rows[5] for row in rows[:50]]
    np.testing.assert_allclose(score(part, rows[5], np.arange(50, dtype=np.int32)), wanted, atol=1e-5)


@pytest.mark.parametrize("share", [1.0, 0.4])
def test_turned_documents_are_found_as_well(turned_rows, share):
    rows, plain, part = turned_rows
    mask = None if share == 1 else (np.random.default_rng(3).random(len(rows)) < share).astype(np.uint8)
    scratch = DenseScratch()
    found = {}
    for name, each in (("plain", plain), ("turned", part)):
        lists = search_many(each, queries_off(rows, 100), 100, mask, scratch)
        found[name] = lists
        for place, value in zip(lists.row(0)[0][:20], lists.row(0)[1], strict=False):
            assert value == pytest.approx(queries_off(rows, 100)[0] @ rows[place], abs=5e-5)
    for k in (10, 100):
        both = zip(found["plain"].places, found["turned"].places, strict=True)
        shares = [len(set(one[:k].tolist()) & set(other[:k].tolist())) / k for one, other in both]
        assert np.mean(shares) > 0.97
    assert not scratch.marks.any()


def test_most_of_what_is_met_is_not_read_whole(turned_rows):
    """The fast path is on: a place that the first components rule out costs no more."""
    rows, _, part = turned_rows
    query = queries_off(rows, 1)[0]
    turned, narrow = part.turned(query), np.zeros(200, np.int8)
    narrow_query(plain_view(turned), narrow)
    slack = np.float32(6 * part.spread[0] * np.linalg.norm(narrow[64:].astype(np.float32)))
    worst = np.float32(np.sort(rows @ query)[-125]) * np.float32(127 / np.abs(turned).max())
    staged, every = np.empty(len(rows), np.int64), np.arange(len(rows), dtype=np.int32)
    some = _promising(part.hi, part.scales, every, narrow, 64, slack, worst, staged)
    assert 125 <= some < len(rows) // 2


def test_deleted_ones_are_not_returned(part, queries):
    scratch, mask = DenseScratch(), np.ones(COUNT, np.uint8)
    for query in queries[:30]:
        best = search(part, query, 5, mask, scratch)[0]
        mask[best] = 0
        assert not set(best.tolist()) & set(search(part, query, 50, mask, scratch)[0].tolist())


def test_seeds_lead_to_what_the_starts_do_not(rows, queries):
    """A graph in two halves that no list joins: only seeds reach the second."""
    codes = encode(rows[:12_000])
    first = build(encode(rows[:6000]), GraphOptions(), 1)
    assert len(first.neighbours) == 0  # few: no lists
    whole = build(codes, GraphOptions(degree=16))
    lists = whole.neighbours.copy()
    half = np.arange(12_000) >= 6000
    lists[(lists >= 0) & (half[lists] != half[:, None])] = -1
    lists = -np.sort(-lists, axis=1)
    part = DensePart.of({**whole.arrays(), "neighbours": lists, "starts": np.array([0], np.int32)})
    scratch = DenseScratch()
    for query in queries[:10]:
        wanted = exact(part, query, 20)[0]
        seeds = wanted[wanted >= 6000][-1:].astype(np.int32)
        if len(seeds):
            assert seeds[0] not in search(part, query, 20, None, scratch, ef=60)[0]
            assert seeds[0] in search(part, query, 20, None, scratch, seeds, ef=60)[0]


def test_seeds_and_lists_that_lead_nowhere_are_passed_over(part, queries):
    scratch = DenseScratch()
    seeds = np.array([-1, COUNT, 2**31 - 1, -(2**31), 5, 5], np.int32)
    assert len(search(part, queries[0], 10, None, scratch, seeds)[0]) == 10
    wild = np.random.default_rng(3).integers(-(2**31), 2**31 - 1, part.neighbours.shape, dtype=np.int32)
    starts = np.array([-7, COUNT + 1, 3], np.int32)
    broken = DensePart.of({**part.arrays(), "neighbours": wild, "starts": starts})
    places, _ = search(broken, queries[0], 10, None, scratch)
    assert ((places >= 0) & (places < COUNT)).all()
    assert not scratch.marks.any()


def test_zero_vectors_are_never_found(rows, queries):
    holed = rows.copy()
    holed[::3] = 0
    part = build(encode(holed), threads=2)
    assert (part.neighbours[::3] == -1).all()
    for query in queries[:20]:
        assert (search(part, query, 100, None, DenseScratch())[0] % 3 > 0).all()
    assert recall(part, queries, 10) >= 0.98
    nothing = build(encode(np.zeros((FEW + 1, 8), np.float32)))
    assert len(search(nothing, queries[0, :8], 10, None, DenseScratch())[0]) == 0


def test_a_zero_query_finds_nothing(part):
    zero = np.zeros(64, np.float32)
    assert len(search(part, zero, 10, None, DenseScratch())[0]) == 0
    assert len(scan(part.codes, COUNT, zero, 10, None, DenseScratch())[0]) == 0


def test_more_asked_for_than_there_are(rows, queries):
    part = build(encode(rows[:7]))
    places, _ = search(part, queries[0], 100, None, DenseScratch())
    assert sorted(places.tolist()) == list(range(7))
    assert search(build(encode(rows[:1])), queries[0], 5, None, DenseScratch())[0].tolist() == [0]
    assert len(search(build(encode(rows[:0])), queries[0], 5, None, DenseScratch())[0]) == 0
    assert len(search(part, queries[0], 0, None, DenseScratch())[0]) == 0


def test_all_of_many(part, queries):
    places, _ = search(part, queries[0], COUNT + 5, None, DenseScratch())
    assert len(set(places.tolist())) == COUNT


def test_many_equal_documents_hide_no_others(rows):
    """Three thousand times the same passage: what lies around it is still found, and so is it."""
    rows = rows[:14_000].copy()
    rows[:3000] = rows[13_999]
    part = build(encode(rows), threads=2)
    scratch = DenseScratch()
    shares = []
    for query in queries_off(rows[3000:], 60):
        wanted = exact(part, query, 10)
        found = search(part, query, 10, None, scratch)
        shares.append(np.mean(found[1] >= wanted[1][-1] - 1e-4) * len(found[1]) / 10)
    assert np.mean(shares) >= 0.98


def test_scores_do_not_depend_on_whose_scratch_it_is(part, queries):
    shared = DenseScratch()
    for query in queries[:10]:
        for k in (1, 50, 5):
            mine = search(part, query, k, None, shared)
            fresh = search(part, query, k, None, DenseScratch())
            assert all((a == b).all() for a, b in zip(mine, fresh, strict=True))


@pytest.mark.parametrize("share", [1.0, 0.5, 0.01])
def test_queries_together_find_what_each_finds(part, queries, share):
    scratch, mask = DenseScratch(), (np.random.default_rng(4).random(COUNT) < share).astype(np.uint8)
    asked = np.concatenate([queries[:40], np.zeros((1, 64), np.float32)])
    together = search_many(part, asked, 20, mask, scratch)
    assert (together.counts[-1], together.places[-1].max()) == (0, -1)
    for i in range(40):
        alone = search(part, asked[i], 20, mask, scratch)
        assert [array.tolist() for array in together.row(i)] == [array.tolist() for array in alone]


def test_threads_do_not_disturb_each_other(part, queries):
    def ask(offset):
        scratch = DenseScratch()
        return [search(part, queries[(i + offset) % 100], 20, None, scratch)[0].tolist() for i in range(100)]

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(ask, range(4)))
    for offset in range(1, 4):
        assert found[offset] == found[0][offset:] + found[0][:offset]


def test_arrays_mapped_from_files(part, queries, tmp_path):
    for name, array in part.arrays().items():
        np.save(tmp_path / name, array)
    mapped = DensePart.of({name: np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in part.arrays()})
    for query in queries[:10]:
        one, two = (search(each, query, 20, None, DenseScratch()) for each in (part, mapped))
        assert all((a == b).all() for a, b in zip(one, two, strict=True))
    np.testing.assert_array_equal(score(mapped, queries[0], np.arange(5)), score(part, queries[0], np.arange(5)))


def test_a_search_allocates_for_the_answer_alone(part, queries):
    scratch = DenseScratch(len(part))
    mask = np.ones(COUNT, np.uint8)
    mask[:50] = 0
    search(part, queries[0], 10, None, scratch)
    search(part, queries[0], 10, mask, scratch)
    tracemalloc.start()
    for query in queries[:20]:
        search(part, query, 10, None, scratch)
        search(part, query, 10, mask, scratch)
        scan(part.codes, COUNT, query, 10, mask, scratch)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < COUNT / 2


def test_the_interpreter_is_free_meanwhile(rows):
    """While another thread scans, this one goes on: it would wait for the whole scan if that held the lock."""
    codes = encode(np.tile(rows, (10, 1)))
    scratch, done = DenseScratch(len(codes.hi)), threading.Event()
    scan(codes, 10, rows[0], 10, None, scratch)

    def work():
        for _ in range(20):
            scan(codes, len(codes.hi), rows[0], 10, None, scratch)
        done.set()

    thread = threading.Thread(target=work)
    begin = time.perf_counter()
    thread.start()
    turns = 0
    while not done.is_set():
        time.sleep(0)
        turns += 1
    thread.join()
    assert turns > 50, f"{turns} turns in {time.perf_counter() - begin} s"


def test_arrays_there_and_back(part, queries):
    again = DensePart.of(part.arrays())
    for array in again.arrays().values():
        assert not array.flags.writeable
    assert (
        search(again, queries[0], 10, None, DenseScratch())[0] == search(part, queries[0], 10, None, DenseScratch())[0]
    ).all()


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("lo", lambda array: array[:-1]),
        ("hi", lambda array: array.astype(np.int16)),
        ("scales", lambda array: array[1:]),
        ("neighbours", lambda array: array[:100]),
        ("neighbours", lambda array: array.astype(np.int64)),
        ("starts", lambda array: array[None]),
        ("rotation", lambda array: np.zeros((3, 3), array.dtype)),
        ("spread", lambda array: array[:0]),
    ],
)
def test_arrays_that_do_not_fit(part, name, wrong):
    with pytest.raises(ArtifactError, match=r"the dense part's \w+ is .* build the segment again"):
        DensePart.of({**part.arrays(), name: wrong(part.arrays()[name])})


def test_an_array_is_missing(part):
    arrays = part.arrays()
    del arrays["lo"]
    with pytest.raises(ArtifactError, match="lacks lo"):
        DensePart.of(arrays)


def test_lengths_that_do_not_fit(part, queries):
    with pytest.raises(ValueError, match="the queries have"):
        search(part, queries[0, :63], 10, None, DenseScratch())
    with pytest.raises(ValueError, match="the mask tells of 5 documents"):
        search(part, queries[0], 10, np.ones(5, np.uint8), DenseScratch())
    with pytest.raises(ValueError, match="rows were asked for"):
        scan(part.codes, COUNT + 1, queries[0], 10, None, DenseScratch())
