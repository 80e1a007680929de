"""The rows written since the segments were built: small arrays in memory, appended to as the rows come.

One thread appends; others search what there was when they took a `FreshRows`. What that says they may read is never
written again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lightretriever.index.segment.codes import Codes, encode_unit
from lightretriever.index.segment.fresh_sparse import FreshSparse, FreshView
from lightretriever.types import SparseVectors

_LEAST = 1_024  # rows to have room for


@dataclass(frozen=True, slots=True, eq=False)
class FreshRows:
    """The first ``count`` rows at one moment; arrays may be longer.

    Attributes:
        count: n.
        keys: int64, ascending.
        ids: of the documents.
        codes: of their dense vectors.
        postings: their sparse vectors; None where the index has none.
        total: float64 [d], the sum of the vectors.
    """

    count: int
    keys: NDArray[np.int64]
    ids: Sequence[str]
    codes: Codes
    postings: FreshView | None
    total: NDArray[np.float64]


class Fresh:
    """Grows."""

    def __init__(self, dim: int, sparse: bool) -> None:
        """Empty, for vectors of d dimensions."""
        postings = FreshSparse() if sparse else None
        self._postings = postings
        self._ids: list[str] = []
        self.rows = FreshRows(
            0,
            np.empty(_LEAST, np.int64),
            self._ids,
            Codes(np.empty((_LEAST, dim), np.int8), np.empty((_LEAST, dim), np.int8), np.empty(_LEAST, np.float32)),
            None if postings is None else postings.view(),
            np.zeros(dim),
        )

    def append(
        self, keys: NDArray[np.int64], ids: Sequence[str], dense: NDArray[np.float32], sparse: SparseVectors | None
    ) -> None:
        """Add n rows of keys greater than all before."""
        rows = self.rows
        count = rows.count + len(keys)
        if count > len(rows.keys):
            rows = _grown(rows, max(count, 2 * len(rows.keys)))
        new = slice(rows.count, count)
        rows.keys[new] = keys
        self._ids += ids
        coded = encode_unit(dense)
        rows.codes.hi[new], rows.codes.lo[new], rows.codes.scales[new] = coded
        if self._postings is not None:
            assert sparse is not None
            self._postings.append(sparse)
        postings = None if self._postings is None else self._postings.view()
        total = rows.total + dense.sum(axis=0, dtype=np.float64)
        self.rows = FreshRows(count, rows.keys, self._ids, rows.codes, postings, total)


def _grown(rows: FreshRows, room: int) -> FreshRows:
    def longer(array: NDArray) -> NDArray:
        copy = np.empty((room, *array.shape[1:]), array.dtype)
        copy[: rows.count] = array[: rows.count]
        return copy

    codes = Codes(longer(rows.codes.hi), longer(rows.codes.lo), longer(rows.codes.scales))
    return replace(rows, keys=longer(rows.keys), codes=codes)
