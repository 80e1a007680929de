"""Random metadata and filters over it, with the values that engines are likely to get wrong."""

from __future__ import annotations

from hypothesis import strategies as st

FIELDS = ["a", "b", "c.d", 'q"[0]', "", "straße 街"]
NUMBERS = [0, 1, 2, -1, 0.5, 1.0, -0.0, 1e-300, 1e300, 0.1, 0.3, 0.1 + 0.2, 19.99, -19.99, 5e-324]
NUMBERS += [2**53 - 1, 2**53, 2**53 + 1, float(2**53), -(2**53) - 1, 2**62, 2**62 + 1, 2**63 - 1, -(2**63), 1e308]
DATES = ["2024-02-29", "2024-02-29T00:00:00Z", "2024-02-29T02:00+02:00", "2024-02-28 23:59:59.999999", "1969-07-20"]
DATES += ["9999-12-31T23:59:59.999999", "0001-01-01", "2024-02-29T00:00:00.000001Z"]

numbers = st.sampled_from(NUMBERS) | st.integers(-3, 3) | st.floats(-2, 2)
dates = st.sampled_from(DATES)
values = numbers | dates | st.sampled_from(["x", "1", "true", "ü" * 300, "", 'q"']) | st.booleans()
held = values | st.none() | st.lists(values | st.none() | st.just(["x"]), max_size=3) | st.just({"x": 1})
metadata = st.dictionaries(st.sampled_from(FIELDS), held, max_size=4)


def _ranges(bounds: st.SearchStrategy) -> st.SearchStrategy[dict]:
    return st.dictionaries(st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), bounds, min_size=1, max_size=3)


_lists = st.lists(values, min_size=1, max_size=3)
_operators = (
    _ranges(numbers)
    | _ranges(dates)
    | st.fixed_dictionaries({"$in": _lists})
    | st.fixed_dictionaries({"$nin": _lists})
    | st.fixed_dictionaries({"$ne": values})
    | st.fixed_dictionaries({"$exists": st.booleans()})
)
_fields = st.dictionaries(st.sampled_from([*FIELDS, "nowhere"]), values | _operators, min_size=1, max_size=2)
filters = st.recursive(
    _fields,
    lambda part: (
        st.fixed_dictionaries({"$and": st.lists(part, min_size=1, max_size=3)})
        | st.fixed_dictionaries({"$or": st.lists(part, min_size=1, max_size=3)})
        | st.fixed_dictionaries({"$not": part})
    ),
    max_leaves=5,
)
