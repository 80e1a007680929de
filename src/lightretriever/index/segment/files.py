"""Arrays as flat files in a folder, mapped into memory by every process that searches them.

A file is the array's bytes and nothing else; what type and shape it has, and its checksum, is in the description that
the index's database keeps of the segment.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from io import FileIO
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightretriever.checked import choice, items, mapping, plain_name, record, whole
from lightretriever.checksum import check_files, take_checksums
from lightretriever.errors import ArtifactError
from lightretriever.regular_file import file_size

DTYPES = (
    "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", "float32", "float64",
)  # fmt: skip
_SUFFIX = ".bin"
_SHAPE = items(whole(0, 1 << 48), 3)
_MANY = 64  # arrays of a folder
_BLOCK = 1 << 20

ARRAYS = mapping(record({"dtype": choice(*DTYPES), "shape": _SHAPE}), plain_name, most=_MANY)
STAMPS = mapping(items(whole(), 4), plain_name, most=_MANY)
"""How a description holds them, see `lightretriever.checked`."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What is known of the files of a folder.

    Attributes:
        arrays: type and shape by name.
        checksums: see `lightretriever.checksum`.
        stamps: size, inode and times of each file when its checksum was right: as long as they are the same nobody has
            written to it.
    """

    arrays: Mapping[str, Mapping[str, Any]]
    checksums: Mapping[str, Mapping[str, Any]]
    stamps: Mapping[str, list[int]]

    @property
    def fields(self) -> tuple[Any, Any, Any]:
        """The three."""
        return self.arrays, self.checksums, self.stamps


def new_array(folder: Path, name: str, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """A file of zeros, mapped to be written. Raises OSError when the disk has no room for it."""
    size, file = prod(shape) * np.dtype(dtype).itemsize, folder / (name + _SUFFIX)
    with file.open("xb", buffering=0) as stream:
        _reserve(stream, size)
    return np.memmap(file, dtype, "r+", shape=shape) if size else np.empty(shape, dtype)


def _reserve(stream: FileIO, size: int) -> None:
    """Have the disk keep room for a file: to write where there is none, by a map, ends the process."""
    if size and hasattr(os, "posix_fallocate"):
        os.posix_fallocate(stream.fileno(), 0, size)
        return
    zeros = bytes(_BLOCK)
    while size:
        size -= stream.write(zeros[:size]) or 0


def write_arrays(folder: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write a file for each array, but for those that `new_array` made there."""
    for name, array in arrays.items():
        file = folder / (name + _SUFFIX)
        if not file.exists():
            with file.open("xb") as stream:  # `tofile` does not say what the system said
                stream.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def list_arrays(folder: Path, arrays: Mapping[str, NDArray[Any]]) -> Listing:
    """What to keep of files that were written."""
    described = {name: {"dtype": array.dtype.name, "shape": list(array.shape)} for name, array in arrays.items()}
    checksums = take_checksums(folder, [name + _SUFFIX for name in arrays])
    return Listing(described, checksums, stamps(folder, arrays))


def stamps(folder: Path, names: Mapping[str, Any]) -> dict[str, list[int]]:
    """What tells that a file was written to. Raises ArtifactError when one is absent."""
    found = {}
    for name in names:
        file = folder / (name + _SUFFIX)
        try:
            status = file.stat()
        except OSError as error:
            raise ArtifactError(f"{file} cannot be read ({error.strerror})") from None
        found[name] = [status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns]
    return found


def map_arrays(folder: Path, listing: Listing) -> dict[str, NDArray[Any]]:
    """The arrays, mapped read-only. Every file is read once and compared with its checksum, unless it has the same
    times, inode and size as when that was done last.

    Raises:
        ArtifactError: a file is absent, or not what was written; it is named.
    """
    if stamps(folder, listing.arrays) != listing.stamps:
        check_files(folder, listing.checksums)
    found: dict[str, NDArray[Any]] = {}
    for name, described in listing.arrays.items():
        file, dtype, shape = folder / (name + _SUFFIX), np.dtype(described["dtype"]), tuple(described["shape"])
        size = prod(shape) * dtype.itemsize
        try:
            if file_size(file) != size:
                raise ArtifactError(f"{file} is damaged ({file.stat().st_size:,} bytes, {size:,} are declared)")
            mapped = np.memmap(file, dtype, "r", shape=shape) if size else np.empty(shape, dtype)
        except OSError as error:
            raise ArtifactError(f"{file} cannot be read ({error.strerror})") from None
        found[name] = np.asarray(mapped).view(np.ndarray)
    return found
