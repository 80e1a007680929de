"""Jupyter notebooks as Markdown: their text and code, without what the code printed."""

from __future__ import annotations

import json
from collections.abc import Mapping

from lightretriever.pipeline.readers.content import Content, ReadOptions, UnreadableError, about
from lightretriever.pipeline.readers.decode import decode
from lightretriever.pipeline.readers.plain import first_heading


def read_notebook(data: bytes, options: ReadOptions) -> Content:  # noqa: ARG001
    """Cells of text as they are, of code in fences; format 3 and later.

    Raises:
        UnreadableError: not JSON, or no notebook.
    """
    try:
        book = json.loads(decode(data))
    except (ValueError, RecursionError) as error:
        raise UnreadableError(f"it is not JSON ({str(error)[:80]})") from None
    cells = _cells(book)
    about_it = _mapping(book.get("metadata"))
    language = _mapping(about_it.get("language_info")).get("name") or _mapping(about_it.get("kernelspec")).get(
        "language"
    )
    fence = language if isinstance(language, str) and language.isalnum() else ""
    text = "\n\n".join(filter(None, (_block(cell, fence) for cell in cells)))
    authors = about_it.get("authors")
    names = [_mapping(author).get("name") for author in authors] if isinstance(authors, list) else []
    author = ", ".join(name for name in names if isinstance(name, str))
    title = about_it.get("title")
    own = title if isinstance(title, str) and title.strip() else first_heading(text)
    return Content(text, " ".join(own.split()), about(author=author))


def _cells(book: object) -> list[object]:
    if not isinstance(book, dict):
        raise UnreadableError("it is no notebook: it is no JSON object")
    cells = book.get("cells")
    if isinstance(cells, list):
        return cells
    sheets = book.get("worksheets")
    if not isinstance(sheets, list):
        raise UnreadableError("it is no notebook: it has no cells")
    inner = [_mapping(sheet).get("cells") for sheet in sheets]
    return [cell for cells in inner if isinstance(cells, list) for cell in cells]


def _block(given: object, language: str) -> str:
    cell = _mapping(given)
    source = cell.get("source", cell.get("input"))
    if isinstance(source, list):
        source = "".join(line for line in source if isinstance(line, str))
    if not isinstance(source, str) or not source.strip():
        return ""
    source = source.strip("\n")
    kind = cell.get("cell_type")
    if kind == "code":
        mark = "````" if "```" in source else "```"
        return f"{mark}{language}\n{source}\n{mark}"
    if kind == "heading":
        level = cell.get("level")
        return "#" * (level if isinstance(level, int) and 1 <= level <= 6 else 1) + " " + " ".join(source.split())
    return source


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}
