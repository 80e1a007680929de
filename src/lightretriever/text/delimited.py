"""Rows of tables saved as text: CSV, TSV, and what spreadsheets make of them."""

from __future__ import annotations

import csv
import sys
import warnings
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TypeAlias

from lightretriever.errors import InputError
from lightretriever.text.lines import TextFile

Lines: TypeAlias = Iterator[tuple[int, str]]
_DELIMITERS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "vertical bars"}
_LONE_CR = "\udc0d"
"""Stands for a CR that ends no line while `csv`, which refuses one, reads it: no decoded text has this character."""
_SHOWN = 30


def delimited_rows(
    file: TextFile, delimiter: str, wanted: Sequence[str], known: Sequence[str] = ()
) -> Iterator[tuple[str, dict[str, object]]]:
    """Place (``file:line``) and fields, all of them strings, of every row; empty rows are passed over.

    The first line names the columns; spreadsheets' ``sep=;`` may come before it. White space around the names is left
    out, and then around the fields too. Where the names that are wanted show only with another delimiter, it is used,
    with a warning. Between the tabs of a .tsv file nothing is quoted, unless its first name is: a quotation mark is a
    character like any other, and no field holds a tab or a line end. Everywhere else fields are quoted as in CSV.
    Columns without a name are left out while they are empty.

    Args:
        file: the table.
        delimiter: "," or a tab, as the file's name says.
        wanted: names of columns, of which the table has to have one.
        known: further names that may show with another delimiter, in upper or lower case.

    Raises:
        InputError: no header, two columns of one name, or a row that does not fit the header; it names the line.
    """
    lines = file.lines()
    header = _header(lines)
    if header is None:
        return
    stated = header[1].rstrip("\r\n")
    if stated.lower().startswith("sep=") and len(stated) == 5:
        chosen, header = stated[4], _header(lines)
        if header is None:
            return
    else:
        chosen = _delimiter(header[1], delimiter, (*wanted, *known))
        if chosen != delimiter:
            warnings.warn(f"{file.path}: its columns are separated by {_DELIMITERS[chosen]}", stacklevel=2)
    every = chain([header], lines)
    quoted = (delimiter, chosen) != ("\t", "\t") or header[1].lstrip().startswith('"')
    rows = _quoted(file.path, every, chosen, header) if quoted else _split(every)
    yield from _named(file.path, rows, chosen, wanted)


def _header(lines: Lines) -> tuple[int, str] | None:
    return next(((number, line) for number, line in lines if line.strip()), None)


def _delimiter(header: str, given: str, wanted: Sequence[str]) -> str:
    """The delimiter by which most names that are wanted come to light; the one given where no other does better."""
    names = {name.lower() for name in wanted}
    found = {delimiter: _names(header, delimiter) & names for delimiter in (given, *_DELIMITERS)}
    best = max(found, key=lambda delimiter: len(found[delimiter]))
    return given if found[given] or not found[best] else best


def _names(header: str, delimiter: str) -> set[str]:
    return {name.strip().strip('"').lower() for name in header.split(delimiter)}


def _split(lines: Lines) -> Iterator[tuple[int, list[str]]]:
    for number, line in lines:
        yield number, line.removesuffix("\n").removesuffix("\r").split("\t")


def _quoted(path: str | Path, lines: Lines, delimiter: str, header: tuple[int, str]) -> Iterator[tuple[int, list[str]]]:
    # A process-wide setting of the csv module, and its only way to fields of more than 128 kB; never lowered.
    csv.field_size_limit(max(csv.field_size_limit(), min(sys.maxsize, 2**31 - 1)))
    last, replaced = 0, False
    start = header[0]  # where the row begins: quoted fields run over several lines
    spaced = delimiter + " " in header[1]

    def texts() -> Iterator[str]:
        nonlocal last, replaced
        for number, line in lines:
            last = number
            if "\r" in line:
                body = line.removesuffix("\n").removesuffix("\r")
                replaced = replaced or "\r" in body
                line = body.replace("\r", _LONE_CR) + line[len(body) :]
            yield line

    try:
        for fields in csv.reader(texts(), delimiter=delimiter, strict=True, skipinitialspace=spaced):
            place, start = start, last + 1
            if replaced:
                fields, replaced = [field.replace(_LONE_CR, "\r") for field in fields], False
            yield place, fields
    except csv.Error as error:
        raise InputError(f"{path}:{start}: {_reason(error, delimiter)}") from None


def _reason(error: csv.Error, delimiter: str) -> str:
    text = str(error)
    if "unexpected end" in text:
        return "a quotation mark opens a field that does not end: write quotation marks inside a field twice"
    if "expected after" in text:
        return f"a quoted field goes on after its end, where {delimiter!r} should be: write quotation marks in it twice"
    return "a row that cannot be read as CSV"


def _named(
    path: str | Path, rows: Iterator[tuple[int, list[str]]], delimiter: str, wanted: Sequence[str]
) -> Iterator[tuple[str, dict[str, object]]]:
    number, header = next(rows, (1, []))
    names = [name.strip() for name in header]
    spaced = names != header
    _check_names(f"{path}:{number}", names, delimiter, wanted)
    for number, fields in rows:
        if not any(fields) or (len(fields) == 1 and not fields[0].strip()):
            continue
        where = f"{path}:{number}"
        if len(fields) != len(names):
            raise InputError(f"{where}: {_fields(len(fields))}, the header names {len(names)}: {_shown(names)}")
        if spaced:
            fields = [field.strip() for field in fields]
        row: dict[str, object] = dict(zip(names, fields, strict=True))
        if "" in row:
            unnamed = [field for name, field in zip(names, fields, strict=True) if field and not name]
            _settle_unnamed(where, row, unnamed)
        yield where, row


def _settle_unnamed(where: str, row: dict[str, object], fields: list[str]) -> None:
    """Columns without a name: spreadsheets write empty ones at the end, pandas one of row numbers at the start."""
    if len(fields) > 1:
        shown = ", ".join(repr(field[:_SHOWN]) for field in fields[:4])
        raise InputError(f"{where}: the fields {shown} are in columns without a name: name all but one")
    if fields:
        row[""] = fields[0]
    else:
        del row[""]


def _fields(count: int) -> str:
    return f"{count} field{'s' if count != 1 else ''}"


def _check_names(where: str, names: list[str], delimiter: str, wanted: Sequence[str]) -> None:
    if wanted and not set(names).intersection(wanted):
        example = delimiter.join(("_id", "text")) if "_id" in wanted else delimiter.join(wanted)
        needed = " or ".join(filter(None, (", ".join(wanted[:-1]), wanted[-1])))
        raise InputError(
            f"{where}: this line was taken for the header, but of its columns {_shown(names)} none is named "
            f"{needed}: the first line must name the columns, as {example!r}"
        )
    twice = next((name for place, name in enumerate(names) if name and name in names[:place]), None)
    if twice is not None:
        raise InputError(f"{where}: two columns are named {twice!r}: rename one")


def _shown(names: list[str]) -> str:
    shown = [repr(name if len(name) <= _SHOWN else name[:_SHOWN] + "…") for name in names[:8]]
    return ", ".join(shown) + (" …" if len(names) > 8 else "")
