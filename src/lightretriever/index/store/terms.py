"""The terms that an index counts, each under a number that it keeps: where they are words, and not a model's tokens.

Numbers begin at 1 and are never used again, for documents' vectors are made of them. A term stays when no document has
it any more.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import count

from lightretriever.index.settings import Settings
from lightretriever.index.store.database import Connection
from lightretriever.index.store.seal import check_seal, seal

_PAGE = 10_000


def sparse_width(connection: Connection, settings: Settings) -> int | None:
    """V of documents' sparse vectors as they are now: more than any of their numbers; None where they have none."""
    if settings.sparse == "none":
        return None
    undecided = settings.sparse == "bm25" and settings.analyser is None  # then there are no documents yet
    return next_term(connection) if undecided or settings.counts_words else settings.width


def next_term(connection: Connection) -> int:
    """The number of the term stored next."""
    return 1 + (connection.execute("SELECT max(number) FROM terms").fetchone()[0] or 0)


def find_terms(connection: Connection, terms: Iterable[str], identity: int | None = None) -> dict[str, int]:
    """The numbers of those terms that there are, none where the index is not of that identity. Raises ArtifactError
    when a row is damaged."""
    rows = connection.execute(
        "SELECT term, number, checksum, (SELECT identity FROM state) FROM terms "
        "WHERE term IN (SELECT value FROM json_each(?))",
        (json.dumps(list(terms)),),
    ).fetchall()
    _check(row[:3] for row in rows)
    return {term: number for term, number, _, found in rows if identity in (None, found)}


def add_terms(connection: Connection, terms: Iterable[str]) -> dict[str, int]:
    """Give numbers to terms that there are not; of all of them the numbers. To be called within a transaction."""
    terms = list(dict.fromkeys(terms))
    found = find_terms(connection, terms)
    new = dict(zip((term for term in terms if term not in found), count(next_term(connection)), strict=False))
    insert_terms(connection, new.items())
    return {**found, **new}


def insert_terms(connection: Connection, rows: Iterable[tuple[str, int]]) -> None:
    """Store terms under numbers that there are not."""
    sealed = [(number, term, seal(number, term)) for term, number in rows]
    connection.executemany("INSERT INTO terms VALUES (?, ?, ?)", sealed)


def term_pages(connection: Connection, after: int = 0) -> Iterator[list[tuple[str, int]]]:
    """All terms whose number is greater than ``after``, with these, ascending, some at a time. Raises ArtifactError
    when a row is damaged."""
    while True:
        rows = connection.execute(
            "SELECT term, number, checksum FROM terms WHERE number > ? ORDER BY number LIMIT ?", (after, _PAGE)
        ).fetchall()
        if not rows:
            return
        _check(rows)
        yield [(term, number) for term, number, _ in rows]
        after = rows[-1][1]


def _check(rows: Iterable[tuple[str, int, int]]) -> None:
    for term, number, checksum in rows:
        check_seal(checksum, f"the term of number {number}", number, term)
