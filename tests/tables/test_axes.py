"""Principal axes: what they are, and that documents and table turned by them search as before."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_tokenizers import wordpiece
from tables.test_fit import WIDTH, made_texts, made_vectors, predicted, unit

from lightretriever import FitOptions, TokenTable, fit_table
from lightretriever.axes import principal_axes
from lightretriever.errors import MismatchError, UsageError
from lightretriever.query.table import same_rotation


@settings(max_examples=25)
@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 2**31))
def test_axes_are_orthonormal_and_the_largest_first(count: int, dim: int, seed: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(count, 12)).astype(np.float32) * np.arange(1, 13)
    axes, kept = principal_axes(vectors, dim)
    np.testing.assert_allclose(axes.T @ axes, np.eye(dim), atol=1e-5)
    along = ((vectors @ axes) ** 2).sum(axis=0)
    assert (np.diff(along) <= 1e-3 * along[0]).all()
    assert kept == pytest.approx(along.sum() / (vectors**2).sum(), rel=1e-4)
    assert (axes[np.abs(axes).argmax(axis=0), np.arange(dim)] > 0).all()


def test_no_other_axes_keep_more() -> None:
    random = np.random.default_rng(0)
    vectors = random.normal(size=(300, 20)) @ random.normal(size=(20, 20))
    kept = principal_axes(vectors, 7)[1]
    for _ in range(20):
        other = np.linalg.qr(random.normal(size=(20, 7)))[0]
        assert ((vectors @ other) ** 2).sum() / (vectors**2).sum() < kept


def test_a_fit_turned_to_axes_ranks_as_the_whole_one() -> None:
    texts = made_texts(400)
    hidden = np.linalg.qr(np.random.default_rng(3).normal(size=(48, 48)))[0][:24]
    vectors = unit(made_vectors(texts) @ hidden)  # 48 dimensions of which 24 are used, none of them the first 24
    whole = fit_table(vectors=(texts, vectors), tokenizer=wordpiece(), l2=0.1)
    table = fit_table(vectors=(texts, vectors), tokenizer=wordpiece(), l2=0.1, options=FitOptions(dim=24, rotate=True))
    assert (table.dim, table.rotation.shape, table.fitted["axes_of"]) == (24, (48, 24), "documents")  # type: ignore[union-attr]
    assert table.fitted["axes_keep"] == pytest.approx(1, abs=1e-4)
    queries = made_texts(50, seed=9)
    expected = predicted(whole[:], queries) @ vectors.T
    turned = predicted(table[:], queries) @ unit(vectors @ table.rotation).T
    np.testing.assert_allclose(turned, expected, atol=5e-3)
    cut = fit_table(vectors=(texts, vectors), tokenizer=wordpiece(), l2=0.1, dim=24)
    assert np.abs(predicted(cut[:], queries) @ unit(vectors[:, :24]).T - expected).max() > 0.05
    small = fit_table(
        vectors=(texts, vectors), tokenizer=wordpiece(), options=FitOptions(l2=0.1, dim=24, rotate=True, dtype="int8")
    )
    assert small.dtype == "int8"
    assert np.einsum("nd,nd->n", predicted(small[:], queries), predicted(table[:], queries)).min() > 0.999


def test_a_rotation_needs_a_number_of_axes_that_there_are() -> None:
    texts = made_texts(50)
    given_ = {"vectors": (texts, made_vectors(texts)), "tokenizer": wordpiece()}
    with pytest.raises(UsageError, match="rotate needs a dim"):
        FitOptions(rotate=True)
    with pytest.raises(UsageError, match="dim is 25"):
        fit_table(**given_, options=FitOptions(l2=0.1, rotate=True, dim=25))  # type: ignore[arg-type]


def test_a_turned_table_is_no_prior() -> None:
    texts = made_texts(50)
    vectors = made_vectors(texts)
    prior = TokenTable.from_rows(np.ones((WIDTH, 24), np.float32), wordpiece(), model="").rotated(
        principal_axes(vectors, 12)[0]
    )
    with pytest.raises(MismatchError, match="axes of its own"):
        fit_table(vectors=(texts, vectors), tokenizer=wordpiece(), prior=prior)


def test_a_second_fit_may_turn_to_the_first_ones_axes() -> None:
    texts = made_texts(100)
    options = {"vectors": (texts, made_vectors(texts)), "tokenizer": wordpiece()}
    first = fit_table(**options, options=FitOptions(l2=0.1, dim=10, rotate=True))  # type: ignore[arg-type]
    second = fit_table(**options, options=FitOptions(l2=0.3, rotate=first.rotation))  # type: ignore[arg-type]
    assert same_rotation(first, second)
    assert second.hash != first.hash
    assert not same_rotation(first, fit_table(**options, l2=0.1))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="the axes say how many"):
        fit_table(**options, options=FitOptions(dim=10, rotate=first.rotation))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="24 columns"):
        fit_table(**options, options=FitOptions(l2=0.1, rotate=np.eye(30, 10)))  # type: ignore[arg-type]
