"""What training must not see: the queries and the judged documents of the sets that are evaluated."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lightretriever.evaluation.collection import read_collection
from lightretriever.text.corpus import Document
from lightretriever.training.example import Example, Passage
from lightretriever.training.text_keys import NOTHING, text_key


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
        return example.only(lambda passage: not self.has_passage(passage)) if self.passages else example
