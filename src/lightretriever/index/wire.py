"""Calls of an engine as bytes, for an engine in another process: JSON, with arrays beside it as they are in memory.

A frame is two lengths (uint32 little-endian: of the JSON, and how many arrays), the lengths of the arrays (uint64),
the JSON, the arrays. Nothing in it is code, and nothing is unpickled.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import IO, Any

import numpy as np

from lightretriever.index.backend import Points, Ranking
from lightretriever.index.filter.language import And, Exists, In, Not, Or, Range
from lightretriever.types import SparseVectors

_HEAD = struct.Struct("<II")
_KINDS: dict[str, type] = {
    kind.__name__: kind for kind in (Points, Ranking, SparseVectors, And, Exists, In, Not, Or, Range)
}


def send(stream: IO[bytes], value: object) -> None:
    """Write one frame. ``value``: None, plain values, lists, sets, arrays, mappings of JSON, `Points`, `Ranking`,
    `SparseVectors`, filters."""
    arrays: list[memoryview] = []
    text = json.dumps(_plain(value, arrays), separators=(",", ":")).encode("ascii")
    lengths = struct.pack(f"<{len(arrays)}Q", *(array.nbytes for array in arrays))
    stream.write(b"".join((_HEAD.pack(len(text), len(arrays)), lengths, text, *arrays)))
    stream.flush()


def receive(stream: IO[bytes]) -> Any:
    """Read one frame. Raises EOFError when the other side is gone."""
    length, count = _HEAD.unpack(_exactly(stream, _HEAD.size))
    lengths = struct.unpack(f"<{count}Q", _exactly(stream, 8 * count))
    value = json.loads(_exactly(stream, length))
    return _rich(value, [_exactly(stream, size) for size in lengths])


def _exactly(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return data


def _plain(value: object, arrays: list[memoryview]) -> object:
    if isinstance(value, np.ndarray):
        arrays.append(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)
        return {"array": len(arrays) - 1, "dtype": value.dtype.str, "shape": value.shape}
    if isinstance(value, Mapping):
        return {"json": value}  # as it is, however its keys are called
    if is_dataclass(value) and not isinstance(value, type):
        return {"kind": type(value).__name__, "of": [_plain(getattr(value, f.name), arrays) for f in fields(value)]}
    if isinstance(value, set | frozenset):
        return {"set": list(value)}
    if isinstance(value, np.integer | np.floating):
        return value.item()
    if isinstance(value, list | tuple):
        return [_plain(item, arrays) for item in value]
    return value


def _rich(value: Any, arrays: list[bytes]) -> Any:
    if isinstance(value, list):
        return [_rich(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    if "json" in value:
        return value["json"]
    if "set" in value:
        return set(value["set"])
    if "array" in value:
        return np.frombuffer(arrays[value["array"]], dtype=value["dtype"]).reshape(value["shape"])
    return _KINDS[value["kind"]](*(_rich(item, arrays) for item in value["of"]))
