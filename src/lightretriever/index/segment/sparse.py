"""The sparse side of a segment: documents' impacts by token, and the exact best of them for a query's token counts.

Tokens in more than one of 16 documents are *columns*, two bytes a document; the rest are *postings*, six bytes each.
An impact is stored as one of 65,280 steps up to its token's greatest, so that a score is within 8 · 10⁻⁶ of the
greatest that its query could have; scores are exact sums of what is stored, and order the documents. The width of the
vocabulary is that of the rows it was built from: a token beyond it finds nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightretriever.artifact import plain_view
from lightretriever.errors import ArtifactError, InputError
from lightretriever.index.segment.lists import Lists, new_lists, no_lists
from lightretriever.index.segment.sparse_build import count_rows, fill_rows, scales_of
from lightretriever.index.segment.sparse_group import GROUP
from lightretriever.index.segment.sparse_kernels import ROOM, WINDOW, find_all, list_allowed
from lightretriever.index.segment.sparse_scores import score_lists
from lightretriever.types import SparseVectors

_FREQUENT = 16  # a token in more than one of so many documents is a column
_COLUMNS = 2  # at most, for each non-zero of the average document
_FEW = 400  # where no more than one of so many documents is allowed, these are scored one by one
_NONE = np.empty(0, np.int32)
ALL = plain_view(np.ones(1, np.uint8))
"""In place of a mask where there is none."""

Allocate = Callable[[str, tuple[int, ...], np.dtype], NDArray[Any]]
"""A zeroed array, by the name that `SparsePart.arrays` gives it, its shape and its dtype."""


@dataclass(frozen=True, slots=True, eq=False)
class SparsePart:
    """Sparse vectors of n documents by token; `build_sparse` makes one.

    Attributes:
        documents: int64 [1], n.
        scales: float32 [V], what a code of 1 is worth; 0 for a token that no document has.
        column_of: int32 [V], −1 for a token that is no column.
        starts: int64 [V + 1], where each token's postings begin; a column has none.
        places: int32 [postings], ascending within a token.
        codes: uint16 [postings].
        high, low: uint8 [columns · n rounded up to a multiple of 64]; a code is 256 · high − low.
    """

    documents: NDArray[np.int64]
    scales: NDArray[np.float32]
    column_of: NDArray[np.int32]
    starts: NDArray[np.int64]
    places: NDArray[np.int32]
    codes: NDArray[np.uint16]
    high: NDArray[np.uint8]
    low: NDArray[np.uint8]

    def __len__(self) -> int:
        return int(self.documents[0])

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What to store, by name; `of` takes it again."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @staticmethod
    def of(arrays: Mapping[str, NDArray[Any]]) -> SparsePart:
        """A part whose arrays may be read-only maps. Searching it reads and writes nowhere outside them, whatever the
        large ones hold.

        Raises:
            ArtifactError: they do not fit each other.
        """
        missing = [name for name in _DTYPES if name not in arrays]
        if missing:
            raise ArtifactError(f"the sparse part lacks {', '.join(missing)}: build the segment again")
        part = SparsePart(**{name: plain_view(arrays[name]) for name in _DTYPES})
        _check(part)
        return part


_DTYPES: dict[str, type[np.generic]] = {
    "documents": np.int64,
    "scales": np.float32,
    "column_of": np.int32,
    "starts": np.int64,
    "places": np.int32,
    "codes": np.uint16,
    "high": np.uint8,
    "low": np.uint8,
}


def _check(part: SparsePart) -> None:
    for name, dtype in _DTYPES.items():
        array = getattr(part, name)
        if array.dtype != dtype or array.ndim != 1 or not array.flags.c_contiguous:
            raise ArtifactError(f"{name} of the sparse part is {array.dtype} {array.shape}: build the segment again")
    width, columns = len(part.scales), int(part.column_of.max(initial=-1)) + 1
    fits = (
        len(part.documents) == 1
        and 0 <= part.documents[0] < 2**31
        and len(part.column_of) == width
        and len(part.starts) == width + 1
        and part.starts[0] == 0
        and part.starts[-1] == len(part.places) == len(part.codes)
        and bool((part.starts[1:] >= part.starts[:-1]).all())
        and int(part.column_of.min(initial=0)) >= -1
        and len(part.high) == len(part.low) == columns * _stride(len(part))
        and bool(np.isfinite(part.scales).all())
        and float(part.scales.min(initial=0)) >= 0
    )
    if not fits:
        raise ArtifactError("the arrays of the sparse part do not fit each other: build the segment again")


def _stride(documents: int) -> int:
    return -(-documents // GROUP) * GROUP


def _in_memory(_name: str, shape: tuple[int, ...], dtype: np.dtype) -> NDArray[Any]:
    return np.zeros(shape, dtype)


def build_sparse(batches: Iterable[SparseVectors], allocate: Allocate = _in_memory) -> SparsePart:
    """The part of documents whose vectors come batch by batch, in the order of their places.

    Args:
        batches: iterated twice, so no generator; rows [n, V], of which the largest V counts.
        allocate: gives the arrays that are filled, for example maps of new files. Beyond these and a batch memory is
            taken for the vocabulary alone.

    Raises:
        InputError: a row has tokens that do not ascend, or are not below its width, or impacts that are not finite and
            positive.
    """
    frequency, most = np.zeros(0, np.int64), np.zeros(0, np.float32)
    documents = 0
    for batch in batches:
        frequency, most = (_widened(array, batch.width) for array in (frequency, most))
        check_rows(batch, frequency, most, documents)
        documents += len(batch)
    columns = _columns(frequency, documents)

    def new(name: str, size: int) -> NDArray[Any]:
        return allocate(name, (size,), np.dtype(_DTYPES[name]))

    width, stride = len(frequency), _stride(documents)
    counted, scales = new("documents", 1), new("scales", width)
    counted[0] = documents
    scales_of(most, scales)
    column_of, starts = new("column_of", width), new("starts", width + 1)
    column_of[:] = -1
    column_of[columns] = np.arange(len(columns))
    np.cumsum(np.where(column_of >= 0, 0, frequency), out=starts[1:])
    places, codes = new("places", int(starts[-1])), new("codes", int(starts[-1]))
    high, low = new("high", len(columns) * stride), new("low", len(columns) * stride)
    at, first = np.array(starts[:-1]), 0
    written = tuple(np.asarray(array) for array in (places, codes, high, low))
    for batch in batches:
        fill_rows(first, *plain_rows(batch), plain_view(scales), plain_view(column_of), at, *written, stride)
        first += len(batch)
    return SparsePart.of(
        dict(zip(_DTYPES, (counted, scales, column_of, starts, places, codes, high, low), strict=True))
    )


def _widened(array: NDArray[Any], width: int) -> NDArray[Any]:
    return array if len(array) >= width else np.concatenate([array, np.zeros(width - len(array), array.dtype)])


def check_rows(batch: SparseVectors, frequency: NDArray[np.int64], most: NDArray[np.float32], first: int) -> None:
    """Count rows, the first of which is document ``first``, as `count_rows` does. Raises InputError for a bad one."""
    wrong = count_rows(*plain_rows(batch), batch.width, frequency, most)
    if wrong >= 0:
        raise InputError(
            f"the sparse vector of document {first + wrong}: tokens have to ascend in 0 … {batch.width - 1}, "
            "impacts to be finite and positive: encode it again"
        )


def plain_rows(batch: SparseVectors) -> tuple[NDArray[Any], ...]:
    """What compiled code takes of sparse vectors."""
    return tuple(plain_view(array) for array in (batch.indptr, batch.indices, batch.values))


def _columns(frequency: NDArray[np.int64], documents: int) -> NDArray[np.int64]:
    """Tokens that are to be columns, the most frequent first, so that those of one question lie near each other."""
    frequent = np.flatnonzero(frequency > max(documents // _FREQUENT, GROUP))
    most = _COLUMNS * int(frequency.sum()) // max(documents, 1)
    return frequent[np.argsort(-frequency[frequent], kind="stable")][:most]


class SparseScratch:
    """What searching needs beside the part, for one thread at a time. It grows with the most that was asked for; by
    1/100 of a byte for a document where there are masks; and with the documents that are in no segment."""

    def __init__(self) -> None:
        self.sums = np.zeros(WINDOW, np.uint16)
        self._room = 0
        self._places = np.empty(0, np.int32)
        self.fresh_sums, self.fresh_touched = np.zeros(0, np.float32), np.empty(0, np.int32)

    def reserve(self, k: int) -> tuple[NDArray[Any], ...]:
        """Room for the k best."""
        room = 3 * k + ROOM
        if room > self._room:
            self.found, self.bounds = np.empty(room, np.int32), np.empty(room, np.uint16)
            self.copy, self.scores = np.empty(room, np.uint16), np.empty(room, np.float32)
            self.keys = np.empty(2 * room, np.uint64)
            self._room = room
        return self.found, self.bounds, self.copy, self.scores, self.keys

    def reserve_places(self, count: int) -> NDArray[np.int32]:
        """Room for so many places."""
        if count > len(self._places):
            self._places = np.empty(count, np.int32)
        return self._places[:count]

    def reserve_sums(self, documents: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Sums that are zero, and a list, of so many fresh documents."""
        if documents > len(self.fresh_sums):
            size = max(documents, 2 * len(self.fresh_sums))
            self.fresh_sums, self.fresh_touched = np.zeros(size, np.float32), np.empty(size, np.int32)
        return self.fresh_sums, self.fresh_touched


def search_sparse(
    part: SparsePart, queries: SparseVectors, k: int, mask: NDArray[np.uint8] | None, scratch: SparseScratch
) -> Lists:
    """The k best documents of each query, exactly; those that share no token with it are never listed.

    Args:
        queries: tokens of each all different, and their counts, which are positive.
        k: at least 1.
        mask: uint8 [n], 0 for a document that is left out; None leaves none out.

    Raises:
        InputError: a count is not positive and finite.
    """
    documents = len(part)
    k = min(k, documents)
    if k < 1:
        return no_lists(len(queries))
    allowed, listed, few = ALL if mask is None else plain_view(mask), _NONE, False
    if mask is not None:
        listed = scratch.reserve_places(documents // _FEW)
        count = list_allowed(allowed, listed)
        few = count >= 0
        listed = listed[:count]
    found = new_lists(len(queries), k)
    refused = find_all(
        *plain_rows(queries), k, allowed, mask is not None, few, plain_view(listed), documents, *_by_token(part),
        scratch.sums, *scratch.reserve(k), *found,
    )  # fmt: skip
    if refused >= 0:
        raise refuse_counts()
    return found


def _by_token(part: SparsePart) -> tuple[Any, ...]:
    stride = _stride(len(part))
    return part.starts, part.places, part.codes, part.column_of, part.scales, part.high, part.low, stride


def refuse_counts() -> InputError:
    return InputError("a query's token counts have to be positive and finite: encode the query again")


def score_sparse(part: SparsePart, queries: SparseVectors, lists: Lists) -> NDArray[np.float32]:
    """The exact scores float32 [q, k] that queries give the documents of lists made otherwise, in any order: those that
    `search_sparse` gives; 0 without a token in common, and of no meaning beyond a list's end."""
    scores = np.empty(lists.places.shape, np.float32)
    score_lists(*plain_rows(queries), lists.counts, lists.places, *_by_token(part), scores)
    return scores
