"""The filter language: which documents a search may find, by their metadata.

    {"lang": "en"}                                     equality; several fields in one mapping: all of them
    {"lang": {"$in": ["en", "de"]}}                    any of; also $nin, $ne
    {"year": {"$gte": 1990, "$lt": 2000}}              numbers: $gt, $gte, $lt, $lte
    {"seen": {"$gte": "2024-05-01T12:00:00+02:00"}}    dates, compared as instants
    {"price": {"$exists": true}}                       the field is there
    {"$and": [...]}, {"$or": [...]}, {"$not": {...}}   of filters

`matches` defines it; every engine finds exactly the documents for which it is true.

**Values.** A field holds values: a string, a number, true or false is one, and of a list every element that is one of
these. Null, objects and lists within lists are none. A leaf (equality, $in, a range) holds when one value of the field
satisfies it; both bounds of a range must hold for the same value. A field is named as it is, dots included; only the
top level of the metadata is looked at, and names that begin with $ cannot be asked for.

**Missing fields.** No leaf holds for a field without values, so $ne, $nin and $not, which hold exactly where what they
negate does not, find the documents that lack the field too. $exists is true where the field is neither absent, null
nor an empty list; it is true for an object.

**Kinds.** Values of two kinds are never equal: true is not 1, and "1" is not 1. Numbers are compared by value and
exactly, also beyond 2**53: 2 equals 2.0, and 9007199254740993 is more than 9007199254740992.0. Strings are equal code
point by code point. A range of numbers holds for numbers only, a range of dates for strings that are dates only.

**Dates.** ``YYYY-MM-DD``, alone or followed by ``T`` or a space and ``HH:MM``, ``HH:MM:SS`` or ``HH:MM:SS.f``, and
perhaps ``Z``, ``+HH``, ``+HHMM`` or ``+HH:MM``. Without a time it is midnight, without an offset UTC. An instant is a
whole number of microseconds: further digits are cut off.

Metadata is compared as it is stored: NUL and lone surrogates are U+FFFD in it and in filters, NaN is null. A filter's
values become JSON values by the same rules as metadata (`lightretriever.text.values`): NumPy's numbers are numbers,
dates and times are strings. Only integers beyond 64 bits, which no document has, may be in filters.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import TypeAlias

from lightretriever.errors import UsageError
from lightretriever.text.values import NoJsonValueError, plain_value, safe_text

Value: TypeAlias = str | int | float | bool
MAX_DEPTH = 32
_BOUNDS = ("$gt", "$gte", "$lt", "$lte")
_OPERATORS = ("$in", "$nin", "$ne", *_BOUNDS, "$exists")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DATE = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d+))?)?(?:(Z)|([+-])(\d\d)(?::?(\d\d))?)?)?", re.ASCII
)


@dataclass(frozen=True, slots=True)
class In:
    """One of the field's values is one of these; equality is one of one."""

    field: str
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Range:
    """One of the field's values lies between two bounds.

    Attributes:
        field: its name.
        low, high: the bounds, None where there is none; of dates in microseconds since 1970, UTC.
        with_low, with_high: whether the bound itself is inside.
        dates: the values looked at are strings that are dates, else numbers.
    """

    field: str
    low: int | float | None
    high: int | float | None
    with_low: bool
    with_high: bool
    dates: bool

    def holds(self, value: int | float) -> bool:
        """Whether a number, or an instant in microseconds, is inside. Python compares int with float exactly."""
        above = self.low is None or value > self.low or (self.with_low and value == self.low)
        return above and (self.high is None or value < self.high or (self.with_high and value == self.high))


@dataclass(frozen=True, slots=True)
class Exists:
    """The field is there: neither null nor an empty list."""

    field: str


@dataclass(frozen=True, slots=True)
class And:
    """All of them hold; at least one."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """Any of them holds; at least one."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """It does not hold."""

    part: Filter


Leaf: TypeAlias = In | Range | Exists
Filter: TypeAlias = Leaf | And | Or | Not


def parse_filter(conditions: Mapping[str, object] | None) -> Filter | None:
    """The tree of a filter as people write it; None where it asks for nothing (None or {}).

    Raises:
        UsageError: it is no such filter; field and operator are named.
    """
    if conditions is None or (isinstance(conditions, Mapping) and not conditions):
        return None
    return _mapping(conditions, "the filter", 1)


def read_filter(text: str) -> dict[str, object]:
    """A filter written as JSON, as the mapping that `parse_filter` takes.

    Raises:
        UsageError: it is not JSON, no object, or names a key twice in one.
    """
    try:
        found = json.loads(text, object_pairs_hook=_distinct)
    except (ValueError, RecursionError) as error:
        if isinstance(error, UsageError):
            raise
        place = f" at column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        raise UsageError(f"the filter is not JSON{place}: {text[:80]}") from None
    if not isinstance(found, dict):
        raise UsageError(f"the filter is a JSON {type(found).__name__}: an object of fields and values is needed")
    return found


def matches(where: Filter | None, metadata: Mapping[str, object]) -> bool:
    """Whether a document of this metadata, as it is stored, passes; the definition of the language."""
    match where:
        case None:
            return True
        case And(parts):
            return all(matches(part, metadata) for part in parts)
        case Or(parts):
            return any(matches(part, metadata) for part in parts)
        case Not(part):
            return not matches(part, metadata)
        case In(field, wanted):
            return any(_equal(value, one) for value in field_values(metadata, field) for one in wanted)
        case Exists(field):
            return metadata.get(field) is not None and metadata[field] not in ([], ())
        case Range(field):
            return any(where.holds(number) for number in field_numbers(metadata, field, where.dates))


def field_values(metadata: Mapping[str, object], field: str) -> Iterator[Value]:
    """The values of a field, as the language sees them."""
    held = metadata.get(field)
    for value in held if isinstance(held, list | tuple) else (held,):
        if isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value)):
            yield value


def field_numbers(metadata: Mapping[str, object], field: str, dates: bool) -> Iterator[int | float]:
    """What a range compares of a field: its numbers, or the instants of its dates."""
    for value in field_values(metadata, field):
        if isinstance(value, str):
            moment = instant(value) if dates else None
            if moment is not None:
                yield moment
        elif not dates and not isinstance(value, bool):
            yield value


def instant(text: str) -> int | None:
    """Microseconds from 1970-01-01, UTC, to a date; None where the text is no date."""
    found = _DATE.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second, fraction, _, sign, hours, minutes = found.groups(default="0")
    try:
        offset = timezone(timedelta(hours=int(hours), minutes=int(minutes)) * (-1 if sign == "-" else 1))
        moment = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second), tzinfo=offset)
    except ValueError:  # a thirteenth month, or an offset of a day and more
        return None
    return (moment - _EPOCH) // timedelta(microseconds=1) + int(fraction[:6].ljust(6, "0"))


def _equal(one: Value, other: Value) -> bool:
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _mapping(conditions: object, where: str, depth: int) -> Filter:
    if not isinstance(conditions, Mapping):
        raise UsageError(f"{where} is of type {type(conditions).__name__}: a mapping of field to value is needed")
    if not conditions:
        raise UsageError(f"{where} is empty: name a field")
    if depth > MAX_DEPTH:
        raise UsageError(f"the filter is more than {MAX_DEPTH} levels deep")
    parts = []
    for name, value in conditions.items():
        if not isinstance(name, str):
            raise UsageError(f"{where} names a field by {name!r}: a string is needed")
        if name in ("$and", "$or"):
            parts.append(_several(name, value, depth))
        elif name == "$not":
            parts.append(Not(_mapping(value, "$not", depth + 1)))
        elif name.startswith("$"):
            raise UsageError(f"{where} has the operator {name!r}: over filters there are $and, $or and $not")
        else:
            parts.append(_field(safe_text(name), value))
    return parts[0] if len(parts) == 1 else And(tuple(parts))


def _several(name: str, value: object, depth: int) -> Filter:
    if not isinstance(value, list | tuple) or not value:
        raise UsageError(f"{name} needs a list of at least one filter")
    parts = tuple(_mapping(part, f"a filter in {name}", depth + 1) for part in value)
    return And(parts) if name == "$and" else Or(parts)


def _field(name: str, condition: object) -> Filter:
    if not isinstance(condition, Mapping):
        return In(name, (_value(name, "equality", condition),))
    if not condition:
        raise UsageError(f"the filter on {name!r} is empty: give a value or an operator")
    parts: list[Filter] = []
    for operator, operand in condition.items():
        if operator in ("$in", "$nin"):
            chosen = In(name, _values(name, operator, operand))
            parts.append(chosen if operator == "$in" else Not(chosen))
        elif operator == "$ne":
            parts.append(Not(In(name, (_value(name, operator, operand),))))
        elif operator == "$exists":
            operand = _plain(name, operator, operand)
            if not isinstance(operand, bool):
                raise UsageError(f"the filter on {name!r}: $exists is {operand!r}: true or false is needed")
            parts.append(Exists(name) if operand else Not(Exists(name)))
        elif operator not in _BOUNDS:
            raise UsageError(f"the filter on {name!r} has the operator {operator!r}: there are {', '.join(_OPERATORS)}")
    bounds = {operator: condition[operator] for operator in _BOUNDS if operator in condition}
    if bounds:
        parts.append(_range(name, bounds))
    return parts[0] if len(parts) == 1 else And(tuple(parts))


def _range(name: str, bounds: Mapping[str, object]) -> Range:
    numbers: dict[str, int | float] = {}
    values = {operator: _value(name, operator, bound) for operator, bound in bounds.items()}
    for operator, value in values.items():
        number = instant(value) if isinstance(value, str) else value
        if number is None or isinstance(number, bool):
            raise UsageError(
                f"the filter on {name!r}: {operator} is {value!r}: a number, or a date as 2024-12-31, can be"
            )
        numbers[operator] = number
    kinds = {isinstance(value, str) for value in values.values()}
    if len(kinds) == 2:
        raise UsageError(f"the filter on {name!r}: {' and '.join(bounds)} compare a number and a date")
    # Of two bounds on one side the narrower counts, and of equal ones that which leaves the bound itself out.
    low, open_low = max(
        ((numbers[operator], operator == "$gt") for operator in ("$gt", "$gte") if operator in numbers),
        default=(None, True),
    )
    high, closed_high = min(
        ((numbers[operator], operator == "$lte") for operator in ("$lt", "$lte") if operator in numbers),
        default=(None, False),
    )
    return Range(name, low, high, not open_low, closed_high, kinds == {True})


def _values(name: str, operator: str, operand: object) -> tuple[Value, ...]:
    chosen = operand if isinstance(operand, list | tuple | set | frozenset) else _plain(name, operator, operand)
    if isinstance(chosen, str | Mapping) or not isinstance(chosen, Iterable):
        raise UsageError(f"the filter on {name!r}: {operator} needs a list of at least one value")
    found = tuple(_value(name, operator, one) for one in chosen)
    if not found:
        raise UsageError(f"the filter on {name!r}: {operator} needs a list of at least one value")
    return found


def _value(name: str, operator: str, given: object) -> Value:
    value = given if type(given) is int else _plain(name, operator, given)
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and abs(value) <= sys.float_info.max:
        return value
    if isinstance(value, int | float) or (value is None and isinstance(given, float)):
        raise UsageError(f"the filter on {name!r}: {operator} is given NaN, infinity, or an integer as far out")
    kind = type(given).__name__
    raise UsageError(f"the filter on {name!r}: {operator} is given a {kind}: a string, a number, true or false can be")


def _plain(name: str, operator: str, given: object) -> object:
    if isinstance(given, float) and math.isinf(given):
        return given
    try:
        return plain_value(given)
    except NoJsonValueError as problem:
        raise UsageError(f"the filter on {name!r}: the value given to {operator} is {problem.reason}") from None


def _distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(key for number, (key, _) in enumerate(pairs) if key in dict(pairs[:number]))
        raise UsageError(f"the filter names {twice!r} twice in one object: put the two into $and")
    return found
