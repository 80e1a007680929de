"""JSON objects out of a text file: one a line, or the elements of one array, streamed either way."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator

from lightretriever.errors import InputError
from lightretriever.text.lines import TextFile

MAX_ELEMENT = 1 << 26
"""Characters that one element of an array may have, since an array is read as it comes, not as a whole."""

_SHOWN = 40
_SPACE = re.compile(r"[ \t\r\n]*")
_AROUND = "\ufeff \t\r\n"
_CONSTANTS = {"NaN": None, "Infinity": math.inf, "-Infinity": -math.inf}
_KINDS = {list: "a list", str: "a string", int: "a number", float: "a number", bool: "true or false"}


class _TwiceError(Exception):
    """An object names a key twice; the key is its argument."""


def _distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _TwiceError(key)
            seen.add(key)
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_distinct, parse_constant=_CONSTANTS.__getitem__)


def json_rows(file: TextFile) -> Iterator[tuple[str, dict[str, object]]]:
    """Place (``file:line``, or ``file: element N`` of an array) and fields of every object.

    Blank lines are passed over.

    Raises:
        InputError: a line, or an element of the array, is no object; it names the place.
    """
    if file.head.lstrip(_AROUND).startswith("["):
        yield from _elements(file)
        return
    for number, line in file.lines():
        line = line.strip(_AROUND)
        if line:
            where = f"{file.path}:{number}"
            yield where, parse_object(line, where)


def parse_object(line: str, where: str) -> dict[str, object]:
    """The JSON object that a line holds; ``where`` is its place, for messages.

    NaN, which is no JSON but often written, is null.

    Raises:
        InputError: not JSON, not an object, or an object that names a key twice.
    """
    line = line.strip(_AROUND)
    try:
        row = _DECODER.decode(line)
    except json.JSONDecodeError as error:
        raise _no_json(line, error, where) from None
    except (_TwiceError, ValueError, RecursionError) as error:
        raise _unreadable(error, where) from None
    if not isinstance(row, dict):
        raise InputError(f"{where}: a JSON object is needed, this is {_KINDS.get(type(row), 'null')}")
    return row


class _Pieces:
    """Text that arrives in pieces, of which only what was not yet used is held."""

    def __init__(self, pieces: Iterator[str]) -> None:
        self._pieces = pieces
        self.text = ""
        self.position = 0

    def grow(self, size: int) -> bool:
        """Have at least so many characters after the position; False where the text ends before."""
        held = [self.text[self.position :]]
        length = len(held[0])
        while length < size and (piece := next(self._pieces, "")):
            held.append(piece)
            length += len(piece)
        self.text, self.position = "".join(held), 0
        return length >= size

    def peek(self) -> str:
        """The next character that is no white space, where the position then is; "" at the end."""
        while True:
            found = _SPACE.match(self.text, self.position)
            self.position = found.end() if found else self.position
            if self.position < len(self.text):
                return self.text[self.position]
            if not self.grow(1):
                return ""


def _elements(file: TextFile) -> Iterator[tuple[str, dict[str, object]]]:
    """The objects of an array, one at a time."""
    pieces, number = _Pieces(file.chunks()), 0
    pieces.peek()
    pieces.position += 1  # past the bracket
    while (found := pieces.peek()) != "]":
        if number:
            if found != ",":
                raise _broken(found, f"{file.path}: after element {number} of the array", "a comma or ]")
            pieces.position += 1
            found = pieces.peek()
        number += 1
        where = f"{file.path}: element {number} of the array"
        if found != "{":
            raise _broken(found, where, "a JSON object")
        yield where, _element(pieces, where)
    pieces.position += 1
    rest = pieces.peek()
    if rest:
        raise _broken(rest, f"{file.path}: after the array", "the end of the file")


def _element(pieces: _Pieces, where: str) -> dict[str, object]:
    """The object at the position, which moves past it. Whether it is there as a whole, only trying tells."""
    while True:
        text = pieces.text
        try:
            row, pieces.position = _DECODER.raw_decode(text, pieces.position)
            return row
        except json.JSONDecodeError as error:
            # What is cut off at the end of the text fails there, but a string where it begins.
            cut = error.msg.startswith("Unterminated") or error.pos >= len(text) - 16
            held = len(text) - pieces.position
            if not cut:
                raise _no_json(text, error, where) from None
            if held > MAX_ELEMENT:
                raise InputError(
                    f"{where}: it has no end within {MAX_ELEMENT:,} characters: save the file as JSON lines"
                ) from None
            if not pieces.grow(2 * held) and len(pieces.text) == held:
                raise InputError(f"{where}: the file ends within it: it was cut off, copy it again") from None
        except (_TwiceError, ValueError, RecursionError) as error:
            raise _unreadable(error, where) from None


def _broken(found: str, where: str, needed: str) -> InputError:
    if not found:
        return InputError(f"{where}: the file ends there: it was cut off, copy it again")
    kinds = {"[": "a list", '"': "a string", "]": "the end of the array"}
    return InputError(f"{where}: {needed} is needed, this is {kinds.get(found, repr(found))}")


def _no_json(text: str, error: json.JSONDecodeError, where: str) -> InputError:
    if text.startswith("{") and (error.pos >= len(text) or error.msg.startswith("Unterminated")):
        return InputError(f"{where}: not JSON: the line ends within the object: one object on each line is needed")
    shown = text[error.pos : error.pos + _SHOWN]
    return InputError(f"{where}: not JSON at column {error.colno}, where it goes on with {shown!r}")


def _unreadable(error: Exception, where: str) -> InputError:
    if isinstance(error, _TwiceError):
        return InputError(f"{where}: an object names the key {error.args[0]!r} twice: rename one")
    what = "it is nested too deep" if isinstance(error, RecursionError) else "a number has too many digits"
    return InputError(f"{where}: not JSON that can be read: {what}")
