"""The query tower: text to a dense unit vector and to token counts, by look-up (METHOD "Queries").

No model, no torch. One query runs in plain Python and numpy; a batch runs in compiled kernels. Both give the same
token ids and, up to the last bit of the normalisation, the same vectors.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightretriever.errors import UsageError
from lightretriever.query.table import TokenTable
from lightretriever.text.memo import BATCH, ChunkTokenizer
from lightretriever.types import Encoded, SparseVectors

THREADS = 2  # look-ups are bound by memory: more threads hardly help
TEXTS_PER_THREAD = 1024


class QueryEncoder:
    """Encodes queries by look-up in a token table. Safe to share between threads.

    Args:
        table: the token table.
        counts: "sum" counts every token in the sparse vector, "bow" each distinct one as 1.

    Raises:
        UsageError: another value of ``counts``.
    """

    def __init__(self, table: TokenTable, counts: str = "sum") -> None:
        if counts not in ("sum", "bow"):
            raise UsageError(f"counts is {counts!r}: choose 'sum' or 'bow'")
        self.table = table
        self.counts = counts
        self.truncated = 0  # queries cut to the table's max_length so far
        self._chunks = ChunkTokenizer(table.tokenizer, table.chunks)
        self._skip = np.array(table.skip_ids, dtype=np.int32)
        # A plain read-only view: indexing a memory map's own class is slow, and numba compiles for one kind only.
        self._rows = np.asarray(table.rows).view()
        self._rows.flags.writeable = False
        self._scales = np.ones(0, np.float32) if table.scales is None else np.asarray(table.scales).view()
        self._scales.flags.writeable = False

    @staticmethod
    def load(path: str | Path, dim: int | None = None, counts: str = "sum") -> QueryEncoder:
        """Open the table folder ``path``, keeping its first ``dim`` columns (None: all).

        Raises:
            ArtifactError: no readable table there.
            UsageError: an impossible ``dim`` or ``counts``.
        """
        table = TokenTable.load(path)
        return QueryEncoder(table if dim is None else table.truncated(dim), counts)

    @property
    def dim(self) -> int:
        """d, the width of a dense vector."""
        return self.table.dim

    @property
    def vocab_size(self) -> int:
        """V, the width of a sparse vector."""
        return len(self.table)

    def encode(self, texts: Sequence[str] | str) -> Encoded:
        """Dense and sparse vectors of queries.

        Args:
            texts: any number of queries; one string is one query. Empty queries give zero vectors.

        Returns:
            ``dense`` float32 [n, d], unit rows; ``sparse`` [n, V], counts.
        """
        texts = [texts] if isinstance(texts, str) else texts
        ids, offsets = self.tokenize(texts)
        sparse_ids = (ids, offsets)
        if self.table.leading_space:
            sparse_ids = self._tokenize(texts, leading_space=True)
        return Encoded(self._pool(ids, offsets), self._count(*sparse_ids))

    def encode_dense(self, texts: Sequence[str] | str) -> NDArray[np.float32]:
        """The dense vectors alone: float32 [n, d], unit rows, zero rows for empty queries."""
        return self._pool(*self.tokenize([texts] if isinstance(texts, str) else texts))

    def encode_sparse(self, texts: Sequence[str] | str) -> SparseVectors:
        """The counts alone: [n, V]."""
        texts = [texts] if isinstance(texts, str) else texts
        return self._count(*self._tokenize(texts, leading_space=self.table.leading_space))

    def tokenize(self, texts: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Token ids of the dense side: flat int32, and int64 [n + 1] where each text begins.

        They are what ``tokenizers`` gives without special tokens, cut to the table's ``max_length``.
        """
        return self._tokenize(texts, leading_space=False)

    def _tokenize(self, texts: Sequence[str], leading_space: bool) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        ids, offsets = self._chunks.flat_ids(texts, leading_space)
        lengths = np.diff(offsets)
        limit = self.table.max_length
        if leading_space and "" in texts:  # an empty query has no tokens, not that of the space we put before it
            lengths = np.where([text == "" for text in texts], 0, lengths)
        elif len(ids) <= limit or lengths.max() <= limit:
            return ids, offsets
        too_long = int((lengths > limit).sum())
        if too_long and not leading_space:
            if not self.truncated:
                warnings.warn(
                    f"{too_long} of {len(texts)} queries are longer than {limit} tokens and were cut; "
                    "QueryEncoder.truncated counts them from here on",
                    stacklevel=4,
                )
            self.truncated += too_long
        kept = np.minimum(lengths, limit)
        starts = np.concatenate([[0], np.cumsum(kept)])
        source = np.repeat(offsets[:-1] - starts[:-1], kept) + np.arange(starts[-1])
        return ids[source], starts

    def _pool(self, ids: NDArray[np.int32], offsets: NDArray[np.int64]) -> NDArray[np.float32]:
        n = len(offsets) - 1
        if n < BATCH:
            out = np.zeros((n, self.dim), dtype=np.float32)
            for i in range(n):
                self._pool_one(ids[offsets[i] : offsets[i + 1]], out[i])
            return out
        from lightretriever.query.kernels import pool_rows  # numba loads with the first large batch

        out = np.empty((n, self.dim), dtype=np.float32)
        rows = self._rows.view(np.uint16) if self._rows.dtype == np.float16 else self._rows

        def pool(part: slice) -> None:
            pool_rows(ids, offsets[part.start : part.stop + 1], rows, self._scales, self._skip, out[part])

        parts = max(1, min(THREADS, n // TEXTS_PER_THREAD))
        slices = [slice(n * i // parts, n * (i + 1) // parts) for i in range(parts)]
        if parts == 1:
            pool(slices[0])
        else:
            with ThreadPoolExecutor(parts) as pool_of_threads:
                list(pool_of_threads.map(pool, slices))
        return out

    def _pool_one(self, ids: NDArray[np.int32], out: NDArray[np.float32]) -> None:
        if len(self._skip):
            for skipped in self.table.skip_ids:
                if skipped in ids:
                    ids = ids[ids != skipped]
        if not len(ids):
            return
        rows = self._rows.take(ids, axis=0)
        if rows.dtype != np.float32:
            rows = rows.astype(np.float32)
            if len(self._scales):
                rows *= self._scales.take(ids)[:, None]
        total = np.add.reduce(rows, axis=0)
        norm = float(total.dot(total)) ** 0.5
        if norm > 0:
            np.multiply(total, 1 / norm, out=out)

    def _count(self, ids: NDArray[np.int32], offsets: NDArray[np.int64]) -> SparseVectors:
        n, once = len(offsets) - 1, self.counts == "bow"
        if n == 1:
            counted = sorted(Counter(ids.tolist()).items())
            indices = np.array([i for i, _ in counted], dtype=np.int32)
            values = np.array([1 if once else count for _, count in counted], dtype=np.float32)
            return SparseVectors(np.array([0, len(indices)], dtype=np.int64), indices, values, self.vocab_size)
        if n < BATCH:
            rows = np.repeat(np.arange(n), np.diff(offsets))
            keys, counts = np.unique(rows * self.vocab_size + ids, return_counts=True)
            indptr = np.searchsorted(keys, np.arange(n + 1) * self.vocab_size).astype(np.int64)
            values = np.ones(len(keys), np.float32) if once else counts.astype(np.float32)
            return SparseVectors(indptr, (keys % self.vocab_size).astype(np.int32), values, self.vocab_size)
        from lightretriever.query.kernels import count_ids

        indptr = np.empty(n + 1, dtype=np.int64)
        indices, values = np.empty(len(ids), dtype=np.int32), np.empty(len(ids), dtype=np.float32)
        used = count_ids(ids, offsets, once, indptr, indices, values)
        return SparseVectors(indptr, indices[:used], values[:used], self.vocab_size)
