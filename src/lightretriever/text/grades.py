"""Grades of relevance: small integers, checked before a C tool sees them.

trec_eval counts the documents of every grade up to the greatest, 8 bytes each: a time stamp among the grades takes
gigabytes, and then its measures are wrong without a word. Collections have 0 to 4, TREC's also -1 and -2 for what is
no document at all, some 0 to 100.
"""

from __future__ import annotations

import re

import numpy as np

from lightretriever.errors import InputError
from lightretriever.text.values import NoJsonValueError, plain_value

LEAST, MOST = -1000, 1000
_INTEGER = re.compile(r"([+-]?)([0-9]+)(\.0*)?")


def is_grade(text: str) -> bool:
    """Whether a column's text is an integer, of whatever size."""
    return _INTEGER.fullmatch(text.strip()) is not None


def parse_grade(text: str, where: str) -> int:
    """The grade that a column's text is, "1.0" included.

    Raises:
        InputError: no integer, or outside `LEAST` … `MOST`; it names ``where``.
    """
    found = _INTEGER.fullmatch(text.strip())
    if found is None:
        raise InputError(f"{where}: the relevance {text[:40]!r} is not an integer")
    sign, digits = found[1], found[2].lstrip("0") or "0"
    value = int(sign + digits) if len(digits) <= 9 else None  # Python itself reads only so many digits
    if value is None or not LEAST <= value <= MOST:
        raise _outside(text.strip(), where)
    return value


def as_grade(value: object, where: str) -> int:
    """A grade given in Python: an integer or a bool, NumPy's included, or a float that is whole.

    Whatever `lightretriever.text.values` makes one of these, such as a Decimal, is one too.

    Raises:
        InputError: anything else, or outside `LEAST` … `MOST`; it names ``where`` and the value.
    """
    given = value
    if not isinstance(value, int | float | np.generic | str):
        try:
            value = plain_value(value)
        except NoJsonValueError:
            value = None
    if isinstance(value, float | np.floating):
        whole = int(value) if float(value).is_integer() else None
    else:
        whole = int(value) if isinstance(value, int | np.integer | np.bool_) else None
    if whole is None:
        shown = " ".join(str(given).split())[:40]
        raise InputError(f"{where}: the relevance {shown!r} ({type(given).__name__}) is not an integer")
    if not LEAST <= whole <= MOST:
        raise _outside(f"{value:g}" if isinstance(value, float) else str(value), where)
    return whole


def _outside(text: str, where: str) -> InputError:
    shown = text if len(text) <= 40 else f"{text[:40]}…"
    return InputError(
        f"{where}: the relevance {shown} lies outside {LEAST} to {MOST}: is it a time, a count or an id? "
        "A header (query-id, corpus-id, score) says which column is the grade"
    )
