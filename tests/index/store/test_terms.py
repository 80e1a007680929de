"""Terms and their numbers in the database."""

from __future__ import annotations

import pytest

from lightretriever.errors import ArtifactError
from lightretriever.index.store.database import Connection
from lightretriever.index.store.state import read_state
from lightretriever.index.store.terms import add_terms, find_terms, next_term, term_pages


def test_numbers_begin_at_one_and_are_kept(connection: Connection) -> None:
    assert next_term(connection) == 1
    assert add_terms(connection, ["sea", "", "sky", "sea"]) == {"sea": 1, "": 2, "sky": 3}
    assert add_terms(connection, ["sky", "猫", "sea"]) == {"sky": 3, "猫": 4, "sea": 1}
    assert find_terms(connection, ["猫", "absent", "sea"]) == {"猫": 4, "sea": 1}
    assert (next_term(connection), find_terms(connection, []), add_terms(connection, [])) == (5, {}, {})


def test_another_index_knows_none(connection: Connection) -> None:
    add_terms(connection, ["sea"])
    identity = read_state(connection).identity
    assert find_terms(connection, ["sea"], identity) == {"sea": 1}
    assert find_terms(connection, ["sea"], identity + 1) == {}


def test_all_are_read_page_by_page(connection: Connection) -> None:
    terms = [f"t{i}" for i in range(25_000)]
    add_terms(connection, terms)
    pages = list(term_pages(connection))
    assert len(pages) == 3
    assert [pair for page in pages for pair in page] == [(term, i) for i, term in enumerate(terms, 1)]


@pytest.mark.parametrize("change", ["term = 'see'", "number = 7", "checksum = 1"])
def test_a_changed_row_is_found(connection: Connection, change: str) -> None:
    add_terms(connection, ["sea"])
    connection.execute(f"UPDATE terms SET {change}")
    with pytest.raises(ArtifactError, match=r"the term of number \d in the index's database is damaged"):
        find_terms(connection, ["sea", "see"])
    with pytest.raises(ArtifactError, match=r"the term of number \d in the index's database is damaged"):
        list(term_pages(connection))
