"""What is stored of metadata for filters, and whether it is all there."""

from __future__ import annotations

from index.filter.databases import Documents, made

from lightretriever.index.filter.conditions import (
    FLOAT,
    INSTANT,
    INTEGER,
    TEXT,
    THERE,
    TRUTH,
    check_conditions,
    condition_rows,
    delete_conditions,
    insert_conditions,
)


def test_what_is_stored() -> None:
    assert set(condition_rows({"n": [2, 2.0, 0.5, True, "2"], "o": {"x": 1}, "e": [[]], "z": None, "l": []})) == {
        ("n", INTEGER, 2),
        ("n", FLOAT, 4602678819172646912),
        ("n", TRUTH, 1),
        ("n", TEXT, "2"),
        ("o", THERE, 0),
        ("e", THERE, 0),
    }
    assert condition_rows({"d": "1970-01-01T00:00:01"}) == [
        ("d", TEXT, "1970-01-01T00:00:01"),
        ("d", INSTANT, 1_000_000),
    ]


def test_names_that_only_later_documents_have() -> None:
    connection = made(":memory:", {1: {"a": 1}})
    insert_conditions(connection, [(2, {"b": 1, "a": "x"}), (3, {"c": [1, 1]})])
    assert connection.execute("SELECT count(*) FROM fields").fetchone() == (3,)
    assert check_conditions(connection, [(1, {"a": 1}), (2, {"a": "x", "b": 1}), (3, {"c": 1})]) == ([], 0)
    delete_conditions(connection, [(2, {"b": 1, "a": "x"}), (9, {"nowhere": 1})])
    assert check_conditions(connection, [(1, {"a": 1}), (3, {"c": 1})]) == ([], 0)


def test_rows_that_lack_and_rows_too_many() -> None:
    documents: Documents = {key: {"a": key % 5, "b": ["x", f"y{key}"]} for key in range(50)}
    connection = made(":memory:", documents)
    connection.execute("DELETE FROM conditions WHERE key = 17 AND value = 'x'")
    connection.execute("UPDATE conditions SET value = 4 WHERE key = 30 AND value = 0")
    assert check_conditions(connection, documents.items()) == ([17, 30], 1)
    assert check_conditions(connection, [(1, {"unheard of": True})]) == ([1], 149)


def test_bytes_a_document() -> None:
    """Four small fields take at most 80 bytes, where documents come in their order."""
    documents: Documents = {
        key: {"tenant": f"t{key % 100}", "year": 1900 + key % 130, "lang": "en", "price": key % 999 / 10}
        for key in range(100_000, 120_000)
    }
    connection = made(":memory:", documents)
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    assert pages * 4096 / len(documents) < 80
