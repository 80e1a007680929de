"""PDF: the text of its pages, a form feed between them, by pdfium, which browsers use."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from lightretriever.errors import MissingExtraError
from lightretriever.pipeline.readers.content import Content, ReadOptions, UnreadableError, about, one_line

PAGE_BREAK = "\f"
_BROKEN_WORD = re.compile(r"(?<=\w)(?:[\u00ad\ufffe\x02]\n?|-\n(?=[a-zß-ÿ]))")  # pdfium's marks of a hyphen; a hyphen
_NUMBERS = re.compile(r"\d+")
_NO_TITLE = re.compile(r"(?i)^(?:untitled.*|microsoft word - .*|.*\.(?:docx?|pdf|tex|dvi|indd|pptx?|odt|rtf))$")
_DATE = re.compile(r"^(?:D:)?(\d{4})(\d\d)?(\d\d)?")
_FEWEST = 4
"""Pages from which on a line that most of them start or end with is a running head."""


def read_pdf(data: bytes, options: ReadOptions) -> Content:
    """Text in the order of the file; running heads and page numbers are left out. Scripts in it are not run.

    Raises:
        UnreadableError: damaged, encrypted, too many pages, or pages without text (scans).
        MissingExtraError: no ``pypdfium2``.
    """
    try:
        import pypdfium2
    except ImportError:
        raise MissingExtraError("reading PDF", "documents") from None
    try:
        document = pypdfium2.PdfDocument(data)
        try:
            pages = _pages(document, options)
            fields = document.get_metadata_dict(skip_empty=True)
        finally:
            document.close()
    except (pypdfium2.PdfiumError, ValueError, OverflowError) as error:
        reason = "it is encrypted: save it without a password" if "password" in str(error).lower() else "it is damaged"
        raise UnreadableError(reason) from None
    if not any(page.strip() for page in pages):
        raise UnreadableError(f"its pages ({len(pages):,}) hold no text: recognise the text of scans first (OCR)")
    title = one_line(fields.get("Title", ""))
    dated = _DATE.match(fields.get("CreationDate", ""))
    date = "-".join(filter(None, dated.groups())) if dated is not None else ""
    return Content(
        PAGE_BREAK.join(_without_running(pages)),
        "" if _NO_TITLE.match(title) else title,
        about(author=fields.get("Author"), date=date),
    )


def _pages(document: Any, options: ReadOptions) -> list[str]:
    count = len(document)
    if count > options.max_pages:
        raise UnreadableError(f"it has {count:,} pages, more than {options.max_pages:,} (max_pages)")
    pages, size = [], 0
    for number in range(count):
        page = document[number]
        text_page = page.get_textpage()
        text = _plain(text_page.get_text_bounded(errors="replace"))
        text_page.close()
        page.close()
        size += len(text)
        if size > options.max_unpacked:
            raise UnreadableError(f"it has more than {options.max_unpacked:,} characters (max_unpacked)")
        pages.append(text)
    return pages


def _plain(text: str) -> str:
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n")
    text = _BROKEN_WORD.sub("", text)
    return "\n".join(line.rstrip() for line in text.split("\n")).strip("\n")


def _without_running(pages: list[str]) -> list[str]:
    """Pages without the first and the last line where most pages have the same, but for numbers."""
    filled = [page.split("\n") for page in pages if page]
    if len(filled) < _FEWEST:
        return pages
    running = {
        (end, line)
        for end in (0, -1)
        for line, count in Counter(_NUMBERS.sub("0", lines[end]) for lines in filled).items()
        if count > 0.5 * len(filled)
    }
    return [_trimmed(page, running) for page in pages]


def _trimmed(page: str, running: set[tuple[int, str]]) -> str:
    lines = page.split("\n")
    for end in (0, -1):
        if lines and (end, _NUMBERS.sub("0", lines[end])) in running:
            lines.pop(end)
    return "\n".join(lines).strip("\n")
