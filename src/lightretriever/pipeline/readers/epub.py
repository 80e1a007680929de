"""Books (EPUB 2 and 3) as Markdown: their chapters in reading order."""

from __future__ import annotations

import posixpath
from urllib.parse import unquote

from lightretriever.pipeline.readers.archive import Archive, Element, xml_elements
from lightretriever.pipeline.readers.content import Content, ReadOptions, UnreadableError, about, one_line
from lightretriever.pipeline.readers.decode import decode
from lightretriever.pipeline.readers.html import markdown_of_page

_CONTAINER = "META-INF/container.xml"
_PAGES = ("application/xhtml+xml", "text/html", "application/x-dtbook+xml")


def read_epub(data: bytes, options: ReadOptions) -> Content:
    """Chapters as Markdown with blank lines between them; the table of contents is left out.

    Raises:
        UnreadableError: no EPUB, encrypted, damaged, or beyond the limits.
        MissingExtraError: no ``selectolax``.
    """
    archive = Archive(data, options)
    package = _package_name(archive)
    elements = xml_elements(archive.read(package), package)
    chapters = [archive.read(name) for name in _chapters(elements, posixpath.dirname(package)) if name in archive.names]
    texts = [markdown_of_page(decode(chapter), options) for chapter in chapters]
    text = "\n\n".join(filter(None, texts))
    if not text:
        raise UnreadableError("there is no text in it")
    first: dict[str, str] = {}
    for element in elements:
        if element.text:
            first.setdefault(element.name, element.text)
    return Content(text, one_line(first.get("title", "")), about(author=first.get("creator"), date=first.get("date")))


def _package_name(archive: Archive) -> str:
    roots = [one for one in xml_elements(archive.read(_CONTAINER), _CONTAINER) if one.name == "rootfile"]
    if not roots:
        raise UnreadableError(f"{_CONTAINER} in it names no package")
    return roots[0].attributes.get("full-path", "")


def _chapters(elements: list[Element], folder: str) -> list[str]:
    """Names of the members to read, in reading order, each once."""
    items = {one.attributes.get("id", ""): one.attributes for one in elements if one.name == "item"}
    names: dict[str, None] = {}
    for reference in elements:
        item = items.get(reference.attributes.get("idref", "")) if reference.name == "itemref" else None
        if item is None or "nav" in item.get("properties", "").split() or item.get("media-type") not in _PAGES:
            continue
        names[posixpath.normpath(posixpath.join(folder, unquote(item.get("href", ""))))] = None
    return list(names)
