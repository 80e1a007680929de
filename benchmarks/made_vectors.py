"""Dense vectors for the benchmark of scale: real passages' as far as they reach, then made ones that keep company.

A made vector is a mixture of a real passage with real neighbours of it, weights drawn from a flat Dirichlet, plus noise
with the real vectors' covariance, normalised. How many neighbours and how much noise is fitted: the medians of the
similarity to the 1st, 10th and 100th neighbour among made vectors must be those among as many real ones. Interpolation
without noise draws points together, noise without neighbours has no neighbourhoods; both mislead about a graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightretriever.vectors.folder import VectorsFolder

Floats = NDArray[np.float32]
PLACES = (1, 10, 100)  # of the neighbours whose similarity is compared
NEIGHBOURS = 64  # of a real vector that it may be mixed with
SAMPLE = 20_000  # vectors that neighbourhoods are measured among
TEXT = 400  # characters of a text that are stored with its vector
BLOCK = 20_000


@dataclass(frozen=True)
class Real:
    """Passages encoded before: dense float32 [n, d] in shuffled order, their texts, and the first folder read."""

    dense: Floats
    texts: list[str]
    folder: VectorsFolder


def read_real(paths: Sequence[Path], limit: int, seed: int = 0) -> Real:
    """At most ``limit`` passages of all vectors folders together, shuffled, without rows that are zero or repeated."""
    folders = [VectorsFolder.open(path) for path in paths]
    dense, texts = [], []
    for folder in folders:
        for documents, encoded in folder.parts():
            dense.append(encoded.dense)
            texts += [document.input[:TEXT] for document in documents]
    rows = np.concatenate(dense)
    _, first = np.unique(rows[:, :8], axis=0, return_index=True)  # eight numbers tell vectors apart
    kept = np.random.default_rng(seed).permutation(first[rows[first].any(axis=1)])[:limit]
    return Real(np.ascontiguousarray(rows[kept]), [texts[i] for i in kept], folders[0])


def neighbour_similarities(vectors: Floats, seed: int = 0) -> dict[int, list[float]]:
    """Quartiles of the inner product with the 1st, 10th and 100th neighbour among at most SAMPLE of the vectors."""
    rng = np.random.default_rng(seed)
    among = vectors if len(vectors) <= SAMPLE else vectors[rng.choice(len(vectors), SAMPLE, replace=False)]
    chosen = rng.choice(len(among), min(1000, len(among)), replace=False)
    scores = among[chosen] @ among.T
    scores[np.arange(len(chosen)), chosen] = -2  # none is its own neighbour
    scores = -np.partition(-scores, PLACES[-1], axis=1)[:, : PLACES[-1] + 1]
    scores = -np.sort(-scores, axis=1)
    return {place: np.percentile(scores[:, place - 1], (25, 50, 75)).tolist() for place in PLACES}


def spectrum(vectors: Floats) -> list[float]:
    """Share of the variance in the first 10, 50, 100 and 200 principal axes."""
    values = np.linalg.eigvalsh(np.cov(vectors[:SAMPLE].T))[::-1]
    return [float(values[:k].sum() / values.sum()) for k in (10, 50, 100, 200)]


@dataclass(frozen=True)
class Maker:
    """What made vectors are made from.

    Attributes:
        real: float32 [n, d], the parents.
        neighbours: int64 [n, NEIGHBOURS], of each parent.
        axes: float32 [d, d], principal axes as rows, each as long as the real ones' deviation along it.
        mixed: vectors that one is mixed from, the parent among them.
        noise: how much of the covariance is added.
    """

    real: Floats
    neighbours: NDArray[np.int64]
    axes: Floats
    mixed: int
    noise: float

    def make(self, n: int, seed: int) -> tuple[Floats, NDArray[np.int64]]:
        """n vectors of unit length, and the parent of each."""
        rng = np.random.default_rng(seed)
        parents = rng.integers(0, len(self.real), n)
        weights = rng.dirichlet(np.ones(self.mixed), n).astype(np.float32)
        made = weights[:, :1] * self.real[parents]
        for other in range(1, self.mixed):
            chosen = self.neighbours[parents, rng.integers(0, self.neighbours.shape[1], n)]
            made += weights[:, other : other + 1] * self.real[chosen]
        made = _unit(made) + self.noise * (rng.standard_normal(made.shape, dtype=np.float32) @ self.axes)
        return _unit(made), parents


def fit_maker(real: Floats, seed: int = 0) -> Maker:
    """The number of vectors mixed and the noise whose neighbourhoods are nearest to the real ones'."""
    few = min(SAMPLE, len(real))
    part = _maker(real[:few])
    target = neighbour_similarities(part.real, seed)

    def distance(maker: Maker) -> float:
        found = neighbour_similarities(maker.make(few, seed)[0], seed)
        return sum(abs(found[place][1] - target[place][1]) for place in PLACES)

    tried = [
        Maker(part.real, part.neighbours, part.axes, mixed, noise)
        for mixed in (2, 3)
        for noise in (0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.8)
    ]
    best = min(tried, key=distance)
    whole = part if few == len(real) else _maker(real)
    return Maker(whole.real, whole.neighbours, whole.axes, best.mixed, best.noise)


def _maker(real: Floats) -> Maker:
    values, vectors = np.linalg.eigh(np.cov(real.T))
    axes = (vectors * np.sqrt(np.clip(values, 0, None))).T.astype(np.float32)
    return Maker(real, _neighbours(real), axes, 1, 0.0)


def _neighbours(real: Floats) -> NDArray[np.int64]:
    """NEIGHBOURS nearest of each row, nearly exact: from a graph where there are many rows."""
    import faiss

    if len(real) <= SAMPLE:
        index = faiss.IndexFlatIP(real.shape[1])
    else:
        index = faiss.IndexHNSWFlat(real.shape[1], 16, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction, index.hnsw.efSearch = 60, NEIGHBOURS + 1
    index.add(real)
    found = index.search(real, NEIGHBOURS + 1)[1][:, 1:]
    return np.where(found < 0, np.arange(len(real))[:, None], found)


def widen(vectors: Floats, dim: int, seed: int = 7) -> Floats:
    """More dimensions than there are, of full rank, with nearly the same neighbours.

    Beside x stand dim − d features tanh(3·x·B) of random directions B of unit length, centred over no data since
    tanh is odd, and scaled to half of x's length: a random non-linear layer. Inner products become a mixture of the
    old one and an increasing function of it; the spectrum falls on beyond the d-th axis instead of ending there.
    """
    extra = dim - vectors.shape[1]
    if extra == 0:
        return vectors
    directions = np.random.default_rng(seed).standard_normal((vectors.shape[1], extra), dtype=np.float32)
    features = np.tanh(3 * (vectors @ _unit(directions.T).T))
    return _unit(np.concatenate([vectors, 0.5 * _unit(features)], axis=1))


def write_dense(file: Path, real: Floats, maker: Maker | None, documents: int) -> NDArray[np.int64]:
    """Write float32 [documents, d] as .npy: the real ones first; returns the parent of each, a real one being its own.

    Args:
        file: what to write.
        real: float32 [n, d].
        maker: for what is beyond n.
        documents: how many in all.
    """
    whole = np.lib.format.open_memmap(file, mode="w+", dtype=np.float32, shape=(documents, real.shape[1]))
    own = min(documents, len(real))
    whole[:own] = real[:own]
    parents = np.arange(documents)
    for start in range(own, documents, BLOCK):
        end = min(start + BLOCK, documents)
        if maker is not None:
            whole[start:end], parents[start:end] = maker.make(end - start, seed=start)
    whole.flush()
    return parents


def write_widened(file: Path, vectors: Floats, dim: int) -> None:
    """Write what `widen` makes of float32 [n, d], block by block."""
    whole = np.lib.format.open_memmap(file, mode="w+", dtype=np.float32, shape=(len(vectors), dim))
    for start in range(0, len(vectors), BLOCK):
        whole[start : start + BLOCK] = widen(vectors[start : start + BLOCK], dim)
    whole.flush()


def _unit(rows: Floats) -> Floats:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)
