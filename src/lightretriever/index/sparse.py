"""The sparse side of an index: where documents' sparse vectors come from, the tower's or BM25's or nowhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lightretriever.errors import MismatchError, UsageError
from lightretriever.index.bm25 import BM25, count_tokens
from lightretriever.index.terms import Terms
from lightretriever.query.table import TokenTable
from lightretriever.text.corpus import Document
from lightretriever.text.memo import ChunkTokenizer
from lightretriever.text.tokenizer import id_count
from lightretriever.types import SparseVectors

STALE = 0.1
"""BM25 statistics are stale when more than this share of the documents changed since they were taken."""


@dataclass(frozen=True, slots=True)
class SparseSide:
    """One index's.

    Attributes:
        kind: "lm", "bm25" or "none".
        table: the index's token table.
        chunks: over its tokenizer.
        terms: what counts words, where BM25 is over these; None where it is over the table's tokens.
    """

    kind: str
    table: TokenTable
    chunks: ChunkTokenizer
    terms: Terms | None = None

    @property
    def width(self) -> int:
        """The number of rows of the table: V, unless words are counted."""
        return len(self.table)

    def counts(self, documents: Sequence[Document]) -> SparseVectors:
        """Counts of terms in documents' whole texts, [n, V]; words that are new to the index are stored."""
        if self.terms is None:
            return self.tokens(documents)
        return self.terms.count_new([document.input for document in documents])

    def tokens(self, documents: Sequence[Document]) -> SparseVectors:
        """Counts of the table's tokens in documents' whole texts, [n, V], whatever the index counts."""
        texts = [document.input for document in documents]
        return count_tokens(texts, self.chunks, self.table.leading_space, self.width)

    def of(self, documents: Sequence[Document], given: SparseVectors | None) -> SparseVectors | None:
        """What is to be stored with documents: for BM25 counts, of which impacts are made with statistics.

        Args:
            documents: n documents.
            given: what the tower made of them, [n, V]; needed for "lm", else not looked at.

        Raises:
            UsageError: none given where they are needed.
            MismatchError: they are of another vocabulary.
        """
        if self.kind == "none":
            return None
        if self.kind == "bm25":
            return self.counts(documents)
        if given is None:
            raise UsageError(
                "the index's sparse side is the model's own: sparse vectors are needed with the dense ones"
            )
        if given.width != self.width and given.width != id_count(self.table.tokenizer):
            raise MismatchError(
                f"the sparse vectors have width {given.width}, the index's table {self.width} rows: another vocabulary"
            )
        return given


def drift(statistics: BM25 | None, changes: int, count: int) -> Mapping[str, object]:
    """How far ``count`` documents have drifted from the statistics, after so many changes; JSON-able."""
    share = changes / max(count, 1)
    return {
        "documents": statistics.documents if statistics else 0,
        "mean_length": statistics.mean_length if statistics else 0.0,
        "changes": changes,
        "drift": share,
        "stale": share > STALE,
    }
