"""Compiled products with sparse rows (CSR) times dense columns. Each releases the GIL and uses one thread."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lightretriever.compiled import compiled

Ints = NDArray[np.int64]
Ids = NDArray[np.int32]
Floats = NDArray[np.float32]


@compiled()
def multiply(indptr: Ints, ids: Ids, weights: Floats, dense: Floats, out: Floats) -> None:
    """``out = X @ dense``: out [n, c], dense [columns of X, c]."""
    width = dense.shape[1]
    for row in range(len(indptr) - 1):
        out[row, :] = 0.0
        for entry in range(indptr[row], indptr[row + 1]):
            column, weight = ids[entry], weights[entry]
            for c in range(width):
                out[row, c] += weight * dense[column, c]


@compiled()
def add_transposed(indptr: Ints, ids: Ids, weights: Floats, dense: Floats, out: Floats) -> None:
    """``out += X.T @ dense``: dense [n, c], out [columns of X, c]."""
    width = dense.shape[1]
    for row in range(len(indptr) - 1):
        for entry in range(indptr[row], indptr[row + 1]):
            column, weight = ids[entry], weights[entry]
            for c in range(width):
                out[column, c] += weight * dense[row, c]


@compiled()
def add_normal(indptr: Ints, ids: Ids, weights: Floats, dense: Floats, out: Floats) -> None:
    """``out += X.T @ (X @ dense)``, a row at a time, so that nothing of length n is held."""
    width = dense.shape[1]
    row_product = np.empty(width, dtype=np.float32)
    for row in range(len(indptr) - 1):
        row_product[:] = 0.0
        for entry in range(indptr[row], indptr[row + 1]):
            column, weight = ids[entry], weights[entry]
            for c in range(width):
                row_product[c] += weight * dense[column, c]
        for entry in range(indptr[row], indptr[row + 1]):
            column, weight = ids[entry], weights[entry]
            for c in range(width):
                out[column, c] += weight * row_product[c]


@compiled()
def try_corrections(
    indptr: Ints,
    ids: Ids,
    weights: Floats,
    rest: Floats,
    corrections: Floats,
    squares: NDArray[np.float64],
    l2: float,
    width: int,
    agreed: NDArray[np.float64],
    lengths: NDArray[np.float64],
) -> None:
    """The sums of `held_out_shares`: agreed += w·(u · δ₋ₛ), lengths += w²·‖δ₋ₛ‖², for each phrase of each text.

    ``rest`` [n, d] is what is left of the texts' vectors with all their phrases, ``squares`` c.
    """
    for row in range(len(indptr) - 1):
        for entry in range(indptr[row], indptr[row + 1]):
            phrase, weight = ids[entry] - width, weights[entry]
            if phrase < 0:
                continue
            denominator = squares[phrase] - weight * weight + l2
            before = (squares[phrase] + l2) / denominator
            own = weight / denominator
            product = length = 0.0
            for c in range(rest.shape[1]):
                correction = corrections[phrase, c]
                left = rest[row, c] + weight * correction
                without = before * correction - own * left
                product += left * without
                length += without * without
            agreed[phrase] += weight * product
            lengths[phrase] += weight * weight * length


@compiled(reassociate=True)
def rank_gradient(
    sums: Floats, documents: Floats, places: Ids, shares: Floats, temperature: np.float32, gradient: Floats
) -> None:
    """The gradient of the cross-entropy between shares and the softmax over cosines / temperature, in the sums.

    Args:
        sums: [n, d], of table rows, one for each text, of any length.
        documents: unit vectors [m, d].
        places: [n, c], of the documents of each text.
        shares: [n, c], of each text 1 in all.
        temperature: above 0.
        gradient: [n, d], filled; times the temperature, which makes no difference to a step of fixed length.
    """
    listed, width = places.shape[1], sums.shape[1]
    scores = np.empty(listed, np.float32)
    for row in range(len(sums)):
        squares = np.float32(0.0)
        for c in range(width):
            squares += sums[row, c] * sums[row, c]
        scale = np.float32(1.0) / max(np.sqrt(squares), np.float32(1e-12))
        best = np.float32(-1e30)
        for entry in range(listed):
            place, product = places[row, entry], np.float32(0.0)
            for c in range(width):
                product += sums[row, c] * documents[place, c]
            scores[entry] = product * scale
            best = max(best, scores[entry])
        total = np.float32(0.0)
        for entry in range(listed):
            total += np.exp((scores[entry] - best) / temperature)
        gradient[row, :] = 0.0
        along = np.float32(0.0)  # of the gradient in the unit vector, what would only change the length
        for entry in range(listed):
            place = places[row, entry]
            excess = np.exp((scores[entry] - best) / temperature) / total - shares[row, entry]
            along += excess * scores[entry]
            for c in range(width):
                gradient[row, c] += excess * documents[place, c]
        for c in range(width):
            gradient[row, c] = (gradient[row, c] - along * sums[row, c] * scale) * scale
