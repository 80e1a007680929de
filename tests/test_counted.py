"""Numbers with what they count."""

from __future__ import annotations

import pytest

from lightretriever.counted import counted


@pytest.mark.parametrize(
    ("count", "what", "text"),
    [
        (0, "documents", "0 documents"),
        (1, "documents", "1 document"),
        (2, "queries", "2 queries"),
        (1, "queries", "1 query"),
        (1, "passages left out", "1 passage left out"),
        (12345, "hits", "12,345 hits"),
    ],
)
def test_one_is_singular(count: int, what: str, text: str) -> None:
    assert counted(count, what) == text
