"""What is stored for filters answers them exactly: by itself, and through the embedded engine in both arms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from index.conftest import unit_rows

from lightretriever.index import edge
from lightretriever.index.backend import Points, document_payload, point_key
from lightretriever.index.edge import EdgeBackend
from lightretriever.index.filter.language import And, Filter, Leaf, Not, Or, matches, parse_filter
from lightretriever.index.filter.tags import TAGS, condition, stored_conditions
from lightretriever.text.corpus import Document, as_document
from lightretriever.types import sparse_from_dense, take_sparse

DIM, COUNT = 4, 150
FIELDS = ["a", "b", "c.d", 'q"[0]', "", "日本 語"]
BIG = 2**53
NUMBERS = [0, 1, 2, -1, 0.5, 1.0, -0.0, 1e-300, 1e300, BIG - 1, BIG, BIG + 1, BIG + 2, -BIG - 1, float(BIG), 2**62 + 1]
NUMBERS += [
    0.1,
    0.3,
    0.1 + 0.2,
    19.99,
    -19.99,
    2**62,
    2**62 + 1023,
    2**62 + 1024,
    2**63 - 1,
    -(2**63),
    -(2**62) - 1,
    float(2**62),
]
DATES = ["2024-01-01", "2024-01-01T00:00:00Z", "2024-01-01T01:00+01:00", "2023-12-31 23:59:59.999999", "1969-07-20"]
DATES += ["9999-12-31T23:59:59.999999", "9999-12-31T23:59:59.999998", "9999-12-31", "0001-01-01", "0001-01-01T00:00:01"]
numbers = st.sampled_from(NUMBERS) | st.integers(-3, 3) | st.integers(2**53 - 3, 2**53 + 6) | st.floats(-2, 2)
dates = st.sampled_from(DATES)
values = numbers | dates | st.sampled_from(["x", "1", "true", "é" * 300, "\0", ""]) | st.booleans()
held = values | st.none() | st.lists(values | st.none() | st.just(["x"]), max_size=3) | st.just({"x": 1})
metadata = st.dictionaries(st.sampled_from(FIELDS), held, max_size=4)


def ranges(bounds: st.SearchStrategy) -> st.SearchStrategy[dict]:
    return st.dictionaries(st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), bounds, min_size=1, max_size=3)


lists = st.lists(values, min_size=1, max_size=3)
operators = (
    ranges(numbers)
    | ranges(dates)
    | st.fixed_dictionaries({"$in": lists})
    | st.fixed_dictionaries({"$nin": lists})
    | st.fixed_dictionaries({"$ne": values})
    | st.fixed_dictionaries({"$exists": st.booleans()})
)
fields = st.dictionaries(st.sampled_from([*FIELDS, "nowhere"]), values | operators, min_size=1, max_size=2)
filters = st.recursive(
    fields,
    lambda part: (
        st.fixed_dictionaries({"$and": st.lists(part, min_size=1, max_size=3)})
        | st.fixed_dictionaries({"$or": st.lists(part, min_size=1, max_size=3)})
        | st.fixed_dictionaries({"$not": part})
    ),
    max_leaves=5,
)


def leaves(where: Filter) -> Iterator[Leaf]:
    if isinstance(where, And | Or):
        for part in where.parts:
            yield from leaves(part)
    elif isinstance(where, Not):
        yield from leaves(where.part)
    else:
        yield where


def answered(payload: Mapping, leaf: Leaf) -> bool:
    """What an engine does with `Condition`, on float64."""
    asked = condition(leaf)
    if set(asked.tags) & set(payload[TAGS]):
        return True
    if (inside := asked.interval) is None:
        return False
    kind, key = inside.key.split(".", 1)
    return any(
        (inside.gte is None or number >= inside.gte) and (inside.lt is None or number < inside.lt)
        for number in payload.get(kind, {}).get(key, ())
    )


@settings(max_examples=400)
@given(metadata, fields)
@example({"a": BIG + 1}, {"a": {"$gt": BIG}})
@example({"a": BIG + 1}, {"a": {"$lte": BIG}})
@example({"a": BIG + 1}, {"a": {"$gt": BIG, "$lt": BIG + 2}})
@example({"a": 1e300}, {"a": {"$lte": 1e300}})
@example({"a": -(2**63)}, {"a": {"$gt": -(2**63) - 1, "$lt": -(2**63) + 1}})
@example({"a": float(2**64)}, {"a": {"$gt": 2**64 - 1, "$lte": 2**64 + 1}})
@example({"a": -(2**63) + 1}, {"a": {"$gt": -(2**63)}})
@example({"a": 0.1 + 0.2}, {"a": {"$gt": 0.3, "$lt": 0.30000000000000005}})
@example({"a": [0, 10]}, {"a": {"$gt": 1, "$lt": 9}})
@example({"a": "9999-12-31T23:59:59.999999"}, {"a": {"$lte": "9999-12-31T23:59:59.999999"}})
@example({"a": "9999-12-31T23:59:59.999999"}, {"a": {"$lt": "9999-12-31T23:59:59.999999"}})
def test_what_is_stored_answers_every_leaf(found: dict, wanted: dict) -> None:
    document = as_document({"id": "1", "text": "", "metadata": found})
    where = parse_filter(wanted)
    assert where is not None
    for leaf in leaves(where):
        assert answered(stored_conditions(document.metadata), leaf) == matches(leaf, document.metadata)


Stored = tuple[EdgeBackend, list[Document]]


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stored]:
    """Random metadata in one shard; two thirds were there when its graph was built, and have another kind of index."""
    drawn = np.random.default_rng(7)
    pools: list[list] = [NUMBERS, DATES, ["x", "1", True, False, "é" * 300]]

    def pick(kinds: int) -> object:
        kind = drawn.integers(kinds)
        if kind < 3:
            return pools[kind][drawn.integers(len(pools[kind]))]
        return [pick(3) for _ in range(drawn.integers(4))] if kind == 3 else NUMBERS[drawn.integers(len(NUMBERS))]

    rows = [{name: pick(5) for name in FIELDS if drawn.random() < 0.5} for _ in range(COUNT)]
    documents = [as_document({"id": f"d{i}", "text": "", "metadata": row}) for i, row in enumerate(rows)]
    dense = unit_rows(drawn, COUNT, DIM)
    sparse = sparse_from_dense(np.ones((COUNT, 3), np.float32))
    keys = [point_key(document.id) for document in documents]
    payloads = [document_payload(document) for document in documents]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(edge, "EXACT_BELOW", 1)
        backend = EdgeBackend.create(tmp_path_factory.mktemp("filters") / "shard", DIM, True)
        for rows_of in (range(100), range(100, COUNT)):
            some = slice(rows_of.start, rows_of.stop)
            backend.upsert(Points(keys[some], dense[some], take_sparse(sparse, rows_of), payloads[some]))
            if not rows_of.start:
                backend.optimise()
    assert backend.info()["indexed_vectors"]
    yield backend, documents
    backend.close()


def check(stored: Stored, wanted: dict) -> None:
    backend, documents = stored
    where = parse_filter(wanted)
    expected = {point_key(document.id) for document in documents if matches(where, document.metadata)}
    assert where is not None
    (dense,) = backend.search_dense(np.ones((1, DIM), np.float32) / 2, 500, where)
    (sparse,) = backend.search_sparse(sparse_from_dense(np.ones((1, 3), np.float32)), 500, where)
    assert set(dense.keys) == set(sparse.keys) == expected


@settings(max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(wanted=filters)
def test_the_engine_finds_what_matches(stored: Stored, wanted: dict) -> None:
    check(stored, wanted)


@pytest.mark.parametrize("low", ["$gt", "$gte"])
@pytest.mark.parametrize("high", ["$lt", "$lte"])
@pytest.mark.parametrize("bounds", [NUMBERS, DATES], ids=["numbers", "dates"])
def test_every_pair_of_bounds(stored: Stored, low: str, high: str, bounds: list) -> None:
    for field in ("a", 'q"[0]'):
        for bound in bounds:
            check(stored, {field: {low: bound}})
            check(stored, {field: {high: bound}})
        for i, bound in enumerate(bounds):
            check(stored, {field: {low: bound, high: bounds[(i * 7 + 3) % len(bounds)]}})


def test_numbers_without_an_index_are_found_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge, "EXACT_BELOW", 10)
    backend = EdgeBackend.create(tmp_path / "shard", DIM, False)

    def add(first: int, field: str) -> None:
        documents = [Document(f"d{i}", "", metadata={field: i}) for i in range(first, first + 20)]
        keys = [point_key(document.id) for document in documents]
        rows = unit_rows(np.random.default_rng(first), 20, DIM)
        backend.upsert(Points(keys, rows, None, [document_payload(document) for document in documents]))

    def found(field: str) -> int:
        return len(backend.search_dense(np.ones((1, DIM), np.float32), 99, parse_filter({field: {"$gte": 25}}))[0].keys)

    add(0, "early")
    add(20, "late")
    assert backend.info()["indexed_numbers"] == ["numbers.early"]
    assert (found("early"), found("late")) == (0, 15)
    backend.close()
    backend = EdgeBackend.open(tmp_path / "shard")
    assert found("late") == 15
    backend.optimise()
    assert backend.info()["indexed_numbers"] == ["numbers.early", "numbers.late"]
    assert (found("early"), found("late")) == (0, 15)
    backend.close()
