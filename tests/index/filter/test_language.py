"""The filter language: what matches, what is refused."""

from __future__ import annotations

import math

import pytest

from lightretriever.errors import UsageError
from lightretriever.index.filter.language import (
    And,
    Exists,
    In,
    Not,
    Or,
    Range,
    instant,
    matches,
    parse_filter,
    read_filter,
)

DOCUMENT = {
    "lang": "en",
    "year": 2000,
    "ratio": 0.5,
    "open": True,
    "tags": ["a", 1, None, {"b": 2}, ["c"]],
    "sizes": [1, 10],
    "big": 2**53 + 1,
    "seen": "2024-05-01T12:00:00+02:00",
    "days": ["2024-01-01", "1999-12-31", "soon"],
    "null": None,
    "none": [],
    "object": {"x": 1},
    "a.b": 7,
}


def test_the_tree() -> None:
    assert parse_filter(None) is parse_filter({}) is None
    assert parse_filter({"a": 1}) == In("a", (1,))
    assert parse_filter({"a": {"$in": ["x", True]}, "b": {"$ne": 2.5}}) == And(
        (In("a", ("x", True)), Not(In("b", (2.5,))))
    )
    assert parse_filter({"$or": [{"a": {"$exists": False}}, {"$not": {"b": {"$nin": [1]}}}]}) == Or(
        (Not(Exists("a")), Not(Not(In("b", (1,)))))
    )
    assert parse_filter({"a": {"$gt": 1, "$gte": 1, "$lte": 5, "$lt": 6}}) == Range("a", 1, 5, False, True, False)
    assert parse_filter({"a": {"$gte": 2, "$gt": 1}}) == Range("a", 2, None, True, False, False)
    assert parse_filter({"a": {"$lt": "1970-01-02"}}) == Range("a", None, 86_400_000_000, False, False, True)
    assert parse_filter({"$and": [{"a": "\0\ud800"}, {"b\0": 1}]}) == And(
        (In("a", ("\ufffd\ufffd",)), In("b\ufffd", (1,)))
    )


@pytest.mark.parametrize(
    "conditions",
    [
        {"lang": "en", "year": 2000.0},
        {"ratio": 0.5, "open": True},
        {"tags": "a"},
        {"tags": 1},
        {"tags": {"$in": ["z", 1.0]}},
        {"year": {"$ne": "2000"}},
        {"missing": {"$ne": 1}},
        {"missing": {"$nin": [1, "x"]}},
        {"$not": {"missing": {"$lt": 5}}},
        {"$or": [{"lang": "de"}, {"year": {"$gte": 2000}}]},
        {"big": {"$gt": 2**53}},
        {"big": {"$gt": float(2**53), "$lt": 2**53 + 2}},
        {"seen": {"$gte": "2024-05-01T10:00:00Z", "$lte": "2024-05-01 10:00"}},
        {"days": {"$lt": "2000-01-01"}},
        {"sizes": {"$gt": 5}, "$and": [{"sizes": {"$lt": 5}}]},
        {"a.b": 7},
        {"object": {"$exists": True}},
        {"null": {"$exists": False}, "none": {"$exists": False}, "missing": {"$exists": False}},
    ],
)
def test_what_matches(conditions: dict) -> None:
    assert matches(parse_filter(conditions), DOCUMENT)
    assert not matches(parse_filter({"$not": conditions}), DOCUMENT)


@pytest.mark.parametrize(
    "conditions",
    [
        {"lang": "EN"},
        {"open": 1},
        {"year": "2000"},
        {"year": True},
        {"tags": True},
        {"tags": "c"},
        {"tags": {"$ne": "a"}},
        {"object": {"$gt": 0}},
        {"open": {"$gte": 0}},
        {"big": 2**53},
        {"big": float(2**53)},
        {"sizes": {"$gt": 1, "$lt": 10}},  # no one value is between
        {"seen": {"$gt": "2024-05-01T10:00:00.000000Z"}},
        {"days": {"$gt": "2024-01-01"}},
        {"year": {"$gt": "1000-01-01"}},
        {"seen": {"$gt": 0}},
        {"a": {"$exists": True}},
    ],
)
def test_what_does_not_match(conditions: dict) -> None:
    assert not matches(parse_filter(conditions), DOCUMENT)


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ([("a", 1)], "the filter is of type list"),
        ("a", "the filter is of type str"),
        ({1: 2}, "names a field by 1"),
        ({"a": None}, "'a': equality is given a NoneType"),
        ({"a": [1, 2]}, "'a': equality is given a list"),
        ({"a": math.nan}, "'a': equality is given NaN"),
        ({"a": {"$in": [1, math.inf]}}, r"'a': \$in is given NaN, infinity"),
        ({"a": {"$lt": 10**400}}, r"'a': \$lt is given NaN, infinity, or an integer as far out"),
        ({"a": {}}, "'a' is empty"),
        ({"a": {"$in": []}}, r"'a': \$in needs a list of at least one"),
        ({"a": {"$nin": "abc"}}, r"'a': \$nin needs a list"),
        ({"a": {"$like": "x"}}, r"'a' has the operator '\$like': there are \$in, \$nin, \$ne, \$gt"),
        ({"a": {"b": 1}}, "'a' has the operator 'b'"),
        ({"a": {"$exists": 1}}, r"'a': \$exists is 1: true or false"),
        ({"a": {"$gt": "tomorrow"}}, r"'a': \$gt is 'tomorrow': a number, or a date"),
        ({"a": {"$gt": "2024-13-01"}}, r"'a': \$gt is '2024-13-01'"),
        ({"a": {"$gt": True}}, r"'a': \$gt is True"),
        ({"a": {"$gt": 1, "$lt": "2024-01-01"}}, r"'a': \$gt and \$lt compare a number and a date"),
        ({"a": {"$ne": None}}, r"'a': \$ne is given a NoneType"),
        ({"$nor": [{"a": 1}]}, r"the operator '\$nor'"),
        ({"$and": []}, r"\$and needs a list of at least one"),
        ({"$or": {"a": 1}}, r"\$or needs a list"),
        ({"$or": [{"a": 1}, {}]}, r"a filter in \$or is empty"),
        ({"$not": {}}, r"\$not is empty"),
        ({"$not": [1]}, r"\$not is of type list"),
    ],
)
def test_what_is_refused_by_name(conditions: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_filter(conditions)  # type: ignore[arg-type]


def test_depth_has_an_end() -> None:
    conditions: dict = {"a": 1}
    for _ in range(2_000):
        conditions = {"$not": conditions}
    with pytest.raises(UsageError, match="more than 32 levels"):
        parse_filter(conditions)


def test_filters_written_as_json() -> None:
    assert read_filter('{"a": {"$in": [1, "x"]}}') == {"a": {"$in": [1, "x"]}}
    for text, message in (
        ("{a: 1}", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "a JSON list"),
        ('{"a": 1, "a": 2}', "'a' twice"),
        ('{"a": {"$gt": 1, "$gt": 2}}', r"'\$gt' twice"),
    ):
        with pytest.raises(UsageError, match=message):
            read_filter(text)
    with pytest.raises(UsageError, match="NaN"):
        parse_filter(read_filter('{"a": NaN}'))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01", 0),
        ("1970-01-01T00:01", 60_000_000),
        ("1970-01-01 00:00:01.5", 1_500_000),
        ("1970-01-01T00:00:00.1234567", 123_456),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1969-12-31T23:00:00-0100", 0),
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T05:30+0530", 0),
        ("1969-12-31T23:59:59.9", -100_000),
        ("9999-12-31T23:59:59.999999", 253_402_300_799_999_999),
        ("0001-01-01T00:00+14", -62_135_596_800_000_000 - 14 * 3_600_000_000),
        ("1970-01-01T24:00", None),
        ("1970-02-30", None),
        ("1970-1-1", None),
        ("1970-01-01T00", None),
        ("1970-01-01T00:00+99", None),
        ("1970-01-01\n", None),
        ("19700101", None),
        ("", None),
    ],
)
def test_instants(text: str, expected: int | None) -> None:
    assert instant(text) == expected
