"""Rows out of a user's file: JSON lines, CSV, TSV or Parquet, plain or compressed, streamed.

Every row comes with the place it was read from (``file:line``), so that whoever rejects it can say where.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Literal, cast

import zstandard

from lightretriever.errors import InputError, MissingExtraError

COMPRESSIONS = (".gz", ".zst", ".bz2", ".xz")
FORMATS = (".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")
CHUNK = 1 << 18
PARQUET_ROWS = 1024


class _ZstdFile(io.RawIOBase):
    """A zstd file read across its frames. ``zstandard``'s own reader ends a cut-off file without a word."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._frame: zstandard.ZstdDecompressionObj | None = None
        self._waiting = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        target = memoryview(cast(bytearray, buffer))
        while not self._waiting:
            chunk = self._file.read(CHUNK)
            if not chunk:
                if self._frame is not None:
                    raise EOFError("the last frame is cut off")
                return 0
            self._waiting = self._decompress(chunk)
        count = min(len(target), len(self._waiting))
        target[:count] = self._waiting[:count]
        self._waiting = self._waiting[count:]
        return count

    def _decompress(self, chunk: bytes) -> bytes:
        pieces = []
        while chunk:
            if self._frame is None:
                self._frame = zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj()
            pieces.append(self._frame.decompress(chunk))
            chunk = b""
            if self._frame.eof:
                chunk = self._frame.unused_data
                self._frame = None
        return b"".join(pieces)

    def close(self) -> None:
        self._file.close()
        super().close()


def split_suffix(path: str | Path) -> tuple[str, str]:
    """The format and the compression that a file's name says, lower-cased, "" for none: (".jsonl", ".gz")."""
    suffixes = [suffix.lower() for suffix in Path(path).suffixes[-2:]]
    compression = suffixes.pop() if suffixes and suffixes[-1] in COMPRESSIONS else ""
    return (suffixes[-1] if suffixes else ""), compression


def open_bytes(path: str | Path) -> IO[bytes]:
    """The file's bytes, decompressed by its name's last suffix."""
    source, (_, compression) = Path(path), split_suffix(path)
    if compression == ".gz":
        return cast(IO[bytes], gzip.open(source, "rb"))
    if compression == ".bz2":
        return cast(IO[bytes], bz2.open(source, "rb"))
    if compression == ".xz":
        return cast(IO[bytes], lzma.open(source, "rb"))
    if compression == ".zst":
        return io.BufferedReader(_ZstdFile(source), CHUNK)
    return source.open("rb")


def read_lines(path: str | Path) -> Iterator[tuple[int, str]]:
    """Line number (the first being 1) and text of every line, its line end kept.

    Raises:
        InputError: the file is absent, damaged or cut off, or a line is not UTF-8.
    """
    number = 0
    try:
        with open_bytes(path) as file:
            for number, raw in enumerate(file, 1):
                yield number, raw.decode("utf-8-sig" if number == 1 else "utf-8")
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except UnicodeDecodeError as error:
        raise not_utf8(error, f"{path}:{number}") from None
    except (EOFError, lzma.LZMAError, zlib.error, zstandard.ZstdError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise InputError(f"{path}: cannot be read beyond line {number} ({reason})") from None


def not_utf8(error: UnicodeDecodeError, where: str) -> InputError:
    """What to raise for a line at ``where`` that is not UTF-8."""
    return InputError(
        f"{where}: not UTF-8 text (byte 0x{error.object[error.start]:02x} at column {error.start + 1}): "
        "save the file as UTF-8"
    )


def parse_object(line: str, where: str) -> dict[str, object]:
    """The JSON object that a line holds; ``where`` is its place, for messages.

    Raises:
        InputError: not JSON, or not an object.
    """
    try:
        row = json.loads(line, parse_constant=lambda _: None)  # NaN and the like are no JSON: no value
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: not JSON ({error.msg} at column {error.colno})") from None
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits, brackets 10,000 deep
        raise InputError(f"{where}: not JSON that can be read ({error})") from None
    if not isinstance(row, dict):
        raise InputError(f"{where}: a JSON object is needed, this is {type(row).__name__}")
    return row


def read_rows(path: str | Path) -> Iterator[tuple[str, dict[str, object]]]:
    """Place (``file:line``) and fields of every row; blank lines are passed over.

    JSON lines hold one object each. CSV and TSV begin with a line of column names; CSV is quoted as usual,
    TSV not at all (a quotation mark is a character like any other, and no field holds a tab or a line end).

    Raises:
        InputError: a format we do not know, or a row that is not what its format says.
        MissingExtraError: Parquet without ``pyarrow``.
    """
    form, compression = split_suffix(path)
    if form in (".jsonl", ".ndjson"):
        return _json_rows(path)
    if form in (".csv", ".tsv"):
        return _separated_rows(path, "," if form == ".csv" else "\t")
    if form == ".parquet" and compression:
        raise InputError(f"{path}: a Parquet file cannot be read through {compression}: decompress it first")
    if form == ".parquet":
        return _parquet_rows(path)
    raise InputError(
        f"{path}: unknown format: its name should end in {', '.join(FORMATS)}, then perhaps {', '.join(COMPRESSIONS)}"
    )


def estimate_rows(path: str | Path) -> int | None:
    """How many lines of JSON a file has, or rows of Parquet; None for other formats and unreadable files."""
    form, _ = split_suffix(path)
    try:
        if form in (".jsonl", ".ndjson"):
            with open_bytes(path) as file:
                return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(CHUNK), b""))
        if form == ".parquet":
            from pyarrow import parquet

            return int(parquet.read_metadata(path).num_rows)
    except (ImportError, OSError, EOFError, ValueError, lzma.LZMAError, zlib.error, zstandard.ZstdError):
        return None  # whoever reads the file will say what is wrong with it
    return None


def _json_rows(path: str | Path) -> Iterator[tuple[str, dict[str, object]]]:
    for number, line in read_lines(path):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        yield where, parse_object(line, where)


def _separated_rows(path: str | Path, delimiter: str) -> Iterator[tuple[str, dict[str, object]]]:
    # A process-wide setting of the csv module, and its only way to fields of more than 128 kB; never lowered.
    csv.field_size_limit(max(csv.field_size_limit(), min(sys.maxsize, 2**31 - 1)))
    lines = (line for _, line in read_lines(path))
    quoted: Literal[0, 3] = csv.QUOTE_MINIMAL if delimiter == "," else csv.QUOTE_NONE
    reader = csv.reader(lines, delimiter=delimiter, quoting=quoted, strict=True)
    names: list[str] = []
    start = 1  # where the row began: quoted fields run over several lines
    try:
        for fields in reader:
            where, start = f"{path}:{start}", reader.line_num + 1
            if not fields:
                continue
            if not names:
                names = fields
            elif len(fields) != len(names):
                raise InputError(f"{where}: {len(fields)} fields, the first line names {len(names)}")
            else:
                yield where, dict(zip(names, fields, strict=True))
    except csv.Error as error:
        raise InputError(f"{path}:{start}: not a row of this format ({error})") from None


def _parquet_rows(path: str | Path) -> Iterator[tuple[str, dict[str, object]]]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise MissingExtraError("reading Parquet", "parquet") from None
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=PARQUET_ROWS):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}: row {number}", row
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except (pyarrow.ArrowException, OSError) as error:
        message = str(error).splitlines()[0]
        raise InputError(f"{path}: cannot be read as Parquet beyond row {number} ({message})") from None
