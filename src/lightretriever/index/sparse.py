"""The sparse side of an index: where documents' sparse vectors come from, the tower's or BM25's or nowhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lightretriever.errors import MismatchError, UsageError
from lightretriever.index.backend import Backend, Payload, pages, stored_metadata
from lightretriever.index.bm25 import BM25, count_tokens
from lightretriever.query.table import TokenTable
from lightretriever.text.corpus import Document
from lightretriever.text.tokenizer import id_count
from lightretriever.types import SparseVectors

STALE = 0.1
"""BM25 statistics are stale when more than this share of the documents changed since they were taken."""
_PAGE = 256  # documents read back from the engine at once


@dataclass(frozen=True, slots=True)
class SparseSide:
    """One index's.

    Attributes:
        kind: "lm", "bm25" or "none".
        table: the index's token table, whose tokens these are.
        file: where the BM25 statistics are.
    """

    kind: str
    table: TokenTable
    file: Path

    @property
    def width(self) -> int:
        """V, the number of rows of the table."""
        return len(self.table)

    def statistics(self) -> BM25 | None:
        """The BM25 statistics; None when none were taken yet. Raises ArtifactError when they are damaged, and
        MismatchError when they are of another vocabulary."""
        if self.kind != "bm25" or not self.file.exists():
            return None
        statistics = BM25.load(self.file)
        if len(statistics.frequency) != self.width:
            raise MismatchError(
                f"{self.file} counts {len(statistics.frequency)} tokens, the index's table has {self.width} rows: "
                "restore the index from a snapshot, or make it again"
            )
        return statistics

    def counts(self, documents: Sequence[Document]) -> SparseVectors:
        """Token counts of documents' whole texts, [n, V]."""
        texts = [document.input for document in documents]
        return count_tokens(texts, self.table.tokenizer, self.table.leading_space, self.width)

    def of(self, documents: Sequence[Document], given: SparseVectors | None) -> SparseVectors | None:
        """The sparse vectors to store with documents.

        The first documents of an index without BM25 statistics are what these are taken of.

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
            counts = self.counts(documents)
            statistics = self.statistics()
            if statistics is None:
                statistics = BM25.of([counts], self.width)
                statistics.save(self.file)
            return statistics.impacts(counts)
        if given is None:
            raise UsageError(
                "the index's sparse side is the model's own: sparse vectors are needed with the dense ones"
            )
        if given.width not in (self.width, id_count(self.table.tokenizer)):
            raise MismatchError(
                f"the sparse vectors have width {given.width}, the index's table {self.width} rows: another vocabulary"
            )
        return given

    def take_statistics(self, backend: Backend) -> BM25:
        """BM25 statistics of all texts that an engine holds."""
        parts = (stored_documents(page.payloads) for page in pages(backend, _PAGE))
        return BM25.of((self.counts(documents) for documents in parts), self.width)

    def info(self, changes: int, count: int) -> Mapping[str, object]:
        """How far ``count`` documents have drifted from the statistics, after so many changes; JSON-able."""
        statistics = self.statistics()
        drift = changes / max(count, 1)
        return {
            "documents": statistics.documents if statistics else 0,
            "mean_length": statistics.mean_length if statistics else 0.0,
            "changes": changes,
            "drift": drift,
            "stale": drift > STALE,
        }


def stored_documents(payloads: Sequence[Payload]) -> list[Document]:
    """The documents behind payloads read from an engine."""
    return [Document(row["id"], row["text"], row["title"], stored_metadata(row)) for row in payloads]
