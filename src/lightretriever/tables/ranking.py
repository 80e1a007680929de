"""How well a table ranks as its model does, without judgements: the model's own ten best for texts held out of the fit.

A cosine says how near vectors are, and misranks: what matters is which documents come first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

BEST = 10
_MOST = 20_000  # candidates, an even sample
_BLOCK = 256  # queries whose scores of all candidates are in memory at once


@dataclass(frozen=True, slots=True)
class Kept:
    """What a table keeps of its model's ranking, means over queries.

    Attributes:
        overlap: of the model's ten best the share that is among the look-up's ten.
        ndcg: nDCG@10 of the look-up, the model's ten best being relevant and all else not.
    """

    overlap: float
    ndcg: float


def compare_rankings(looked_up: Floats, wanted: Floats, candidates: Floats) -> Kept | None:
    """Rank candidates by both vectors of each query.

    Args:
        looked_up, wanted: the table's and the model's unit vectors of the same q texts, [q, d].
        candidates: unit vectors [n, d] of which none is of those texts; of many an even sample is taken.

    Returns:
        None where there are not twice as many candidates as are ranked, or no queries.
    """
    candidates = candidates[:: max(1, -(-len(candidates) // _MOST))]
    if len(candidates) < 2 * BEST or not len(wanted):
        return None
    gains = 1 / np.log2(np.arange(2, BEST + 2))
    overlap, ndcg = np.empty(len(wanted)), np.empty(len(wanted))
    for first in range(0, len(wanted), _BLOCK):
        some = slice(first, first + _BLOCK)
        relevant = np.zeros((len(wanted[some]), len(candidates)), dtype=bool)
        np.put_along_axis(relevant, _best(wanted[some] @ candidates.T), True, axis=1)
        found = np.take_along_axis(relevant, _best(looked_up[some] @ candidates.T), axis=1)
        overlap[some], ndcg[some] = found.mean(axis=1), found @ gains / gains.sum()
    return Kept(round(float(overlap.mean()), 4), round(float(ndcg.mean()), 4))


def _best(scores: Floats) -> NDArray[np.intp]:
    """Places of the ten best of each row, best first."""
    some = np.argpartition(-scores, BEST - 1, axis=1)[:, :BEST]
    order = np.argsort(-np.take_along_axis(scores, some, axis=1), axis=1, kind="stable")
    return np.take_along_axis(some, order, axis=1)
