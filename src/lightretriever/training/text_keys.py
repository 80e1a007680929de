"""Which texts are equal: as `normalise` leaves them, by a 64-bit hash.

Of two different texts, one in ten billion billion pairs is taken for equal; an example too many is left out then, never
one too few.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata

_SEPARATORS = re.compile(r"[\W_]+")
_MARKS = ("Mn", "Mc")
_VARIATIONS = frozenset(map(chr, range(0xFE00, 0xFE10)))


def normalise(text: str) -> str:
    """The text's letters with their marks, and its digits: NFKC, case folded, runs of all else a single space.

    What differs in case, white space, punctuation or symbols alone is equal: "C++" and "c#" too, so at times a text too
    many.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(_SEPARATORS.sub(" " if folded.isascii() else _marks, folded).split())


def _marks(separators: re.Match[str]) -> str:
    """The combining marks among them, which are vowels in many scripts; not what only chooses a glyph's form."""
    return "".join(c if unicodedata.category(c) in _MARKS and c not in _VARIATIONS else " " for c in separators[0])


def text_key(text: str) -> int:
    """64-bit hash of the normalised text."""
    return int.from_bytes(hashlib.blake2b(normalise(text).encode(), digest_size=8).digest(), "little", signed=True)


NOTHING = text_key("")
