"""What is sent to a server at once, and how much of that at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from lightretriever.index.engines.engine import Rows
from lightretriever.index.engines.qdrant.points import Payload

WRITE, WRITE_BYTES = 256, 8 << 20  # points, and bytes of JSON by estimate, sent at once; the server takes 32 MB
KEYS = 1_000  # ids sent at once
PARALLEL = 4  # requests under way at once
T = TypeVar("T")
U = TypeVar("U")


def side_by_side(action: Callable[[U], T], parts: Sequence[U]) -> list[T]:
    """What an action makes of each part, in their order; some at a time."""
    if len(parts) < 2:
        return [action(part) for part in parts]
    with ThreadPoolExecutor(PARALLEL, thread_name_prefix="qdrant") as pool:
        return list(pool.map(action, parts))


def row_batches(rows: Rows, payloads: Sequence[Payload]) -> Iterator[range]:
    """Rows to send together, bounded in number and in what they come to as JSON."""
    nonzeros = np.zeros(len(rows)) if rows.sparse is None else np.diff(rows.sparse.indptr)
    start, total = 0, 0.0
    for row, payload in enumerate(payloads):
        characters = 4 * (len(payload["text"]) + len(payload["title"])) + 8 * len(payload["metadata"])
        size = 22.0 * rows.dense.shape[1] + 30.0 * nonzeros[row] + characters + 1_000
        if row - start == WRITE or (row > start and total + size > WRITE_BYTES):
            yield range(start, row)
            start, total = row, 0.0
        total += size
    if start < len(rows):
        yield range(start, len(rows))


def chunks(values: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """So many at a time."""
    for start in range(0, len(values), size):
        yield values[start : start + size]
