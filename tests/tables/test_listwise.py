import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightretriever.tables.bags import Bags, unit_rows
from lightretriever.tables.kernels import rank_gradient
from lightretriever.tables.listwise import Lists, fit_lists, make_lists

TEMPERATURE = np.float32(0.05)


def made(count: int, documents: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors of so many texts, and of documents."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((count + documents, 12), dtype=np.float32)
    return unit_rows(vectors[:count]), unit_rows(vectors[count:])


def made_bags(count: int, width: int, seed: int = 0) -> Bags:
    """Three tokens a text, below ``width``."""
    rng = np.random.default_rng(seed)
    ids = np.concatenate([np.sort(rng.choice(width, 3, replace=False)) for _ in range(count)]).astype(np.int32)
    return Bags(np.arange(count + 1, dtype=np.int64) * 3, ids, np.full(3 * count, 1 / 3, np.float32), width)


def loss(sums: np.ndarray, lists: Lists) -> float:
    """The mean cross-entropy between the lists' shares and the softmax over cosines."""
    cosines = np.einsum("nd,ncd->nc", unit_rows(sums).astype(np.float64), lists.documents[lists.places])
    logits = cosines / float(TEMPERATURE)
    logits -= logits.max(axis=1, keepdims=True)
    return float(-(lists.shares * (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)))).sum(axis=1).mean())


@settings(deadline=None)
@given(st.integers(1, 20), st.integers(1, 200), st.integers(0, 1000))
def test_a_list_holds_distinct_documents_its_own_among_them(count: int, documents: int, seed: int) -> None:
    vectors, ranked = made(count, documents, seed)
    rng = np.random.default_rng(seed)
    own, agreement = rng.integers(-1, documents, count), rng.random(count, dtype=np.float32)
    lists = make_lists(vectors, ranked, own, agreement)
    np.testing.assert_allclose(lists.shares.sum(axis=1), 1, rtol=1e-5)
    for row in range(count):
        assert len(set(lists.places[row].tolist())) == lists.places.shape[1] == min(64, documents)
        if own[row] >= 0:
            place = lists.places[row].tolist().index(own[row])
            assert lists.shares[row, place] >= 0.7 * agreement[row] - 1e-6


def test_without_a_document_of_its_own_a_text_gets_the_softmax_of_its_vector() -> None:
    vectors, documents = made(5, 30)
    lists = make_lists(vectors, documents, np.full(5, -1), np.zeros(5, np.float32))
    expected = np.exp(vectors @ documents.T / TEMPERATURE)
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(lists.shares, np.take_along_axis(expected, lists.places, axis=1), rtol=1e-3)


def test_its_gradient_is_that_of_the_loss() -> None:
    vectors, documents = made(4, 9)
    lists = make_lists(vectors, documents, np.array([0, 3, -1, 8]), np.ones(4, np.float32))
    sums = np.random.default_rng(1).standard_normal((4, 12)).astype(np.float32)
    found = np.empty_like(sums)
    rank_gradient(sums, lists.documents, lists.places, lists.shares, TEMPERATURE, found)
    for row, column in ((0, 0), (1, 5), (2, 11), (3, 7)):
        moved = [sums.astype(np.float64) for _ in range(2)]
        moved[0][row, column] += 1e-4
        moved[1][row, column] -= 1e-4
        slope = 4 * (loss(moved[0], lists) - loss(moved[1], lists)) / 2e-4  # of the sum over four texts
        assert found[row, column] / TEMPERATURE == pytest.approx(slope, rel=1e-2, abs=1e-3)


def test_of_many_texts_a_sample_is_ranked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightretriever.tables.listwise._STEPS", 1)
    vectors, documents = made(600, 20)
    own = np.arange(600) % 20
    lists = make_lists(vectors, documents, own, np.ones(600, np.float32))
    assert len(lists.texts) == len(lists.places) == 256 and (np.diff(lists.texts) > 0).all()
    np.testing.assert_array_equal(lists.places[np.arange(256), lists.shares.argmax(axis=1)], own[lists.texts])
    bags = made_bags(600, 50)
    rows = np.random.default_rng(4).standard_normal((50, 12)).astype(np.float32)
    listed = bags.take(lists.texts)
    assert loss(listed.multiply(fit_lists(rows, bags, lists)), lists) < loss(listed.multiply(rows), lists)


def test_rows_are_moved_until_texts_rank_as_their_lists_say() -> None:
    rng = np.random.default_rng(2)
    bags = made_bags(600, 50)
    true = rng.standard_normal((50, 12), dtype=np.float32)
    documents = unit_rows(rng.standard_normal((200, 12), dtype=np.float32))
    lists = make_lists(unit_rows(bags.multiply(true)), documents, np.full(600, -1), np.zeros(600, np.float32))
    rows = true + 0.3 * rng.standard_normal(true.shape, dtype=np.float32)
    before, start = loss(bags.multiply(rows), lists), rows.copy()
    moved = fit_lists(rows, bags, lists)
    np.testing.assert_array_equal(rows, start)
    assert loss(bags.multiply(moved), lists) < before - 0.02
    np.testing.assert_array_equal(moved, fit_lists(rows, bags, lists))


def test_a_row_of_zeros_stays_and_so_does_one_that_no_text_uses() -> None:
    vectors, documents = made(40, 20)
    bags = made_bags(40, 10)
    bags = Bags(bags.indptr, bags.ids, bags.weights, 12)
    rows = np.random.default_rng(3).standard_normal((12, 12)).astype(np.float32)
    rows[4] = 0
    moved = fit_lists(rows, bags, make_lists(vectors, documents, np.arange(40) % 20, np.ones(40, np.float32)))
    np.testing.assert_array_equal(moved[[4, 10, 11]], rows[[4, 10, 11]])
    assert np.isfinite(moved).all() and not np.array_equal(moved[0], rows[0])
