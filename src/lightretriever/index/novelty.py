"""How much of the documents that come later is new to an index's table: words that no text of its fit held."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lightretriever.query.table import TokenTable
from lightretriever.text.tokenizer import encode_batch

MOST = 64
"""Texts of one call whose tokens are counted: tokenising all would take longer than all else that storing them does."""
LARGE = 0.05
"""Of the tokens of documents added: from this share on a new fit is worth it. More of the same has 0.01 to 0.02."""


@dataclass(frozen=True, slots=True)
class Novelty:
    """Tokens of documents, as a query has them.

    Attributes:
        tokens: how many.
        unknown: of these, how many no text of the fit held. A piece that goes on with a word counts with the piece
            before it: both may be known, and the word not.
    """

    tokens: int = 0
    unknown: int = 0

    def __add__(self, other: Novelty) -> Novelty:
        return Novelty(self.tokens + other.tokens, self.unknown + other.unknown)

    @property
    def share(self) -> float:
        """Of the tokens, those unknown; 0 of none."""
        return self.unknown / self.tokens if self.tokens else 0.0


NOTHING = Novelty()


def measure_novelty(table: TokenTable, texts: Sequence[str]) -> Novelty:
    """Count the tokens of texts, of many those of some for all; none where the table was not fitted, and knows every
    token as well as any other."""
    evidence = table.evidence
    if evidence is None or not texts:
        return NOTHING
    step = -(-len(texts) // MOST)
    encodings = encode_batch(table.tokenizer, list(texts[::step]))
    lengths = [len(encoding.ids) for encoding in encodings]
    ids = np.fromiter((token for encoding in encodings for token in encoding.ids), np.int64, sum(lengths))
    first = np.zeros(len(ids), dtype=bool)
    first[np.cumsum([0, *lengths[:-1]])[np.array(lengths) > 0]] = True
    before = np.concatenate([ids[:1], ids[:-1]])
    goes_on = evidence.inner[ids] & ~first
    pairs = np.isin(before * len(evidence.frequency) + ids, evidence.pairs)
    unknown = np.where(goes_on, ~pairs, evidence.frequency[ids] == 0)
    return Novelty(step * len(ids), step * int(unknown.sum()))
