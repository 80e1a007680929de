"""Filters answered by SQLite are those that `matches` defines, exactly, through its primary key, at any size."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterable, Mapping
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from index.filter.databases import Documents, made
from index.filter.strategies import DATES, NUMBERS, TEXTS, filters, metadata

from lightretriever.errors import ArtifactError
from lightretriever.index.filter.conditions import (
    HASH,
    LONGEST,
    condition_rows,
    delete_conditions,
    insert_conditions,
)
from lightretriever.index.filter.language import And, Filter, In, Not, Or, Range, matches, parse_filter
from lightretriever.index.filter.selection import Selection
from lightretriever.index.filter.sql import ROWS_A_LOOK, passing, select
from lightretriever.text.corpus import as_document


def as_stored(rows: Iterable[dict]) -> Documents:
    """Documents under keys with gaps, their metadata as an index holds it."""
    return {2 + 3 * i: as_document({"id": "1", "text": "", "metadata": row}).metadata for i, row in enumerate(rows)}


def expected(documents: Documents, where: Filter) -> list[int]:
    return [key for key, held in documents.items() if matches(where, held)]


def chosen(documents: Documents, selection: Selection) -> list[int]:
    keys = np.array(sorted(documents), np.int64)
    return keys[selection.among(keys) == 1].tolist()


def parsed(wanted: dict) -> Filter:
    where = parse_filter(wanted)
    assert where is not None
    return where


@settings(max_examples=500, deadline=None)
@given(rows=st.lists(metadata, min_size=1, max_size=8), wanted=filters, drawn=st.randoms(use_true_random=False))
def test_it_finds_what_matches(rows: list[dict], wanted: dict, drawn: random.Random) -> None:
    documents = as_stored(rows)
    connection, where = made(":memory:", documents), parsed(wanted)
    assert chosen(documents, select(connection, where)) == expected(documents, where)
    looked = select(connection, where, look=lambda keys: [documents[key] for key in keys.tolist()])
    assert chosen(documents, looked) == expected(documents, where)

    after = drawn.choice([0, *documents, 100])
    later = {key: held for key, held in documents.items() if key > after}
    found = select(connection, where, after)
    assert chosen(later, found) == expected(later, where)
    assert not len(found.keys) or found.keys[0] > after
    assert (np.diff(found.keys) > 0).all()

    gone = {key: documents[key] for key in drawn.sample(sorted(documents), len(documents) // 2)}
    delete_conditions(connection, gone.items())
    left = {key: held for key, held in documents.items() if key not in gone}
    assert chosen(left, select(connection, where)) == expected(left, where)
    rows_left = sum(len(condition_rows(held)) for held in left.values())
    assert connection.execute("SELECT count(*) FROM conditions").fetchone() == (rows_left,)
    connection.close()


@pytest.mark.parametrize("values", [NUMBERS, DATES], ids=["numbers", "dates"])
@pytest.mark.parametrize(("low", "high"), list(product(["$gt", "$gte"], ["$lt", "$lte"])))
def test_every_pair_of_bounds(values: list, low: str, high: str) -> None:
    documents = as_stored([{"n": value} for value in values])
    connection = made(":memory:", documents)
    bounds = values if values is DATES else [*values, 2**63, 2**63 + 1, -(2**63) - 1, 2**64 - 1, 2**64 + 1, 10**308]
    for one, other in product(bounds, bounds):
        for wanted in ({low: one, high: other}, {low: one}, {high: other}):
            where = parsed({"n": wanted})
            assert chosen(documents, select(connection, where)) == expected(documents, where), wanted


@pytest.mark.parametrize("seed", range(4))
def test_numbers_of_any_bits(seed: int) -> None:
    """Integers and floats drawn by their bits, with their neighbours, against each other as bounds and as values."""
    drawn = np.random.default_rng(seed)
    floats = drawn.integers(-(2**63), 2**63, 60, np.int64).view(np.float64)
    floats = floats[np.isfinite(floats)]
    numbers: list = [*floats.tolist(), *np.nextafter(floats, 0).tolist()]
    numbers += [int(n) >> int(shift) for n, shift in zip(drawn.integers(-(2**63), 2**63, 60), range(60), strict=True)]
    numbers += [float(n) for n in numbers if isinstance(n, int)]
    documents = as_stored([{"n": value} for value in numbers])
    connection = made(":memory:", documents)
    for number in numbers:
        for wanted in (number, {"$lt": number}, {"$lte": number}, {"$gt": number}, {"$gte": number}):
            where = parsed({"n": wanted})
            assert chosen(documents, select(connection, where)) == expected(documents, where)


def test_a_long_string_is_not_the_short_one_that_stands_for_it() -> None:
    long = "ä" * LONGEST
    ((_, kind, value),) = condition_rows({"s": long})
    assert kind == HASH
    assert len(str(value)) == LONGEST
    documents: Documents = {1: {"s": long}, 2: {"s": value}, 3: {"s": long + "b"}, 4: {"s": "ä" * (LONGEST // 2)}}
    connection = made(":memory:", documents)
    for key, held in documents.items():
        assert select(connection, In("s", (held["s"],))).keys.tolist() == [key]  # type: ignore[arg-type]


def test_names_and_values_that_no_document_can_have() -> None:
    """Of filters put together by hand: what is read from people has no such strings."""
    connection = made(":memory:", {1: {"a": "x"}, 2: {"a": "x\ufffdy"}})
    for where in (In("a", ("x\0y", "x\0", "\ud800", 10**400, -(10**400))), In("a\0", ("x",)), In("\ud800", ("x",))):
        assert not len(select(connection, where).keys)
        assert select(connection, Not(where)).inverted


def test_no_limit_of_sqlite_is_met() -> None:
    documents = as_stored([{"n": i, "s": f"s{i}", "f": i + 0.5} for i in range(40)])
    connection = made(":memory:", documents)
    many = [*(f"s{i}" for i in range(30, 40_000)), *range(5, 40_000), *(i / 3 for i in range(60_000))]
    few = {"$or": [{"n": i} for i in range(3_000)]}
    deep: dict = {"n": {"$lt": 25}}
    for level in range(30):
        deep = {"$not": deep} if level % 2 else {"$or": [deep, {"n": -level}]}
    for wanted in ({"s": {"$in": many}}, {"f": {"$in": many}}, {"n": {"$nin": many}}, few, deep):
        where = parsed(wanted)
        assert chosen(documents, select(connection, where)) == expected(documents, where)


@pytest.mark.parametrize(
    "wanted",
    [
        {"a": 1},
        {"a": {"$in": ["x", "y", 1, True, 0.5, "z" * 99]}},
        {"a": {"$gt": 1}},
        {"a": {"$lte": "2024-01-01"}},
        {"a": {"$exists": True}},
        {"$not": {"a": {"$gte": 0.5, "$lt": 9}}},
        {"$and": [{"a": {"$ne": 1}}, {"$or": [{"b": {"$exists": False}}, {"b": 2}]}]},
        {"b": "7", "a": {"$lt": 1}},
    ],
)
@pytest.mark.parametrize("analysed", [False, True])
def test_each_leaf_searches_the_primary_key(wanted: dict, analysed: bool) -> None:
    connection = made(":memory:", {key: {"a": key % 3, "b": f"{key}"} for key in range(500)})
    if analysed:
        connection.execute("ANALYZE")
    asked: list[str] = []
    connection.set_trace_callback(asked.append)
    select(connection, parsed(wanted), look=lambda keys: [{}] * len(keys))
    connection.set_trace_callback(None)
    searches = [query for query in asked if "FROM conditions" in query]
    assert searches
    for query in searches:
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}")]
        (table,) = [step for step in plan if "conditions" in step]
        assert table.startswith("SEARCH conditions USING PRIMARY KEY (slot")
        assert ("value" in table) == ("AND value" in query)  # $exists asks for every value
        assert not any("TEMP B-TREE" in step for step in plan)


def test_a_list_longer_than_a_string_may_be_is_read_by_rows() -> None:
    documents = as_stored([{"n": i % 2} for i in range(2_000)])
    connection = made(":memory:", documents)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 2_000)
    assert select(connection, In("n", (1,))).keys.tolist() == expected(documents, In("n", (1,)))


class Interrupted(sqlite3.Connection):
    """Another connection commits a document after the first search of conditions."""

    other: sqlite3.Connection | None = None

    def execute(self, sql: str, *arguments) -> sqlite3.Cursor:
        cursor = super().execute(sql, *arguments)
        if self.other is not None and "FROM conditions" in sql:
            insert_conditions(self.other, [(9, {"a": 1, "c": 1})])
            self.other = None
        return cursor


def test_an_answer_is_of_one_state(tmp_path: Path) -> None:
    connection = made(tmp_path / "one.db", {1: {"a": 1, "c": 1}, 2: {"c": 2}}, Interrupted)
    where = parsed({"$and": [{"a": {"$ne": 1}}, {"c": {"$exists": True}}]})
    other = sqlite3.connect(tmp_path / "one.db", isolation_level=None)
    connection.other = other
    assert select(connection, where).keys.tolist() == [2]  # 9 has a = 1, which was read before it came
    assert not connection.in_transaction
    assert select(connection, In("c", (1,))).keys.tolist() == [1, 9]
    connection.execute("BEGIN")
    select(connection, where)
    assert connection.in_transaction  # the caller's own


@pytest.mark.parametrize(
    "wanted", [{"year": {"$gte": 1950}}, {"year": {"$ne": 1977}}, {"$or": [{"year": {"$lt": 1990}}]}]
)
def test_few_documents_are_looked_at_rather_than_many_rows(wanted: dict) -> None:
    documents: Documents = {key: {"tenant": key % 1_000, "year": 1900 + key % 100} for key in range(8_000)}
    documents |= {key: {"year": 1977} for key in range(8_000, 12_000)}
    connection = made(":memory:", documents)
    looked_at = []

    def look(keys: np.ndarray) -> list[Mapping[str, object]]:
        looked_at.append(len(keys))
        return [documents[key] for key in keys.tolist()]

    few = parsed({**wanted, "$and": [{"tenant": 77}]})
    assert select(connection, few, look=look).keys.tolist() == expected(documents, few)
    assert looked_at == [8]
    many = parsed({**wanted, "$and": [{"tenant": {"$lt": 900}}]})
    assert select(connection, many, look=look).keys.tolist() == expected(documents, many)
    absent = parsed({**wanted, "$and": [{"tenant": -1}]})
    assert not len(select(connection, absent, look=look).keys)
    assert looked_at == [8]  # rows are read instead where there would be many to look at
    assert 8 * ROWS_A_LOOK < 4_000


def test_nothing_more_is_read_once_nothing_is_left() -> None:
    connection = made(":memory:", {key: {"year": key} for key in range(1, 9)})
    asked: list[str] = []
    connection.set_trace_callback(asked.append)
    assert not len(select(connection, parsed({"year": {"$gt": 5}, "$and": [{"year": 77}]})).keys)
    assert sum("FROM conditions" in query for query in asked) == 1


def test_the_narrowest_part_is_read_first() -> None:
    documents: Documents = {key: {"lang": "en", "day": key // 4} for key in range(6_000)}
    connection = made(":memory:", documents)
    looked_at = []

    def look(keys: np.ndarray) -> list[Mapping[str, object]]:
        looked_at.append(len(keys))
        return [documents[key] for key in keys.tolist()]

    for day in (700, {"$gte": 700, "$lte": 700}):
        where = parsed({"lang": "en", "day": day})
        assert select(connection, where, look=look).keys.tolist() == expected(documents, where)
    assert looked_at == [4, 4]


def test_documents_that_came_last() -> None:
    documents = as_stored([{"n": i % 7} for i in range(30)])
    where = parsed({"n": {"$lte": 2}})
    last = np.array([key for key in documents if key > 40], np.int64)
    found = passing(where, last, lambda keys: [documents[key] for key in keys.tolist()])
    assert found.tolist() == [key for key in expected(documents, where) if key > 40]
    assert not len(passing(where, last[:0], lambda _: []))


@pytest.mark.parametrize("key", ["x", 1.5])
def test_a_damaged_key_is_named(key: object) -> None:
    connection = made(":memory:", {1: {"a": 1}, 5: {"a": 1}})
    (slot,) = connection.execute("SELECT slot FROM conditions WHERE key = 5").fetchone()
    connection.execute("INSERT INTO conditions VALUES (?, 1, ?)", (slot, key))
    with pytest.raises(ArtifactError, match="conditions"):
        select(connection, In("a", (1,)))


def test_duplicates_over_a_wide_span_of_keys() -> None:
    held = {"n": [1, 2, 3]}
    documents: Documents = dict.fromkeys((3, 10**6, 2**62, 2**62 + 1), held)
    connection = made(":memory:", documents)
    assert select(connection, Range("n", 1, None, True, False, False)).keys.tolist() == list(documents)
    assert select(connection, Or((In("n", (1,)), In("n", (2,))))).keys.tolist() == list(documents)
    assert not len(select(connection, And((In("n", (1,)), Not(In("n", (2,)))))).keys)


@pytest.mark.parametrize("text", TEXTS)
def test_strings_are_equal_code_point_by_code_point(text: str) -> None:
    documents = as_stored([{"s": other} for other in TEXTS])
    connection = made(":memory:", documents)
    where = parsed({"s": text})
    assert chosen(documents, select(connection, where)) == expected(documents, where) != []
