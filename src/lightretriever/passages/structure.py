"""The structure of a text: headings, paragraphs, list items, fenced code and pages, as Markdown and plain text have it.

Read line by line in one pass, so that time is linear in the text. Only what nearly every text means alike is read:
``# Heading``, a line underlined with ``===`` or ``---``, code between fences, blank lines, list items and rows of
tables, form feeds. Source code has none of that but blank lines and form feeds: its ``#`` begins a comment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

TEXT, CODE, HEADING = "text", "code", "heading"
LONGEST_HEADING = 200
"""Characters; a longer line is a paragraph, whatever it begins with."""

_LINE = re.compile(r"\S[^\n\r\f]*")  # from its first character on
_ATX = re.compile(r"(#{1,6})(?:[ \t]+|$)")
_UNDERLINE = re.compile(r"(=|-)\1{2,}$")
_FENCE = re.compile(r"(`{3,}(?!.*`)|~{3,})")
_ITEM = re.compile(r"(?:[-*+•‣·–]|\d{1,3}[.)])[ \t]|\|")  # of a list, or a row of a table
_INDENTED = 4  # columns; what begins there is code or part of a list item, never a heading


@dataclass(frozen=True, slots=True)
class Section:
    """What stands between two headings.

    Attributes:
        level: 1 … 6 of its heading; 0 before the first one.
        headings: the heading and those it stands under, from the top.
    """

    level: int
    headings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Block:
    """A heading, paragraph, item of a list, row of a table or fenced code block, without white space around it.

    Attributes:
        start, end: its characters in the text.
        section: the place of its section.
        page: from 1.
        kind: `TEXT`, `CODE` or `HEADING`.
    """

    start: int
    end: int
    section: int
    page: int
    kind: str


@dataclass(frozen=True, slots=True)
class Structure:
    """Sections and blocks of a text, in its order; ``paged``: whether it has more than one page."""

    sections: tuple[Section, ...]
    blocks: tuple[Block, ...]
    paged: bool


@dataclass(frozen=True, slots=True)
class _Line:
    start: int
    end: int
    indent: int
    blank_before: bool  # or the text begins, or a page
    page: int


def read_structure(text: str, code: bool = False) -> Structure:
    """The sections and blocks of a text; together the blocks hold every character that is not white space.

    Args:
        code: it is source code: one section, and the blocks are what stands between blank lines.
    """
    reader = _Reader(text)
    read = reader.read_code if code else reader.read
    for line in _lines(text):
        read(line)
    reader.end_block(CODE if code else TEXT)
    return Structure(tuple(reader.sections), tuple(reader.blocks), reader.page > 1)


def _lines(text: str) -> Iterator[_Line]:
    """The lines that are not blank, from their first to their last character."""
    end, page = 0, 1
    for found in _LINE.finditer(text):
        gap = text[end : found.start()]
        pages = gap.count("\f")
        page += pages
        breaks = gap.count("\n") or gap.count("\r")
        own = gap[max(gap.rfind("\n"), gap.rfind("\r"), gap.rfind("\f")) + 1 :].expandtabs(_INDENTED)
        blank = breaks > 1 or pages > 0 or end == 0
        end = found.start() + len(found[0].rstrip())
        yield _Line(found.start(), end, len(own), blank, page)


class _Reader:
    """What has been read so far, and the block that is not at its end."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sections = [Section(0, ())]
        self.blocks: list[Block] = []
        self.page = 1
        self._path: list[tuple[int, str]] = []
        self._first: _Line | None = None  # of the open block
        self._last: _Line | None = None
        self._fence = ""

    def read(self, line: _Line) -> None:
        """Take the next line."""
        self.page = line.page
        text = self.text[line.start : min(line.end, line.start + LONGEST_HEADING + 1)]
        if self._fence:
            self._last = line
            if text.startswith(self._fence) and not text.strip(self._fence[0]):
                self.end_block()
            return
        fence = _FENCE.match(text)
        level, title = (0, "") if fence or line.indent >= _INDENTED else self._heading(line, text)
        if level:
            self._begin_section(level, title, line)
            return
        if fence or line.blank_before or self._first is None or _ITEM.match(text):
            self.end_block()
            self._first = line
        self._last = line
        if fence:
            self._fence = fence[1]

    def read_code(self, line: _Line) -> None:
        """Take the next line of source code."""
        self.page = line.page
        if line.blank_before or self._first is None:
            self.end_block(CODE)
            self._first = line
        self._last = line

    def end_block(self, kind: str = TEXT) -> None:
        """The open block, if there is one, ends with the last line."""
        if self._first is not None and self._last is not None:
            self._append(self._first, self._last.end, CODE if self._fence else kind)
        self._first, self._fence = None, ""

    def _append(self, first: _Line, end: int, kind: str) -> None:
        self.blocks.append(Block(first.start, end, len(self.sections) - 1, first.page, kind))

    def _heading(self, line: _Line, text: str) -> tuple[int, str]:
        """The level of the heading that the line is, or that it underlines, and its words; level 0 for none."""
        if len(text) > LONGEST_HEADING:
            return 0, ""
        hashes = _ATX.match(text)
        if hashes:
            words = text[hashes.end() :]
            bare = words.rstrip("#")  # a closing run of them is no part of it, the one of C# is
            return len(hashes[1]), (words if bare and not bare[-1].isspace() else bare).strip()
        first = self._first
        underline = _UNDERLINE.match(text)
        if underline is None or line.blank_before or first is None or first is not self._last:
            return 0, ""
        words = self.text[first.start : first.end]
        if first.indent >= _INDENTED or len(words) > LONGEST_HEADING or _ITEM.match(words):
            return 0, ""
        return 1 if underline[1] == "=" else 2, words

    def _begin_section(self, level: int, title: str, line: _Line) -> None:
        underlined = self.text[line.start] != "#"
        first = self._first if underlined else None
        if underlined:
            self._first = None
        self.end_block()
        while self._path and self._path[-1][0] >= level:
            self._path.pop()
        self._path.append((level, " ".join(title.split())))
        self.sections.append(Section(level, tuple(words for _, words in self._path if words)))
        self._append(first or line, line.end, HEADING)
