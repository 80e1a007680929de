"""A model folder's small files, read so that whatever they hold is a value or one `ModelError`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import yaml  # type: ignore[import-untyped]
from safetensors import SafetensorError

from lightretriever.artifact import check_values
from lightretriever.errors import ModelError
from lightretriever.regular_file import file_size, read_file

LARGEST = 8 << 20
"""Bytes of a settings file: the longest that are seen are indexes of a few hundred thousand weights."""
LFS_POINTER = b"version https://git-lfs.github.com/spec/"


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """Whatever reading a damaged file raises, as one ModelError that names the file."""
    expected = (SafetensorError, yaml.YAMLError, OSError, ValueError, TypeError, LookupError, OverflowError, re.error)
    try:
        yield
    except (*expected, RecursionError, MemoryError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:160]
        raise ModelError(f"{file} cannot be read, it is damaged or of another kind ({reason})") from None


def refuse_pointer(file: Path) -> None:
    """Refuse a Git LFS pointer, which stands where the file itself was not downloaded.

    Raises:
        ModelError: it is one, or cannot be read.
    """
    with reading(file):
        file_size(file)
    with reading(file), file.open("rb") as opened:
        start = opened.read(len(LFS_POINTER))
    if start == LFS_POINTER:
        raise ModelError(f"{file} is a Git LFS pointer, not the file itself: fetch it with git lfs pull")


def read_text(file: Path) -> str:
    """The text of a settings file.

    Raises:
        ModelError: absent, too large for what it should be, a Git LFS pointer, or not UTF-8.
    """
    with reading(file):
        size = file_size(file)
    if size > LARGEST:
        raise ModelError(f"{file} is larger than {LARGEST >> 20} MB: it is no settings file")
    with reading(file):
        data = read_file(file, LARGEST)
    if data.startswith(LFS_POINTER):
        raise ModelError(f"{file} is a Git LFS pointer, not the file itself: fetch it with git lfs pull")
    with reading(file):
        return data.decode("utf-8-sig")


def read_json(file: Path) -> object:
    """The value that a JSON file holds.

    Raises:
        ModelError: as `read_text`, or no JSON.
    """
    text = read_text(file)
    try:
        check_values(text.encode())
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ModelError(f"{file} cannot be read as JSON ({reason})") from None


def read_object(file: Path) -> dict[str, object]:
    """The object that a JSON file holds; an empty one where there is no such file.

    Raises:
        ModelError: as `read_json`, or no object.
    """
    if not file.is_file():
        return {}
    found = read_json(file)
    if not isinstance(found, dict):
        raise ModelError(f"{file} holds no JSON object")
    return found


def whole_number(found: Mapping[str, object], name: str, file: Path) -> int | None:
    """A field that is a number from 1 on, or absent.

    Raises:
        ModelError: another value.
    """
    value = found.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ModelError(f"{file}: {name} is {shown(value)}: a whole number from 1 on is needed")
    return value


def shown(value: object) -> str:
    """A value of a file in a message: one short line."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}…"
