"""What an addition to an index did."""

from __future__ import annotations

from dataclasses import dataclass

from lightretriever.index.novelty import NOTHING, Novelty


@dataclass(frozen=True, slots=True)
class Added:
    """What an addition did. Where the index splits documents, all counts are of passages.

    Attributes:
        documents: how many are stored by it.
        replaced: how many of them took the place of a document with the same id, stored before.
        unchanged: how many more were there already, just as they were given, and were neither encoded nor stored.
        duplicates: how many given earlier in the same call were passed over, because a later one has their id.
        durable: whether all that was ever stored survives a power cut by now; else it does after the next flush, and
            until then the death of the process only.
        novelty: how much of their text is new to the index's table.
    """

    documents: int = 0
    replaced: int = 0
    duplicates: int = 0
    durable: bool = True
    novelty: Novelty = NOTHING
    unchanged: int = 0

    def __add__(self, other: Added) -> Added:
        return Added(
            self.documents + other.documents,
            self.replaced + other.replaced,
            self.duplicates + other.duplicates,
            other.durable,
            self.novelty + other.novelty,
            self.unchanged + other.unchanged,
        )
