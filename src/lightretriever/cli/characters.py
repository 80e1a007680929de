"""Text from elsewhere, made fit for a terminal: how wide it is there, and nothing in it that steers one."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

# Control characters, ends of lines and paragraphs, and what turns the direction of the text after it.
_STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
# Of these JSON escapes the first by itself; the others may stand in a string as they are, and steer a terminal too.
_UNESCAPED = re.compile("[\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def plain(text: str) -> str:
    """The text with a space for each character that steers a terminal, so that places in it stay what they are."""
    return _STEERING.sub(" ", text)


def escape_json(line: str) -> str:
    """A JSON value with such characters escaped, which it can have in strings alone."""
    return _UNESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", line)


def cells(text: str) -> int:
    """Columns that a text takes on a terminal."""
    return len(text) if text.isascii() else sum(map(_cells, text))


def _cells(letter: str) -> int:
    if unicodedata.category(letter) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def fold(text: str, width: int, most: int) -> list[list[tuple[int, int]]]:
    """Break a text between words into at most ``most`` lines of ``width`` columns.

    A line is the words in it, each as its start and end in the text; white space between words counts one column. A
    word that no line has room for is broken.
    """
    lines: list[list[tuple[int, int]]] = []
    room = 0
    for start, end in _words(text, width):
        wide = cells(text[start:end])
        if not lines or wide + 1 > room:
            if len(lines) == most:
                break
            lines.append([])
            room = width + 1
        lines[-1].append((start, end))
        room -= wide + 1
    return lines


def _words(text: str, width: int) -> Iterator[tuple[int, int]]:
    """Start and end of every word, and of every part of one that is wider than a line."""
    for word in re.finditer(r"\S+", text):
        start, taken = word.start(), 0
        for place in range(word.start(), word.end()):
            wide = cells(text[place])
            if taken + wide > width and place > start:
                yield start, place
                start, taken = place, 0
            taken += wide
        yield start, word.end()
