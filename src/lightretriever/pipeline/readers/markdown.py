"""A tree of HTML as Markdown of the plainest kind: headings, paragraphs, lists, tables, fenced code.

Links are their text, images what is said in their place; emphasis is left out. What would be a heading or a fence by
chance is escaped. The walk is a loop, so that trees may be of any depth.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lightretriever.pipeline.readers.content import ReadOptions, UnreadableError

if TYPE_CHECKING:
    from selectolax.lexbor import LexborNode

_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_INLINE = frozenset(
    "a abbr acronym b bdi bdo big cite code data del dfn em font i ins kbd label mark nobr q rp rt ruby s samp small "
    "span strike strong sub sup time tt u var wbr -text img picture source".split()
)
_BY_CHANCE = re.compile(r"(?m)^( {0,3})(#{1,6}(?=\s|$)|```|~~~)")
_LANGUAGE = re.compile(r"(?:^|\s)(?:language|lang|highlight|highlight-source|brush:)-?\s?([\w+#-]{1,20})")
_LINK_SIGN = re.compile(r"^[§¶🔗]\s*|\s*[§¶🔗]$|\s#$")
_SPACE = re.compile(r"[ \t\n\r\f\v]+")
_DEEPEST_LIST = 6


def plain_heading(text: str) -> str:
    """A heading in one line, without the sign of a link to it at either end (§, ¶, a single #)."""
    return " ".join(_LINK_SIGN.sub("", " ".join(text.split())).split())


def as_markdown(root: LexborNode, options: ReadOptions) -> str:
    """The text below a node. Raises UnreadableError where it has more characters than may be unpacked."""
    writer = _Writer(options.max_unpacked)
    node: LexborNode | None = root
    depth = 0
    while node is not None:
        entered = writer.enter(node)
        if entered and node.child is not None:
            node, depth = node.child, depth + 1
            continue
        if entered:
            writer.leave(node)
        while node is not None and depth and node.next is None:
            node, depth = node.parent, depth - 1
            if node is not None:
                writer.leave(node)
        if not depth or node is None:
            break
        node = node.next
    return writer.text()


class _Writer:
    """Blocks of Markdown, made from the starts and ends of elements."""

    def __init__(self, most: int) -> None:
        self.blocks: list[tuple[bool, str]] = []  # whether it is an item of a list
        self.line: list[str] = []
        self.before = ""  # what the next block starts with: a heading's or list item's mark
        self.lists: list[int | None] = []  # for each list that is open its next number, None for bullets
        self.rows: list[list[str]] | None = None
        self.tables = 0
        self.left = most

    def enter(self, node: LexborNode) -> bool:
        """Start an element; False where what is in it has been taken already, or is not wanted."""
        tag = node.tag or ""
        if tag == "-text":
            self.add(node.text_content or "")
            return False
        if tag in ("-comment", "script", "style", "head", "template", "title"):
            return False
        if tag == "pre":
            self.fence(node)
            return False
        if tag == "br":
            self.line.append("\n")
        elif tag == "img":
            self.add(f" {node.attributes.get('alt') or ''} ")
        elif tag not in _INLINE:
            self.start(tag)
        return True

    def leave(self, node: LexborNode) -> None:
        """End an element that was entered."""
        tag = node.tag or ""
        if tag in _INLINE or tag == "br":
            return
        if tag in ("td", "th"):
            self.cell()
            return
        if self.tables and tag != "table":
            self.line.append(" ")
            return
        self.flush()
        if tag in ("ul", "ol") and self.lists:
            self.lists.pop()
        elif tag == "table":
            self.table()
        self.before = "" if not self.lists else self.before

    def start(self, tag: str) -> None:
        if self.tables and tag not in ("table", "tr", "td", "th"):
            self.line.append(" ")
            return
        if tag in ("td", "th"):
            self.line.clear()
            return
        if tag == "tr" and self.rows is not None:
            self.rows.append([])
            return
        self.flush()
        if tag in _HEADINGS:
            self.before = "#" * _HEADINGS[tag] + " "
        elif tag in ("ul", "ol"):
            self.lists.append(1 if tag == "ol" else None)
        elif tag == "li":
            self.item()
        elif tag == "table":
            self.tables += 1
            self.rows = [] if self.rows is None else self.rows

    def item(self) -> None:
        indent = "  " * (min(len(self.lists), _DEEPEST_LIST) - 1)
        number = self.lists[-1] if self.lists else None
        if number is not None:
            self.lists[-1] = number + 1
        self.before = f"{indent}- " if number is None else f"{indent}{number}. "

    def add(self, text: str) -> None:
        self.spend(len(text))
        self.line.append(_SPACE.sub(" ", text))

    def spend(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise UnreadableError("its text is longer than may be unpacked (max_unpacked)")

    def flush(self) -> None:
        """End the paragraph, heading or list item that is being written."""
        lines = [" ".join(line.split()) for line in "".join(self.line).split("\n")]
        self.line.clear()
        body = "\n".join(line for line in lines if line)
        if not body:
            return
        mark, self.before = self.before, ""
        if mark.startswith("#"):
            self.blocks.append((False, mark + plain_heading(body)))
            return
        body = _BY_CHANCE.sub(r"\1\\\2", body)
        self.blocks.append((bool(mark), mark + body))

    def fence(self, node: LexborNode) -> None:
        if self.tables:
            self.add(node.text())
            return
        self.flush()
        code = node.text().strip("\n").rstrip()
        self.spend(len(code))
        if not code.strip():
            return
        mark = "````" if "```" in code else "```"
        self.blocks.append((False, f"{mark}{_language(node)}\n{code}\n{mark}"))

    def cell(self) -> None:
        text = " ".join("".join(self.line).split())
        self.line.clear()
        if self.rows:
            self.rows[-1].append(text.replace("|", "\\|"))

    def table(self) -> None:
        self.tables -= 1
        if self.tables > 0 or self.rows is None:
            return
        rows, self.rows = [row for row in self.rows if any(row)], None
        if not rows:
            return
        if max(map(len, rows)) == 1:  # for layout: its cells are paragraphs
            self.blocks.extend((False, _BY_CHANCE.sub(r"\1\\\2", row[0].replace("\\|", "|"))) for row in rows)
            return
        width = len(rows[0])
        lines = [f"| {' | '.join(row)} |" for row in rows]
        lines.insert(1, "|" + " --- |" * width)
        self.blocks.append((False, "\n".join(lines)))

    def text(self) -> str:
        self.flush()
        if self.rows is not None:
            self.tables = 1
            self.table()
        pieces: list[str] = []
        listed = False
        for item, block in self.blocks:  # items of a list follow each other line by line
            pieces += ["\n" if item and listed else "\n\n", block]
            listed = item
        return "".join(pieces).strip("\n")


def _language(node: LexborNode) -> str:
    """The language of a block of code, as its class says it."""
    inner = node.css_first("code")
    parent = node.parent
    for one in (node, inner, parent, parent.parent if parent is not None else None):
        name = (one.attributes.get("class") or "") if one is not None else ""
        found = _LANGUAGE.search(name)
        if found is not None and found[1] not in ("default", "text", "none"):
            return found[1]
    return ""
