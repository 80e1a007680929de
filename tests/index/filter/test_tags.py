"""What a server stores for filters answers every leaf exactly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hypothesis import example, given, settings
from index.filter.strategies import BIG, fields, metadata

from lightretriever.index.filter.language import And, Filter, Leaf, Not, Or, matches, parse_filter
from lightretriever.index.filter.tags import TAGS, condition, stored_conditions
from lightretriever.text.corpus import as_document


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
