"""reStructuredText as Markdown, by its lines: what Sphinx adds to the language needs no Sphinx.

Headings, literal blocks, directives and inline marks are what a reader of text needs; nothing is included from other
files, and nothing is run.
"""

from __future__ import annotations

import re

from lightretriever.pipeline.readers.content import Content, ReadOptions, about, one_line
from lightretriever.pipeline.readers.decode import decode
from lightretriever.pipeline.readers.plain import first_heading

_RULE = re.compile(r"([!-/:-@\[-`{-~])\1{2,}$")
_DIRECTIVE = re.compile(r"\.\. +(?:\|[^|]*\| +)?([\w.:+-]+)::(?:\s+(.*))?$")
_FIELD = re.compile(r":([\w -]{1,40}):(?:\s+(.*))?$")
_CODE = {"code-block", "code", "sourcecode", "doctest", "testcode", "parsed-literal", "prompt", "ipython", "math"}
_SILENT = {
    "toctree",
    "image",
    "contents",
    "include",
    "literalinclude",
    "highlight",
    "raw",
    "meta",
    "index",
    "csv-table",
}
_SILENT |= {
    "currentmodule",
    "module",
    "automodule",
    "default-role",
    "role",
    "sectionauthor",
    "moduleauthor",
    "target-notes",
}
_DEEPEST = 20
"""Levels of directives within directives."""

_REMARK = re.compile(r"\.\.(?: (?!\[).*)?$")
_ROLE = re.compile(r":[\w:.+-]{1,40}:`([^`]{1,500})`")
_LINK = re.compile(r"`([^`<]{1,500}?)\s*<[^`<>]{1,1000}>`__?")
_LITERAL = re.compile(r"``([^`]+)``")
_STRONG = re.compile(r"\*\*([^*\s](?:[^*]{0,500}[^*\s])?)\*\*|(?<![\w*])\*([^*\s](?:[^*]{0,500}[^*\s])?)\*(?![\w*])")


def read_restructured(data: bytes, options: ReadOptions) -> Content:  # noqa: ARG001
    """Headings by the order in which their underlines first appear; code in fences; text of notes as paragraphs.

    Raises:
        UnreadableError: it is not text.
    """
    lines = [line.expandtabs(8).rstrip() for line in decode(data).split("\n")]
    fields, start = _front(lines)
    text = "\n".join(_converted(lines[start:]))
    text = re.sub(r"\n{3,}", "\n\n", text).strip("\n")
    return Content(text, one_line(first_heading(text)), about(**fields))


def _front(lines: list[str]) -> tuple[dict[str, str], int]:
    """Author and date among the fields that a document starts with, and where it goes on."""
    place, fields = 0, {}
    while place < len(lines) and (not lines[place] or (field := _FIELD.match(lines[place])) is not None):
        if lines[place] and field is not None and field[1].lower() in ("author", "date"):
            fields[field[1].lower()] = field[2] or ""
        place += 1
    return fields, place


def _converted(lines: list[str], level: int = 0) -> list[str]:
    out: list[str] = []
    styles: list[str] = []
    place = 0
    while place < len(lines):
        line = lines[place]
        heading = _heading(lines, place)
        if heading is not None:
            title, style, place = heading
            if style not in styles:
                styles.append(style)
            out += ["", "#" * min(styles.index(style) + 1, 6) + " " + _inline(title.strip()), ""]
            continue
        bare = line.lstrip()
        indent = len(line) - len(bare)
        directive = _DIRECTIVE.match(bare) if bare.startswith("..") else None
        if directive is not None:
            place = _directive(lines, place, indent, directive, out, level)
        elif bare.startswith("..") and _REMARK.match(bare):
            place = _block_end(lines, place + 1, indent)  # a remark, a target, a substitution
        elif bare.endswith("::") and not bare.startswith(">>>"):
            said = _inline(bare[:-2].rstrip() + (":" if bare[:-2].strip() else ""))
            out += [said, ""]
            place = _literal(lines, place + 1, indent, "", out)
        elif _RULE.match(bare) and len(set(bare)) == 1:
            place += 1  # a transition, or the edge of a simple table
        else:
            out.append(_kept(bare, line))
            place += 1
    return out


def _heading(lines: list[str], place: int) -> tuple[str, str, int] | None:
    """A title, the style of its lines, and the line after it; None where there is none."""
    line = lines[place]
    after = lines[place + 1] if place + 1 < len(lines) else ""
    if _RULE.match(line):
        under = lines[place + 2] if place + 2 < len(lines) else ""
        if under == line and after.strip() and not _RULE.match(after):
            return after, line[0] * 2, place + 3
        return None
    if line and not line[0].isspace() and _RULE.match(after) and len(after) >= min(len(line), 4):
        before = lines[place - 1] if place else ""
        return (line, after[0], place + 2) if not before.strip() or before.startswith("..") else None
    return None


def _directive(lines: list[str], place: int, indent: int, directive: re.Match[str], out: list[str], level: int) -> int:
    name, argument = directive[1].rpartition(":")[2], directive[2] or ""
    if name in _CODE:
        language = (
            argument
            if name in ("code-block", "code", "sourcecode") and re.fullmatch(r"[\w+#-]{1,20}", argument)
            else ""
        )
        return _literal(lines, place + 1, indent, language, out)
    end = _block_end(lines, place + 1, indent)
    if name in _SILENT:
        return end
    body = lines[place + 1 : end]
    while body and (not body[0] or _FIELD.match(body[0].lstrip())):
        if not body[0]:
            break
        body.pop(0)
    depth = min((len(line) - len(line.lstrip()) for line in body if line), default=0)
    out.append("")
    if argument:
        out += [_inline(argument), ""]
    inner = [line[depth:] for line in body]
    out += _converted(inner, level + 1) if level < _DEEPEST else inner  # as it is written
    out.append("")
    return end


def _literal(lines: list[str], place: int, indent: int, language: str, out: list[str]) -> int:
    """Write the block that is indented deeper as fenced code; the line after it."""
    end = _block_end(lines, place, indent)
    block = lines[place:end]
    while block and _FIELD.match(block[0].lstrip()) and language:
        block.pop(0)
    code = list(block)
    while code and not code[0]:
        code.pop(0)
    while code and not code[-1]:
        code.pop()
    if code:
        depth = min(len(line) - len(line.lstrip()) for line in code if line)
        mark = "````" if any("```" in line for line in code) else "```"
        out += ["", mark + language, *(line[depth:] for line in code), mark, ""]
    return end


def _block_end(lines: list[str], place: int, indent: int) -> int:
    """The line after those that are empty or indented deeper."""
    end = place
    while place < len(lines) and (not lines[place] or len(lines[place]) - len(lines[place].lstrip()) > indent):
        place += 1
        if lines[place - 1]:
            end = place
    return end


def _kept(bare: str, line: str) -> str:
    text = _inline(bare)
    if text.startswith(("# ", "```", "~~~")):
        text = "\\" + text
    is_item = re.match(r"(?:[-*+]|\d+[.)])\s", bare) is not None
    return (line[: min(len(line) - len(bare), 8)] if is_item else "") + text


def _inline(text: str) -> str:
    if "`" in text:
        text = _ROLE.sub(lambda found: _target(found[1]), text)
        text = _LITERAL.sub(r"`\1`", text)
        text = _LINK.sub(r"\1", text)
        text = re.sub(r"(?<!`)`([^`]{1,500})`_{1,2}", r"\1", text)
    return _STRONG.sub(lambda found: found[1] or found[2], text) if "*" in text else text


def _target(text: str) -> str:
    """What a role shows: "text <target>" as its text, "~a.b.c" as its last name."""
    shown = text.split("<")[0].strip() if text.endswith(">") and not text.startswith("<") else text
    return shown.rpartition(".")[2] if shown.startswith("~") else shown.lstrip("!")
