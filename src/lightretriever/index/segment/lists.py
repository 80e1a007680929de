"""What one arm finds for several queries: places and scores, side by side."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Lists(NamedTuple):
    """The lists of q queries, best first; of equal scores the lower place first.

    Attributes:
        counts: int64 [q], how long each is.
        places: int32 [q, k]; -1 beyond a list's end.
        scores: float32 [q, k]; of no meaning there.
    """

    counts: NDArray[np.int64]
    places: NDArray[np.int32]
    scores: NDArray[np.float32]

    def row(self, i: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Places and scores of one query."""
        count = self.counts[i]
        return self.places[i, :count], self.scores[i, :count]


def new_lists(queries: int, k: int) -> Lists:
    """Room for so many of each query, all empty."""
    return Lists(np.zeros(queries, np.int64), np.full((queries, k), -1, np.int32), np.empty((queries, k), np.float32))


def no_lists(queries: int) -> Lists:
    """Nothing for each query."""
    return new_lists(queries, 0)
