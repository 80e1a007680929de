"""Text that is read as it stands: plain text, source code, Markdown."""

from __future__ import annotations

import re

from lightretriever.pipeline.readers.content import Content, ReadOptions, about, one_line
from lightretriever.pipeline.readers.decode import decode

_FRONT = re.compile(r"\A---[ \t]*\n(.*?)^(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
_FIELD = re.compile(r"^(title|author|date)[ \t]*:[ \t]*(\S.*)$", re.MULTILINE | re.IGNORECASE)
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_HEADING = re.compile(r" {0,3}#{1,6}[ \t]+(.*?)(?:[ \t]+#+)?[ \t]*$")
_UNDERLINE = re.compile(r" {0,3}(?:=+|-+)[ \t]*$")
_MARKS = re.compile(r"!?\[([^\[\]]*)\]\([^()\s]*\)|[*`]+|<[^<>]+>")
_MOST_LINES = 2_000  # that are searched for a title
_LONGEST = 1_000


def read_text(data: bytes, options: ReadOptions) -> Content:  # noqa: ARG001 (readers have one signature)
    """Plain text or source code, which has no title of its own.

    Raises:
        UnreadableError: it is not text.
    """
    return Content(decode(data))


def read_markdown(data: bytes, options: ReadOptions) -> Content:  # noqa: ARG001
    """Markdown as it is, without its front matter, from which come title, author and date.

    Raises:
        UnreadableError: it is not text.
    """
    text = decode(data)
    front = _FRONT.match(text)
    fields: dict[str, str] = {}
    if front is not None:
        text = text[front.end() :]
        fields = {name.lower(): value.strip().strip("\"'") for name, value in _FIELD.findall(front[1])}
    title = fields.pop("title", "") or first_heading(text)
    return Content(text, one_line(title), about(**fields))


def first_heading(text: str) -> str:
    """The first heading of Markdown, without marks; "" for none. What stands in fenced code is none."""
    fence, before = "", ""
    for line in text.split("\n", _MOST_LINES)[:_MOST_LINES]:
        line = line[:_LONGEST]
        if (mark := _FENCE.match(line)) is not None:
            if not fence:
                fence = mark[1]
            elif mark[1].startswith(fence):
                fence = ""
        elif not fence:
            heading = _HEADING.match(line)
            if heading is not None:
                return one_line(_MARKS.sub(r"\1", heading[1]))
            if _UNDERLINE.match(line) and before.strip() and not before.startswith((" ", "-", "*", ">", "|")):
                return one_line(_MARKS.sub(r"\1", before))
        before = line
    return ""
