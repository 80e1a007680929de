"""Reading what nobody vouches for: each field of a mapping by name, with a check of its own.

A check takes a value, as JSON gives it, and returns it, or raises ValueError that says what the value should be.

    LIMITS = {"dim": whole(1, 65_536), "sparse": choice("lm", "bm25", "none"), "tenant": optional(text())}
    fields = read_fields(manifest, LIMITS, path / "manifest.json", "make the index again")
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from math import inf, isfinite
from types import NoneType, UnionType
from typing import Any, TypeAlias, get_args, get_type_hints

from lightretriever.errors import ArtifactError

Check: TypeAlias = Callable[[Any], Any]
COUNT = (1 << 63) - 1
"""The greatest number of anything."""
_SHOWN = 60  # characters of a value that a message shows
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)  # files on Windows


def read_fields(
    stored: object, checks: Mapping[str, Check], where: object, way_out: str, optional: Collection[str] = ()
) -> dict[str, Any]:
    """The fields of a mapping, each as its check returns it.

    Args:
        stored: what was read.
        checks: of every field that there may be; no other is accepted.
        where: the file, for messages.
        way_out: what to do about it, for messages.
        optional: fields that may be missing.

    Raises:
        ArtifactError: it is no mapping, a field is missing, unknown, or not what it should be; it is named.
    """
    try:
        return record(checks, optional)(stored)
    except ValueError as error:
        raise ArtifactError(f"{where} is damaged: {error}: {way_out}") from None


def record(checks: Mapping[str, Check], optional: Collection[str] = ()) -> Check:
    """A mapping of these fields and no others."""

    def check(value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise _no(value, "an object")
        for name in value:
            if name not in checks:
                raise ValueError(f"{_shown(name)} is no field that it can have")
        found = {}
        for name, of_field in checks.items():
            if name in value:
                found[name] = _named(name, of_field, value[name])
            elif name not in optional:
                raise ValueError(f"{name!r} is missing")
        return found

    return check


def record_of(cls: type, **checks: Check) -> Check:
    """The fields of a dataclass by their annotations (str, int, float, bool, and None beside them), those of
    ``checks`` by these. Fields that have a default may be missing."""
    assert is_dataclass(cls)
    hints = get_type_hints(cls)
    has_default = [field for field in fields(cls) if (field.default, field.default_factory) != (MISSING, MISSING)]
    optional = [field.name for field in has_default]
    return record({name: checks.get(name) or _of_hint(hints[name]) for name in hints}, optional)


def text(longest: int = 65_536, empty: bool = True) -> Check:
    """A string that every file and terminal can take: no NUL, no half of a surrogate pair."""

    def check(value: Any) -> str:
        if not isinstance(value, str) or len(value) > longest or not (value or empty):
            raise _no(value, f"a string of at most {longest:,} characters" if empty else "a string that is not empty")
        if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
            raise _no(value, "a string without NUL and surrogates")
        return value

    return check


def whole(low: int = 0, high: int = COUNT) -> Check:
    """A whole number; true is none."""

    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise _no(value, f"a whole number from {low:,} to {high:,}")
        return value

    return check


def number(low: float = -inf, high: float = inf) -> Check:
    """A finite number; true is none."""

    def check(value: Any) -> float:
        good = isinstance(value, int | float) and not isinstance(value, bool)
        if (
            not good
            or (isinstance(value, int) and abs(value) > COUNT)
            or not isfinite(value)
            or not low <= value <= high
        ):
            raise _no(value, "a finite number" if low == -inf and high == inf else f"a number from {low:g} to {high:g}")
        return value

    return check


def begun_otherwise(what: object, name: str, before: object, now: object) -> str:
    """That something was begun with another setting than it is gone on with; None is to be without."""
    if before is None:
        return f"{what} was begun without {name}, now it is {_shown(now)}"
    return f"{what} was begun with {name} {_shown(before)}, now it is {'without' if now is None else _shown(now)}"


def flag(value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise _no(value, "true or false")
    return value


def choice(*values: str) -> Check:
    """One of some strings."""

    def check(value: Any) -> str:
        if not isinstance(value, str) or value not in values:
            raise _no(value, f"one of {', '.join(map(repr, values))}")
        return value

    return check


def optional(of_value: Check) -> Check:
    """Null, or what a check says."""
    return lambda value: None if value is None else of_value(value)


def items(of_item: Check, most: int = COUNT) -> Check:
    """A list."""

    def check(value: Any) -> list[Any]:
        if not isinstance(value, list) or len(value) > most:
            raise _no(value, "a list" if most == COUNT else f"a list of at most {most:,}")
        return [_named(place, of_item, item) for place, item in enumerate(value)]

    return check


def mapping(of_value: Check, of_name: Check | None = None, most: int = COUNT) -> Check:
    """An object of any fields, alike in kind."""
    of_name = of_name or text(1_024)

    def check(value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping) or len(value) > most:
            raise _no(value, "an object" if most == COUNT else f"an object of at most {most:,} fields")
        return {_named(name, of_name, name): _named(name, of_value, held) for name, held in value.items()}

    return check


def scalar(value: Any) -> Any:
    """A string, a finite number, true, false or null."""
    if isinstance(value, str):
        return text()(value)
    return value if value is None or isinstance(value, bool) else number()(value)


def plain_name(value: Any) -> str:
    """The name of a file in a folder, on any system, that leads nowhere else."""
    name: str = text(255, empty=False)(value)
    bad = any(character in '/\\:<>"|?*' or character < " " for character in name)
    if bad or name.strip(". ") == "" or name[-1] in ". " or _RESERVED.fullmatch(name) or len(name.encode()) > 255:
        raise _no(value, "a plain file name")
    return name


def inner_path(value: Any) -> str:
    """The path of a file inside a folder, with slashes, that never leads out of it."""
    path: str = text(1_000, empty=False)(value)
    parts = path.split("/")
    if len(parts) > 16:
        raise _no(value, "a path of at most 16 parts")
    for part in parts:
        try:
            plain_name(part)
        except ValueError:
            raise _no(value, "a plain path inside the folder") from None
    return path


def _of_hint(hint: Any) -> Check:
    kinds: Iterable[Any] = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    known: dict[Any, Check] = {str: text(), int: whole(-COUNT), float: number(), bool: flag}
    of_kind = [known[kind] for kind in kinds if kind is not NoneType]
    if len(of_kind) != 1:
        raise TypeError(f"{hint} needs a check of its own")
    return optional(of_kind[0]) if NoneType in kinds else of_kind[0]


def _named(name: object, check: Check, value: Any) -> Any:
    """What a check says of a field's value; the field is named in front of what it complains of."""
    try:
        return check(value)
    except ValueError as error:
        if type(error) is _Unfit:
            raise ValueError(f"{_shown(name)} {error}") from None
        raise ValueError(f"{_shown(name)}: {error}") from None


class _Unfit(ValueError):
    """Says "is X, Y is needed", and lacks its subject still."""


def _no(value: object, wanted: str) -> _Unfit:
    return _Unfit(f"is {_shown(value)}, not {wanted}")


def _shown(value: object) -> str:
    """A value as a message shows it: short, on one line, whatever it is."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > COUNT:
        return "a number beyond 64 bits"
    if isinstance(value, Mapping | list) and value:
        return "an object" if isinstance(value, Mapping) else "a list"
    shown = ascii(value[: _SHOWN + 1] if isinstance(value, str) else value)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"
