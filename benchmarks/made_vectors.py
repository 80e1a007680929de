"""Dense vectors for the benchmark of scale, on disk: real passages' as far as they reach, then made ones.

How a vector is made is in `lightretriever.bench.made`, which `lightretriever bench` uses too. Here faiss finds the
neighbours, of all real passages, and vectors are widened to more dimensions than the real ones have.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightretriever.bench.made import SAMPLE, Floats, Maker, unit_rows

BLOCK = 20_000


def faiss_neighbours(real: Floats, k: int) -> NDArray[np.int64]:
    """The k nearest of each row, nearly exact: from a graph where there are many rows."""
    import faiss

    if len(real) <= SAMPLE:
        index = faiss.IndexFlatIP(real.shape[1])
    else:
        index = faiss.IndexHNSWFlat(real.shape[1], 16, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction, index.hnsw.efSearch = 60, k + 1
    index.add(real)
    found = index.search(real, k + 1)[1][:, 1:]
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
    features = np.tanh(3 * (vectors @ unit_rows(directions.T).T))
    return unit_rows(np.concatenate([vectors, 0.5 * unit_rows(features)], axis=1))


def write_dense(file: Path, real: Floats, maker: Maker | None, documents: int) -> NDArray[np.int64]:
    """Write float32 [documents, d] as .npy: the real ones first; returns of each the parents that it was mixed
    from, or itself and −1, int64 [documents, m].

    Args:
        file: what to write.
        real: float32 [n, d].
        maker: for what is beyond n.
        documents: how many in all.
    """
    whole = np.lib.format.open_memmap(file, mode="w+", dtype=np.float32, shape=(documents, real.shape[1]))
    own = min(documents, len(real))
    whole[:own] = real[:own]
    parents = np.full((documents, max(2, maker.mixed if maker else 0)), -1)
    parents[:own, 0] = np.arange(own)
    for start in range(own, documents, BLOCK):
        end = min(start + BLOCK, documents)
        if maker is not None:
            whole[start:end], of_each = maker.make(end - start, seed=start)
            parents[start:end] = of_each
    whole.flush()
    return parents


def write_widened(file: Path, vectors: Floats, dim: int) -> None:
    """Write what `widen` makes of float32 [n, d], block by block."""
    whole = np.lib.format.open_memmap(file, mode="w+", dtype=np.float32, shape=(len(vectors), dim))
    for start in range(0, len(vectors), BLOCK):
        whole[start : start + BLOCK] = widen(vectors[start : start + BLOCK], dim)
    whole.flush()
