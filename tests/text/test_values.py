"""What becomes of values that are none of JSON's own, in metadata, ids, titles, texts and filters."""

from __future__ import annotations

import json
import math
from array import array
from collections import OrderedDict, deque
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from fractions import Fraction
from pathlib import Path, PurePosixPath
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightretriever.errors import InputError, UsageError
from lightretriever.index.filter.language import matches, parse_filter
from lightretriever.text.corpus import Document, as_document, read_corpus, read_queries
from lightretriever.text.values import MAX_DEPTH, NoJsonValueError, plain_value


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Kind(StrEnum):
    NOTE = "note"


@dataclass
class Boat:
    masts: int = 2


EAST = timezone(timedelta(hours=5, minutes=30))


def same(one: object, other: object) -> bool:
    """Equal, and of the same class: true is not 1, and NumPy's 1 is not 1."""
    return json.dumps(one) == json.dumps(other) and type(one) is type(other)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.int16(-4), -4),
        (np.uint64(2**63 - 1), 2**63 - 1),
        (np.bool_(False), False),
        (np.float16(0.25), 0.25),
        (np.longdouble(1.5), 1.5),
        (np.float64("nan"), None),
        (np.str_("pier"), "pier"),
        (np.bytes_(b"quay"), "quay"),
        (np.array(7), 7),
        (np.array([[1, 2], [3, 4]], dtype=np.int8), [[1, 2], [3, 4]]),
        (np.array(["a", None, 2.5], dtype=object), ["a", None, 2.5]),
        (np.ma.array([1, 2, 3], mask=[0, 1, 0]), [1, None, 3]),
        (np.array([(1, "x")], dtype=[("n", "i4"), ("s", "U1")]), [{"n": 1, "s": "x"}]),
        (np.datetime64("2021-03-04"), "2021-03-04"),
        (np.datetime64("2021"), "2021-01-01"),
        (np.datetime64("2021-03-04T05"), "2021-03-04T05:00:00"),
        (np.datetime64("2021-03-04T05:06:07.250000000"), "2021-03-04T05:06:07.25"),
        (np.datetime64("NaT"), None),
        (np.timedelta64("NaT"), None),
        (np.timedelta64(90, "m"), 5400.0),
        (np.array(["2021-03-04", "NaT"], dtype="datetime64[D]"), ["2021-03-04", None]),
        (Decimal("12.75"), 12.75),
        (Decimal("12.00"), 12),
        (Decimal("9007199254740993"), 9007199254740993),
        (Decimal("NaN"), None),
        (Fraction(3, 4), 0.75),
        ({3, 20, 1}, [1, 3, 20]),
        (frozenset({"b", 1}), [1, "b"]),
        ((1, ("x", None)), [1, ["x", None]]),
        (deque([1, 2]), [1, 2]),
        (range(3), [0, 1, 2]),
        (array("f", [0.5]), [0.5]),
        ({"k": 1}.values(), [1]),
        (OrderedDict(a={"b": (1,)}), {"a": {"b": [1]}}),
        ({1: "a", 2.5: "b", b"c": "d", Colour.RED: "e"}, {"1": "a", "2.5": "b", "c": "d", "red": "e"}),
        ("Zürich".encode(), "Zürich"),
        (bytearray(b"ok"), "ok"),
        (memoryview(b"ok"), "ok"),
        (Colour.RED, "red"),
        (Level.HIGH, 3),
        (Kind.NOTE, "note"),
        (UUID(int=5), "00000000-0000-0000-0000-000000000005"),
        (PurePosixPath("a/b.txt"), "a/b.txt"),
        (timedelta(minutes=2), 120.0),
        (date(2021, 3, 4), "2021-03-04"),
        (time(5, 6), "05:06:00"),
        (datetime(2021, 3, 4, 5, 6, tzinfo=EAST), "2021-03-04T05:06:00+05:30"),
        (datetime(2021, 3, 4, 5, tzinfo=timezone(timedelta(seconds=3))), "2021-03-04T04:59:57+00:00"),
        (math.nan, None),
        ("a\0b", "a\ufffdb"),
    ],
)
def test_a_value_becomes_what_it_is(value: object, expected: object) -> None:
    assert same(plain_value(value), expected)
    assert same(as_document({"id": "1", "text": "", "field": value}).metadata["field"], expected)


def test_pandas_values_need_no_pandas_in_the_package() -> None:
    pd = pytest.importorskip("pandas")
    row = {
        "moment": pd.Timestamp("2021-03-04T05:00", tz="UTC"),
        "no moment": pd.NaT,
        "nothing": pd.NA,
        "span": pd.Timedelta("1h"),
        "whole": pd.Series([1, pd.NA], dtype="Int64"),
        "words": pd.Series(["a", pd.NA], dtype="string"),
        "days": pd.Series(pd.to_datetime(["2021-03-04", None])),
        "index": pd.Index([1, 2]),
        "categories": pd.Categorical(["x", "y"]),
    }
    assert as_document({"id": "1", "text": "", **row}).metadata == {
        "moment": "2021-03-04T05:00:00+00:00",
        "no moment": None,
        "nothing": None,
        "span": 3600.0,
        "whole": [1, None],
        "words": ["a", None],
        "days": ["2021-03-04T00:00:00", None],
        "index": [1, 2],
        "categories": ["x", "y"],
    }
    for refused in (pd.Period("2021-03"), pd.DataFrame({"a": [1]})):
        with pytest.raises(InputError, match=f"the field 'x' is of type {type(refused).__name__}"):
            as_document({"id": "1", "text": "", "x": refused})


def test_tensors_are_numbers_and_lists() -> None:
    torch = pytest.importorskip("torch")
    assert same(plain_value(torch.tensor(3)), 3)
    assert same(plain_value(torch.tensor(True)), True)
    assert same(plain_value(torch.tensor([0.5, 1.0], requires_grad=True)), [0.5, 1.0])
    assert same(plain_value(torch.tensor(1.5, dtype=torch.bfloat16)), 1.5)


class Unreadable:
    """As a tensor without data: it has the method of an array, which fails."""

    def tolist(self) -> list:
        raise RuntimeError("no data")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (2**63, "an integer beyond 64 bits"),
        (-(2**63) - 1, "an integer beyond 64 bits"),
        (np.uint64(2**64 - 1), "an integer beyond 64 bits"),
        (Decimal("1e30"), "an integer beyond 64 bits"),
        (math.inf, "infinite"),
        (np.float32("-inf"), "infinite"),
        (Decimal("Infinity"), "infinite"),
        (Decimal("1e999999"), "a number too large"),
        (Fraction(10**400), "a number too large"),
        (b"\xff\xfe", "bytes that are not UTF-8"),
        (1 + 2j, "of type complex"),
        (np.complex64(1), "of type complex"),
        (object(), "of type object"),
        (Boat(), "of type Boat"),
        (int, "of type type"),
        (iter([1]), "of type list_iterator"),
        (Unreadable(), "of type Unreadable"),
        (np.timedelta64(1, "Y"), "a span of months or years"),
        ({(1, 2): 3}, "a key of type tuple"),
        ({None: 3}, "a key of type NoneType"),
        ({1: "a", "1": "b"}, "there twice"),
        ({"x\0": "a", "x\ufffd": "b"}, "there twice"),
    ],
)
def test_what_has_no_value_is_refused_by_field_and_id(value: object, reason: str) -> None:
    with pytest.raises(NoJsonValueError, match=reason):
        plain_value(value)
    with pytest.raises(InputError) as caught:
        as_document({"id": "doc 7", "text": "", "notes": {"list": [0, 1, value]}})
    message = str(caught.value)
    assert "id doc 7: the field 'notes.list[2]" in message
    assert reason in message
    assert "\n" not in message


def test_nesting_has_an_end_that_is_refused_by_name() -> None:
    deep: object = 1
    for level in range(MAX_DEPTH):
        deep = [deep] if level % 2 else {"down": deep}
    assert json.dumps(as_document({"id": "1", "text": "", "a": deep}).metadata["a"]) == json.dumps(deep)
    for _ in range(900):
        deep = {"down": deep}
    with pytest.raises(InputError, match=r"the field 'tree\.down\.down.*' is nested deeper than 64 levels"):
        as_document({"id": "1", "text": "", "tree": deep})
    ring: list = []
    ring += [ring, ring]
    with pytest.raises(InputError, match=r"the field 'ring\[0\]\[0\].*' is nested deeper"):
        as_document({"id": "1", "text": "", "ring": ring})


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"id": np.int64(7), "text": "x"}, Document("7", "x")),
        ({"id": 2**70, "text": "x"}, Document(str(2**70), "x")),
        ({"_id": np.uint64(2**64 - 1), "text": "x"}, Document(str(2**64 - 1), "x")),
        ({"_id": None, "id": b"k", "text": b"x", "title": np.str_("t")}, Document("k", "x", "t")),
        ({"id": UUID(int=1), "text": ""}, Document("00000000-0000-0000-0000-000000000001", "")),
        ({"id": "1", "text": 42, "title": 1984}, Document("1", "42", "1984")),
        ({"id": "1", "text": "x", "title": math.nan}, Document("1", "x")),
        ({"_id": "1", "id": 5, "text": "x"}, Document("1", "x", "", {"id": 5})),
    ],
)
def test_ids_titles_and_texts_of_other_classes(row: dict, expected: Document) -> None:
    assert as_document(row) == expected


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"id": math.nan, "text": "", "lang": "de"}, "has no id: .* its fields are 'id', 'text', 'lang'"),
        ({"id": np.float32(1), "text": ""}, "id is of type float"),
        ({"id": True, "text": ""}, "id is of type bool"),
        ({"id": 10**5000, "text": ""}, "the field 'id' is an integer beyond 64 bits"),
        ({"id": b"\xff", "text": ""}, "the field 'id' is bytes that are not UTF-8"),
        ({"id": "1", "text": math.nan}, "document 1 has no text"),
        ({"id": "1", "text": 0.5}, "its text is float, not a string"),
        ({"id": "1", "text": "", "title": ["a"]}, "its title is list, not a string"),
        ({"id": "a\nb", "title": "t"}, r"document 'a\\nb' has no text"),
        ({"id": "a\nb", "text": "", "x": b"\xff"}, r"id 'a\\nb': the field 'x' is bytes"),
        ({"id": "1", "text": "", 5: "a", "5": "b"}, "id 1: the field '5' is there twice"),
    ],
)
def test_ids_titles_and_texts_that_are_refused(row: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        as_document(row)


def test_metadata_that_contradicts_an_outer_field_is_refused() -> None:
    row = {"id": "1", "text": "x", "owner": "ann", "note": "", "metadata": {"owner": "ann", "note": "n", "year": 5}}
    assert as_document(row).metadata == {"owner": "ann", "note": "n", "year": 5}
    blank = {"id": "1", "text": "x", "owner": "ann", "metadata": {"owner": None, "title": "t", "id": 1}}
    assert as_document(blank).metadata == {"owner": "ann", "title": "t", "id": 1}
    for name, outer, inner in (("owner", "ann", "bob"), ("title", "a", "b"), ("text", "x", "y"), ("id", "1", "2")):
        with pytest.raises(InputError, match=f"document 1: its '{name}' is '{outer}' outside .* and '{inner}' in it"):
            as_document({"id": "1", "text": "x", name: outer, "metadata": {name: inner}})


def test_a_document_that_is_one_already_is_held_to_the_same_rules() -> None:
    made = as_document(Document("1", "x", metadata={"year": np.int32(1999), "tags": ("a",), "id": 5}))
    assert same(dict(made.metadata), {"year": 1999, "tags": ["a"], "id": 5})
    with pytest.raises(InputError, match="id 1: the field 'when' is of type object"):
        as_document(Document("1", "x", metadata={"when": object()}))


def test_files_follow_the_same_rules(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"_id": 1, "text": "a"}\n{"_id": 2, "text": "b", "sizes": [1, 1e999]}\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"rows\.jsonl:2: id 2: the field 'sizes\[1\]' is infinite"):
        list(read_corpus(path))
    assert [query.id for query in read_queries(path)] == ["1", "2"]  # what else rows hold is none of a query's


STORED = {"year": 1999, "share": 0.5, "open": True, "seen": "2021-03-04T05:06:00+05:30", "tags": ["a", "red"], "n": 3}


@pytest.mark.parametrize(
    "conditions",
    [
        {"year": np.int64(1999)},
        {"year": {"$in": np.array([1998, 1999])}},
        {"year": {"$nin": range(5)}},
        {"year": {"$gte": Decimal("1998.5"), "$lt": np.float32(2000)}},
        {"share": np.float32(0.5)},
        {"share": {"$lt": Fraction(2, 3)}},
        {"open": np.bool_(True)},
        {"open": {"$exists": np.bool_(True)}},
        {"seen": {"$gte": datetime(2021, 3, 3, 23, tzinfo=UTC), "$lt": date(2021, 3, 5)}},
        {"seen": {"$lt": np.datetime64("2021-03-04")}},
        {"tags": Colour.RED},
        {"tags": np.str_("a")},
        {"tags": b"a"},
        {"n": Level.HIGH},
        {"year": {"$lt": 2**70}},
    ],
)
def test_filters_take_the_same_values(conditions: dict) -> None:
    assert matches(parse_filter(conditions), STORED)


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ({"a": np.float64("nan")}, "'a': equality is given NaN"),
        ({"a": np.datetime64("NaT")}, "'a': equality is given a datetime64"),
        ({"a": {"$in": np.array([])}}, r"'a': \$in needs a list of at least one value"),
        ({"a": {"$in": {"b": 1}}}, r"'a': \$in needs a list"),
        ({"a": np.array([1])}, "'a': equality is given a ndarray"),
        ({"a": b"\xff"}, "'a': the value given to equality is bytes that are not UTF-8"),
        ({"a": {"$gt": object()}}, r"'a': the value given to \$gt is of type object"),
    ],
)
def test_what_filters_refuse_of_them(conditions: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_filter(conditions)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
).filter(lambda value: "\\u0000" not in json.dumps(value))


@given(json_values)
def test_json_values_stay_what_they_are(value: object) -> None:
    assert same(plain_value(value), value)


@given(st.lists(st.integers(-(2**31), 2**31 - 1)), st.sampled_from([np.int32, np.int64, np.float64]))
def test_arrays_are_the_lists_of_their_elements(numbers: list[int], dtype: type) -> None:
    assert plain_value(np.array(numbers, dtype=dtype)) == numbers
