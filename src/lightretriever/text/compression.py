"""The bytes of a file, decompressed. Its first bytes decide how, never its name."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import zstandard

COMPRESSIONS = (".gz", ".zst", ".bz2", ".xz")
CHUNK = 1 << 18
_ZSTD_PIECE = 1 << 10  # of zeros it can make 40 MB, and it is decompressed as a whole
UNREADABLE = (EOFError, lzma.LZMAError, zlib.error, zstandard.ZstdError, OSError)
"""What reading a file can raise; EOFError where it is cut off."""
_MAGIC: dict[bytes, str] = {
    b"\x1f\x8b\x08": ".gz",
    b"\xfd7zXZ\0": ".xz",
    b"\x28\xb5\x2f\xfd": ".zst",
    **{bytes([byte]) + b"\x2a\x4d\x18": ".zst" for byte in range(0x50, 0x60)},  # a frame that zstd skips
    **{b"BZh%d" % level + block: ".bz2" for level in range(1, 10) for block in (b"1AY&SY", b"\x17rE8P\x90")},
}


def split_suffix(path: str | Path) -> tuple[str, str]:
    """The format and the compression that a file's name says, lower-cased, "" for none: (".jsonl", ".gz")."""
    suffixes = [suffix.lower() for suffix in Path(path).suffixes[-2:]]
    compression = suffixes.pop() if suffixes and suffixes[-1] in COMPRESSIONS else ""
    return (suffixes[-1] if suffixes else ""), compression


def compression_of(head: bytes) -> str:
    """How the bytes of a file that begins so are compressed, as the suffix that is usual for it; "" for not at all."""
    return next((suffix for magic, suffix in _MAGIC.items() if head.startswith(magic)), "")


@contextmanager
def open_bytes(path: str | Path | int) -> Iterator[io.BufferedReader]:
    """The file's bytes, decompressed; it can be a pipe, since it is opened once and read in order.

    Args:
        path: the file; or the descriptor of an open one, which stays open.

    Raises:
        one of `UNREADABLE`: here or when it is read.
    """
    with _buffered(open(path, "rb", buffering=0, closefd=not isinstance(path, int))) as file:
        compression = compression_of(file.peek(10))
        if not compression:
            yield file
            return
        with _buffered(_decompressed(file, compression)) as whole:
            yield whole


def _buffered(file: IO[bytes] | io.IOBase) -> io.BufferedReader:
    return cast(io.BufferedReader, io.BufferedReader(_FullReads(file), CHUNK))


def _decompressed(file: IO[bytes], compression: str) -> IO[bytes] | io.IOBase:
    if compression == ".gz":
        return gzip.GzipFile(fileobj=file, mode="rb")
    if compression == ".bz2":
        return bz2.BZ2File(file)
    if compression == ".xz":
        return lzma.LZMAFile(file)
    return _ZstdFile(file)


class _FullReads(io.RawIOBase):
    """Reads as much as is asked for, so that a first look at a pipe or an archive sees more than its first piece.

    What goes wrong after some bytes is raised when these were taken.
    """

    def __init__(self, file: Any) -> None:
        self._file = file
        self._error: Exception | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._error is not None:
            raise self._error
        target, filled = memoryview(buffer), 0
        try:
            while filled < len(target) and (count := self._file.readinto(target[filled:])):
                filled += count
        except UNREADABLE as error:
            if not filled:
                raise
            self._error = error
        return filled

    def close(self) -> None:
        self._file.close()
        super().close()


class _ZstdFile(io.RawIOBase):
    """A zstd file read across its frames. ``zstandard``'s own reader ends a cut-off file without a word."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._frame: zstandard.ZstdDecompressionObj | None = None
        self._packed = b""
        self._waiting = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        target = memoryview(buffer)
        while not self._waiting:
            self._packed = self._packed or self._file.read(_ZSTD_PIECE)
            if not self._packed:
                if self._frame is not None:
                    raise EOFError("the last frame is cut off")
                return 0
            if self._frame is None:
                self._frame = zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj()
            self._waiting, self._packed = self._frame.decompress(self._packed), b""
            if self._frame.eof:
                self._packed, self._frame = self._frame.unused_data, None
        count = min(len(target), len(self._waiting))
        target[:count] = self._waiting[:count]
        self._waiting = self._waiting[count:]
        return count
