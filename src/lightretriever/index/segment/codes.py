"""Two-level codes of dense vectors: narrow ones to find with, and what they leave over, to tell scores exactly.

A vector v is stood for by scale · (hi + lo / 256): scale = max|v| / 127 is the vector's own, hi and lo are int8. Each
component is off by at most scale / 512 (by scale / 256 where lo would be 128), an inner product of unit vectors with
384 dimensions by about 2e-6. Nothing is trained, so a vector's codes depend on no other vector.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightretriever.artifact import plain_view
from lightretriever.errors import InputError
from lightretriever.index.segment.code_kernels import encode_rows, exact_scores
from lightretriever.index.segment.lists import Lists

_DECODED = 8_192  # vectors in memory at once


class Codes(NamedTuple):
    """Codes of n vectors: int8 [n, d], int8 [n, d], float32 [n]; the scale of a zero vector is 0."""

    hi: NDArray[np.int8]
    lo: NDArray[np.int8]
    scales: NDArray[np.float32]


def encode(vectors: NDArray[np.floating]) -> Codes:
    """Codes of vectors [n, d]. One whose values are all below 1e-30 counts as zero.

    Raises:
        InputError: a value is infinite or no number, or does not fit float32; the first such row is named.
    """
    rows = np.ascontiguousarray(vectors, np.float32)
    codes = Codes(np.empty(rows.shape, np.int8), np.empty(rows.shape, np.int8), np.empty(len(rows), np.float32))
    wrong = encode_rows(plain_view(rows), *codes)
    if wrong >= 0:
        raise InputError(f"vector {wrong} has a value that is no finite number: encode its document again")
    return codes


def encode_unit(vectors: NDArray[np.floating]) -> Codes:
    """Codes of vectors [n, d] brought to unit length, of which those made of float16 numbers are only about.

    Raises:
        InputError: as `encode`.
    """
    codes = encode(vectors)
    norms = np.linalg.norm(np.asarray(vectors, np.float32), axis=1)
    np.divide(codes.scales, norms, out=codes.scales, where=norms > 0)
    return codes


def decode(codes: Codes) -> NDArray[np.float32]:
    """The vectors that codes stand for, float32 [n, d]."""
    return (codes.hi.astype(np.float32) + codes.lo.astype(np.float32) / np.float32(256)) * codes.scales[:, None]


def sum_vectors(codes: Codes, places: NDArray[np.int32]) -> NDArray[np.float64]:
    """The sum float64 [d] of the vectors that codes at some places stand for."""
    total = np.zeros(codes.hi.shape[1])
    for start in range(0, len(places), _DECODED):
        some = places[start : start + _DECODED]
        total += decode(Codes(codes.hi[some], codes.lo[some], codes.scales[some])).sum(axis=0, dtype=np.float64)
    return total


def rescore(codes: Codes, query: NDArray[np.float32], places: NDArray[np.int32]) -> NDArray[np.float32]:
    """Inner products of a query [d] and what the codes at some places stand for, float32 [places].

    Raises:
        IndexError: a place is not among the codes.
    """
    places = np.ascontiguousarray(places, np.int32)
    if len(places) and not 0 <= places.min() <= places.max() < len(codes.hi):
        raise IndexError(f"places go from 0 to {len(codes.hi) - 1}")
    scores = np.empty(len(places), np.float32)
    hi, lo, scales = (plain_view(array) for array in codes)
    exact_scores(hi, lo, scales, plain_view(places), plain_view(query), scores)
    return scores


def rescore_lists(codes: Codes, queries: NDArray[np.float32], lists: Lists) -> NDArray[np.float32]:
    """Likewise of q queries [q, d] and the documents of their lists, float32 [q, k]; beyond an end of no meaning."""
    scores = np.empty(lists.places.shape, np.float32)
    for i, query in enumerate(queries):
        scores[i, : lists.counts[i]] = rescore(codes, query, lists.row(i)[0])
    return scores
