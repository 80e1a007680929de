"""Reading and copying the engine's files, which are large and full of holes, without their holes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

BLOCK = 1 << 16
_ZERO = bytes(BLOCK)


class Stream(Protocol):
    """What can be read piece by piece."""

    def read(self, size: int, /) -> bytes:
        """At most so many bytes; none at the end."""


def data_blocks(file: Path) -> Iterator[tuple[int, bytes]]:
    """The blocks of 64 kB of a file that are not all zero, each with its position."""
    with file.open("rb", buffering=0) as stream:
        end = os.fstat(stream.fileno()).st_size
        position = 0
        while position < end:
            position = _next_data(stream.fileno(), position, end)
            stream.seek(position)
            block = stream.read(BLOCK)
            if not block:
                return
            if block != _ZERO[: len(block)]:
                yield position, block
            position += len(block)


def copy_file(source: Path, target: Path) -> None:
    """Copy a file's content; what is zero becomes a hole."""
    size = source.stat().st_size
    with target.open("wb") as stream:
        for position, block in data_blocks(source):
            stream.seek(position)
            stream.write(block)
        stream.truncate(size)


def copy_stream(source: Stream, target: Path, size: int) -> int:
    """Likewise from a stream into a new file; returns how many bytes hold data. Raises EOFError when the stream ends
    before ``size`` bytes."""
    data = 0
    with target.open("xb") as stream:
        position = 0
        while position < size:
            block = read_exactly(source, min(BLOCK, size - position))
            if block != _ZERO[: len(block)]:
                stream.seek(position)
                stream.write(block)
                data += len(block)
            position += len(block)
        stream.truncate(size)
    return data


def read_exactly(source: Stream, size: int) -> bytes:
    """So many bytes of a stream. Raises EOFError when it ends before."""
    pieces = []
    while size:
        piece = source.read(size)
        if not piece:
            raise EOFError
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def _next_data(descriptor: int, position: int, end: int) -> int:
    """Where the next block begins that is not a hole; ``position`` where the system cannot tell."""
    if not hasattr(os, "SEEK_DATA"):
        return position
    try:
        return os.lseek(descriptor, position, os.SEEK_DATA) // BLOCK * BLOCK
    except OSError:  # nothing but a hole from here on
        return end
