"""Ids in TREC files, whose columns white space separates.

A file whose ids hold none is written as it always was. One with an id (or tag) that does is percent-encoded as a whole:
white space, ``%``, NUL and the byte-order mark become ``%20``, ``%25`` and so on, and every line says so by a ``%`` in
its second column (``Q0%``, ``0%``), which every tool passes over. So what is read back is what was written, whatever
the ids hold: an ``a%20b`` in a file without that mark is an ``a%20b``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote

from lightretriever.errors import InputError

MARK = "%"
_SEPARATES = re.compile(r"[\s\0\ufeff]")
_ENCODED = re.compile(r"[\s\0\ufeff%]")
_UNREADABLE = re.compile("[\0\ud800-\udfff]")


def check_id(value: object, what: str, where: str) -> str:
    """The id itself, where evaluation tools can tell it from others.

    Args:
        value: the id.
        what: "query id" or "document id", for the message.
        where: its place, for the message.

    Raises:
        InputError: no string, empty, or with NUL (at which C tools end it) or a lone surrogate (which is no text).
    """
    if not isinstance(value, str):
        raise InputError(f"{where}: the {what} {str(value)[:80]!r} is of type {type(value).__name__}, not a string")
    if not value:
        raise InputError(f"{where}: the {what} is empty")
    if (not value.isascii() or "\0" in value) and (found := _UNREADABLE.search(value)):
        kind = "NUL" if found.group() == "\0" else "a lone surrogate"
        raise InputError(f"{where}: the {what} {value[:80]!r} holds {kind}, which no evaluation tool reads: rename it")
    return value


def separates(text: str) -> bool:
    """Whether the text holds what separates columns, so that a TREC file of it has to be encoded."""
    return _SEPARATES.search(text) is not None


def any_separates(texts: Iterable[str]) -> bool:
    """`separates` of any."""
    return any(map(_SEPARATES.search, texts))


def encode_id(text: str) -> str:
    """Percent-encoded, as in a file with `MARK`."""
    return _ENCODED.sub(lambda found: "".join(f"%{byte:02X}" for byte in found.group().encode()), text)


def decode_id(text: str, where: str) -> str:
    """What `encode_id` made the text of.

    Raises:
        InputError: bytes that are no UTF-8; it names ``where``.
    """
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise InputError(f"{where}: {text[:80]!r} is not percent-encoded UTF-8, as the second column says") from None
