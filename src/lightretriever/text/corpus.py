"""Documents and queries in, as people have them: BEIR folders, JSON lines, tables, folders of text files.

Everything is streamed; a path means what it does when its reader is called, not when the rows are taken. Nothing is
dropped: a row that is no document is an error with its place. Text that could not be written as UTF-8 later (lone
surrogates) or that engines end at (NUL) is made safe and counted.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from numbers import Integral
from pathlib import Path
from typing import TypeVar

from lightretriever.counted import counted
from lightretriever.errors import InputError, UsageError
from lightretriever.paths import absolute
from lightretriever.text.beir import corpus_files, query_files
from lightretriever.text.compression import split_suffix
from lightretriever.text.lines import read_lines
from lightretriever.text.rows import ID_NAMES, estimate_rows, read_rows
from lightretriever.text.values import NoJsonValueError, plain_fields, safe_text

MAX_ID_BYTES = 1024
"""An id is a key, not a text; engines and run files hold it many times over."""

_MAX_ID = 10**MAX_ID_BYTES
_TEXTUAL = (*ID_NAMES, "title", "text")  # a whole number there is its digits
TEXT_SUFFIXES = (".txt", ".md")
T = TypeVar("T")
Rows = Iterator[tuple[str, dict[str, object]]]


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a corpus.

    Attributes:
        id: unique in its corpus; "" only where the caller numbers documents itself.
        text, title: safe to encode as UTF-8, without NUL.
        metadata: every other field of the row, JSON-able.
    """

    id: str
    text: str
    title: str = ""
    metadata: Mapping[str, object] = field(default_factory=dict)

    @property
    def input(self) -> str:
        """What the document tower reads: title, a space and text, or text alone (METHOD "Documents")."""
        return f"{self.title} {self.text}" if self.title else self.text


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a file of queries."""

    id: str
    text: str


def read_corpus(path: str | Path) -> Iterator[Document]:
    """Stream the documents of a corpus, in its order, duplicate ids included.

    Args:
        path: a BEIR folder (its ``corpus.jsonl``, or what `lightretriever.text.beir` finds), a folder of .txt and .md
            files (one document each, its id the path within the folder, its title the file's name), or a .jsonl, .csv,
            .tsv or .parquet file, plain or .gz, .zst, .bz2, .xz. Rows have ``_id`` or ``id``, ``text``, perhaps
            ``title``; whatever else they have becomes metadata, an object named ``metadata`` being merged in.

    Raises:
        InputError: no such file, nothing in it, or a row that is no document; it names file and line.
        MissingExtraError: Parquet without ``pyarrow``.
    """
    source = _existing(path)
    if source.is_dir():
        found = corpus_files(source)
        rows = _rows_of(found) if found else _text_files(absolute(source), source)
    else:
        rows = read_rows(source)
    return _stream(path, "documents", rows, _document)


def documents_of(source: str | Path, rows: Rows) -> Iterator[Document]:
    """The documents of rows read elsewhere, each with its place, one for one; ``source`` is their file, for messages.

    Raises:
        InputError: there are none, or a row is no document.
    """
    return _stream(source, "documents", rows, _document)


def queries_of(source: str | Path, rows: Rows) -> Iterator[Query]:
    """Likewise the queries of rows read elsewhere.

    Raises:
        InputError: there are none, or a row without id or text.
    """
    return _stream(source, "queries", rows, _query)


def read_queries(path: str | Path) -> Iterator[Query]:
    """Stream the queries of a BEIR folder (its ``queries.jsonl``, …) or of a file, in the formats of a corpus.

    Raises:
        InputError: no such file, nothing in it, or a row without id or text; it names file and line.
        MissingExtraError: Parquet without ``pyarrow``.
    """
    source = _existing(path)
    if source.is_dir():
        found = query_files(source)
        if not found:
            raise InputError(f"{source} holds no queries.jsonl: name the file of queries")
        return _stream(path, "queries", _rows_of(found), _query)
    return _stream(path, "queries", read_rows(source), _query)


def read_texts(path: str | Path) -> Iterator[Document]:
    """Stream unlabelled text of any kind, to fit to: a corpus, or a file whose rows need no ids.

    Args:
        path: whatever `read_corpus` reads; rows without an id, as of queries or of plain texts, get their place;
            or a .txt file, plain or compressed, each line of which is a text.

    Raises:
        InputError: no such file, nothing in it, or a row without text; it names file and line.
        MissingExtraError: Parquet without ``pyarrow``.
    """
    source = _existing(path)
    if source.is_dir():
        return read_corpus(path)
    if split_suffix(source)[0] == ".txt":
        lines = ((number, line.strip()) for number, line in read_lines(source, path))
        rows: Rows = ((f"{path}:{number}", {"text": line}) for number, line in lines if line)
    else:
        rows = read_rows(source)
    named = ((where, row, row.get("_id") is not None or row.get("id") is not None) for where, row in rows)
    numbered = ((where, row if has_id else {**row, "_id": where}) for where, row, has_id in named)
    return _stream(path, "texts", numbered, _document)


def estimate_count(path: str | Path) -> int | None:
    """About how many rows a corpus has, cheaply, for showing progress; None where only reading it would tell."""
    source = Path(path)
    if source.is_dir():
        found = corpus_files(source)
        counts = [estimate_rows(file) for file in found] if found else [sum(1 for _ in _text_paths(source))]
        return None if None in counts else sum(count or 0 for count in counts)
    return estimate_rows(source)


def as_document(value: str | Mapping[str, object] | Document, default_id: str = "") -> Document:
    """What callers hand over as a document, as a Document: one, a text, or a row as in a corpus file.

    Args:
        value: a mapping needs ``text``; ``_id`` or ``id``, ``title`` and other fields may be there. A Document is
            checked as the row that it would be.
        default_id: the id of a value that has none of its own.

    Raises:
        InputError: no text, or a field that is not what it should be; it names the id. An id with NUL or a lone
            surrogate is refused: made safe, it might be another's.
    """
    where = "among the documents given"
    if isinstance(value, str):
        return Document(default_id, safe_text(str(value)))
    if isinstance(value, Document):
        row: Mapping[str, object] = {"_id": value.id, "text": value.text, "title": value.title}
        numbered = value.id == ""
    elif isinstance(value, Mapping):
        row, numbered = value, "_id" not in value and "id" not in value
    else:
        raise InputError(f"{where}: a text or a mapping is needed, this is {type(value).__name__}")
    if numbered:
        row = {**row, "_id": default_id or "?"}
    document = _document(where, row)[0]
    if "\ufffd" in document.id and _plain_row(where, {name: row[name] for name in ID_NAMES if name in row})[1]:
        raise InputError(
            f"{where}: the id {document.id[:80]!r} holds NUL or a lone surrogate where \ufffd stands: rename it"
        )
    if isinstance(value, Document) and value.metadata:
        if not isinstance(value.metadata, Mapping):
            kind = type(value.metadata).__name__
            raise InputError(f"{where}: document {_name(document.id)}: its metadata is {kind}, not a mapping")
        metadata = _plain(where, document.id, value.metadata)[0]
        check_agreement(f"{where}: document {_name(document.id)}", row, metadata)
        document = replace(document, metadata=metadata)
    return replace(document, id=default_id) if numbered else document


def given_document(value: str | Mapping[str, object] | Document) -> Document:
    """`as_document`, of what is to be kept under an id of its own.

    Raises:
        InputError: as `as_document`.
        UsageError: it has no id.
    """
    document = as_document(value)
    if not document.id:
        raise UsageError(f"a document has no id ({document.text[:40]!r}…): every one needs its own")
    return document


def check_agreement(where: str, outer: Mapping[str, object], inner: Mapping[str, object]) -> None:
    """What a row says outside its ``metadata`` and in it must be the same: it may be whose the document is.

    Raises:
        InputError: it is not; ``where`` says whose it is.
    """
    for name in outer.keys() & inner.keys():
        one, other = outer[name], inner[name]
        same = one == other or (name in _TEXTUAL and str(one) == str(other))
        if not same and not _blank(one) and not _blank(other):
            raise InputError(
                f"{where}: its {name!r} is {str(one)[:40]!r} outside its metadata and {str(other)[:40]!r} in it: "
                "leave one out"
            )


def _existing(path: str | Path) -> Path:
    source = Path(path)
    if not source.exists():
        raise InputError(f"{path} does not exist")
    return source


def _rows_of(files: Sequence[Path]) -> Rows:
    return chain.from_iterable([read_rows(file) for file in files])


def _text_paths(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.suffix.lower() in TEXT_SUFFIXES and path.is_file())


def _text_files(folder: Path, shown: Path) -> Rows:
    paths = sorted(_text_paths(folder))
    if not paths:
        raise InputError(f"{shown} holds neither corpus.jsonl nor {' or '.join(TEXT_SUFFIXES)} files")
    for path in paths:
        inner = path.relative_to(folder)
        text = "".join(line for _, line in read_lines(path, shown / inner))
        yield str(shown / inner), {"_id": inner.as_posix(), "title": path.stem, "text": text}


def _stream(
    path: str | Path,
    what: str,
    rows: Rows,
    make: Callable[[str, Mapping[str, object]], tuple[T, bool]],
) -> Iterator[T]:
    count = repaired = 0
    for where, row in rows:
        made, changed = make(where, row)
        yield made
        count += 1
        repaired += changed
    if repaired:
        warnings.warn(f"{path}: {counted(repaired, what)} with NUL or lone surrogates, now U+FFFD", stacklevel=2)
    if not count:
        raise InputError(f"{path} holds no {what}")


def _document(where: str, row: Mapping[str, object]) -> tuple[Document, bool]:
    """The document that a row is, and whether a string in it had to be made safe."""
    fields, changed = _plain_row(where, row)
    outer = dict(fields) if "metadata" in fields else {}
    identifier, text = _id_and_text(where, fields, "document", row)
    title = _as_text(where, f"document {_name(identifier)}", "title", fields.pop("title", None))
    inner = fields.pop("metadata", None)
    if isinstance(inner, dict):
        check_agreement(f"{where}: document {_name(identifier)}", {**outer, "_id": identifier}, inner)
        fields |= {name: value for name, value in inner.items() if _blank(fields.get(name))}
    elif inner is not None:
        fields["metadata"] = inner
    return Document(identifier, text, title or "", fields), changed


def _query(where: str, row: Mapping[str, object]) -> tuple[Query, bool]:
    fields, changed = _plain_row(where, {name: row[name] for name in (*ID_NAMES, "text") if name in row})
    return Query(*_id_and_text(where, fields, "query", row)), changed


def _plain_row(where: str, row: Mapping[str, object]) -> tuple[dict[str, object], bool]:
    """The row with JSON values, and whether a string in it had to be made safe."""
    name = "_id" if row.get("_id") is not None else "id"
    value = row.get(name)
    if type(value) is not str and isinstance(value, Integral) and not isinstance(value, bool) and abs(value) < _MAX_ID:
        row = {**row, name: str(value)}  # of more than 64 bits too, which integers in metadata cannot have
    return _plain(where, row.get(name), row)


def _plain(where: str, identifier: object, fields: Mapping[str, object]) -> tuple[dict[str, object], bool]:
    try:
        return plain_fields(fields)
    except NoJsonValueError as problem:
        whose = f" id {_name(identifier)}:" if isinstance(identifier, str) else ""
        raise InputError(f"{where}:{whose} the field {problem.field()!r} is {problem.reason}") from None


def _id_and_text(where: str, fields: dict[str, object], what: str, row: Mapping[str, object]) -> tuple[str, str]:
    """Take both out of the fields; ``row`` is what these were made of, for messages."""
    value = fields.pop("_id", None)
    if value is None:
        value = fields.pop("id", None)
    if value is None:
        raise InputError(f"{where}: the {what} has no id: a field _id or id is needed, {_shown(row)}")
    if isinstance(value, bool) or not isinstance(value, str | int):
        kind = type(value).__name__
        raise InputError(f"{where}: the {what}'s id is of type {kind}: a string or an integer is needed")
    identifier = str(value)
    if not identifier.strip():
        raise InputError(f"{where}: the {what}'s id is empty")
    size = len(identifier.encode())
    if size > MAX_ID_BYTES:
        start = identifier[:20]
        raise InputError(f"{where}: the id {start!r}… has {size:,} bytes: at most {MAX_ID_BYTES:,} can be")
    text = _as_text(where, f"{what} {_name(identifier)}", "text", fields.pop("text", None))
    if text is None:
        raise InputError(f"{where}: {what} {_name(identifier)} has no text: {_shown(row)}")
    return identifier, text


def _as_text(where: str, whose: str, name: str, value: object) -> str | None:
    """A title or text; a whole number, such as 1984, is its digits, since tables do not tell the two apart."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise InputError(f"{where}: {whose}: its {name} is {type(value).__name__}, not a string")


def _shown(row: Mapping[str, object]) -> str:
    names = ", ".join(repr(str(name)[:40]) for name in list(row)[:12])
    return f"its fields are {names}" if names else "it has no fields"


def _name(identifier: str) -> str:
    """An id as a message of one line can hold it."""
    shown = identifier if len(identifier) <= 80 else f"{identifier[:80]}…"
    return shown if shown.isprintable() else repr(shown)


def _blank(value: object) -> bool:
    return value is None or value == ""
