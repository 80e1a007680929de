"""Settings as TOML: text to frozen dataclasses by their annotations, every misfit named, and back to text."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from lightretriever.errors import InputError, UsageError

T = TypeVar("T")
_NAMES = {str: "text in quotes", int: "a whole number", float: "a number", bool: "true or false"}


def read_tables(path: str | Path, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """A TOML file's tables, with values of ``a.b=value`` put in; a value that is not TOML counts as text.

    Raises:
        InputError: the file cannot be read, or is not TOML; the message names the line.
        UsageError: an override that is no ``name=value``, or goes through something that is no table.
    """
    try:
        tables = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: name a TOML file of settings") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{path} cannot be read as TOML ({error})") from None
    for override in overrides:
        _override(tables, override)
    return tables


def _override(tables: dict[str, Any], override: str) -> None:
    name, equals, text = override.partition("=")
    steps = name.strip().split(".")
    if not equals or not all(steps):
        raise UsageError(f"--set {override}: name=value is needed, as in --set model.rank=8")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    place: Any = tables
    for step in steps[:-1]:
        if isinstance(place, list) and step.isdecimal() and int(step) < len(place):
            place = place[int(step)]
        elif isinstance(place, dict):
            place = place.setdefault(step, {})
        else:
            place = None
    if not isinstance(place, dict):
        raise UsageError(f"--set {override}: {'.'.join(steps[:-1])} is no table (parts of a list are data.files.0 …)")
    place[steps[-1]] = value


def build(kind: type[T], tables: Mapping[str, Any], prefix: str = "") -> T:
    """A dataclass out of a table, nested ones out of tables within it.

    Raises:
        UsageError: a setting that there is not, that is absent and needed, or of another type; named.
    """
    hints = get_type_hints(kind)
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    for name in tables:
        if name not in known:
            close = get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
            raise UsageError(f"{prefix}{name} is no setting: {hint}")
    missing = [
        name
        for name, field in known.items()
        if name not in tables and field.default is MISSING and field.default_factory is MISSING
    ]
    if missing:
        raise UsageError(f"{prefix}{missing[0]} is not set, and has no default")
    return kind(**{name: convert(hints[name], value, prefix + name) for name, value in tables.items()})


def convert(hint: Any, value: Any, name: str) -> Any:
    """A TOML value as the annotation wants it: int for float, a list for a tuple, a table for a dataclass.

    Raises:
        UsageError: it cannot be.
    """
    origin, options = get_origin(hint), get_args(hint)
    if is_dataclass(hint):
        return build(hint, _table(value, name), f"{name}.")  # type: ignore[arg-type]
    if origin in (Union, UnionType):
        inner = [option for option in options if option is not NoneType]
        return convert(inner[0], value, name)
    if origin is Literal:
        if value not in options:
            choices = ", ".join(str(option) for option in options if option != "")
            raise UsageError(f"{name} is {value!r}: choose one of {choices}")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise UsageError(f"{name} is {value!r}: a list is needed")
        return tuple(convert(options[0], part, f"{name}.{i}") for i, part in enumerate(value))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint in _NAMES:
        if type(value) is not hint:
            raise UsageError(f"{name} is {value!r}: {_NAMES[hint]} is needed")
        return value
    return dict(_table(value, name))  # Mapping[str, object]: what it may hold is checked by its owner


def _table(value: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise UsageError(f"{name} is {value!r}: a table is needed, [{name}]")
    return value


def as_tables(settings: Any) -> dict[str, Any]:
    """A dataclass as plain tables, those settings left out that are None, which TOML cannot say."""
    found = {}
    for field in fields(settings):
        value = getattr(settings, field.name)
        if value is not None:
            found[field.name] = _plain(value)
    return found


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return as_tables(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items() if part is not None}
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value


def write_tables(tables: Mapping[str, Any], prefix: str = "") -> str:
    """TOML text of plain tables: values first, then tables, then lists of tables."""
    lines, below = [], []
    for name, value in tables.items():
        if isinstance(value, Mapping):
            below.append(f"\n[{prefix}{_key(name)}]\n{write_tables(value, f'{prefix}{_key(name)}.')}")
        elif isinstance(value, list) and value and all(isinstance(part, Mapping) for part in value):
            below += [f"\n[[{prefix}{_key(name)}]]\n{write_tables(part, f'{prefix}{_key(name)}.')}" for part in value]
        else:
            lines.append(f"{_key(name)} = {_text(value)}\n")
    return "".join([*lines, *below])


def _key(name: str) -> str:
    return name if name.replace("_", "").replace("-", "").isalnum() and name.isascii() else _text(name)


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(name)} = {_text(part)}" for name, part in value.items()) + " }"
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    if isinstance(value, float):
        text = repr(value)
        return text if any(sign in text for sign in ".ein") else f"{text}.0"
    # TOML's basic strings are JSON's but for DEL, which it wants escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
