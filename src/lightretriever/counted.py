"""Numbers with what they count, for people: "1 document", "2 documents"."""

from __future__ import annotations


def counted(count: int, what: str) -> str:
    """A number with commas and what it counts, whose first word is a regular plural: "1 query of two", "0 queries"."""
    noun, space, rest = what.partition(" ")
    if count == 1:
        noun = f"{noun.removesuffix('ies')}y" if noun.endswith("ies") else noun.removesuffix("s")
    return f"{count:,} {noun}{space}{rest}"
