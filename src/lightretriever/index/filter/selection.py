"""Sets of documents by their keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

_DENSE = 16  # keys of the range per key found, up to which a mark for each is quicker than sorting

Keys: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Selection:
    """The documents that pass a filter.

    Attributes:
        keys: int64 [n], ascending, each once.
        inverted: all pass but these.
    """

    keys: Keys
    inverted: bool = False

    def among(self, keys: Keys) -> NDArray[np.uint8]:
        """1 for each of the ascending ``keys`` [m] that passes, else 0; uint8 [m]."""
        if not len(keys) or not len(self.keys):
            return np.full(len(keys), self.inverted, np.uint8)
        first, last = int(keys[0]), int(keys[-1])
        found = self.keys[np.searchsorted(self.keys, first) : np.searchsorted(self.keys, last, "right")]
        if last - first < _DENSE * len(keys):
            marks = np.full(last - first + 1, self.inverted, np.uint8)
            marks[found - first] = not self.inverted
            return marks if len(marks) == len(keys) else marks[keys - first]
        return np.isin(keys, found, assume_unique=True, invert=self.inverted).astype(np.uint8)


def invert(found: Selection) -> Selection:
    """All but these."""
    return Selection(found.keys, not found.inverted)


def intersect(parts: Sequence[Selection]) -> Selection:
    """What is in every part; at least one."""
    left_out = union([part.keys for part in parts if part.inverted])
    chosen = sorted((part.keys for part in parts if not part.inverted), key=len)
    if not chosen:
        return Selection(left_out, True)
    keys = chosen[0]
    for other in chosen[1:]:
        keys = keys[np.isin(keys, other, assume_unique=True)]
    if len(left_out):
        keys = keys[np.isin(keys, left_out, assume_unique=True, invert=True)]
    return Selection(keys)


def union(parts: Sequence[Keys]) -> Keys:
    """What is in any of them; each is ascending, its keys once."""
    if len(parts) == 1:
        return parts[0]
    return distinct(np.concatenate(parts)) if parts else np.empty(0, np.int64)


def distinct(keys: Keys) -> Keys:
    """The same keys ascending, each once."""
    if len(keys) < 2 or bool((keys[1:] > keys[:-1]).all()):
        return keys
    first, last = int(keys.min()), int(keys.max())
    if last - first >= _DENSE * len(keys):
        return np.unique(keys)
    marks = np.zeros(last - first + 1, np.bool_)
    marks[keys - first] = True
    return np.flatnonzero(marks) + first
