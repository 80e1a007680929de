"""More documents than there are real ones: made vectors that keep company as the real ones do, and texts for them.

A made vector is a mixture of a real passage with real neighbours of it, weights drawn from a flat Dirichlet, plus noise
with the real vectors' covariance, normalised. How many neighbours and how much noise is fitted: the medians of the
similarity to the 1st, 10th and 100th neighbour among made vectors must be those among as many real ones. Interpolation
without noise draws points together, noise without neighbours has no neighbourhoods; both mislead about a graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from lightretriever.errors import InputError, MismatchError
from lightretriever.vectors.folder import VectorsFolder

Floats = NDArray[np.float32]
Neighbours = Callable[[Floats, int], NDArray[np.int64]]
"""Finds so many neighbours of each row among the others, int64 [parents, k]: of the first rows, or of all."""
PLACES = (1, 10, 100)  # of the neighbours whose similarity is compared
NEIGHBOURS = 64  # of a real vector that it may be mixed with
SAMPLE = 20_000  # vectors that neighbourhoods are measured among
_BLOCK = 200  # rows whose scores are held at once


@dataclass(frozen=True)
class Real:
    """Passages encoded before: dense float32 [n, d] in shuffled order, their texts, and whose they are."""

    dense: Floats
    texts: list[str]
    model: str
    tokenizer: Tokenizer | None


def read_real(paths: Sequence[Path], limit: int, characters: int | None = None, seed: int = 0) -> Real:
    """At most ``limit`` passages of all vectors folders together, shuffled, without rows that are zero or repeated.

    Args:
        paths: vectors folders of one model.
        limit: passages.
        characters: of a text that are kept; None for all.
        seed: of the order.

    Raises:
        ArtifactError: one is no complete vectors folder.
        MismatchError: they are of several models.
        InputError: fewer than two passages are left.
    """
    folders = [VectorsFolder.open(path) for path in paths]
    for path, folder in zip(paths, folders, strict=True):
        if (folder.model, folder.dim) != (folders[0].model, folders[0].dim):
            raise MismatchError(
                f"{path} is of {folder.model} with {folder.dim} dimensions, {paths[0]} of {folders[0].model} with "
                f"{folders[0].dim}: give vectors of one model"
            )
    dense, texts = [], []
    for folder in folders:
        for documents, encoded in folder.parts():
            dense.append(encoded.dense)
            texts += [document.input[:characters] for document in documents]
    rows = np.concatenate(dense)
    _, first = np.unique(rows[:, :8], axis=0, return_index=True)  # eight numbers tell vectors apart
    kept = np.random.default_rng(seed).permutation(first[rows[first].any(axis=1)])[:limit]
    if len(kept) < 2:
        raise InputError(f"{paths[0]}: {len(kept)} different vectors are not enough to measure with")
    return Real(np.ascontiguousarray(rows[kept]), [texts[i] for i in kept], folders[0].model, folders[0].tokenizer)


def neighbour_similarities(vectors: Floats, seed: int = 0) -> dict[int, list[float]]:
    """Quartiles of the inner product with the 1st, 10th and 100th neighbour among at most SAMPLE of the vectors."""
    rng = np.random.default_rng(seed)
    among = vectors if len(vectors) <= SAMPLE else vectors[rng.choice(len(vectors), SAMPLE, replace=False)]
    chosen = rng.choice(len(among), min(1000, len(among)), replace=False)
    scores = among[chosen] @ among.T
    scores[np.arange(len(chosen)), chosen] = -2  # none is its own neighbour
    deepest = min(PLACES[-1], len(among) - 1)
    scores = -np.partition(-scores, deepest, axis=1)[:, : deepest + 1]
    scores = -np.sort(-scores, axis=1)
    return {place: np.percentile(scores[:, place - 1], (25, 50, 75)).tolist() for place in PLACES if place <= deepest}


def spectrum(vectors: Floats) -> list[float]:
    """Share of the variance in the first 10, 50, 100 and 200 principal axes."""
    values = np.linalg.eigvalsh(np.cov(vectors[:SAMPLE].T))[::-1]
    return [float(values[:k].sum() / values.sum()) for k in (10, 50, 100, 200)]


@dataclass(frozen=True)
class Maker:
    """What made vectors are made from.

    Attributes:
        real: float32 [n, d], the parents.
        neighbours: int64 [parents, k], of each of the first rows of ``real``; these are the first parents.
        axes: float32 [d, d], principal axes as rows, each as long as the real ones' deviation along it.
        mixed: vectors that one is mixed from, the first parent among them.
        noise: how much of the covariance is added.
    """

    real: Floats
    neighbours: NDArray[np.int64]
    axes: Floats
    mixed: int
    noise: float

    def make(self, n: int, seed: int) -> tuple[Floats, NDArray[np.int64]]:
        """n vectors of unit length, and the parents of each, int64 [n, mixed]."""
        rng = np.random.default_rng(seed)
        parents = [rng.integers(0, len(self.neighbours), n)]
        weights = rng.dirichlet(np.ones(self.mixed), n).astype(np.float32)
        made = weights[:, :1] * self.real[parents[0]]
        for other in range(1, self.mixed):
            chosen = self.neighbours[parents[0], rng.integers(0, self.neighbours.shape[1], n)]
            made += weights[:, other : other + 1] * self.real[chosen]
            parents.append(chosen)
        made = unit_rows(made) + self.noise * (rng.standard_normal(made.shape, dtype=np.float32) @ self.axes)
        return unit_rows(made), np.stack(parents, axis=1)


def exact_neighbours(real: Floats, k: int) -> NDArray[np.int64]:
    """The k nearest of each of the first SAMPLE rows among all of them, block by block."""
    found = []
    for start in range(0, min(len(real), SAMPLE), _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, len(real), SAMPLE))
        scores = real[rows] @ real.T
        scores[np.arange(len(rows)), rows] = -2
        found.append(np.argpartition(-scores, k - 1, axis=1)[:, :k])
    return np.concatenate(found)


def fit_maker(real: Floats, nearest: Neighbours = exact_neighbours, seed: int = 0) -> Maker:
    """The number of vectors mixed and the noise whose neighbourhoods are nearest to the real ones'.

    Args:
        real: float32 [n, d], unit rows, at least two.
        nearest: finds neighbours.
        seed: of what is drawn for comparison.
    """
    few = min(SAMPLE, len(real))
    part = _maker(real[:few], nearest)
    target = neighbour_similarities(part.real, seed)

    def distance(maker: Maker) -> float:
        found = neighbour_similarities(maker.make(few, seed)[0], seed)
        return sum(abs(found[place][1] - target[place][1]) for place in target)

    tried = [
        Maker(part.real, part.neighbours, part.axes, mixed, noise)
        for mixed in (2, 3)
        for noise in (0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.8)
    ]
    best = min(tried, key=distance)
    whole = part if few == len(real) else _maker(real, nearest)
    return Maker(whole.real, whole.neighbours, whole.axes, best.mixed, best.noise)


def _maker(real: Floats, nearest: Neighbours) -> Maker:
    values, vectors = np.linalg.eigh(np.cov(real.T))
    axes = (vectors * np.sqrt(np.clip(values, 0, None))).T.astype(np.float32)
    return Maker(real, nearest(real, min(NEIGHBOURS, len(real) - 1)), axes, 1, 0.0)


def unit_rows(rows: Floats) -> Floats:
    """Rows of length 1."""
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def made_texts(texts: Sequence[str], parents: NDArray[np.int64], seed: int) -> list[str]:
    """A text for each made vector: a run of words out of each passage that it was mixed from, of even shares.

    Args:
        texts: of the real passages.
        parents: int64 [n, mixed].
        seed: of where the runs begin.
    """
    places = np.random.default_rng(seed).random(parents.shape).tolist()
    made = []
    for members, starts in zip(parents.tolist(), places, strict=True):
        runs: list[str] = []
        for member, start in zip(members, starts, strict=True):
            words = texts[member].split()
            length = -(-len(words) // len(members))
            first = int(start * (len(words) - length + 1))
            runs += words[first : first + length]
        made.append(" ".join(runs))
    return made
