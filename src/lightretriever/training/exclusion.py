"""What training must not see: the queries and the judged documents of the sets that are evaluated.

Texts are compared as `normalise` leaves them, by a 64-bit hash: of two different texts, one in ten billion billion
pairs is taken for equal, and then an example too many is left out, never one too few.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from lightretriever.evaluation.collection import read_collection
from lightretriever.text.corpus import Document
from lightretriever.training.examples import Example, Passage

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


def passage_keys(passage: Passage | Document) -> set[int]:
    """What equal passages share a member of: hashes of the whole text and of the text below the title.

    Texts of punctuation alone have none.
    """
    return {text_key(passage.input), text_key(passage.text)} - {NOTHING}


@dataclass(frozen=True, slots=True)
class Exclusion:
    """Hashes of what evaluation sets hold.

    Attributes:
        queries: of their queries' texts.
        passages: of their judged documents, as the tower reads them and as text alone.
    """

    queries: frozenset[int]
    passages: frozenset[int]

    @staticmethod
    def of(collections: Iterable[str | Path], split: str = "test", passages: bool = True) -> Exclusion:
        """Read the judged queries and, if ``passages``, the judged documents of BEIR folders.

        Only hashes are kept; a corpus is streamed. A document judged irrelevant counts as judged.

        Raises:
            InputError: a folder is no collection, or has no such split.
        """
        queries, found = set[int](), set[int]()
        for folder in collections:
            collection = read_collection(folder, split)
            queries |= {text_key(text) for text in collection.queries.values()}
            if passages:
                judged = {document for documents in collection.qrels.values() for document in documents}
                for document in collection.documents():
                    if document.id in judged:
                        found |= passage_keys(document)
        return Exclusion(frozenset(queries - {NOTHING}), frozenset(found))

    def has_query(self, text: str) -> bool:
        """Whether an evaluation set asks this."""
        return text_key(text) in self.queries

    def has_passage(self, passage: Passage) -> bool:
        """Whether an evaluation set judges this passage."""
        return not passage_keys(passage).isdisjoint(self.passages)

    def without_passages(self, example: Example) -> Example:
        """The example less the passages that an evaluation set judges; itself where there are none."""
        if not self.passages:
            return example
        positives = tuple(passage for passage in example.positives if not self.has_passage(passage))
        negatives = tuple(passage for passage in example.negatives if not self.has_passage(passage))
        if len(positives) + len(negatives) == len(example.positives) + len(example.negatives):
            return example
        return replace(example, positives=positives, negatives=negatives)
