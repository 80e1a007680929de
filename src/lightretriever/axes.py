"""Principal axes of vectors: the first dimensions then hold most of every inner product.

An orthonormal rotation leaves inner products as they are. Turned to the axes along which the vectors are largest, the
last dimensions hold little: they can go, from documents and table alike, or be looked at last.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def principal_axes(vectors: NDArray[np.floating], dim: int) -> tuple[NDArray[np.float32], float]:
    """The ``dim`` leading eigenvectors of the uncentred second moment Σ vᵀv.

    Uncentred, because inner products are: a direction that all vectors share still decides how far a query is from all
    of them. Each column's largest entry is positive, so that equal vectors give equal axes.

    Args:
        vectors: [n, d], finite.
        dim: 1 … d.

    Returns:
        float32 [d, dim], orthonormal columns, the largest axis first; and the share of Σ ‖v‖² that they keep.
    """
    width = vectors.shape[1]
    moment = np.zeros((width, width))
    for first in range(0, len(vectors), 65536):
        part = np.asarray(vectors[first : first + 65536], dtype=np.float64)
        moment += part.T @ part
    values, axes = np.linalg.eigh(moment)
    axes, values = axes[:, ::-1][:, :dim], values[::-1]
    signs = np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(dim)])
    kept = float(values[:dim].sum() / max(values.sum(), 1e-30))
    return np.ascontiguousarray(axes * signs, dtype=np.float32), kept
