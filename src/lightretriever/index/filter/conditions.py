"""What the database of an index holds of metadata so that filters can be answered out of it.

A row of `conditions` says that a document has a value in a field. Its ``slot`` is the field's number and the value's
kind in one integer; its ``value`` is a 64-bit integer, or a string of at most `LONGEST` bytes. No other types are
stored, so nothing depends on how SQLite compares or reads floats: a number that is no 64-bit integer is stored as an
integer in the order of such numbers, and a range of numbers is a range of each of the two kinds. A document has a row
for each distinct value of a field; dates have one as a string and one as an instant; a field without values that is
there all the same has one row that says so.
"""

from __future__ import annotations

import base64
import hashlib
import sqlite3
import struct
import sys
from collections.abc import Iterable, Mapping
from typing import TypeAlias

from lightretriever.index.filter.language import Value, field_values, instant
from lightretriever.text.values import safe_text

TABLES = (
    "CREATE TABLE fields (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
    "CREATE TABLE conditions (slot INTEGER NOT NULL, value NOT NULL, key INTEGER NOT NULL, "
    "PRIMARY KEY (slot, value, key)) WITHOUT ROWID",
)
LONGEST = 40
"""Bytes of a string in UTF-8; of a longer one the hash is stored, which takes as many."""
THERE, TRUTH, INTEGER, FLOAT, TEXT, HASH, INSTANT = range(7)
"""Kinds: the field has no value but is there, then those of a value; a date has two."""
WHOLE = (-(2**63), 2**63 - 1)
"""The integers that are stored as themselves."""
KINDS = 8
"""Slots of a field; the first is `KINDS` times its number."""

Row: TypeAlias = tuple[str, int, int | str]


def condition_rows(metadata: Mapping[str, object]) -> list[Row]:
    """What is stored for filters of a document's metadata, as it is stored: field, kind and value, each once."""
    rows: dict[Row, None] = {}
    for name, held in metadata.items():
        if held is None or held in ([], ()):
            continue
        before = len(rows)
        for value in field_values(metadata, name):
            stored = stored_value(value)
            if stored is not None:
                rows[name, *stored] = None
            moment = instant(value) if isinstance(value, str) else None
            if moment is not None:
                rows[name, INSTANT, moment] = None
        if len(rows) == before:
            rows[name, THERE, 0] = None
    return list(rows)


def insert_conditions(connection: sqlite3.Connection, documents: Iterable[tuple[int, Mapping[str, object]]]) -> None:
    """Store the rows of documents, given as key and metadata, in the transaction that the caller has open."""
    found = [(key, condition_rows(metadata)) for key, metadata in documents]
    names = {name for _, rows in found for name, *_ in rows}
    connection.executemany("INSERT OR IGNORE INTO fields (name) VALUES (?)", [(name,) for name in sorted(names)])
    connection.executemany("INSERT INTO conditions VALUES (?, ?, ?)", _in_order(connection, found, {}))


def delete_conditions(connection: sqlite3.Connection, documents: Iterable[tuple[int, Mapping[str, object]]]) -> None:
    """Delete the rows of documents, given by the key and metadata they were stored by, likewise."""
    found = [(key, condition_rows(metadata)) for key, metadata in documents]
    delete = "DELETE FROM conditions WHERE slot = ? AND value = ? AND key = ?"
    connection.executemany(delete, _in_order(connection, found, {}))


def check_conditions(
    connection: sqlite3.Connection, documents: Iterable[tuple[int, Mapping[str, object]]]
) -> tuple[list[int], int]:
    """Compare what is stored with the metadata of all documents, given as key and metadata.

    Returns:
        The keys of documents that lack a row, and how many rows there are that no document should have.
    """
    lacking: list[int] = []
    found = 0
    bases: dict[str, int] = {}
    search = "SELECT 1 FROM conditions WHERE slot = ? AND value = ? AND key = ?"
    for key, metadata in documents:
        wanted = _in_order(connection, [(key, condition_rows(metadata))], bases)
        there = sum(connection.execute(search, row).fetchone() is not None for row in wanted)
        found += there
        if there < len(wanted):
            lacking.append(key)
    (stored,) = connection.execute("SELECT count(*) FROM conditions").fetchone()
    return lacking, stored - found


def stored_value(value: Value) -> tuple[int, int | str] | None:
    """How a value is stored; None for one that no document can have."""
    if isinstance(value, str):
        if safe_text(value) != value:
            return None
        if len(value) * 4 <= LONGEST or len(coded := value.encode()) <= LONGEST:
            return TEXT, value
        return HASH, base64.b85encode(hashlib.sha256(coded).digest()).decode()
    if isinstance(value, bool):
        return TRUTH, int(value)
    if isinstance(value, int) or value.is_integer():
        whole = int(value)
        if WHOLE[0] <= whole <= WHOLE[1]:
            return INTEGER, whole
    if abs(value) <= sys.float_info.max and float(value) == value:
        return FLOAT, float_place(float(value))
    return None


def float_place(number: float) -> int:
    """A 64-bit integer in the order of the floats."""
    (bits,) = struct.unpack("<q", struct.pack("<d", number + 0.0))  # of -0.0 this makes 0.0
    return bits if bits >= 0 else -(bits & WHOLE[1])


def _in_order(
    connection: sqlite3.Connection, documents: Iterable[tuple[int, list[Row]]], bases: dict[str, int]
) -> list[tuple[int, int | str, int]]:
    """Rows as they are stored, in the order of the primary key, in which SQLite writes them fastest.

    ``bases`` is filled with the first slot of each field; no row has that of a field without a number.
    """
    stored = []
    for key, rows in documents:
        for name, kind, value in rows:
            if name not in bases:
                bases[name] = (field_number(connection, name) or 0) * KINDS
            stored.append((bases[name] + kind, value, key))
    stored.sort()  # the values of one slot are of one type
    return stored


def field_number(connection: sqlite3.Connection, field: str) -> int | None:
    """The number of a field; None where no document has it."""
    found = connection.execute("SELECT number FROM fields WHERE name = ?", (field,)).fetchone()
    return None if found is None else found[0]
