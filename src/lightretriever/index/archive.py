"""A folder's files in one file: a tar of plain files, compressed by Zstandard, whose first member declares the others.

    snapshot.json    every file's path and size, in the order in which they follow

Reading parses no tar: what was declared decides what the next header must be, byte for byte, so nothing else that a tar
can hold is ever looked at. Whatever is read is bounded by what was declared, and that by the file's own size.
"""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Any

import zstandard

from lightretriever.artifact import check_values
from lightretriever.checked import choice, inner_path, items, read_fields, record, whole
from lightretriever.errors import ArtifactError

LISTING = "snapshot.json"
FORMAT_VERSION = 1
MOST_FILES = 20_000
LONGEST_LISTING = 4 << 20
ALWAYS, PER_BYTE = 256 << 20, 1_000
"""Bytes that may come out of any archive, and of each byte of it."""
_LEVEL = 1  # vectors hardly compress; it is for texts
_WINDOW = 8 << 20  # bytes of memory that unpacking takes at most
_TAR = 512
BLOCK = 1 << 16
_PIECE = 1 << 10  # compressed bytes taken at once: 32 MB at most come of them
_END = bytes(2 * _TAR)
_KIND = "snapshot"
_FIELDS = {
    "kind": choice(_KIND),
    "format_version": whole(1),
    "files": items(record({"path": inner_path, "size": whole()}), MOST_FILES),
}


def write_archive(folder: Path, files: Sequence[str], output: Path) -> None:
    """Write files to an archive.

    Args:
        folder: where they are.
        files: their paths in it, with slashes, in the order in which they are to be read.
        output: the archive.

    Raises:
        ArtifactError: there are more than an archive may have, or their paths are none that it may have.
    """
    sizes = [(folder / path).stat().st_size for path in files]
    listed = [{"path": path, "size": size} for path, size in zip(files, sizes, strict=True)]
    stored = {"kind": _KIND, "format_version": FORMAT_VERSION, "files": listed}
    read_fields(stored, _FIELDS, folder, "it cannot be put into one file")
    listing = json.dumps(stored).encode("ascii")
    compressor = zstandard.ZstdCompressor(_LEVEL, threads=-1, write_checksum=True)
    with output.open("wb") as stream, compressor.stream_writer(stream, closefd=False) as packed:
        _write_member(packed, LISTING, len(listing), io.BytesIO(listing))
        for path, size in zip(files, sizes, strict=True):
            with (folder / path).open("rb") as file:
                _write_member(packed, path, size, file)
        packed.write(_END)


def read_archive(file: Path, folder: Path, room: int) -> list[str]:
    """Write what an archive holds into an empty folder.

    Args:
        file: the archive.
        folder: where its files go.
        room: bytes that are to stay free on the disk.

    Returns:
        The paths of the files, in their order.

    Raises:
        ArtifactError: it is none, damaged, or declares more than it may; the disk is full.
    """
    try:
        stream = file.open("rb")
    except OSError as error:
        raise ArtifactError(f"{file} cannot be read ({error.strerror})") from None
    try:
        with stream:
            packed = _Unpacked(stream)
            listed = _read_listing(file, packed)
            total = sum(entry["size"] for entry in listed["files"])
            if total > ALWAYS + PER_BYTE * file.stat().st_size:
                raise ArtifactError(f"{file} declares {total:,} bytes, more than a snapshot of its size can hold")
            free = shutil.disk_usage(folder).free
            if free < room + total:
                raise ArtifactError(
                    f"{folder.parent}: the disk is full ({free >> 20:,} MB free, {room + total >> 20:,} MB needed): "
                    "make room and run again"
                )
            for entry in listed["files"]:
                _read_member(packed, folder, entry["path"], entry["size"])
            if read_exactly(packed, len(_END)) != _END or not packed.ended:
                raise ValueError("it goes on after its last file")
    except (zstandard.ZstdError, tarfile.TarError, ValueError, EOFError) as error:
        reason = str(error) or "it ends too early"
        raise ArtifactError(f"{file} is damaged, or no snapshot ({reason}): take another") from None
    return [entry["path"] for entry in listed["files"]]


class _Unpacked:
    """What a compressed frame holds, piece by piece."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._frame = zstandard.ZstdDecompressor(max_window_size=_WINDOW).decompressobj()
        self._ready = memoryview(b"")

    def read(self, size: int) -> bytes:
        """At most so many bytes; none at the frame's end. Raises EOFError when the file ends before the frame."""
        while not self._ready and not self._frame.eof:
            piece = self._stream.read(_PIECE)
            if not piece:
                raise EOFError
            self._ready = memoryview(self._frame.decompress(piece))
        taken, self._ready = self._ready[:size], self._ready[size:]
        return bytes(taken)

    @property
    def ended(self) -> bool:
        """Whether nothing comes any more, neither of the frame nor behind it."""
        return not self.read(1) and not self._frame.unused_data and not self._stream.read(1)


def _read_listing(file: Path, packed: _Unpacked) -> dict[str, Any]:
    head = read_exactly(packed, _TAR)
    size = tarfile.TarInfo.frombuf(head, "utf-8", "strict").size if _could_be_listing(head) else -1
    if not 0 < size <= LONGEST_LISTING or head != _header(LISTING, size):
        raise ValueError(f"it does not begin with {LISTING}")
    try:
        content = read_exactly(packed, size)
        check_values(content, 8 * MOST_FILES)
        stored = json.loads(content)
        read_exactly(packed, -size % _TAR)
    except RecursionError:
        raise ValueError("its listing is no listing") from None
    listed = read_fields(stored, _FIELDS, f"{file}: {LISTING}", "take another snapshot")
    if listed["format_version"] > FORMAT_VERSION:
        raise ArtifactError(f"{file} is of a newer version of lightretriever: upgrade it")
    paths = [entry["path"] for entry in listed["files"]]
    folders = {str(parent) for path in paths for parent in PurePosixPath(path).parents}
    if len(set(paths)) != len(paths) or not folders.isdisjoint(paths):
        raise ValueError("its listing has one path twice")
    return listed


def _could_be_listing(head: bytes) -> bool:
    return head.startswith(LISTING.encode() + b"\0") and head[124:135].isdigit()


def _write_member(packed: zstandard.ZstdCompressionWriter, path: str, size: int, content: IO[bytes]) -> None:
    packed.write(_header(path, size))
    left = size
    while left:
        block = content.read(min(BLOCK, left))
        if not block:
            raise ArtifactError(f"{path} became shorter while it was read: take the snapshot again")
        packed.write(block)
        left -= len(block)
    packed.write(bytes(-size % _TAR))


def _read_member(packed: _Unpacked, folder: Path, path: str, size: int) -> None:
    header = _header(path, size)
    if read_exactly(packed, len(header)) != header:
        raise ValueError(f"what should be {path!r} is something else")
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as stream:
        for start in range(0, size, BLOCK):
            stream.write(read_exactly(packed, min(BLOCK, size - start)))
    if any(read_exactly(packed, -size % _TAR)):
        raise ValueError(f"{path!r} is longer than declared")


def read_exactly(source: _Unpacked, size: int) -> bytes:
    """So many bytes. Raises EOFError when it ends before."""
    pieces = []
    while size:
        piece = source.read(size)
        if not piece:
            raise EOFError
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def _header(path: str, size: int) -> bytes:
    """What stands before a file in a tar: the same bytes for the same path and size, and good for every reader."""
    member = tarfile.TarInfo(path)
    member.size, member.mode = size, 0o644
    return member.tobuf(tarfile.GNU_FORMAT, "utf-8", "strict")
