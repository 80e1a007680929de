"""Word documents (DOCX) as Markdown: mammoth makes HTML of them, by their styles. Macros are not read."""

from __future__ import annotations

import io

from lightretriever.errors import MissingExtraError
from lightretriever.pipeline.readers.archive import Archive, Element, xml_elements
from lightretriever.pipeline.readers.content import Content, ReadOptions, UnreadableError, about, one_line
from lightretriever.pipeline.readers.html import markdown_of_page
from lightretriever.pipeline.readers.plain import first_heading

_CORE = "docProps/core.xml"
_STYLES = "p[style-name='Title'] => h1:fresh\np[style-name='Subtitle'] => p:fresh"


def read_docx(data: bytes, options: ReadOptions) -> Content:
    """Headings, lists, tables and notes; what a tracked change deleted is left out, and so are pictures.

    Raises:
        UnreadableError: no DOCX, damaged, or beyond the limits.
        MissingExtraError: no ``mammoth`` or no ``selectolax``.
    """
    try:
        import mammoth
    except ImportError:
        raise MissingExtraError("reading DOCX", "documents") from None
    archive = Archive(data, options)
    if "[Content_Types].xml" not in archive.names or not any(name.startswith("word/") for name in archive.names):
        raise UnreadableError("it is no Word document")
    _refuse_declarations(archive)
    try:
        made = mammoth.convert_to_html(
            io.BytesIO(data), style_map=_STYLES, convert_image=_no_picture, external_file_access=False
        )
    except Exception as error:  # mammoth checks nothing: what it raises on a damaged file may be anything
        raise UnreadableError(f"it is damaged ({type(error).__name__})") from None
    text = markdown_of_page(made.value, options)
    fields = {one.name: one.text for one in _core(archive)}
    title = one_line(fields.get("title", "")) or first_heading(text)
    return Content(text, title, about(author=fields.get("creator"), date=fields.get("created")))


def _no_picture(picture: object) -> list[object]:  # noqa: ARG001 (mammoth's signature)
    return []


def _refuse_declarations(archive: Archive) -> None:
    """No document type, and so no entities, in any part: Office writes none, and parsers may expand them."""
    for name in archive.names:
        if name.endswith((".xml", ".rels")):
            part = archive.read(name).replace(b"\0", b"")
            if b"<!DOCTYPE" in part or b"<!ENTITY" in part:
                raise UnreadableError(f"{name} in it declares entities, which no such file needs")


def _core(archive: Archive) -> list[Element]:
    try:
        return xml_elements(archive.read(_CORE), _CORE) if _CORE in archive.names else []
    except UnreadableError:
        return []  # a document without a readable title is a document still
