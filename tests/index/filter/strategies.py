"""Random metadata and random filters for it, with the values that are easily got wrong."""

from __future__ import annotations

from hypothesis import strategies as st

FIELDS = ["a", "b", "c.d", 'q"[0]', "", "日本 語"]
BIG = 2**53
NUMBERS = [0, 1, 2, -1, 0.5, 1.0, -0.0, 1e-300, 1e300, BIG - 1, BIG, BIG + 1, BIG + 2, -BIG - 1, float(BIG), 2**62 + 1]
NUMBERS += [0.1, 0.3, 0.1 + 0.2, 19.99, -19.99, 2**62, 2**62 + 1023, 2**62 + 1024, 2**63 - 1, -(2**63), -(2**62) - 1]
NUMBERS += [float(2**62), 5e-324, -5e-324, 2.2e-308, float(2**63), -float(2**63), float(2**64), -1e308, BIG - 0.5]
DATES = ["2024-01-01", "2024-01-01T00:00:00Z", "2024-01-01T01:00+01:00", "2023-12-31 23:59:59.999999", "1969-07-20"]
DATES += ["9999-12-31T23:59:59.999999", "9999-12-31T23:59:59.999998", "9999-12-31", "0001-01-01", "0001-01-01T00:00:01"]
TEXTS = ["x", "1", "true", "é" * 300, "é" * 20, "é" * 21, "y" * 40, "y" * 41, "\0", "\ud800", "\U0001f600", "", '"\\']

numbers = st.sampled_from(NUMBERS) | st.integers(-3, 3) | st.integers(2**53 - 3, 2**53 + 6) | st.floats(-2, 2)
dates = st.sampled_from(DATES)
values = numbers | dates | st.sampled_from(TEXTS) | st.booleans()
held = values | st.none() | st.lists(values | st.none() | st.just(["x"]), max_size=3) | st.just({"x": 1})
metadata = st.dictionaries(st.sampled_from(FIELDS), held, max_size=4)


def ranges(bounds: st.SearchStrategy) -> st.SearchStrategy[dict]:
    return st.dictionaries(st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), bounds, min_size=1, max_size=3)


beyond = st.sampled_from([2**63, -(2**63) - 1, 2**64, 2**64 + 1, -(2**70), 10**300])
lists = st.lists(values | beyond, min_size=1, max_size=3)
operators = (
    ranges(numbers | beyond)
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
