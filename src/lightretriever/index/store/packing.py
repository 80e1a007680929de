"""Vectors as bytes in a row of the database, bit for bit what they were, in as few as that takes without a codec.

Dense: the d numbers, as float16 where all of them are float16 numbers, else as float32; the length tells which.

Sparse: the number of its tokens and the ids, each as the difference to the one before, then how values are written and
the values. Whole numbers are written seven bits to a byte, lowest first, the eighth set where more follow (LEB128).
Values are bytes where all are whole numbers from 1 to 255, as token counts are; else float16 or float32, as above.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from lightretriever.compiled import compiled
from lightretriever.types import SparseVectors

_BYTES, _HALVES, _FLOATS = 0, 1, 2
_LONGEST = 5  # bytes of a number of 32 bits


def pack_dense(dense: NDArray[np.float32]) -> list[bytes]:
    """Each row of float32 [n, d]."""
    with np.errstate(over="ignore"):
        halves = dense.astype(np.float16)
    exact = (halves.astype(np.float32) == dense).all(axis=1).tolist() if len(dense) else []
    return [(halves[row] if short else dense[row]).tobytes() for row, short in enumerate(exact)]


def unpack_dense(packed: Sequence[bytes], dim: int) -> NDArray[np.float32]:
    """float32 [n, dim]. Raises ValueError, with the place of the row, for one of another length."""
    dense = np.empty((len(packed), dim), np.float32)
    for row, data in enumerate(packed):
        if len(data) == 4 * dim:
            dense[row] = np.frombuffer(data, np.float32)
        elif len(data) == 2 * dim:
            dense[row] = np.frombuffer(data, np.float16)
        else:
            raise ValueError(row)
    return dense


def pack_sparse(sparse: SparseVectors) -> list[bytes]:
    """Each row of [n, V]; token ids ascend in it."""
    values = np.ascontiguousarray(sparse.values, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        halves = values.astype(np.float16)
        whole = (values >= 1) & (values <= 255) & (values == np.floor(values))
    room = np.empty(_LONGEST * (2 * len(sparse) + len(values)) + 4 * len(values), np.uint8)
    ends = np.empty(len(sparse), np.int64)
    _pack(
        np.ascontiguousarray(sparse.indptr, np.int64),
        np.ascontiguousarray(sparse.indices, np.int32),
        values.view(np.uint32),
        halves.view(np.uint16),
        whole,
        halves.astype(np.float32) == values,
        np.where(whole, values, 0).astype(np.uint8),
        room,
        ends,
    )
    bounds = [0, *ends.tolist()]
    data = room[: bounds[-1]].tobytes()
    return [data[start:end] for start, end in pairwise(bounds)]


def unpack_sparse(packed: Sequence[bytes], width: int) -> SparseVectors:
    """[n, width]. Raises ValueError, with the place of the row, for one that is not what `pack_sparse` writes, or has
    a token beyond the width."""
    lengths = np.fromiter(map(len, packed), np.int64, len(packed))
    data = np.frombuffer(b"".join(packed), np.uint8)
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    counts = np.empty(len(packed), np.int64)
    bad = _count(data, starts, counts)
    if bad >= 0:
        raise ValueError(bad)
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    indices = np.empty(indptr[-1], np.int32)
    kinds = np.empty(len(packed), np.uint8)
    bits = np.empty(indptr[-1], np.uint32)
    bad = _unpack(data, starts, indptr, width, indices, kinds, bits)
    if bad >= 0:
        raise ValueError(bad)
    values = bits.view(np.float32)
    kind = np.repeat(kinds, counts)
    whole, halves = kind == _BYTES, kind == _HALVES
    values[whole] = bits[whole].astype(np.float32)
    values[halves] = bits[halves].astype(np.uint16).view(np.float16).astype(np.float32)
    return SparseVectors(indptr, indices, values, width)


@compiled()
def _write_number(number, room, at):  # type: ignore[no-untyped-def]
    while number >= 128:
        room[at] = number & 127 | 128
        number >>= 7
        at += 1
    room[at] = number
    return at + 1


@compiled()
def _pack(indptr, indices, floats, halves, whole, exact, small, room, ends):  # type: ignore[no-untyped-def]
    at = 0
    for row in range(len(ends)):
        first, last = indptr[row], indptr[row + 1]
        at = _write_number(last - first, room, at)
        before = 0
        kind = _BYTES
        for i in range(first, last):
            at = _write_number(indices[i] - before, room, at)
            before = indices[i]
            if kind == _BYTES and not whole[i]:
                kind = _HALVES
        for i in range(first, last):
            if kind == _HALVES and not exact[i]:
                kind = _FLOATS
        room[at] = kind
        at += 1
        for i in range(first, last):
            if kind == _BYTES:
                room[at] = small[i]
                at += 1
                continue
            bits = np.uint32(halves[i]) if kind == _HALVES else floats[i]
            for _ in range(2 if kind == _HALVES else 4):
                room[at] = bits & np.uint32(255)
                bits >>= np.uint32(8)
                at += 1
        ends[row] = at


@compiled()
def _read_number(data, at, end):  # type: ignore[no-untyped-def]
    """The number, −1 for none, and where the next begins."""
    number = 0
    for place in range(_LONGEST):
        if at >= end:
            return -1, at
        byte = np.int64(data[at])
        at += 1
        number |= (byte & 127) << (7 * place)
        if byte < 128:
            return number, at
    return -1, at


@compiled()
def _count(data, starts, counts):  # type: ignore[no-untyped-def]
    for row in range(len(counts)):
        count, _ = _read_number(data, starts[row], starts[row + 1])
        if count < 0 or count > starts[row + 1] - starts[row]:  # each takes a byte at least
            return row
        counts[row] = count
    return -1


@compiled()
def _unpack(data, starts, indptr, width, indices, kinds, bits):  # type: ignore[no-untyped-def]
    for row in range(len(kinds)):
        at, end = starts[row], starts[row + 1]
        first, last = indptr[row], indptr[row + 1]
        _, at = _read_number(data, at, end)
        before = np.int64(-1)
        for i in range(first, last):
            step, at = _read_number(data, at, end)
            token = step if i == first else before + step
            if step < 0 or token <= before or token >= width:
                return row
            indices[i] = token
            before = token
        if at >= end or data[at] > _FLOATS:
            return row
        kinds[row] = data[at]
        size = 1 << np.int64(data[at])
        at += 1
        if end - at != size * (last - first):
            return row
        for i in range(first, last):
            value = np.uint32(0)
            for place in range(size):
                value |= np.uint32(data[at]) << np.uint32(8 * place)
                at += 1
            bits[i] = value
    return -1
