"""What an index has already of documents that come to it; and of those stored as passages which there are of one, so
that they are replaced and removed together.

A document's passages are numbered without a gap, so they are found by their ids in any engine.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from lightretriever.errors import InputError
from lightretriever.index.engines.engine import Engine
from lightretriever.passages.fields import DOCUMENT, document_id, passage_id
from lightretriever.text.corpus import Document

_FIRST, _MORE = 8, 4  # numbers that are looked for at first, and times as many the next time


def stored_passages(engine: Engine, documents: Mapping[str, int]) -> list[str]:
    """The ids of the passages that there are of some documents.

    Args:
        documents: the ids of documents, and the number from which on their passages are wanted.
    """
    found: list[str] = []
    wanted, size = dict(documents), _FIRST
    while wanted:
        ids = [passage_id(name, number) for name, first in wanted.items() for number in range(first, first + size)]
        there = engine.existing(ids)
        found += [name for name in ids if name in there]
        wanted = {name: first + size for name, first in wanted.items() if passage_id(name, first + size - 1) in there}
        size *= _MORE
    return found


def numbers_of(passages: Iterable[Document]) -> dict[str, int]:
    """Of each document that passages are of how many there are, counted from the first.

    Raises:
        InputError: one is no passage.
    """
    counts: dict[str, int] = {}
    for passage in passages:
        document, number = document_id(passage.id), passage.id.rpartition("#")[2]
        if passage.metadata.get(DOCUMENT) != document or not number.isdecimal():
            raise InputError(
                f"{passage.id[:80]!r} is no passage, and the index's documents are split: `add_documents` does that"
            )
        counts[document] = max(counts.get(document, 0), int(number) + 1)
    return counts


def changed_rows(engine: Engine, rows: Sequence[Document], passages: bool) -> list[Document]:
    """Those of the rows given that are not stored just as they are; of a document all passages, if any is not.

    Args:
        passages: whether rows are passages, all of a document together.
    """
    there = engine.documents([row.id for row in rows])
    if not passages:
        last = {row.id: row for row in rows}
        return [row for row in rows if last[row.id] != there.get(row.id)]
    numbers = numbers_of(rows)
    changed = {document_id(row.id) for row in rows if there.get(row.id) != row}
    changed |= {document_id(name) for name in stored_passages(engine, numbers)}  # it had more
    return [row for row in rows if document_id(row.id) in changed]


def stored_documents(engine: Engine, ids: Iterable[str], passages: bool) -> dict[str, Document]:
    """Those of the documents that there are; where documents are split, the first passage of each."""
    if not passages:
        return engine.documents(list(ids))
    found = engine.documents([passage_id(name, 0) for name in ids])
    return {document_id(name): document for name, document in found.items()}


def existing_documents(engine: Engine, ids: Iterable[str], passages: bool) -> set[str]:
    """Which of the documents there are."""
    if not passages:
        return engine.existing(list(ids))
    return {document_id(name) for name in engine.existing([passage_id(name, 0) for name in ids])}
