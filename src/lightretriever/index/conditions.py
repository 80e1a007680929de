"""What is stored of metadata so that engines can filter by it, and what a filter's leaves ask of that.

Engines' own conditions cannot ask for true or false, for fractions, for integers beyond 2**53, or for fields whose name
has a quotation mark. So a point has tags, which hold name and value as JSON, and numbers, each under a key of its
field, dates likewise. A leaf holds for a document exactly where it has one of `Condition.tags`, or a number in
`Condition.interval`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lightretriever.artifact import sha256_bytes
from lightretriever.index.filter import Exists, Filter, In, Leaf, Not, Range, Value, field_numbers, field_values

TAGS = "tags"
NUMBERS, DATES = "numbers", "dates"
NO_TAG = ""
"""No document has this tag."""
MAX_TAG_BYTES = 200
_EXACT = 2**53  # from here on some integers lie between two floats
_PLAIN = re.compile(r"[A-Za-z0-9_]{1,60}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Interval:
    """Numbers between bounds, None where there is none; what engines call a range.

    Attributes:
        key: the path in the payload under which the field's numbers are.
        gt, gte, lt, lte: float64.
    """

    key: str
    gt: float | None = None
    gte: float | None = None
    lt: float | None = None
    lte: float | None = None


@dataclass(frozen=True, slots=True)
class Condition:
    """A document passes that has one of the tags, or a number in the interval; there is at least one of both."""

    tags: tuple[str, ...]
    interval: Interval | None = None


def stored_conditions(metadata: Mapping[str, object]) -> dict[str, object]:
    """The part of a document's payload that filters look at: ``tags``, and ``numbers`` and ``dates`` where it has any.

    Those are lists of float64, dates in microseconds from 1970, by the field's `_key`.
    """
    tags: dict[str, None] = {}
    numbers: dict[str, dict[str, list[float]]] = {}
    for name, held in metadata.items():
        if held is not None and held not in ([], ()):
            tags[_tag(name)] = None
        for value in field_values(metadata, name):
            tags[_tag(name, _number(value))] = None
        for dates in (False, True):
            for number in field_numbers(metadata, name, dates):
                numbers.setdefault(DATES if dates else NUMBERS, {}).setdefault(_key(name), []).append(_floor(number))
                if dates and abs(number) >= _EXACT:
                    tags[_tag(name, "instant", number)] = None
    return {TAGS: list(tags), **numbers}


def number_paths(payload: Mapping[str, Any]) -> Iterator[str]:
    """The paths of the numbers of one payload, as in `Interval.key`."""
    for kind in (NUMBERS, DATES):
        for key in payload.get(kind, ()):
            yield f"{kind}.{key}"


def condition(leaf: Leaf) -> Condition:
    """What an engine asks for in place of a leaf."""
    match leaf:
        case In(field, values):
            return Condition(tuple(dict.fromkeys(_tag(field, _number(value)) for value in values)))
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
    """Bounds of less than 2**53 are the engine's. Beyond, a stored number is the greatest float not above the true
    one: where it lies surely inside is an interval still, and the integers close to a bound are asked for by tag.
    """
    low, high = leaf.low, leaf.high
    gt = gte = lt = lte = None
    near: list[int] = []
    if low is not None and abs(low) < _EXACT:
        gt, gte = (None, float(low)) if leaf.with_low else (float(low), None)
    elif low is not None:
        gte = -_floor(-low)
        if gte == low and not leaf.with_low:
            gte = math.nextafter(gte, math.inf)
        near += _integers(low, gte)
    if high is not None and abs(high) < _EXACT:
        lt, lte = (None, float(high)) if leaf.with_high else (float(high), None)
    elif high is not None:
        lt = _floor(high)
        near += [int(lt), *_integers(lt, high), int(high)]
    kind = ("instant",) if leaf.dates else ()
    tags = tuple(dict.fromkeys(_tag(leaf.field, *kind, number) for number in near if leaf.holds(number)))
    least = next((bound for bound in (gt, gte) if bound is not None), -math.inf)
    most = next((bound for bound in (lt, lte) if bound is not None), math.inf)
    if not (least < most or least == gte == lte):
        return Condition(tags or (NO_TAG,))
    return Condition(tags, Interval(f"{DATES if leaf.dates else NUMBERS}.{_key(leaf.field)}", gt, gte, lt, lte))


def _integers(low: float, high: float) -> range:
    """Those from ``low`` up to, without, ``high`` that a document can hold: at most 1,024 lie between two floats."""
    least, most = max(low, -(2**63)), min(high, 2**63)
    return range(math.ceil(least), math.ceil(most)) if least < most else range(0)


def _floor(number: float) -> float:
    """The greatest float that is not above a number."""
    rounded = float(number)
    return (math.nextafter(rounded, -math.inf) if rounded > number else rounded) + 0.0  # of -0.0 this makes 0.0


def _number(value: Value) -> Value:
    return int(value) if isinstance(value, float) and value.is_integer() else value  # 2 and 2.0 are one; true is none


def _key(field: str) -> str:
    """A field's name as a key that every engine's paths can hold; no two fields have one."""
    return field if _PLAIN.fullmatch(field) else f"-{sha256_bytes(field.encode('utf-8', 'surrogatepass'))}"


def _tag(*parts: Value) -> str:
    """Name and value as JSON, so that no tag equals another's; a long one as its hash."""
    tag = json.dumps(parts, ensure_ascii=False)
    if len(tag) * 4 <= MAX_TAG_BYTES or len(tag.encode("utf-8", "replace")) <= MAX_TAG_BYTES:
        return tag
    return "sha256:" + sha256_bytes(tag.encode("utf-8", "surrogatepass"))
