"""Vectors as bytes: the same to the last bit when they are read back, and nothing but ValueError for other bytes."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lightretriever.index.store.packing import pack_dense, pack_sparse, unpack_dense, unpack_sparse
from lightretriever.types import SparseVectors, sparse_from_dense

WIDTH = 300
floats = st.floats(width=32, allow_nan=False)
halves = st.floats(width=16, allow_nan=False)
counts = st.integers(1, 400).map(float)


@st.composite
def sparse_rows(draw: st.DrawFn) -> SparseVectors:
    rows = draw(
        st.lists(
            st.sampled_from([floats, halves, counts, floats | counts]).flatmap(
                lambda values: st.dictionaries(st.integers(0, WIDTH - 1), values, max_size=20)
            ),
            max_size=5,
        )
    )
    tokens = [token for row in rows for token in sorted(row)]
    values = [row[token] for row in rows for token in sorted(row)]
    indptr = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    return SparseVectors(indptr, np.array(tokens, np.int32), np.array(values, np.float32), WIDTH)


@given(arrays(np.float32, st.tuples(st.integers(0, 5), st.integers(1, 9)), elements=floats | halves))
def test_dense_rows_come_back_bit_for_bit(dense: np.ndarray) -> None:
    packed = pack_dense(dense)
    assert [type(row) for row in packed] == [bytes] * len(dense)
    assert unpack_dense(packed, dense.shape[1]).tobytes() == dense.tobytes()


def test_float16_numbers_take_two_bytes_each() -> None:
    rows = np.array([[1, -0.0, 65504, 6e-8], [1, 0.1, 0, 0], [1e5, 0, 0, 0]], np.float32)
    rows[0, 3] = np.float16(6e-8)
    assert [len(row) for row in pack_dense(rows)] == [8, 16, 16]


@given(sparse_rows())
def test_sparse_rows_come_back_bit_for_bit(sparse: SparseVectors) -> None:
    found = unpack_sparse(pack_sparse(sparse), WIDTH)
    assert found.width == WIDTH
    for name in ("indptr", "indices", "values"):
        one, other = getattr(found, name), getattr(sparse, name)
        assert (one.dtype, one.tobytes()) == (other.dtype, other.tobytes())


def test_values_take_as_many_bytes_as_they_need() -> None:
    weights = np.zeros((4, WIDTH), np.float32)
    weights[0, [3, 4, 200]] = [1, 255, 7]  # bytes
    weights[1, [3, 4, 200]] = [1, 256, 7]  # halves
    weights[2, [3, 4, 200]] = [1, 0.1, 7]  # floats
    assert [len(row) for row in pack_sparse(sparse_from_dense(weights))] == [9, 12, 18, 2]


def test_the_widest_vocabulary_there_may_be() -> None:
    width = (1 << 31) - 1
    tokens = np.array([0, 127, 128, 1 << 20, width - 1], np.int32)
    sparse = SparseVectors(np.array([0, 5]), tokens, np.ones(5, np.float32), width)
    assert unpack_sparse(pack_sparse(sparse), width).indices.tolist() == tokens.tolist()
    with pytest.raises(ValueError, match="0"):
        unpack_sparse(pack_sparse(sparse), width - 1)


def number(value: int) -> bytes:
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


GOOD = number(2) + number(5) + number(3) + b"\0" + b"\x07\x09"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80",
        b"\xff" * 20,
        number(3),
        GOOD[:-1],
        GOOD + b"\0",
        number(2) + number(5) + number(0) + b"\0\x07\x09",  # the same token twice
        number(1) + number(WIDTH) + b"\0\x07",
        number(1) + number((1 << 35) - 1) + b"\0\x07",
        number(1 << 34) + b"\0",
        number(2) + number(WIDTH - 1) + number((1 << 32) - 5) + b"\0\x07\x09",  # would wrap around
        number(1) + number(5) + b"\x03\x07",
        number(1) + number(5) + b"\x02" + struct.pack("<f", 1.5)[:3],
        number(0),
    ],
    ids=lambda data: data.hex() or "nothing",
)
def test_what_is_no_sparse_row_is_refused_by_its_place(data: bytes) -> None:
    assert unpack_sparse([GOOD], WIDTH).to_dense()[0, [5, 8]].tolist() == [7, 9]
    with pytest.raises(ValueError) as raised:
        unpack_sparse([GOOD, GOOD, data, GOOD], WIDTH)
    assert raised.value.args == (2,)


@given(st.lists(st.binary(max_size=40), max_size=4))
def test_whatever_bytes_there_are_only_rows_come_of_them(packed: list[bytes]) -> None:
    try:
        found = unpack_sparse(packed, WIDTH)
    except ValueError as error:
        assert 0 <= error.args[0] < len(packed)
        return
    assert len(found) == len(packed)
    assert found.indptr[-1] == len(found.indices) == len(found.values)
    for row in range(len(found)):
        tokens, _ = found.row(row)
        assert (np.diff(tokens) > 0).all()
        assert not len(tokens) or (tokens[0] >= 0 and tokens[-1] < WIDTH)


@given(sparse_rows(), st.data())
def test_a_row_with_a_byte_changed_is_refused_or_still_a_row(sparse: SparseVectors, data: st.DataObject) -> None:
    packed = [bytearray(row) for row in pack_sparse(sparse)]
    if not packed:
        return
    row = data.draw(st.integers(0, len(packed) - 1))
    packed[row][data.draw(st.integers(0, len(packed[row]) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        found = unpack_sparse([bytes(one) for one in packed], WIDTH)
    except ValueError as error:
        assert error.args == (row,)
        return
    assert found.indices.min(initial=0) >= 0
    assert found.indices.max(initial=0) < WIDTH


@given(st.lists(st.binary(max_size=20), max_size=4), st.integers(1, 5))
def test_dense_rows_of_other_lengths_are_refused_by_their_place(packed: list[bytes], dim: int) -> None:
    wrong = [row for row, data in enumerate(packed) if len(data) not in (2 * dim, 4 * dim)]
    if not wrong:
        assert unpack_dense(packed, dim).shape == (len(packed), dim)
        return
    with pytest.raises(ValueError) as raised:
        unpack_dense(packed, dim)
    assert raised.value.args == (wrong[0],)
