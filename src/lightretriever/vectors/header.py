"""What a table of documents and vectors holds under each name, as its first rows and its schema tell."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from lightretriever.errors import InputError
from lightretriever.text.compression import split_suffix
from lightretriever.text.lines import read_lines
from lightretriever.text.parquet import batch_rows, open_parquet, read_batches
from lightretriever.text.rows import read_rows
from lightretriever.vectors.columns import KNOWN_NAMES, Columns, is_general_name, is_vector_name

if TYPE_CHECKING:
    import pyarrow

NUMBERS, PACKED, OTHER = "numbers", "packed", "other"
_LOOKED_AT = 100  # rows, until one holds something
_UNBROKEN = 64  # characters of a string that is no word
_JSON_KINDS = {str: "a string", list: "a list", dict: "an object", bool: "true or false", int: "a number"}


@dataclass(frozen=True, slots=True)
class Held:
    """What a field holds.

    Attributes:
        what: "numbers", a list of them or the JSON of one; "packed", something else that is no plain metadata, such as
            bytes or lists of lists; or "other".
        width: how many numbers; None where no row looked at has any.
    """

    what: str
    width: int | None = None


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its name, its type as messages call it, and what it holds."""

    name: str
    kind: str
    held: Held


def read_header(source: Path, columns: Columns = Columns()) -> list[Column]:
    """Look at a file's columns; ``columns`` are those that the user named.

    Raises:
        InputError: the file is absent, unreadable, or has no rows.
        MissingExtraError: Parquet without ``pyarrow``.
    """
    if split_suffix(source) == (".parquet", ""):
        return _parquet_header(source)
    rows = [row for _, row in islice(read_rows(source, (), named_by(columns)), _LOOKED_AT)]
    if not rows:
        raise InputError(f"{source} holds no rows{_taken_for_header(source)}")
    names = list(dict.fromkeys(name for row in rows for name in row))
    firsts = [_first(row.get(name) for row in rows) for name in names]
    return [Column(name, _json_kind(first), _held(first)) for name, first in zip(names, firsts, strict=True)]


def named_by(columns: Columns) -> Sequence[str]:
    """The names by which a table shows what is between its columns: the usual ones, and the user's."""
    return (*KNOWN_NAMES, *filter(None, astuple(columns)))


def is_vector(kind: pyarrow.DataType) -> bool:
    """Whether a Parquet column holds lists of numbers, of any kind of list."""
    from pyarrow import types

    kind = getattr(kind, "storage_type", kind)  # of an extension type, such as a tensor of fixed shape
    lists = (types.is_list, types.is_large_list, types.is_fixed_size_list, types.is_list_view, types.is_large_list_view)
    if not any(is_list(kind) for is_list in lists):
        return False
    return bool(types.is_floating(kind.value_type) or types.is_integer(kind.value_type))


def is_string(kind: pyarrow.DataType) -> bool:
    """Whether a Parquet column holds strings, dictionary-encoded or not."""
    from pyarrow import types

    kind = kind.value_type if types.is_dictionary(kind) else kind
    return bool(types.is_string(kind) or types.is_large_string(kind) or str(kind) == "string_view")


def _parquet_header(source: Path) -> list[Column]:
    import pyarrow

    with open_parquet(source) as file:
        schema = file.schema_arrow
        asked = [name for name in schema.names if is_vector_name(name) or is_general_name(name)]
        firsts: dict[str, object] = {}
        if asked:
            batch = next(read_batches(source, file, _LOOKED_AT, asked), None)
            stored = [getattr(column, "storage", column) for column in batch.columns] if batch is not None else []
            if batch is not None and batch.num_rows:
                rows = batch_rows(source, pyarrow.RecordBatch.from_arrays(stored, batch.schema.names), 0)
                firsts = {name: _first(row[name] for row in rows) for name in asked}
        found = []
        for field in schema:
            held = _held(firsts.get(field.name))
            if is_vector(field.type) and held.what != NUMBERS:
                held = Held(NUMBERS)
            found.append(Column(field.name, str(field.type), held))
        return found


def _first(values: Iterable[object]) -> object:
    """The first that is not empty; else an empty one, if there is any."""
    seen: object = None
    for value in values:
        if value is not None and value not in ("", []):
            return value
        seen = value if seen is None else seen
    return seen


def _held(value: object) -> Held:
    if isinstance(value, str):
        if value.lstrip().startswith("["):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                return Held(PACKED)
        elif len(value) >= _UNBROKEN and not any(character.isspace() for character in value):  # as base64 is
            return Held(PACKED)
    if isinstance(value, list):
        if not value or any(type(item) in (int, float) for item in value):
            return Held(NUMBERS, len(value))
        return Held(OTHER if all(isinstance(item, str) for item in value) else PACKED)
    return Held(PACKED if isinstance(value, dict | bytes) else OTHER)


def _json_kind(value: object) -> str:
    return _JSON_KINDS.get(type(value), "nothing" if value is None else "a number")


def _taken_for_header(source: Path) -> str:
    """What a table without rows has instead of them, for messages."""
    if split_suffix(source)[0] not in (".csv", ".tsv"):
        return ""
    line = next((line.strip() for _, line in read_lines(source) if line.strip()), None)
    return "" if line is None else f": its only line, {line[:60]!r}, was taken for the header, which names the columns"
