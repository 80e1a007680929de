"""The last step of a fit to documents: rows moved until texts rank the documents as they should.

Least squares makes vectors near, and what is near may still rank wrong: the documents that compete for a query differ
by less than the fit's error. So the softmax over each text's nearest documents is fitted, by gradient steps from the
table found before. What was chosen how, and what it is worth: docs/fitting.md.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightretriever.tables.bags import Bags
from lightretriever.tables.kernels import add_transposed, rank_gradient

Floats = NDArray[np.float32]
Places = NDArray[np.int64]

_LISTED = 64  # documents of a text: those that its vector ranks first
_MOST = 50_000  # documents that these are looked for among, an even sample
_OWN = 0.7  # of a text's softmax that goes to the document it is from, at full agreement
_TEMPERATURE = np.float32(0.05)
_RATE = 1e-3  # of a row's length, by which each of its numbers moves in the first steps
_ROUNDS = 2  # over the texts,
_STEPS = 400  # or so many steps, if that is less: more of either ranks people's queries worse
_BATCH = 256
_THREADS = 2
_MEMORY = 0.999  # of the running mean of a row's squared gradient, as in Adam


@dataclass(frozen=True, slots=True, eq=False)
class Lists:
    """For each of n texts c documents, and what the softmax over its scores of these should be.

    Attributes:
        texts: int64 [n], their places among all, ascending.
        documents: unit vectors [m, d].
        places: int32 [n, c], of distinct documents.
        shares: float32 [n, c], of each text 1 in all.
    """

    texts: Places
    documents: Floats
    places: NDArray[np.int32]
    shares: Floats


def make_lists(vectors: Floats, documents: Floats, own: Places, agreement: Floats) -> Lists:
    """What texts should rank first: what their vectors do, and the documents that they are from.

    Of more texts than there are steps for, an even sample is taken.

    Args:
        vectors: unit vectors of n texts, [n, d].
        documents: unit vectors [m, d].
        own: [n], the place of the document that a text is from, -1 for none.
        agreement: [n], 0 … 1, how nearly the text finds that.
    """
    texts = np.sort(np.random.default_rng(0).permutation(len(vectors))[: _STEPS * _BATCH])
    step = max(1, -(-len(documents) // _MOST))
    among = documents[::step]
    listed = min(_LISTED, len(among))
    places = np.empty((len(texts), listed), np.int32)
    shares = np.empty((len(texts), listed), np.float32)
    for first in range(0, len(texts), _BATCH):
        part = texts[first : first + _BATCH]
        asked, home, given = vectors[part], own[part], np.where(own[part] >= 0, _OWN * agreement[part], 0)
        scores = asked @ among.T
        best = np.argpartition(-scores, listed - 1, axis=1)[:, :listed]
        found, scores = step * best, np.take_along_axis(scores, best, axis=1)
        missing = np.flatnonzero((home >= 0) & ~(found == home[:, None]).any(axis=1))
        last = scores[missing].argmin(axis=1)  # gives its place to the text's own document
        found[missing, last] = home[missing]
        scores[missing, last] = np.einsum("nd,nd->n", asked[missing], documents[home[missing]])
        weights = np.exp((scores - scores.max(axis=1, keepdims=True)) / _TEMPERATURE)
        weights *= ((1 - given) / weights.sum(axis=1))[:, None]
        places[first : first + _BATCH] = found
        shares[first : first + _BATCH] = weights + given[:, None] * (found == home[:, None])
    return Lists(texts, documents, places, shares)


def fit_lists(rows: Floats, bags: Bags, lists: Lists) -> Floats:
    """Rows moved so that texts rank their lists as these say.

    The loss is the cross-entropy between the lists' shares and the softmax over cosines / 0.05. A step's length is a
    share of the row's own, whatever its gradient's; shares fall evenly to 0. A row of zeros stays.

    Args:
        rows: [V, d]; left as they are.
        bags: of all texts.
        lists: of some of them.
    """
    rows, rng = rows.copy(), np.random.default_rng(0)
    lengths = np.linalg.norm(rows, axis=1)
    squares, steps = np.zeros(len(rows)), np.zeros(len(rows), np.int64)
    orders = np.concatenate([rng.permutation(len(lists.texts)) for _ in range(_ROUNDS)])
    batches = [np.sort(orders[first : first + _BATCH]) for first in range(0, len(orders), _BATCH)][:_STEPS]
    with ThreadPoolExecutor(_THREADS) as pool:
        for done, batch in enumerate(batches):
            used, gradient = _gradient(rows, bags.take(lists.texts[batch]), lists, batch, pool)
            steps[used] += 1
            squares[used] = _MEMORY * squares[used] + (1 - _MEMORY) * np.mean(gradient**2, axis=1)
            usual = np.sqrt(squares[used] / (1 - _MEMORY ** steps[used]))
            rate = _RATE * (1 - done / len(batches)) * lengths[used] / np.maximum(usual, 1e-12)
            rows[used] -= rate[:, None].astype(np.float32) * gradient
    return rows


def _gradient(
    rows: Floats, bags: Bags, lists: Lists, batch: Places, pool: ThreadPoolExecutor
) -> tuple[NDArray[np.int32], Floats]:
    """Which rows a batch of lists' texts, with these bags, uses, ascending, and the gradient in these."""
    used, ids = np.unique(bags.ids, return_inverse=True)
    own = Bags(bags.indptr, ids.astype(np.int32), bags.weights, len(used))
    sums = own.multiply(rows[used])
    in_sums = np.empty_like(sums)
    places, shares, half = lists.places[batch], lists.shares[batch], -(-len(batch) // _THREADS)

    def fill(first: int) -> None:
        part = slice(first, first + half)
        rank_gradient(sums[part], lists.documents, places[part], shares[part], _TEMPERATURE, in_sums[part])

    list(pool.map(fill, range(0, len(batch), half)))
    gradient = np.zeros((len(used), rows.shape[1]), np.float32)
    add_transposed(own.indptr, own.ids, own.weights, in_sums, gradient)
    return used, gradient
