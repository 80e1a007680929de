"""What tells a stored passage from a whole document: its id, and fields of its metadata.

The ids are ``DOCUMENT#0``, ``DOCUMENT#1``, …: what stands before the last ``#`` is the document's id, whatever that
holds.
"""

from __future__ import annotations

from collections.abc import Mapping

from lightretriever.errors import InputError
from lightretriever.text.corpus import Document
from lightretriever.types import Place

DOCUMENT, TITLE, SPAN, HEADINGS, PAGE = "_document", "_title", "_span", "_headings", "_page"
"""Metadata of a passage beside its document's own: that one's id and title, the characters [start, end) in its text,
the headings from the top, and the page from 1 where there are pages."""
RESERVED = (DOCUMENT, TITLE, SPAN, HEADINGS, PAGE)


def passage_id(document: str, number: int) -> str:
    """The id of a document's passage, counted from 0."""
    return f"{document}#{number}"


def document_id(passage: str) -> str:
    """The id of the document that a passage's id belongs to."""
    return passage.rpartition("#")[0]


def check_metadata(document: Document) -> None:
    """Raises InputError when a document's metadata has a field that passages keep for themselves."""
    taken = [name for name in RESERVED if name in document.metadata]
    if taken:
        raise InputError(
            f"document {document.id[:80]!r}: its metadata has {taken[0]!r}, which passages keep for themselves: "
            "rename the field"
        )


def with_fields(document: Document, place: Place) -> Mapping[str, object]:
    """The metadata of a document's passage."""
    own: dict[str, object] = {
        DOCUMENT: document.id,
        TITLE: document.title,
        SPAN: [place.start, place.end],
        HEADINGS: list(place.headings),
        PAGE: place.page,
    }
    return {**document.metadata, **{name: value for name, value in own.items() if value not in (None, "", [])}}


def without_fields(metadata: Mapping[str, object]) -> tuple[str, Mapping[str, object], Place]:
    """Of a passage's metadata the document's title and metadata, and where it is; what is damaged is left out."""
    own = {name: value for name, value in metadata.items() if name not in RESERVED}
    title, span = metadata.get(TITLE, ""), metadata.get(SPAN)
    headings, page = metadata.get(HEADINGS, ()), metadata.get(PAGE)
    start, end = span if isinstance(span, list) and len(span) == 2 and all(type(at) is int for at in span) else (0, 0)
    names = tuple(map(str, headings)) if isinstance(headings, list) else ()
    return str(title), own, Place(start, end, names, page if type(page) is int else None)
