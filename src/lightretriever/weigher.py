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
from math import exp, isfinite, log, log1p, tanh
from operator import mul
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightretriever.errors import UsageError
from lightretriever.types import SparseVectors

DEPTH = 100  # places of a list that are looked at
_TOP = 10
_LOG_TOP = log(_TOP)
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

    def weight(self, found: Sequence[float]) -> float:
        """The dense weight of one query's `features` [F], as `weights` has it; without numpy, for it is so little."""
        inside = self.output[-1]
        for row, factor in zip(self.hidden, self.output, strict=False):  # a row's last is its constant
            inside += factor * tanh(sum(map(mul, row, found), row[-1]))
        return self.low + (self.high - self.low) / (1.0 + exp(-min(max(inside, -30.0), 30.0)))


def places_in(sparse_keys: Sequence[Any], dense_keys: Sequence[Any]) -> list[int | None]:
    """Where each document of the dense list stands in the sparse one, from 0; None where it does not.

    The engine's keys are long integers, whose hashes are most of what comparing two lists costs: here each is hashed
    once, and whoever needs to know what the lists have in common is told by their places.
    """
    return list(map(dict(zip(sparse_keys, range(len(sparse_keys)), strict=True)).get, dense_keys))


def features(
    dense_scores: Sequence[float], sparse_scores: Sequence[float], places: Sequence[int | None], tokens: float
) -> list[float]:
    """One query's numbers, in the order of `FEATURES`; plain Python, because numpy is slower on so few.

    Args:
        dense_scores, sparse_scores: of the two lists, best first; the first `DEPTH` count.
        places: of the dense list's documents in the sparse one, see `places_in`.
        tokens: how many the query has.
    """
    if max(len(dense_scores), len(sparse_scores)) > DEPTH:
        dense_scores, sparse_scores = dense_scores[:DEPTH], sparse_scores[:DEPTH]
        places = [None if place is None or place >= DEPTH else place for place in places[:DEPTH]]
    by_place = dict(zip(places, dense_scores, strict=True))  # of what both lists have; under None what they do not
    top = places[:_TOP]
    seconded = _scaled([sparse_scores[place] for place in top if place is not None], sparse_scores)
    firsts = _scaled([by_place[place] for place in range(_TOP) if place in by_place], dense_scores)
    return [
        *_shape(dense_scores),
        sum(seconded) / _TOP,
        *_shape(sparse_scores),
        sum(firsts) / _TOP,
        seconded[0] if top and top[0] is not None else 0.0,
        firsts[0] if 0 in by_place else 0.0,
        sum([place is not None and place < _TOP for place in top]) / _TOP,
        (len(by_place) - (None in by_place)) / DEPTH,
        len(sparse_scores) / DEPTH,
        log1p(tokens),
        log1p(max(sparse_scores[0], 0.0) / max(tokens, 1.0)) if sparse_scores else 0.0,
    ]


def token_numbers(counts: SparseVectors) -> list[float]:
    """How many tokens each query has, of its counts."""
    if len(counts) == 1:
        return [sum(counts.row(0)[1].tolist())]
    total = np.concatenate([[0.0], np.cumsum(counts.values, dtype=np.float64)])
    return list((total[counts.indptr[1:]] - total[counts.indptr[:-1]]).tolist())


def _scaled(some: Sequence[float], scores: Sequence[float]) -> list[float]:
    """Some of a list's scores from 0, its worst, to 1, its best; all 1 where none is worse, as the fusion has it."""
    if not some:
        return []
    low = scores[-1]
    spread = scores[0] - low
    return [(score - low) / spread for score in some] if spread > 0 else [1.0] * len(some)


def _shape(scores: Sequence[float]) -> list[float]:
    """Range in proportion to the best score, gap after it, fall to the tenth, mean, and entropy of the first ten."""
    if not scores:
        return [0.0] * 5
    best, low = scores[0], scores[-1]
    top = _scaled(scores[:_TOP], scores)
    total = sum(top)
    entropy = log(total) - sum([value * log(value) for value in top if value > 0]) / total
    spread = best - low
    reach = min(spread / best, 2.0) if best > 0 else 2.0
    gap = 1.0 - top[1] if len(top) > 1 else 1.0
    mean = (sum(scores) / len(scores) - low) / spread if spread > 0 else 1.0
    return [reach, gap, 1.0 - top[-1], mean, entropy / _LOG_TOP]
