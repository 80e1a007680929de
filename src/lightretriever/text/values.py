"""What callers and files hold as values, as JSON values: in metadata and in filters, by the same rules.

| given | kept as |
| --- | --- |
| None, NaN, NaT, pandas' NA, a masked element | null |
| bool, int, float and strings, of NumPy and torch too; Decimal, Fraction | themselves; whole Decimals as integers |
| list, tuple, array, Series, tensor, range, deque | a list; an array without dimensions its element |
| set, frozenset | a list, sorted |
| mapping | an object, whose keys are strings; integers, truth values and whatever else is a string here become such |
| bytes | the string that they are in UTF-8 |
| datetime, date, time, NumPy's and pandas' | an ISO 8601 string, which filters compare as an instant |
| timedelta | its seconds |
| Enum | its value |
| UUID, path | a string |

Anything else is refused, by the path to it: so are integers beyond 64 bits, infinity, bytes that are not UTF-8, what is
nested deeper than `MAX_DEPTH`, and two keys that become one string.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence, ValuesView
from collections.abc import Set as AbstractSet
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from numbers import Integral, Real
from pathlib import PurePath
from typing import Any
from uuid import UUID

import numpy as np

MAX_DEPTH = 64
"""Levels of lists and objects within a field, so that whatever reads or writes them later can."""

_UNSAFE = re.compile("[\0\ud800-\udfff]")
_MISSING = ("NAType", "NaTType", "MaskedConstant")  # of pandas and NumPy, which need not be imported for it
_AS_LISTS = ("tolist", "to_pylist", "to_list", "as_py")  # torch and pandas, pyarrow, polars, pyarrow's scalars
_SHOWN = 40


def safe_text(text: str) -> str:
    """The text with NUL and lone surrogates replaced by U+FFFD; the same object where there are none."""
    if text.isascii():
        return text.replace("\0", "\ufffd") if "\0" in text else text
    return _UNSAFE.sub("\ufffd", text) if _UNSAFE.search(text) else text


class NoJsonValueError(Exception):
    """A value that has no JSON value; whoever knows the row it is in says so.

    Attributes:
        reason: what is wrong with it, and what to do.
        path: the keys and places that lead to it, the innermost first.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path: list[str] = []

    def field(self) -> str:
        """Where it is, as people write it: ``tags[2].name``."""
        steps = self.path[::-1]
        if len(steps) > 8:
            steps = [*steps[:6], "…", steps[-1]]
        return "".join(steps).removeprefix(".")


def plain_fields(row: Mapping[Any, object]) -> tuple[dict[str, object], bool]:
    """A row with JSON values, and whether a string in it had to be made safe.

    Raises:
        NoJsonValueError: a field has no JSON value.
    """
    conversion = _Conversion()
    return conversion.mapping(row, 0), conversion.repaired


def plain_value(value: object) -> object:
    """One value as JSON's: str, int, float, bool, None, list or dict, strings being safe.

    Raises:
        NoJsonValueError: it has none.
    """
    return _Conversion().value(value, 0)


class _Conversion:
    """One walk through a value; ``repaired`` is set where a string had to be made safe."""

    __slots__ = ("repaired",)

    def __init__(self) -> None:
        self.repaired = False

    def value(self, value: Any, depth: int) -> object:
        kind = type(value)
        if kind is str:
            return self.text(value)
        if value is None or kind is bool:
            return value
        if kind is int:
            return _integer(value)
        if kind is float:
            return _number(value)
        if kind is list:
            return self.sequence(value, depth)
        if kind is dict:
            return self.mapping(value, depth)
        return self.foreign(value, depth)

    def text(self, text: str) -> str:
        safe = safe_text(text)
        if safe is not text:
            self.repaired = True
        return safe

    def sequence(self, values: Iterable[object], depth: int) -> list[object]:
        _check_depth(depth)
        found: list[object] = []
        try:
            for value in values:
                found.append(self.value(value, depth + 1))  # noqa: PERF401 - its length says where a problem is
        except NoJsonValueError as problem:
            problem.path.append(f"[{len(found)}]")
            raise
        return found

    def mapping(self, fields: Mapping[Any, object], depth: int) -> dict[str, object]:
        _check_depth(depth)
        found: dict[str, object] = {}
        key: object = ""
        try:
            for key, value in fields.items():
                name = self.text(key if type(key) is str else _key(key))
                if name in found:
                    raise NoJsonValueError("there twice, by keys that are the same as strings: rename one")
                # Most values are such strings; this is where reading a corpus spends its time.
                plain = type(value) is str and value.isascii() and "\0" not in value
                found[name] = value if plain else self.value(value, depth + 1)
        except NoJsonValueError as problem:
            problem.path.append(f".{key[:_SHOWN]}" if isinstance(key, str) else f".<{type(key).__name__}>")
            raise
        return found

    def foreign(self, value: Any, depth: int) -> object:
        """A value of none of JSON's own classes."""
        if type(value).__name__ in _MISSING:
            return None
        match value:
            case np.ndarray():
                return self.value(value[()], depth) if value.ndim == 0 else self.sequence(value, depth)
            case np.void() if value.dtype.names:
                return self.mapping({name: value[name] for name in value.dtype.names}, depth)
            case Mapping():
                return self.mapping(value, depth)
            case AbstractSet():
                return _sorted(self.sequence(value, depth))
            case Sequence() | ValuesView() if not isinstance(value, str | bytes | bytearray | memoryview):
                return self.sequence(value, depth)
        scalar = _scalar(value)
        if scalar is not value:
            return self.value(scalar, depth)
        for name in _AS_LISTS:
            made = _made_by(value, name)
            if made is not None:
                return self.value(made[0], depth)
        raise NoJsonValueError(
            f"of type {type(value).__name__}: a string, a number, true, false, a list or a mapping can be"
        )


def _scalar(value: Any) -> object:
    """A single value as one of JSON's own classes; itself where it is none that is known."""
    match value:
        case Enum():
            return value.value
        case np.generic():
            return _numpy_scalar(value)
        case str():
            return str.__str__(value)
        case bytes() | bytearray() | memoryview():
            return _decoded(bytes(value))
        case Integral():
            return int(value)
        case Decimal():
            return _decimal(value)
        case Real():
            return _real(value)
        case timedelta():
            return value.total_seconds()
        case date() | time():
            return _iso(value)
        case UUID() | PurePath():
            return str(value)
    return value


def _numpy_scalar(value: Any) -> object:
    kind = value.dtype.kind
    if kind in "mM" and np.isnat(value):
        return None
    match kind:
        case "b" | "i" | "u" | "U":
            return value.item()
        case "f":
            return _real(value)
        case "S":
            return _decoded(bytes(value))
        case "M":
            return _numpy_date(value)
        case "m":
            return _numpy_seconds(value)
    return value


def _numpy_date(value: Any) -> str:
    """A date for units of a day and more, else a time of seconds or finer, as filters read them."""
    unit = np.datetime_data(value.dtype)[0]
    if unit in ("Y", "M", "W", "D"):
        return str(value.astype("datetime64[D]"))
    text = str(value.astype("datetime64[s]") if unit in ("h", "m") else value)
    return text.rstrip("0").rstrip(".") if "." in text else text


def _numpy_seconds(value: Any) -> object:
    if np.datetime_data(value.dtype)[0] in ("Y", "M", "generic"):
        raise NoJsonValueError("a span of months or years, or of no unit: give a number")
    return _real(value / np.timedelta64(1, "s"))


def _made_by(value: Any, name: str) -> tuple[object] | None:
    """What a method makes of a value that another library holds, if it makes something else of it."""
    method = None if isinstance(value, type) else getattr(value, name, None)
    if not callable(method):
        return None
    try:
        made = method()
    except (TypeError, ValueError, RuntimeError):
        return None
    return None if type(made) is type(value) else (made,)


def _integer(value: int) -> int:
    if -(2**63) <= value < 2**63:  # what engines hold an integer in
        return value
    raise NoJsonValueError("an integer beyond 64 bits: make it a string, or a float if its last digits do not count")


def _number(value: float) -> float | None:
    if math.isfinite(value):
        return value
    if value != value:
        return None
    raise NoJsonValueError("infinite: leave it out, or make it null")


def _decimal(value: Decimal) -> object:
    if not value.is_finite():
        return math.nan if value.is_nan() else math.inf
    if value.adjusted() > 308:
        raise NoJsonValueError("a number too large: make it a string")
    return int(value) if value == value.to_integral_value() else float(value)


def _real(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        raise NoJsonValueError("a number too large: make it a string") from None


def _decoded(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise NoJsonValueError("bytes that are not UTF-8: decode them, or leave them out") from None


def _iso(value: Any) -> str:
    offset = value.utcoffset() if isinstance(value, datetime) else None
    if offset is not None and offset % timedelta(minutes=1):
        value = value.astimezone(UTC)  # an offset with seconds is in no date that filters know
    return str(value.isoformat())


def _key(key: object) -> str:
    value = plain_value(key)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    raise NoJsonValueError(f"a key of type {type(key).__name__}: strings are needed")


def _check_depth(depth: int) -> None:
    if depth > MAX_DEPTH:
        raise NoJsonValueError(f"nested deeper than {MAX_DEPTH} levels: flatten it")


def _sorted(values: list[Any]) -> list[object]:
    try:
        return sorted(values)
    except TypeError:
        return sorted(values, key=lambda value: (type(value).__name__, repr(value)))
