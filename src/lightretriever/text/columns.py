"""Tables whose columns have names of their own: which of them are id, title, text and metadata."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lightretriever.errors import InputError
from lightretriever.text.corpus import Document, documents_of
from lightretriever.text.rows import ID_NAMES, read_rows
from lightretriever.text.sqlite_rows import SUFFIXES, sqlite_rows

_USUAL = (*ID_NAMES, "title", "text")


@dataclass(frozen=True, slots=True)
class ColumnNames:
    """The columns of a table that make a document.

    Attributes:
        id: the column of ids; None for ``_id`` or ``id``, and where there is neither for ids made of the rows.
        title: the column of titles; None for ``title``, where there is one.
        text: the columns of text, joined by empty lines in this order, empty ones passed over; none for ``text``.
        metadata: the columns to keep as metadata; None for all that are left.
        table: the table of a database; None where it has but one.
    """

    id: str | None = None
    title: str | None = None
    text: tuple[str, ...] = ()
    metadata: tuple[str, ...] | None = None
    table: str | None = None


def read_table(path: str | Path, columns: ColumnNames = ColumnNames()) -> Iterator[Document]:
    """Stream the documents of a table: JSON lines, a JSON array, CSV, TSV, Parquet or SQLite.

    A row without an id gets one from a hash of all its fields, and a warning says so: it stays the same wherever the
    row stands, another one is made when the row changes, and rows that are alike are one document.

    Args:
        path: the file; its name says the format.
        columns: which of its columns are what.

    Raises:
        InputError: a column that is named is absent, or a row is no document; it names file and row.
        MissingExtraError: Parquet without ``pyarrow``.
    """
    if Path(path).suffix.lower() in SUFFIXES:
        rows = sqlite_rows(path, columns.table)
    else:
        named = tuple(name for name in (columns.id, columns.title, *columns.text) if name is not None)
        rows = read_rows(
            path, (*named, *(() if columns.text else (*ID_NAMES, "text"))), columns.metadata or (), western=True
        )
    return documents_of(path, _mapped(path, rows, columns))


def rows_of_frame(frame: object) -> Iterator[tuple[str, dict[str, object]]]:
    """Place and fields of the rows of a DataFrame of pandas or polars, or of a table of pyarrow.

    Raises:
        InputError: it is none of these.
    """
    if hasattr(frame, "iter_rows"):
        rows: Iterator[Mapping[str, object]] = frame.iter_rows(named=True)
    elif hasattr(frame, "itertuples") and hasattr(frame, "columns"):
        names = [str(name) for name in frame.columns]
        rows = (dict(zip(names, values, strict=True)) for values in frame.itertuples(index=False, name=None))
    elif hasattr(frame, "to_batches"):
        rows = (row for batch in frame.to_batches() for row in batch.to_pylist())
    else:
        raise InputError(f"a DataFrame is needed, this is {type(frame).__name__}")
    return ((f"row {number}", dict(row)) for number, row in enumerate(rows, 1))


def documents_of_frame(frame: object, columns: ColumnNames = ColumnNames()) -> Iterator[Document]:
    """Stream the documents of a DataFrame of pandas or polars, or of a table of pyarrow; ids as of `read_table`.

    Raises:
        InputError: it is none of these, a column that is named is absent, or a row is no document.
    """
    return documents_of("the table", _mapped("the table", rows_of_frame(frame), columns))


def _mapped(
    source: str | Path, rows: Iterator[tuple[str, dict[str, object]]], columns: ColumnNames
) -> Iterator[tuple[str, dict[str, object]]]:
    said = False
    for where, row in rows:
        made = _fields(where, row, columns)
        if made.get("_id") is None:
            if not said:
                warnings.warn(f"{source}: rows without an id get one from a hash of their content", stacklevel=2)
                said = True
            made["_id"] = _content_id(row)
        yield where, made


def _fields(where: str, row: Mapping[str, object], columns: ColumnNames) -> dict[str, object]:
    """A row under the usual names. What a column of another meaning is called so is left to the metadata, or out."""
    wanted = [
        name for name in (columns.id, columns.title, *columns.text, *(columns.metadata or ())) if name is not None
    ]
    absent = next((name for name in wanted if name not in row), None)
    if absent is not None:
        shown = ", ".join(repr(str(name)[:40]) for name in [*row][:12])
        raise InputError(f"{where}: there is no column {absent!r}: its columns are {shown}")
    id_name = columns.id or next((name for name in ID_NAMES if row.get(name) is not None), None)
    title_name = columns.title or ("title" if "title" in row else None)
    text_names = columns.text or ("text",)
    used = {id_name, title_name, *text_names}
    kept = [name for name in row if name not in used] if columns.metadata is None else columns.metadata
    made: dict[str, object] = {name: row[name] for name in kept if name not in _USUAL}
    made["_id"] = None if id_name is None else row[id_name]
    if title_name is not None:
        made["title"] = row[title_name]
    if len(text_names) > 1:
        made["text"] = _joined(row, text_names)
    elif text_names[0] in row:
        made["text"] = row[text_names[0]]
    return made


def _joined(row: Mapping[str, object], names: Sequence[str]) -> str:
    texts = (str(value).strip() for name in names if (value := row[name]) is not None and value == value)
    return "\n\n".join(text for text in texts if text)


def _content_id(row: Mapping[str, object]) -> str:
    plain = json.dumps(row, sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.blake2b(plain.encode(), digest_size=12).hexdigest()
