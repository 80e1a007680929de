"""The dense side of a segment: two-level codes of its documents' vectors, and neighbour lists to walk through.

Scores are inner products of the query and what both levels of the codes stand for. Candidates come from the narrow
codes alone: out of all of them, or of those met on a walk (`dense_kernels.walk`), whichever reads less. Documents
without a dense vector are zero rows; no search finds them.

Where there are lists, vectors are turned to the principal axes of the documents, the longest first: inner products stay
what they are, and the first third of the components nearly tells whether the rest must be read at all. Of real passages
a fifth to a third must be, and reading is what a walk waits for.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from lightretriever.artifact import plain_view
from lightretriever.errors import ArtifactError
from lightretriever.index.segment.codes import Codes, rescore, sum_vectors
from lightretriever.index.segment.dense_kernels import find_all, turn
from lightretriever.index.segment.graph import GraphOptions, build_graph
from lightretriever.index.segment.lists import Lists, new_lists, no_lists
from lightretriever.index.segment.scratch import DenseScratch

FEW = 10_000  # documents: fewer are scanned faster than walked through, and have no neighbour lists
SEEDS = 16
"""Of the places given for a query those that its walk begins at."""
_LEAST, _FIRST, _GROWTH = 80, 30_000, 0.4  # places kept up to so many documents, and then by this power of theirs
_SCANNED = 90  # rows that a scan reads in the time that a walk takes for each place it keeps
_WIDE = 512  # places: a walk that keeps more takes most of what it meets, and reads it whole at once
_LINE = 64  # bytes
_SAMPLE = 4_096  # rows that a mean is taken of
_PICKED = 40  # the same where a mask says which rows
_NONE, _NO_LISTS = plain_view(np.zeros(0, np.int32)), plain_view(np.zeros((0, 1), np.int32))
_ALL, _NO_AXES = plain_view(np.zeros(0, np.uint8)), plain_view(np.empty((0, 0), np.float32))


@dataclass(frozen=True)
class DensePart:
    """The dense side of n documents.

    Attributes:
        hi, lo, scales: `Codes`: int8 [n, d], int8 [n, d], float32 [n].
        neighbours: int32 [n, degree], each row filled up with -1; [0, degree] where there are none.
        starts: int32, places where walks begin.
        rotation: float32 [d, d]; a vector times it is what the codes are of. [0, 0] where that is the vector itself.
        spread: float32 [1], root mean square of a component of ``hi`` beyond the first `head`.
        total: float64 [d], the sum of the vectors, not turned.
    """

    hi: NDArray[np.int8]
    lo: NDArray[np.int8]
    scales: NDArray[np.float32]
    neighbours: NDArray[np.int32]
    starts: NDArray[np.int32]
    rotation: NDArray[np.float32]
    spread: NDArray[np.float32]
    total: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.hi)

    @property
    def codes(self) -> Codes:
        return Codes(self.hi, self.lo, self.scales)

    @property
    def head(self) -> int:
        """Components that a walk looks at first."""
        return _head(self.hi.shape[1], self.rotation)

    def turned(self, query: NDArray[np.float32]) -> NDArray[np.float32]:
        """A query [d] as the codes are."""
        if not len(self.rotation):
            return query
        turned = np.empty_like(query)
        turn(plain_view(query), self.rotation, turned)
        return turned

    def arrays(self) -> dict[str, NDArray]:
        """The arrays by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def of(cls, arrays: dict[str, NDArray]) -> DensePart:
        """A part of arrays as they were kept, checked by `check`.

        Raises:
            ArtifactError: one is missing, or they do not belong together.
        """
        missing = [field.name for field in fields(cls) if field.name not in arrays]
        if missing:
            raise ArtifactError(f"the dense part lacks {', '.join(missing)}: build the segment again")
        part = cls(**{field.name: plain_view(arrays[field.name]) for field in fields(cls)})
        part.check()
        return part

    def check(self) -> None:
        """See that types and shapes fit. Takes no time: places are checked by the walk when it reads them.

        Raises:
            ArtifactError: they do not.
        """
        count, dim = self.hi.shape if self.hi.ndim == 2 else (0, 0)
        degree = self.neighbours.shape[1] if self.neighbours.ndim == 2 else 0
        fits: tuple[tuple[NDArray, type, set[tuple[int, ...]]], ...] = (
            (self.hi, np.int8, {(count, dim)}),
            (self.lo, np.int8, {(count, dim)}),
            (self.scales, np.float32, {(count,)}),
            (self.neighbours, np.int32, {(count, degree), (0, degree)}),
            (self.starts, np.int32, {(len(self.starts),)}),
            (self.rotation, np.float32, {(dim, dim), (0, 0)}),
            (self.spread, np.float32, {(1,)}),
            (self.total, np.float64, {(dim,)}),
        )
        for (array, dtype, shapes), field in zip(fits, fields(self), strict=True):
            if array.dtype != dtype or array.shape not in shapes or not array.flags.c_contiguous:
                raise ArtifactError(
                    f"the dense part's {field.name} is {array.dtype} {list(array.shape)}, beside {count} documents of "
                    f"{dim} dimensions: build the segment again"
                )


def head_of(dim: int) -> int:
    """Of d components about a third, in whole lines of the processor's cache; all of them where that is none."""
    return dim // 3 // _LINE * _LINE or dim


def _head(dim: int, rotation: NDArray[np.float32]) -> int:
    return head_of(dim) if len(rotation) else dim


def wants_axes(count: int, dim: int) -> bool:
    """Whether a part of so many documents is to be made of turned vectors."""
    return count >= FEW and head_of(dim) < dim


def build(
    codes: Codes,
    options: GraphOptions | None = None,
    threads: int = 1,
    rotation: NDArray[np.float32] | None = None,
    total: NDArray[np.float64] | None = None,
) -> DensePart:
    """A part of codes, with neighbour lists where there are more than `FEW` documents.

    Args:
        codes: of n documents, in the order of their places; may be mapped from files.
        options: how neighbour lists are built; those of `GraphOptions` when None.
        threads: that build them. The lists do not depend on their number.
        rotation: what vectors were multiplied with before they were coded, of `lightretriever.axes`; None for nothing.
        total: the sum float64 [d] of the vectors before that; None where nobody asks for it.
    """
    options, dim = options or GraphOptions(), codes.hi.shape[1]
    rotation = _NO_AXES if rotation is None else rotation
    beyond = codes.hi[:: max(1, len(codes.hi) // _SAMPLE), head_of(dim) :].astype(np.float32)
    spread = np.sqrt(np.mean(beyond * beyond, dtype=np.float32)) if beyond.size else np.float32(0)
    if len(codes.hi) < FEW:
        neighbours, starts = np.empty((0, options.degree), np.int32), np.empty(0, np.int32)
    else:
        neighbours, starts = build_graph(plain_view(codes.hi), options, threads, _head(dim, rotation), spread)
    arrays: dict[str, NDArray] = {**codes._asdict(), "neighbours": neighbours, "starts": starts, "rotation": rotation}
    arrays["spread"] = np.array([spread], np.float32)
    arrays["total"] = np.zeros(dim) if total is None else total
    return DensePart.of(arrays)


def width(count: int, k: int) -> int:
    """Places that a walk through so many documents keeps, so that it finds 0.99 and more of the ten best.

    Measured with look-up queries, see benchmarks/dense_graphs.py: more documents want more.
    """
    return max(int(_LEAST * max(1.0, count / _FIRST) ** _GROWTH), k + k // 4)


def search(
    part: DensePart,
    queries: NDArray[np.float32],
    k: int,
    mask: NDArray[np.uint8] | None,
    scratch: DenseScratch,
    near: NDArray[np.int32] | None = None,
    ef: int | None = None,
    passing: int | None = None,
    scores: NDArray[np.float32] | None = None,
) -> Lists:
    """The k documents of the highest inner product with each query, as good as all; none for a zero query.

    With a mask the walk keeps as many more as the mask leaves out, so that about as many are left as without; where
    that takes longer than a scan of what the mask leaves, or far fewer are left after all, it is a scan.

    Args:
        queries: float32 [q, d], finite.
        mask: uint8 [n], 0 leaves a document out; None for none.
        scratch: this thread's.
        near: int32 [q, s], for example what the sparse side found: each walk begins at the first `SEEDS` of them too;
            what is no place is passed over.
        ef: places that a walk keeps, at least k; `width` of them when None.
        passing: how many documents the mask lets pass; counted when None.
        scores: float32 [q, s], written: the inner products with the documents at ``near``; None where not wanted.

    Raises:
        ValueError: the queries or the mask have another length than the part.
    """
    _check_lengths(part.hi, len(part), queries, mask)
    k = min(k, len(part))
    if passing is None:
        passing = len(part) if mask is None else int(np.count_nonzero(mask))
    if k < 1 or passing < 1:
        return no_lists(len(queries))
    masked = _ALL if mask is None else plain_view(mask)
    least = width(len(part), k) if ef is None else max(ef, k)
    wide = least * len(part) // passing
    walks = len(part.neighbours) > 0 and passing > wide * (_SCANNED if mask is None else _PICKED)
    scratch.reserve(len(part), max(wide if walks else 0, 4 * k, part.neighbours.shape[1]))
    head = part.head if wide <= _WIDE else queries.shape[1]
    found = new_lists(len(queries), k)
    near = _nothing_near(len(queries)) if near is None else plain_view(np.ascontiguousarray(near))
    find_all(
        part.hi, part.lo, part.scales, part.neighbours, part.starts, part.rotation, head, part.spread[0], near, SEEDS,
        _not_wanted(len(queries)) if scores is None else scores, walks, len(part), masked, plain_view(queries),
        *scratch.query(queries.shape[1]),
        scratch.pool(wide if walks else 0), scratch.marks, scratch.touched, scratch.keys,
        min(max(least * 3 // 4, k), passing), *found,
    )  # fmt: skip
    return found


def scan(
    codes: Codes,
    count: int,
    queries: NDArray[np.float32],
    k: int,
    mask: NDArray[np.uint8] | None,
    scratch: DenseScratch,
) -> Lists:
    """The k best of the first ``count`` rows of codes by exact score, out of all rows; none for a zero query.

    Candidates are kept by narrow score with 4.5 standard deviations of what rounding does to it, though at most half
    of what ``scratch.keys`` has room for: among thousands of nearly equal scores some may be lost to others as good.

    Args:
        codes: at least ``count`` rows.
        queries: float32 [q, d], finite.
        mask: uint8, at least [count], 0 leaves a row out; None for none.
        scratch: this thread's.

    Raises:
        ValueError: the queries have another length than the rows, or the mask has fewer than ``count``.
    """
    _check_lengths(codes.hi, count, queries, mask)
    k = min(k, count)
    if k < 1:
        return no_lists(len(queries))
    masked = _ALL if mask is None else plain_view(mask)
    scratch.reserve(count, 4 * k)
    found = new_lists(len(queries), k)
    find_all(
        *(plain_view(array) for array in codes), _NO_LISTS, _NONE, _NO_AXES, 0, np.float32(0),
        _nothing_near(len(queries)), 0, _not_wanted(len(queries)), False, count, masked, plain_view(queries),
        *scratch.query(queries.shape[1]),
        scratch.pool(0), scratch.marks,
        scratch.touched, scratch.keys, 0, *found,
    )  # fmt: skip
    return found


def score(part: DensePart, query: NDArray[np.float32], places: NDArray[np.int32]) -> NDArray[np.float32]:
    """Inner products of the query and documents at some places, as a search gives them, float32 [places].

    Raises:
        IndexError: a place is not in the part.
    """
    return rescore(part.codes, part.turned(query), places)


def sum_of(part: DensePart, places: NDArray[np.int32]) -> NDArray[np.float64]:
    """The sum float64 [d] of the vectors at some places, not turned."""
    total = sum_vectors(part.codes, places)
    return part.rotation.astype(np.float64) @ total if len(part.rotation) else total


def _nothing_near(queries: int) -> NDArray[np.int32]:
    return plain_view(np.empty((queries, 0), np.int32))


def _not_wanted(queries: int) -> NDArray[np.float32]:
    return np.empty((queries, 0), np.float32)


def _check_lengths(hi: NDArray[np.int8], count: int, queries: NDArray, mask: NDArray | None) -> None:
    if queries.ndim != 2 or queries.shape[1] != hi.shape[1]:
        raise ValueError(f"the queries have {queries.shape[1:]} numbers, documents have {hi.shape[1]}")
    if mask is not None and len(mask) < count:
        raise ValueError(f"the mask tells of {len(mask)} documents, and there are {count}")
    if count > len(hi):
        raise ValueError(f"{count} rows were asked for, and there are {len(hi)}")
