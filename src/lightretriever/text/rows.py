"""Rows out of a user's file: JSON lines, a JSON array, CSV, TSV or Parquet, plain or compressed, streamed.

Every row comes with the place it was read from (``file:line``), so that whoever rejects it can say where.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from lightretriever.errors import InputError
from lightretriever.paths import absolute
from lightretriever.text.compression import CHUNK, COMPRESSIONS, UNREADABLE, open_bytes, split_suffix
from lightretriever.text.delimited import delimited_rows
from lightretriever.text.json_rows import json_rows
from lightretriever.text.lines import open_text
from lightretriever.text.parquet import count_rows, parquet_rows
from lightretriever.text.signatures import markup

FORMATS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
_JSON = (".jsonl", ".ndjson", ".json")
ID_NAMES = ("_id", "id")


def read_rows(
    path: str | Path, wanted: Sequence[str] = (*ID_NAMES, "text"), known: Sequence[str] = (), western: bool = False
) -> Iterator[tuple[str, dict[str, object]]]:
    """Place (``file:line``) and fields of every row; blank lines are passed over.

    JSON lines hold one object each; a file may also be one array of objects. See `delimited_rows` for CSV and TSV.
    The path means what it does now, whenever the rows are taken.

    Args:
        path: the file. Its name says the format, its first bytes the compression.
        wanted: names of columns, of which the header of CSV or TSV has to have one; none for any header.
        known: further names by which it shows what is between its columns, in upper or lower case.
        western: read text that is no UTF-8 as Windows-1252, where it looks so, with a warning.

    Raises:
        InputError: a format we do not know, or a row that is not what its format says.
        MissingExtraError: Parquet without ``pyarrow``.
    """
    form, _ = split_suffix(path)
    if form == ".parquet":
        return parquet_rows(absolute(path), path)
    if form in FORMATS:
        return _text_rows(absolute(path), path, form, wanted, known, western)
    raise InputError(
        f"{path}: unknown format: its name should end in {', '.join(FORMATS)}, then perhaps {', '.join(COMPRESSIONS)}"
    )


def estimate_rows(path: str | Path) -> int | None:
    """How many lines of JSON a file has, or rows of Parquet; None for other formats, unreadable files and pipes."""
    if not Path(path).is_file():
        return None  # a pipe that is counted would have nothing left to be read
    form, _ = split_suffix(path)
    if form == ".parquet":
        return count_rows(path)
    if form not in _JSON:
        return None
    try:
        with open_bytes(path) as file:
            return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(CHUNK), b""))
    except UNREADABLE:
        return None  # whoever reads the file will say what is wrong with it


def _text_rows(
    source: Path, shown: str | Path, form: str, wanted: Sequence[str], known: Sequence[str], western: bool
) -> Iterator[tuple[str, dict[str, object]]]:
    with open_text(source, shown, western) as file:
        what = markup(file.head)
        if what is not None:
            raise InputError(f"{shown}: {what}")
        if form in _JSON:
            yield from json_rows(file)
        else:
            yield from delimited_rows(file, "," if form == ".csv" else "\t", wanted, known)
