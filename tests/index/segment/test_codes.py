"""Two-level codes: how far they are off, and what they refuse."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from lightretriever.errors import InputError
from lightretriever.index.segment.codes import Codes, decode, encode, rescore

LARGE = float(np.float32(1e38))
vectors = arrays(
    np.float32,
    array_shapes(min_dims=2, max_dims=2, max_side=40),
    elements=st.floats(-LARGE, LARGE, width=32),
)


@settings(max_examples=150, deadline=None)
@given(vectors)
def test_each_value_is_off_by_little(rows):
    codes = encode(rows)
    most = np.abs(rows.astype(np.float64)).max(axis=1)
    assert ((codes.scales == 0) == (most < np.float32(1e-30))).all()
    kept = most >= np.float32(1e-30)
    scales = codes.scales.astype(np.float64)
    np.testing.assert_allclose(scales[kept], most[kept] / 127, rtol=1e-6)
    decoded = (codes.hi + codes.lo / 256) * scales[:, None]
    off = np.abs(decoded - rows)[kept] / scales[kept][:, None]
    bound = np.where(codes.lo[kept] == 127, 1 / 256, 1 / 512) + 1e-4
    assert (off <= bound).all()
    assert not codes.hi[~kept].any()
    assert not codes.lo[~kept].any()


@settings(max_examples=50, deadline=None)
@given(vectors)
def test_no_code_is_the_one_without_an_opposite(rows):
    codes = encode(rows)
    assert codes.hi.min() >= -127


def test_scores_are_within_a_hundred_thousandth_of_float32():
    rng = np.random.default_rng(5)
    rows = rng.standard_normal((2000, 384), dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    codes = encode(rows.astype(np.float16))
    query = rows[0]
    scores = rescore(codes, query, np.arange(2000, dtype=np.int32))
    assert np.abs(scores - rows.astype(np.float16).astype(np.float32) @ query).max() < 1e-5
    np.testing.assert_allclose(scores, decode(codes) @ query, atol=1e-6)


def test_a_row_depends_on_no_other():
    rows = np.random.default_rng(6).standard_normal((50, 33), dtype=np.float32)
    whole = encode(rows)
    for i in (0, 7, 49):
        alone = encode(rows[i : i + 1])
        assert all((a[0] == b[i]).all() for a, b in zip(alone, whole, strict=True))


def test_codes_of_codes_are_the_same():
    rows = decode(encode(np.random.default_rng(7).standard_normal((50, 33), dtype=np.float32)))
    np.testing.assert_allclose(decode(encode(rows)), rows, rtol=0, atol=3e-4 * np.abs(rows).max() / 10)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
def test_what_is_no_finite_number_is_named(value):
    rows = np.ones((4, 5))
    rows[2, 4] = value
    with np.errstate(over="ignore"), pytest.raises(InputError, match="vector 2 has a value that is no finite number"):
        encode(rows)


def test_no_vectors():
    codes = encode(np.zeros((0, 8), np.float32))
    assert [array.shape for array in codes] == [(0, 8), (0, 8), (0,)]


@pytest.mark.parametrize("place", [-1, 3])
def test_a_place_that_is_not_there(place):
    codes = encode(np.ones((3, 4), np.float32))
    with pytest.raises(IndexError, match="places go from 0 to 2"):
        rescore(Codes(*codes), np.ones(4, np.float32), np.array([0, place], np.int32))
