"""Vectors that lie in clusters of clusters, as passages do, and queries that lie off them, as look-up queries do."""

import numpy as np


def clustered(count, dim=64, seed=0):
    """Unit rows float32 [count, dim]."""
    rng = np.random.default_rng(seed)
    topics = rng.standard_normal((20, dim))
    themes = topics[rng.integers(0, 20, 400)] + 0.8 * rng.standard_normal((400, dim))
    rows = themes[rng.integers(0, 400, count)] + 0.6 * rng.standard_normal((count, dim))
    return unit(rows)


def queries_off(rows, count, seed=1):
    """Unit rows float32 [count, d]: some rows, moved far by one common vector and a little by ones of their own."""
    rng = np.random.default_rng(seed)
    common = 0.5 * unit(rng.standard_normal((1, rows.shape[1])))
    return unit(rows[rng.integers(0, len(rows), count)] + common + 0.06 * rng.standard_normal((count, rows.shape[1])))


def unit(rows):
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)
