"""What a file is that was given as text and is none, told by its first bytes, and what to do about it."""

from __future__ import annotations

import re

PARQUET = b"PAR1"
_MARKUP = re.compile(r"\s*<(?:!doctype|html|head|body|\?xml|!--)", re.IGNORECASE)
_UNPACK = "unpack it first"
_EXPORT = "export it as JSON lines or CSV"
_SIGNATURES: tuple[tuple[bytes, str, str], ...] = (
    (b"PK\x03\x04", "a ZIP archive, or an Office document", "unpack it, or save the sheet as CSV"),
    (b"PK\x05\x06", "an empty ZIP archive", "look where it came from"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"Rar!\x1a\x07", "a RAR archive", _UNPACK),
    (b"\x04\x22\x4d\x18", "compressed with LZ4", _UNPACK),
    (b"\x1f\x9d", "compressed with compress", _UNPACK),
    (b"\xff\x06\0\0sNaPpY", "compressed with Snappy", _UNPACK),
    (PARQUET, "a Parquet file", "give it a name that ends in .parquet"),
    (b"ARROW1\0\0", "an Arrow file", "save it as Parquet"),
    (b"\xff\xff\xff\xff\x10\0\0\0", "an Arrow stream", "save it as Parquet"),
    (b"ORC", "an ORC file", "save it as Parquet"),
    (b"Obj\x01", "an Avro file", _EXPORT),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", _EXPORT),
    (b"SQLite format 3\0", "an SQLite database", _EXPORT),
    (b"DUCK", "a DuckDB database", _EXPORT),
    (b"\x93NUMPY", "a NumPy array", "name the file of the texts"),
    (b"\x80\x02", "a Python pickle", _EXPORT),
    (b"\x80\x03", "a Python pickle", _EXPORT),
    (b"\x80\x04\x95", "a Python pickle", _EXPORT),
    (b"\x80\x05\x95", "a Python pickle", _EXPORT),
    (b"%PDF-", "a PDF document", "extract its text first"),
    (b"{\\rtf", "an RTF document", "save it as plain text"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office document", "save it as CSV"),
    (b"\x89PNG\r\n\x1a\n", "an image", "name the file of the texts"),
    (b"\xff\xd8\xff", "an image", "name the file of the texts"),
    (b"GIF8", "an image", "name the file of the texts"),
    (b"\x7fELF", "a program", "name the file of the texts"),
    (b"version https://git-lfs.github.com/", "a Git LFS pointer in place of the file itself", "run git lfs pull"),
    (b"/annex/objects/", "a git-annex pointer in place of the file itself", "run git annex get"),
)


def foreign_format(head: bytes) -> str | None:
    """What the file with these first bytes is, if it is no text, and what to do, as the end of a message."""
    for magic, what, advice in _SIGNATURES:
        if head.startswith(magic) and not (magic.isalnum() and _is_ascii_text(head[:64])):
            return f"this is {what}: {advice}"
    if head[257:262] == b"ustar":
        return f"this is a tar archive: {_UNPACK}"
    return None


def markup(head: str) -> str | None:
    """What a text that begins so is, where it is HTML or XML: mostly the error page that a download got instead."""
    if not _MARKUP.match(head):
        return None
    kind = "XML" if head.lstrip()[:5].lower() == "<?xml" else "HTML"
    return f"this is a page of {kind}, perhaps what a server answered in place of the file: download it again"


def _is_ascii_text(head: bytes) -> bool:
    """Whether what looks like a signature made of letters is the first word of a text: ORC, DUCK, GIF8, PAR1."""
    return all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head)
