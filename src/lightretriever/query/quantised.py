"""Rows in the type that they are stored in: float32, float16, or int8 with a scale for each."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from lightretriever.errors import UsageError

Number = TypeVar("Number", bound=np.generic)


def first_columns(rows: NDArray[Number], dim: int | None) -> NDArray[Number]:
    """The first ``dim`` columns, or all for None."""
    return rows if dim is None else np.ascontiguousarray(rows[:, :dim])


def quantize_rows(rows: NDArray[np.generic], dtype: str) -> tuple[NDArray[np.generic], NDArray[np.float32] | None]:
    """Rows in a storage dtype, with the scales that int8 needs (largest absolute value of a row / 127).

    Raises:
        UsageError: a value beyond float16's range.
    """
    if dtype == "float32":
        return np.ascontiguousarray(rows, dtype=np.float32), None
    if dtype == "float16":
        if np.abs(rows).max(initial=0.0) > np.finfo(np.float16).max:
            raise UsageError("the table has values beyond float16's range: store it as float32 or int8")
        return np.ascontiguousarray(rows, dtype=np.float16), None
    values = np.asarray(rows, dtype=np.float32)
    scales = np.abs(values).max(axis=1, initial=0.0) / np.float32(127)
    divisor = np.where(scales > 0, scales, 1)[:, None]
    return np.rint(values / divisor).astype(np.int8), scales.astype(np.float32)


def dequantize_rows(rows: NDArray[np.generic], scales: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """float32 rows of what `quantize_rows` gave."""
    values = np.asarray(rows, dtype=np.float32)
    return values if scales is None else values * np.asarray(scales)[..., None]
