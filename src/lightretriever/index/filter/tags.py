"""What is stored of metadata so that engines can filter by it, and what a filter's leaves ask of that.

Engines' own conditions cannot ask for true or false, or for fields whose name has a quotation mark; and Qdrant reads
fractions back from its own payloads as much as a unit in the last place off. So a point has tags, which hold name and
value as JSON, and small integers. A leaf holds for a document exactly where it has one of `Condition.tags`, or an
integer in `Condition.interval`.

Every number has a key, an integer in the order of the numbers: for dates the instant, for others the bits of the
greatest float that is not above it, and what is left of integers that lie between two floats. Ranges are ranges of
keys. The upper bits of a key, at most 53, are what the engine compares. What lies in the two buckets that the ends of
a range cut through is asked for by tags of more and more bits; a key whose lower bits are zero needs fewer of them.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lightretriever.artifact import sha256_bytes
from lightretriever.index.filter.language import (
    Exists,
    Filter,
    In,
    Leaf,
    Not,
    Range,
    Value,
    field_numbers,
    field_values,
)

TAGS = "tags"
_KINDS = ("numbers", "dates")
NO_TAG = ""
"""No document has this tag."""
MAX_TAG_BYTES = 200
_REST = 10  # bits of a number's key below its float: fewer than 1,024 integers of 64 bits lie between two floats
_SHIFTS = {False: (21, 15, _REST, 0), True: (5, 0)}
"""How many lower bits the integer stored, and each finer tag, leave out; of numbers, and of dates."""
_PLAIN = re.compile(r"[A-Za-z0-9_]{1,60}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Interval:
    """Integers from ``gte`` up to, without, ``lt``, None where there is no bound; what engines call a range.

    Attributes:
        key: the path in the payload under which they are.
        gte, lt: of at most 53 bits, so that float64 holds them.
    """

    key: str
    gte: int | None
    lt: int | None


@dataclass(frozen=True, slots=True)
class Condition:
    """A document passes that has one of the tags, or an integer in the interval; there is at least one of both."""

    tags: tuple[str, ...]
    interval: Interval | None = None


def stored_conditions(metadata: Mapping[str, object]) -> dict[str, object]:
    """The part of a document's payload that filters look at: ``tags``, and ``numbers`` and ``dates`` where it has any.

    Those are lists of integers of at most 53 bits, under the field's name or its hash.
    """
    tags: dict[str, None] = {}
    numbers: dict[str, dict[str, list[int]]] = {}
    for name, held in metadata.items():
        if held is not None and held not in ([], ()):
            tags[_tag(name)] = None
        for value in field_values(metadata, name):
            tags[_value_tag(name, value)] = None
        for dates in (False, True):
            top, *finer = _SHIFTS[dates]
            for number in field_numbers(metadata, name, dates):
                key = _key(number, dates)
                numbers.setdefault(_KINDS[dates], {}).setdefault(_path(name), []).append(key >> top)
                for shift in finer:
                    if not shift or key % (1 << shift):
                        tags[_tag(name, _KINDS[dates], shift, key >> shift)] = None
    return {TAGS: list(tags), **numbers}


def number_paths(payload: Mapping[str, Any]) -> Iterator[str]:
    """The paths of the numbers of one payload, as in `Interval.key`."""
    for kind in _KINDS:
        for key in payload.get(kind, ()):
            yield f"{kind}.{key}"


def condition(leaf: Leaf) -> Condition:
    """What an engine asks for in place of a leaf."""
    match leaf:
        case In(field, values):
            return Condition(tuple(dict.fromkeys(_value_tag(field, value) for value in values)))
        case Exists(field):
            return Condition((_tag(field),))
        case Range():
            return _range(leaf)


def intervals(where: Filter | None) -> Iterator[Interval]:
    """Every interval that a filter asks for."""
    match where:
        case None:
            return
        case In() | Exists() | Range():
            found = condition(where).interval
            if found is not None:
                yield found
        case Not(part):
            yield from intervals(part)
        case _:
            for part in where.parts:
                yield from intervals(part)


def _range(leaf: Range) -> Condition:
    """Keys from the first up to, without, the end: whole buckets by the engine, the rest by tags."""
    top, *finer = _SHIFTS[leaf.dates]
    tags: list[str] = []
    first = end = None
    if leaf.low is not None:
        first = _key(leaf.low, leaf.dates) + (0 if leaf.with_low else _step(leaf.low, leaf.dates))
    if leaf.high is not None:
        end = _key(leaf.high, leaf.dates) + (_step(leaf.high, leaf.dates) if leaf.with_high else 0)
    if first is not None and end is not None and first >= end:
        return Condition((NO_TAG,))
    gte = None if first is None else _up(first, top) >> top
    lt = None if end is None else end >> top
    if first is not None and end is not None and first >> top == end >> top:  # within one bucket
        return Condition(tuple(_tags_between(leaf, first, end, finer)))
    if first is not None:
        tags += _tags_between(leaf, first, _up(first, top), finer)
    if end is not None:
        tags += _tags_between(leaf, end >> top << top, end, finer)
    if gte is not None and gte == lt:
        return Condition(tuple(tags))
    return Condition(tuple(tags), Interval(f"{_KINDS[leaf.dates]}.{_path(leaf.field)}", gte, lt))


def _tags_between(leaf: Range, first: int, end: int, shifts: list[int]) -> Iterator[str]:
    """One tag at least of every document with a key from ``first`` up to, without, ``end``; of no others."""
    if first >= end:
        return
    shift, kind = shifts[0], _KINDS[leaf.dates]
    start, stop = _up(first, shift), end >> shift << shift
    if start > stop:
        yield from _tags_between(leaf, first, end, shifts[1:])
        return
    for bucket in range(start >> shift, stop >> shift):
        yield _tag(leaf.field, kind, shift, bucket)
        if shift:  # a key that is the bucket's first has no tag of this shift
            yield _tag(leaf.field, kind, 0, bucket << shift)
    yield from _tags_between(leaf, first, start, shifts[1:])
    yield from _tags_between(leaf, stop, end, shifts[1:])


def _up(key: int, shift: int) -> int:
    return -(-key >> shift) << shift


def _key(number: float, dates: bool) -> int:
    """An integer that is in the order of the numbers, and equal where they are."""
    if dates:
        return int(number)
    rounded = float(number)
    if rounded > number:
        rounded = math.nextafter(rounded, -math.inf)
    (bits,) = struct.unpack(">q", struct.pack(">d", rounded + 0.0))  # of -0.0 this makes 0.0
    ordered = bits if bits >= 0 else -(bits & (1 << 63) - 1)
    rest = int(number) - int(rounded) if isinstance(number, int) else 0
    return (ordered << _REST) + min(rest, (1 << _REST) - 1)  # beyond 64 bits, where no document's integer is


def _step(number: float, dates: bool) -> int:
    """From a number's key to the least that a document with a greater number can have."""
    between = dates or 2**53 <= abs(number) <= 2**63 or number != float(number)
    return 1 if between else 1 << _REST


def _path(field: str) -> str:
    """A field's name as every engine's paths can hold it; no two fields have one."""
    return field if _PLAIN.fullmatch(field) else f"-{sha256_bytes(field.encode('utf-8', 'surrogatepass'))}"


def _value_tag(field: str, value: Value) -> str:
    if isinstance(value, str | bool):
        return _tag(field, value)
    return _tag(field, _KINDS[False], 0, _key(value, False))


def _tag(*parts: Value) -> str:
    """Name and value as JSON, so that no tag equals another's; a long one as its hash."""
    tag = json.dumps(parts, ensure_ascii=False)
    if len(tag) * 4 <= MAX_TAG_BYTES or len(tag.encode("utf-8", "replace")) <= MAX_TAG_BYTES:
        return tag
    return "sha256:" + sha256_bytes(tag.encode("utf-8", "surrogatepass"))
