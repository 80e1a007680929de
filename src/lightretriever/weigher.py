"""A dense weight for every query, from what its two lists look like: a small network, plain numbers in and out.

No fixed weight of the fusion fits every query (METHOD, its last line). What tells them apart is in the lists
themselves: whether an arm has one clear winner, how alike the two lists are, how long the query is. `features` puts
that into numbers that do not depend on the scale of either arm's scores, and `Weigher` makes of them a weight
in (0, 1) for the dense list, the sparse one having the rest.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from math import isfinite, log, log1p
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightretriever.errors import UsageError
from lightretriever.types import SparseVectors

DEPTH = 100  # places of a list that are looked at
_TOP = 10
FEATURES = (
    *(
        f"{arm} {name}"
        for arm in ("dense", "sparse")
        for name in ("range", "gap", "fall", "mean", "entropy", "support")
    ),
    *("dense first in sparse", "sparse first in dense", "common of 10", "common"),
    *("sparse found", "tokens", "sparse score a token"),
)


@dataclass(frozen=True)  # without slots, for the arrays that are made once
class Weigher:
    """A network with one hidden layer: ``low + (high − low) / (1 + exp(−v·[tanh(W·[x, 1]), 1]))``.

    Attributes:
        hidden: W, a row for every hidden unit: a factor for each of `FEATURES`, then the constant.
        output: v, a factor for each hidden unit, then the constant.
        low, high: no weight lies outside these.

    Raises:
        UsageError: numbers that are not finite, or not as many as `FEATURES` need, or bounds that are none.
    """

    hidden: tuple[tuple[float, ...], ...]
    output: tuple[float, ...]
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        shapes = {len(row) for row in self.hidden} == {len(FEATURES) + 1} and len(self.output) == len(self.hidden) + 1
        if not shapes or not all(isfinite(value) for row in (*self.hidden, self.output) for value in row):
            raise UsageError(f"the weigher's numbers are not {len(FEATURES)} features' finite factors: tune again")
        if not 0 <= self.low < self.high <= 1:
            raise UsageError(f"the weigher's bounds are {self.low} and {self.high}: tune again")

    @staticmethod
    def of(stored: Any) -> Weigher:
        """Of what JSON makes of one."""
        hidden = tuple(tuple(map(float, row)) for row in stored["hidden"])
        return Weigher(hidden, tuple(map(float, stored["output"])), float(stored["low"]), float(stored["high"]))

    @staticmethod
    def general() -> Weigher:
        """The one that comes with the package, for indexes without judged queries; docs/fusion.md says of what."""
        return Weigher.of(json.loads(files("lightretriever").joinpath("weigher.json").read_text(encoding="utf-8")))

    @cached_property
    def _arrays(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        hidden = np.array(self.hidden)
        return np.ascontiguousarray(hidden[:, :-1].T), hidden[:, -1], np.array(self.output)

    def weights(self, found: Sequence[Sequence[float]] | NDArray[np.float64]) -> NDArray[np.float64]:
        """Dense weights, float64 [n] in (0, 1), of queries' `features` [n, F]."""
        factors, constants, output = self._arrays
        inside = np.tanh(np.asarray(found, dtype=np.float64) @ factors + constants) @ output[:-1] + output[-1]
        share = 1.0 / (1.0 + np.exp(-np.minimum(np.maximum(inside, -30.0), 30.0)))
        return np.asarray(self.low + (self.high - self.low) * share)


def features(
    dense_keys: Sequence[Any],
    dense_scores: Sequence[float],
    sparse_keys: Sequence[Any],
    sparse_scores: Sequence[float],
    tokens: float,
) -> list[float]:
    """One query's numbers, in the order of `FEATURES`; plain Python, because numpy is slower on so few.

    Args:
        dense_keys, dense_scores, sparse_keys, sparse_scores: the two lists, best first; the first `DEPTH` count.
        tokens: how many the query has.
    """
    dense, sparse = list(dense_scores[:DEPTH]), list(sparse_scores[:DEPTH])
    in_dense = dict(zip(dense_keys, dense, strict=False))
    in_sparse = dict(zip(sparse_keys, sparse, strict=False))
    top_dense, top_sparse = dense_keys[:_TOP], sparse_keys[:_TOP]
    seconded = _scaled([in_sparse[key] for key in top_dense if key in in_sparse], sparse)
    firsts = _scaled([in_dense[key] for key in top_sparse if key in in_dense], dense)
    return [
        *_shape(dense),
        sum(seconded) / _TOP,
        *_shape(sparse),
        sum(firsts) / _TOP,
        seconded[0] if seconded and top_dense[0] in in_sparse else 0.0,
        firsts[0] if firsts and top_sparse[0] in in_dense else 0.0,
        len(set(top_dense).intersection(top_sparse)) / _TOP,
        len(in_dense.keys() & in_sparse.keys()) / DEPTH,
        len(in_sparse) / DEPTH,
        log1p(tokens),
        log1p(max(sparse[0], 0.0) / max(tokens, 1.0)) if sparse else 0.0,
    ]


def token_numbers(counts: SparseVectors) -> list[float]:
    """How many tokens each query has, of its counts."""
    total = np.concatenate([[0.0], np.cumsum(counts.values, dtype=np.float64)])
    return list((total[counts.indptr[1:]] - total[counts.indptr[:-1]]).tolist())


def _scaled(some: list[float], scores: list[float]) -> list[float]:
    """Some of a list's scores from 0, its worst, to 1, its best; all 1 where none is worse, as the fusion has it."""
    if not some:
        return []
    low = scores[-1]
    spread = scores[0] - low
    return [(score - low) / spread for score in some] if spread > 0 else [1.0] * len(some)


def _shape(scores: list[float]) -> list[float]:
    """Range in proportion to the best score, gap after it, fall to the tenth, mean, and entropy of the first ten."""
    if not scores:
        return [0.0] * 5
    top = _scaled(scores[:_TOP], scores)
    total = sum(top)
    entropy = log(total) - sum([value * log(value) for value in top if value > 0]) / total
    reach = min((scores[0] - scores[-1]) / scores[0], 2.0) if scores[0] > 0 else 2.0
    gap = 1.0 - top[1] if len(top) > 1 else 1.0
    [mean] = _scaled([sum(scores) / len(scores)], scores)
    return [reach, gap, 1.0 - top[-1], mean, entropy / log(_TOP)]
