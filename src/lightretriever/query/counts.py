"""Counts of a few texts' ids, without compiled kernels, which take longer to load than many queries to count."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from lightretriever.types import SparseVectors


def count_few(rows: Iterable[Sequence[int]], width: int, once: bool, vocabulary: int = 0) -> SparseVectors:
    """Counts of each row's ids, or 1 for each distinct one: [n, width]; ids are of that vocabulary. Raises IndexError
    for one beyond the width."""
    indptr, indices, values = [0], list[int](), list[int]()
    for ids in rows:
        distinct = sorted(set(ids))
        if ids and distinct[-1] >= width:
            raise IndexError(distinct[-1])
        indices += distinct
        values += [1] * len(distinct) if once or len(distinct) == len(ids) else map(ids.count, distinct)
        indptr.append(len(indices))
    return SparseVectors(
        np.array(indptr, dtype=np.int64),
        np.array(indices, dtype=np.int32),
        np.array(values, dtype=np.float32),
        width,
        vocabulary,
    )
