"""Formats by the endings of names and by first bytes, and the readers of each."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

from lightretriever.pipeline.readers.content import Content, ReadOptions, UnreadableError

_READERS = {  # module and function of each format; imported when first met
    "text": ("plain", "read_text"),
    "code": ("plain", "read_text"),
    "markdown": ("plain", "read_markdown"),
    "rst": ("restructured", "read_restructured"),
    "html": ("html", "read_html"),
    "pdf": ("pdf", "read_pdf"),
    "docx": ("docx", "read_docx"),
    "epub": ("epub", "read_epub"),
    "notebook": ("notebook", "read_notebook"),
    "email": ("mail", "read_message"),
    "subtitles": ("subtitles", "read_subtitles"),
}
PARSED = frozenset({"html", "pdf", "docx", "epub", "email", "mbox", "notebook", "rst"})
"""Formats with a grammar, whose files are read in a process of their own."""

_ENDINGS = {
    "text": "txt text log csv tsv adoc asciidoc org nfo textile wiki man",
    "markdown": "md markdown mdown mkd mkdn mdx qmd rmd",
    "rst": "rst rest",
    "html": "html htm xhtml shtml xht",
    "pdf": "pdf",
    "docx": "docx docm dotx dotm",
    "epub": "epub",
    "notebook": "ipynb",
    "email": "eml",
    "mbox": "mbox mbx",
    "subtitles": "srt vtt",
    "code": "py pyi pyx rs go c h cc cpp cxx hpp hh cs java kt kts scala swift m mm js jsx ts tsx mjs cjs vue "
    "svelte rb php pl pm r jl lua sh bash zsh fish ps1 bat cmd sql hs ml mli fs ex exs erl clj cljs lisp "
    "el scm dart zig nim d f90 f f95 asm s v sv vhd vhdl cu cl proto thrift graphql tf hcl nix cmake mk "
    "gradle groovy css scss sass less json jsonl json5 yaml yml toml ini cfg conf xml xsd xsl tex bib sty "
    "cls lean agda coq sol wat",
}
_FORMATS = {f".{ending}": name for name, endings in _ENDINGS.items() for ending in endings.split()}
_SAVE_AS = {"doc": "DOCX", "odt": "DOCX", "rtf": "DOCX", "pages": "DOCX", "ppt": "PDF", "pptx": "PDF", "odp": "PDF"}
_SAVE_AS |= {"key": "PDF", "xls": "CSV", "xlsx": "CSV", "ods": "CSV", "numbers": "CSV", "mobi": "EPUB", "azw3": "EPUB"}
_SAVE_AS |= {"djvu": "PDF", "ps": "PDF", "msg": "EML", "pst": "mbox", "chm": "HTML"}


def format_of(path: Path, head: bytes) -> str:
    """The format by the name, or else by the first bytes; what shows no other is text, or turns out not to be.

    Raises:
        UnreadableError: a format that has no reader here; the message says what to save it as.
    """
    ending = path.suffix.lower()
    if ending in _FORMATS:
        return _FORMATS[ending]
    if ending[1:] in _SAVE_AS and b"\0" in head:
        raise UnreadableError(f"there is no reader of {ending} files: save it as {_SAVE_AS[ending[1:]]}")
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:200].lower()
    if head.startswith(b"%PDF-"):
        return "pdf"
    if head.startswith(b"PK\x03\x04"):
        return "epub" if b"application/epub+zip" in head[:100] else "docx"
    if start.startswith((b"<!doctype html", b"<html")):
        return "html"
    return "text"


def contents_of(path: Path, name: str, options: ReadOptions) -> Iterator[Content | UnreadableError]:
    """The documents of a file of this format; errors within a mailbox stand where their messages would.

    Raises:
        UnreadableError: the file is not what it should be.
        MissingExtraError: a library is absent.
        OSError: it cannot be read.
    """
    if name == "mbox":
        from lightretriever.pipeline.readers.mail import read_mbox

        yield from read_mbox(path, options)
        return
    module, function = _READERS[name]
    read: Callable[[bytes, ReadOptions], Content] = getattr(
        import_module(f"lightretriever.pipeline.readers.{module}"), function
    )
    yield read(_bytes(path, options), options)


def _bytes(path: Path, options: ReadOptions) -> bytes:
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > options.max_bytes:
            raise UnreadableError(f"it has {size:,} bytes, more than {options.max_bytes:,} (max_bytes)")
        return file.read(size)
