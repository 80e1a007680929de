"""A weigher fitted to judged queries: the weights under which their expected nDCG@10 is greatest."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from lightretriever.evaluation.lists import GRID, Judged
from lightretriever.weigher import FEATURES, Weigher

HIDDEN = 8
STEPS = 300
RATE = 0.01
DECAY = 2.0
_NARROW = 0.05  # a feature that hardly varies is not blown up: another query's may lie far outside
_WIDTH = 2  # steps of the grid over which gains are smoothed: nDCG has steps, its slope says nothing


def best_weight(judged: Judged) -> float:
    """The one dense weight of `GRID` with the greatest mean; of a plateau within a thousandth its middle."""
    means = judged.gains.mean(axis=0)
    low = high = int(np.argmax(means))
    good = means >= means[low] - 1e-3
    while low > 0 and good[low - 1]:
        low -= 1
    while high < len(GRID) - 1 and good[high + 1]:
        high += 1
    return float(GRID[(low + high) // 2])


def fit_weigher(
    judged: Judged,
    seed: int = 0,
    hidden: int = HIDDEN,
    steps: int = STEPS,
    decay: float = DECAY,
    blind: Collection[str] = (),
) -> Weigher:
    """Fit the network by Adam (Kingma and Ba, arXiv 1412.6980), on all queries at once, weights decaying as in AdamW.

    It begins as `best_weight` for every query. What is made greatest is each query's gain at its own weight, gains
    being smoothed over the grid. ``blind`` names `FEATURES` that are not to be used.
    """
    rng = np.random.default_rng(seed)
    mean, deviation = judged.features.mean(axis=0), judged.features.std(axis=0)
    used = np.array([name not in blind for name in FEATURES])
    scale = np.where(used & (deviation > 1e-9), 1.0 / np.maximum(deviation, _NARROW), 0.0)
    inputs = np.hstack([np.clip((judged.features - mean) * scale, -5.0, 5.0), np.ones((len(judged), 1))])
    gains = _smooth(judged.gains)
    start = float(np.clip(best_weight(judged), 0.05, 0.95))
    first = rng.normal(scale=1.0 / np.sqrt(inputs.shape[1]), size=(hidden, inputs.shape[1]))
    last = np.append(np.zeros(hidden), np.log(start / (1 - start)))
    parameters = [first, last]
    moments = [(np.zeros_like(p), np.zeros_like(p)) for p in parameters]
    for step in range(1, steps + 1):
        inside = np.tanh(inputs @ parameters[0].T)
        weights = 1.0 / (1.0 + np.exp(-(inside @ parameters[1][:-1] + parameters[1][-1])))
        slope = _slopes(gains, weights) * weights * (1 - weights) / len(judged)
        back = np.outer(slope, parameters[1][:-1]) * (1 - inside**2)
        gradients = [-(back.T @ inputs), -np.append(slope @ inside, slope.sum())]
        for place, gradient in enumerate(gradients):
            one, two = moments[place]
            one += 0.1 * (gradient - one)
            two += 0.001 * (gradient**2 - two)
            change = (one / (1 - 0.9**step)) / (np.sqrt(two / (1 - 0.999**step)) + 1e-8)
            kept = parameters[place].copy()
            kept[..., -1] = 0.0  # constants do not decay
            parameters[place] = parameters[place] - RATE * (change + decay * kept)
    rows = parameters[0].copy()
    rows[:, :-1] *= scale
    rows[:, -1] -= rows[:, :-1] @ mean
    return Weigher(tuple(map(tuple, rows.tolist())), tuple(parameters[1].tolist()))


def _smooth(gains: NDArray[np.float64]) -> NDArray[np.float64]:
    distance = np.abs(GRID[:, None] - GRID[None, :]) * (len(GRID) - 1)
    kernel = np.maximum(0.0, 1.0 - distance / (_WIDTH + 1))
    return np.asarray(gains @ (kernel / kernel.sum(axis=0)))


def _slopes(gains: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """dgain/dweight of every query at its weight."""
    low = np.minimum((weights * (len(GRID) - 1)).astype(np.intp), len(GRID) - 2)
    rows = np.arange(len(gains))
    return np.asarray((gains[rows, low + 1] - gains[rows, low]) * (len(GRID) - 1))
