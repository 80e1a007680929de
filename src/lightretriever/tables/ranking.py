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


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """A model's own ranking for q texts; `rank_by_model` makes it.

    Attributes:
        candidates: unit vectors [n, d].
        best: [q, 10], places of the ten best for each text.
    """

    candidates: Floats
    best: NDArray[np.intp]


def rank_by_model(vectors: Floats, candidates: Floats) -> Reference | None:
    """Rank candidates for q texts.

    Args:
        vectors: the model's unit vectors of the texts, [q, d].
        candidates: unit vectors [n, d] of which none is of those texts; of many an even sample is taken.

    Returns:
        None where there are not twice as many candidates as are ranked, or no texts.
    """
    candidates = candidates[:: max(1, -(-len(candidates) // _MOST))]
    if len(candidates) < 2 * BEST or not len(vectors):
        return None
    return Reference(candidates, _best(vectors, candidates))


def compare_ranking(looked_up: Floats, reference: Reference) -> Kept:
    """What a table's unit vectors [q, d] of the same texts keep of it."""
    gains = 1 / np.log2(np.arange(2, BEST + 2))
    found = (_best(looked_up, reference.candidates)[:, :, None] == reference.best[:, None, :]).any(axis=2)
    ndcg = float((found @ gains / gains.sum()).mean())
    return Kept(round(float(found.mean()), 4), round(ndcg, 4))


def _best(vectors: Floats, candidates: Floats) -> NDArray[np.intp]:
    """Places of the ten best candidates for each vector, best first, [q, 10]."""
    best = np.empty((len(vectors), BEST), np.intp)
    for first in range(0, len(vectors), _BLOCK):
        scores = vectors[first : first + _BLOCK] @ candidates.T
        some = np.argpartition(-scores, BEST - 1, axis=1)[:, :BEST]
        order = np.argsort(-np.take_along_axis(scores, some, axis=1), axis=1, kind="stable")
        best[first : first + _BLOCK] = np.take_along_axis(some, order, axis=1)
    return best
