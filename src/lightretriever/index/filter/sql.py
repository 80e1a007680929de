"""Filters answered by the rows of `lightretriever.index.filter.conditions`.

A leaf of a filter is one search of the primary key for each kind of value that it asks for. What the leaves find is
put together here, in sorted arrays: SQLite's limits on expressions are never met, and ``$not`` reads what it negates,
not all documents.
"""

from __future__ import annotations

import json
import math
import sqlite3
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from lightretriever.errors import ArtifactError
from lightretriever.index.filter.conditions import (
    FLOAT,
    INSTANT,
    INTEGER,
    KINDS,
    WHOLE,
    field_number,
    float_place,
    stored_value,
)
from lightretriever.index.filter.language import And, Exists, Filter, In, Not, Or, Range, Value, matches
from lightretriever.index.filter.selection import Keys, Selection, distinct, intersect, invert, union
from lightretriever.text.values import safe_text

ROWS_A_LOOK = 64
"""Rows that are read in the time in which the metadata of one document is fetched and compared."""
_TRIALS = (1_000, 32_000)  # rows read to find out which part of an $and leaves the fewest documents

Look: TypeAlias = Callable[[Keys], Iterable[Mapping[str, object]]]


def select(connection: sqlite3.Connection, where: Filter, after: int = -1, look: Look | None = None) -> Selection:
    """The documents with a key above ``after`` that pass a filter, as of one state of the database.

    Where the connection has no transaction open, one is opened for the time of the call. An inverted selection says
    nothing of documents that come later.

    Args:
        connection: of a database with `TABLES`.
        where: the filter.
        after: documents up to this key are left out; whether they are in ``keys`` of an inverted selection is open.
        look: the metadata of documents by their keys, in their order. With it, what is left of an $and is asked of
            the documents themselves where that takes less time than reading all that passes one more part.

    Raises:
        ArtifactError: a key in the database is no integer.
    """
    with _one_state(connection):
        return _select(_Reader(connection, after, look), where)


def passing(where: Filter, keys: Keys, look: Look) -> Keys:
    """Those of the keys whose documents pass, by their metadata; for few documents, as those that came last."""
    if not len(keys):
        return keys
    return keys[np.fromiter((matches(where, metadata) for metadata in look(keys)), np.bool_, len(keys))]


class _ManyRowsError(Exception):
    """A search found more rows than `_Reader.most`."""


@dataclass(frozen=True, slots=True)
class _Reader:
    """What `select` was given, and how many rows of one search are worth reading."""

    connection: sqlite3.Connection
    after: int
    look: Look | None
    most: int = sys.maxsize

    def number(self, field: str) -> int | None:
        """The number of a field; None where no document has it."""
        return field_number(self.connection, field) if safe_text(field) == field else None

    def keys(self, condition: str, parameters: Sequence[int | str]) -> Keys:
        """The keys of rows, ascending, each once.

        SQLite writes them into one string, which is read three times as fast as row by row, and without the
        interpreter's lock but for the reading.

        Raises:
            _ManyRowsError: there are more than ``most``.
            ArtifactError: one is no integer.
        """
        query = f"SELECT key FROM conditions WHERE {condition} AND key > ?"
        values: list[int | str] = [*parameters, self.after]
        together = query.replace("key", "group_concat(key)", 1)
        if self.most < sys.maxsize:
            together = f"SELECT group_concat(key) FROM ({query} LIMIT ?)"
            values.append(self.most + 1)
        try:
            text = self.connection.execute(together, values).fetchone()[0] or ""
            count = text.count(",") + 1 if text else 0
            keys = np.fromstring(text, np.int64, sep=",")
        except sqlite3.DataError:  # longer than SQLite lets a string be: 90 million keys
            rows = self.connection.execute(query, (*parameters, self.after))
            keys = np.fromiter((key for (key,) in rows), np.int64)
            count = len(keys)
        except ValueError:
            keys, count = np.empty(0, np.int64), 1
        if len(keys) != count:
            raise ArtifactError("the index is damaged: a key in its table conditions is no integer")
        if count > self.most:
            raise _ManyRowsError
        return distinct(keys)


def _select(reader: _Reader, where: Filter) -> Selection:
    match where:
        case And(parts):
            return _all(reader, [*_flat(parts)])
        case Or(parts):  # what no part leaves out
            return invert(intersect([invert(_select(reader, part)) for part in parts]))
        case Not(part):
            return invert(_select(reader, part))
        case In(field, values):
            return Selection(_in(reader, field, values))
        case Range(field):
            return Selection(_range(reader, where))
        case Exists(field):
            number = reader.number(field)
            bounds = () if number is None else (number * KINDS, (number + 1) * KINDS - 1)
            return Selection(union([reader.keys("slot BETWEEN ? AND ?", bounds)] if bounds else []))


def _all(reader: _Reader, parts: list[Filter]) -> Selection:
    """What passes every part, first that which leaves few documents to look at."""
    parts.sort(key=lambda part: 0 if isinstance(part, In) else 1 if isinstance(part, Range) else 2)
    first, found = _narrow(reader, parts)
    rest = [part for place, part in enumerate(parts) if place != first]
    for place, part in enumerate(rest):
        if not found.inverted and not len(found.keys):
            break
        limited = reader
        if reader.look is not None and not found.inverted:
            limited = replace(reader, most=min(reader.most, ROWS_A_LOOK * len(found.keys)))
        try:
            found = intersect([found, _select(limited, part)])
        except _ManyRowsError:
            if limited.look is None or limited.most == reader.most:
                raise
            return Selection(passing(And(tuple(rest[place:])), found.keys, limited.look))
    return found


def _narrow(reader: _Reader, parts: list[Filter]) -> tuple[int, Selection]:
    """The place of a part that few documents pass, and they; of the first part where none is known to be such."""
    for most in _TRIALS if reader.look is not None else ():
        for place, part in enumerate(parts):
            if most < reader.most and isinstance(part, In | Range | Exists):
                try:
                    return place, _select(replace(reader, most=most), part)
                except _ManyRowsError:
                    continue
    return 0, _select(reader, parts[0])


def _flat(parts: Iterable[Filter]) -> Iterator[Filter]:
    for part in parts:
        if isinstance(part, And):
            yield from _flat(part.parts)
        else:
            yield part


def _in(reader: _Reader, field: str, values: Iterable[Value]) -> Keys:
    number = reader.number(field)
    if number is None:
        return union([])
    wanted: dict[int, dict[int | str, None]] = {}
    for value in values:
        stored = stored_value(value)
        if stored is not None:
            wanted.setdefault(stored[0], {})[stored[1]] = None
    # JSON holds both types exactly, and any number of them in one parameter.
    condition = "slot = ? AND value IN (SELECT value FROM json_each(?))"
    return union(
        [
            reader.keys(condition, (number * KINDS + kind, json.dumps(list(chosen), ensure_ascii=False)))
            for kind, chosen in wanted.items()
        ]
    )


def _range(reader: _Reader, leaf: Range) -> Keys:
    number = reader.number(leaf.field)
    if number is None:
        return union([])
    if leaf.dates:
        kinds = {INSTANT: _integers(leaf)}
    else:
        kinds = {INTEGER: _integers(leaf), FLOAT: _floats(leaf)}
    condition = "slot = ? AND value BETWEEN ? AND ?"
    return union(
        [
            reader.keys(condition, (number * KINDS + kind, first, last))
            for kind, (first, last) in kinds.items()
            if first <= last
        ]
    )


def _integers(leaf: Range) -> tuple[int, int]:
    """The first and the last 64-bit integer inside; the first is the greater one where there is none."""
    first, last = WHOLE
    if leaf.low is not None:
        first = max(first, math.ceil(leaf.low) if leaf.with_low else math.floor(leaf.low) + 1)
    if leaf.high is not None:
        last = min(last, math.floor(leaf.high) if leaf.with_high else math.ceil(leaf.high) - 1)
    return (first, last) if first <= last else (1, 0)


def _floats(leaf: Range) -> tuple[int, int]:
    """The places of the first and the last float inside, likewise."""
    first, last = -sys.float_info.max, sys.float_info.max
    if leaf.low is not None:
        first = float(leaf.low)
        if first < leaf.low or (first == leaf.low and not leaf.with_low):
            first = math.nextafter(first, math.inf)
    if leaf.high is not None:
        last = float(leaf.high)
        if last > leaf.high or (last == leaf.high and not leaf.with_high):
            last = math.nextafter(last, -math.inf)
    return (float_place(first), float_place(last)) if first <= last else (1, 0)


@contextmanager
def _one_state(connection: sqlite3.Connection) -> Iterator[None]:
    """All that is read within is of one state of the database."""
    if connection.in_transaction:
        yield
        return
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
