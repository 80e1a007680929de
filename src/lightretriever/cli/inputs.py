"""What verbs read, begun before a model is loaded: a path or a first record that is wrong is refused at once.

Where a file of documents, texts, queries or ids is asked for, - is standard input.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightretriever.text.corpus import Document, Query

STANDARD_INPUT = Path("-")
_NAME = "standard input"


def begin_corpus(path: Path) -> tuple[Iterator[Document], int | None]:
    """A corpus, its first document read already, and about how many there are.

    Raises:
        As `lightretriever.text.corpus.read_corpus`, of the first document.
    """
    from lightretriever.text.corpus import documents_of, estimate_count, read_corpus
    from lightretriever.vectors.encode import begun

    if path == STANDARD_INPUT:
        return begun(documents_of(_NAME, _rows(lines_too=False))), None
    return begun(read_corpus(path)), estimate_count(path)


def begin_texts(paths: Sequence[Path] | None) -> Iterator[Document]:
    """The texts of several files, one after the other, the first of each read already.

    Files are closed again until it is their turn, since many may be given; a pipe can be read only once, and is kept.

    Raises:
        As `lightretriever.text.corpus.read_texts`, of each file's first text.
    """
    return chain.from_iterable([_texts(path) for path in paths or ()])


def _texts(path: Path) -> Iterator[Document]:
    from lightretriever.text.corpus import documents_of, read_texts
    from lightretriever.vectors.encode import begun

    if path == STANDARD_INPUT:
        named = ((where, {"_id": where, **row}) for where, row in _rows(lines_too=True))
        return begun(documents_of(_NAME, named))
    texts = begun(read_texts(path))
    return texts if not (path.is_file() or path.is_dir()) else _again(path)


def _again(path: Path) -> Iterator[Document]:
    from lightretriever.text.corpus import read_texts

    yield from read_texts(path)


def _rows(lines_too: bool) -> Iterator[tuple[str, dict[str, object]]]:
    """Place and fields of the JSON objects on standard input, compressed or not; or of its lines, if it has none."""
    from lightretriever.text.json_rows import json_rows
    from lightretriever.text.lines import open_text

    with open_text(sys.stdin.fileno(), _NAME) as file:
        if lines_too and not file.head.lstrip("\ufeff \t\r\n").startswith(("{", "[")):
            for number, line in file.lines():
                if line.strip():
                    yield f"{_NAME}:{number}", {"text": line.strip()}
        else:
            yield from json_rows(file)


def standard_queries() -> Iterator[list[Query]]:
    """The queries of standard input as they arrive: a line each, or JSON lines.

    Raises:
        As `lightretriever.text.query_lines.read_query_lines`.
    """
    from lightretriever.text.query_lines import read_query_lines

    return read_query_lines(sys.stdin.buffer, _NAME)


def read_ids(given: Sequence[str]) -> list[str]:
    """The ids given; for each - the lines of standard input, blank ones passed over.

    Raises:
        InputError: it is no text.
    """
    from lightretriever.text.lines import open_text

    ids: list[str] = []
    for one in given:
        if one != "-":
            ids.append(one)
            continue
        with open_text(sys.stdin.fileno(), _NAME) as file:
            ids += (line.rstrip("\r\n") for _, line in file.lines() if line.strip())
    return ids
