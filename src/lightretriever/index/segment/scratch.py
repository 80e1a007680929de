"""What a search of the dense side writes to: made once a thread, so that no search allocates for all documents."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_KEYS = 4096  # candidates that there is room for at first


class DenseScratch:
    """Marks and lists of one thread, for parts of at most so many places; it grows where more is asked for.

    Attributes:
        marks: uint64, a bit for each place, 0 between searches.
        touched: int32 [places].
        keys: int64, candidates.
    """

    def __init__(self, places: int = 0) -> None:
        self.marks: NDArray[np.uint64] = np.zeros(0, np.uint64)
        self.touched: NDArray[np.int32] = np.empty(0, np.int32)
        self.keys: NDArray[np.int64] = np.empty(_KEYS, np.int64)
        self._pool: NDArray[np.int64] = np.empty(_KEYS, np.int64)
        self._query = np.empty(0, np.float32), np.empty(0, np.int8)
        self.reserve(places)

    def reserve(self, places: int, keys: int = 0) -> None:
        """See that there is room for parts of so many places, and for so many candidates."""
        if places > len(self.touched):
            places = max(places, 2 * len(self.touched))  # where rows are added one by one, not made anew for each
            self.marks = np.zeros(-(-places // 64), np.uint64)
            self.touched = np.empty(places, np.int32)
        if keys > len(self.keys):
            self.keys = np.empty(keys, np.int64)

    def pool(self, size: int) -> NDArray[np.int64]:
        """int64 [size]."""
        if size > len(self._pool):
            self._pool = np.empty(size, np.int64)
        return self._pool[:size]

    def query(self, dim: int) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
        """Room for a query in the form that documents have: float32 [dim], and int8 [dim]."""
        if dim != len(self._query[0]):
            self._query = np.empty(dim, np.float32), np.empty(dim, np.int8)
        return self._query
