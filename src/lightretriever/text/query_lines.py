"""Queries a line each, from a file, or as they arrive from a pipe that others write to.

A query's id is the number of its line, from 1; an empty line is an empty query. What a text's lines and encoding are,
`lightretriever.text.lines` says. Lines of a pipe may also be JSON: its first line that is not blank decides.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import IO

from lightretriever.errors import InputError
from lightretriever.text.compression import compression_of
from lightretriever.text.corpus import Query, queries_of
from lightretriever.text.json_rows import parse_object
from lightretriever.text.lines import check_head, check_hole, encoding_of, line_end_of, not_utf8, read_lines
from lightretriever.text.values import safe_text

_BYTES = 1 << 18  # read at once


def query_lines(path: str | Path) -> Iterator[Query]:
    """The queries of a file of text, plain or compressed, a line each.

    Raises:
        InputError: no such file, no text, damaged or cut off; file and line are named.
    """
    for number, line in read_lines(path):
        yield _query(number, line.removesuffix("\n").removesuffix("\r"))


def read_query_lines(stream: IO[bytes], name: str) -> Iterator[list[Query]]:
    """Queries, in the groups in which they arrive: what waits in a pipe is given at once, no more is waited for.

    Where the first line that is not blank is a JSON object with a ``text``, every line is one with an id and a text.

    Args:
        stream: text, not compressed.
        name: of the stream, for messages.

    Raises:
        InputError: no text, cut off, or a line that is no query among JSON lines; the line is named.
    """
    waiting: list[tuple[int, str]] = []  # blank lines, which do not tell what the others are
    objects: bool | None = None
    for lines in _arriving(stream, name):
        waiting += lines
        if objects is None and (first := next((line for _, line in waiting if line.strip()), None)) is not None:
            objects = _is_row(first)
        if objects is None:
            continue
        if not objects:
            yield [_query(number, line) for number, line in waiting]
        elif rows := [(f"{name}:{number}", line) for number, line in waiting if line.strip()]:
            yield list(queries_of(name, ((where, parse_object(line, where)) for where, line in rows)))
        waiting = []
    if waiting:
        yield [_query(number, line) for number, line in waiting]


def _query(number: int, line: str) -> Query:
    return Query(str(number), safe_text(line))


def _is_row(line: str) -> bool:
    if not line.lstrip().startswith("{"):
        return False
    try:
        return parse_object(line, "").get("text") is not None
    except InputError:
        return False


def _arriving(stream: IO[bytes], name: str) -> Iterator[list[tuple[int, str]]]:
    """Number and text, without its end, of every line, in the groups in which they arrive."""
    read: Callable[[int], bytes] = getattr(stream, "read1", stream.read)
    head = b""
    while b"\n" not in head and len(head) < _BYTES and (piece := read(_BYTES)):
        head += piece
    if packed := compression_of(head):
        raise InputError(f"{name} is compressed ({packed}): decompress it on its way here")
    check_head(name, head)
    mark, encoding = encoding_of(head)
    head = head[len(mark) :]
    plain = codecs.getincrementaldecoder(encoding)()
    old_mac = line_end_of(head.decode(encoding, "replace")) == "\r"
    decoder = io.IncrementalNewlineDecoder(plain, translate=True) if old_mac else plain
    number, rest = 0, ""
    for data in chain([head] if head else [], iter(lambda: read(_BYTES), b""), [b""]):
        try:
            *lines, rest = (rest + decoder.decode(data, final=not data)).split("\n")
        except UnicodeDecodeError as error:
            before = error.object[: error.start].count(b"\n")
            where = f"{name}: line {number + 1 + before} or near it"
            wide = InputError(f"{where}: not {encoding.upper()} text")
            raise (not_utf8(error, where) if encoding == "utf-8" else wide) from None
        if not data and rest:
            lines = [*lines, rest]
        for place, line in enumerate(lines, number + 1):
            check_hole(line, f"{name}:{place}")
        if lines:
            yield [(place, line.removesuffix("\r")) for place, line in enumerate(lines, number + 1)]
        number += len(lines)
