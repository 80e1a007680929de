"""Whether two systems differ on the same queries by more than chance: two paired tests, two-sided, in numpy alone.

Randomisation (Smucker, Allan and Carterette, CIKM 2007): were the systems alike, each query's difference could as well
have the other sign. The p-value is the share of sign assignments whose mean difference is at least as far from zero as
the one seen; of all 2^m assignments where that is few, m being the queries that differ, else of ``RESAMPLES`` drawn
with a fixed seed, the one seen among them: (1 + hits)/(1 + RESAMPLES) (Phipson and Smyth 2010), so never zero.

Student's paired t: t = mean/(s/√n) with s² the differences' variance over n − 1; p = I_x(ν/2, ½) at x = ν/(ν + t²),
ν = n − 1, I being the regularised incomplete beta function, by its continued fraction (DLMF 8.17.22).

Neither p-value is corrected for how many pairs are tested.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightretriever.errors import InputError

RESAMPLES = 10_000
SEED = 0
_SAME = 1e-9  # values nearer than this are equal
_EXACT = 13  # queries that differ, up to which all 2^m assignments are tried
_CHUNK = 4_000_000  # signs drawn at once


@dataclass(frozen=True, slots=True)
class PairedTest:
    """System a against system b by one measure.

    Attributes:
        difference: mean of a less mean of b.
        better, equal, worse: number of queries on which a is so.
        randomisation, t: two-sided p-values.
    """

    difference: float
    better: int
    equal: int
    worse: int
    randomisation: float
    t: float


def paired_test(a: Mapping[str, float], b: Mapping[str, float]) -> PairedTest:
    """Test two systems' values, query id to value, over the same queries.

    Raises:
        InputError: the queries are not the same, or there are none.
    """
    if a.keys() != b.keys() or not a:
        only = sorted(a.keys() ^ b.keys())[:3]
        raise InputError(
            f"a paired test needs the same queries on both sides; on one side only: {only or 'none at all'}"
        )
    differences = np.array([a[query] - b[query] for query in a])
    better, worse = int((differences > _SAME).sum()), int((differences < -_SAME).sum())
    return PairedTest(
        difference=float(differences.mean()),
        better=better,
        equal=len(differences) - better - worse,
        worse=worse,
        randomisation=randomisation(differences),
        t=paired_t(differences),
    )


def randomisation(differences: NDArray[np.floating], resamples: int = RESAMPLES, seed: int = SEED) -> float:
    """Two-sided p-value of the mean of [n] differences by random signs; see the module."""
    moving = np.asarray(differences[np.abs(differences) > _SAME], dtype=np.float64)
    seen = abs(moving.sum()) - _SAME * max(len(moving), 1)  # sums in another order are not exactly equal
    if not len(moving):
        return 1.0
    if len(moving) <= _EXACT:
        bits = (np.arange(2 ** len(moving))[:, None] >> np.arange(len(moving))) & 1
        return float((np.abs((2.0 * bits - 1) @ moving) >= seen).mean())
    random = np.random.default_rng(seed)
    chunk, hits = max(1, _CHUNK // len(moving)), 0
    for first in range(0, resamples, chunk):
        signs = random.integers(0, 2, (min(chunk, resamples - first), len(moving)), dtype=np.int8)
        hits += int((np.abs((2.0 * signs - 1) @ moving) >= seen).sum())
    return (1 + hits) / (1 + resamples)


def paired_t(differences: NDArray[np.floating]) -> float:
    """Two-sided p-value of the mean of [n] differences by Student's t; 1 for fewer than two."""
    n = len(differences)
    mean = float(np.mean(differences)) if n else 0.0
    if n < 2 or abs(mean) <= _SAME:
        return 1.0
    spread = float(np.std(differences, ddof=1))
    if spread <= _SAME:
        return 0.0  # every query differs by the same
    squared = n * (mean / spread) ** 2
    return _incomplete_beta((n - 1) / (n - 1 + squared), (n - 1) / 2, 0.5)


def _incomplete_beta(x: float, a: float, b: float) -> float:
    """I_x(a, b) for x in 0 … 1."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # the fraction converges quickly on the other side
        return 1 - _incomplete_beta(1 - x, b, a)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    # Lentz's evaluation of 1/(1 + d1/(1 + d2/(1 + …))), tiny keeping its quotients defined.
    tiny, c, d, fraction = 1e-300, 1.0, 0.0, 1.0
    for i in range(500):
        m = i // 2
        if i == 0:
            term = 1.0
        elif i % 2:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d = 1 / ((1 + term * d) or tiny)
        c = (1 + term / c) or tiny
        fraction *= c * d
        if abs(1 - c * d) < 1e-14:
            break
    return math.exp(log_front) * (fraction - 1) / a
