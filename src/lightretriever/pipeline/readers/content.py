"""What readers of formats take and give: limits in; text, title and metadata out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How much one file may cost. What goes beyond is an error that names the limit.

    Attributes:
        max_bytes: bytes of a file; of a message in an mbox.
        max_unpacked: bytes of all that a DOCX or EPUB unpacks to, and characters of a document's text.
        max_pages: pages of a PDF.
        max_memory: bytes of address space of the process that parses files.
        seconds: time for one document.
    """

    max_bytes: int = 128 << 20
    max_unpacked: int = 256 << 20
    max_pages: int = 5_000
    max_memory: int = 2 << 30
    seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class Content:
    """What a file says: its text, its own title ("" for none), and what it says about itself (author, date)."""

    text: str
    title: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)


class UnreadableError(Exception):
    """A file is not what it should be, or goes beyond a limit; the message says what, its reader adds which file."""


def about(**fields: str | None) -> dict[str, str]:
    """Metadata without the fields that are empty, white space in them single."""
    plain = {name: one_line(value or "") for name, value in fields.items()}
    return {name: value for name, value in plain.items() if value}


def one_line(text: str) -> str:
    """The text with single spaces for white space of any kind, at most 500 characters of it."""
    return " ".join(text[:4000].split())[:500]


def instant(nanoseconds: int) -> str:
    """A time of the file system in ISO 8601, UTC, to the second; "" for one that no calendar has."""
    try:
        return datetime.fromtimestamp(nanoseconds // 10**9, UTC).isoformat().replace("+00:00", "Z")
    except (OverflowError, ValueError, OSError):
        return ""
