"""Queries as lines of text, a line a query, as they arrive: from a file, or from a pipe that others write to."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from typing import IO

from lightretriever.text.corpus import Query
from lightretriever.text.lines import not_utf8
from lightretriever.text.values import safe_text

_BYTES = 1 << 18  # read at once


def read_query_lines(stream: IO[bytes], name: str) -> Iterator[list[Query]]:
    """Queries, in the groups in which they arrive: what waits in a pipe is given at once, no more is waited for.

    A query's id is the number of its line, from 1; an empty line is an empty query. Line ends are LF, CRLF or CR; a
    byte-order mark is passed over.

    Args:
        stream: UTF-8.
        name: of the stream, for messages.

    Raises:
        InputError: a line is not UTF-8; it is named.
    """
    read = getattr(stream, "read1", stream.read)
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8-sig")(), translate=True)
    number, rest = 0, ""
    while True:
        data = read(_BYTES)
        try:
            text = rest + decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            line = number + 1 + error.object[: error.start].count(b"\n")
            raise not_utf8(error, f"{name}: line {line} or near it") from None
        *lines, rest = text.split("\n")
        if not data and rest:
            lines, rest = [*lines, rest], ""
        if lines:
            yield [Query(str(number + place), safe_text(line)) for place, line in enumerate(lines, 1)]
            number += len(lines)
        if not data:
            return
