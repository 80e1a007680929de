"""The query tower: text to a dense unit vector and to token counts, by look-up (METHOD "Queries").

No model, no torch. A few queries run in plain Python and numpy, a large batch in compiled kernels: numba takes longer
to load than many queries to encode. Both give the same token ids and, up to the rounding of the norm, the same vectors.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lightretriever.artifact import plain_view
from lightretriever.errors import ArtifactError, UsageError
from lightretriever.query.counts import count_few
from lightretriever.query.table import TokenTable
from lightretriever.query.table_manifest import COUNTS
from lightretriever.text.analysers.words import Words
from lightretriever.text.memo import BATCH, ChunkTokenizer
from lightretriever.types import Encoded, SparseVectors

FlatIds = tuple[NDArray[np.int32], NDArray[np.int64]]
Trust = tuple[NDArray[np.float32] | None, NDArray[np.float32] | None]
THREADS = 2  # look-ups are bound by memory: more threads hardly help
TEXTS_PER_THREAD = 1024


class TermCounter(Protocol):
    """Counts a query's terms where these are not the tokens of the table.

    Attributes:
        words: tells what they are.
    """

    words: Words

    def count(self, texts: Sequence[str], once: bool = False) -> SparseVectors:
        """Of n queries, [n, V]; ``once``: each distinct term counts 1."""


class QueryEncoder:
    """Encodes queries by look-up in a token table.

    Threads may share it. A forked process goes on with it; another gets it pickled, as the place of its table where
    that was loaded from a folder, else whole.

    Args:
        table: the token table.
        counts: "sum" counts every token in the sparse vector, "bow" each distinct one as 1; None for what the table's
            model was trained for.
        terms: what counts the terms of the sparse vector; None for the table's tokens. An index whose sparse side
            counts words has an encoder with its own.

    Attributes:
        chunks: the tokenizer, with the words that it remembers.

    Raises:
        UsageError: no table, or another value of ``counts``.
    """

    def __init__(self, table: TokenTable, counts: str | None = None, terms: TermCounter | None = None) -> None:
        if not isinstance(table, TokenTable):
            raise UsageError(f"the table is of type {type(table).__name__}: QueryEncoder.load opens a table's folder")
        counts = table.counts if counts is None else counts
        if counts not in COUNTS:
            raise UsageError(f"counts is {counts!r}: choose 'sum' or 'bow'")
        self.table = table
        self.counts = counts
        self._terms = terms
        self.truncated = 0  # queries cut to the table's max_length so far
        self.chunks = ChunkTokenizer(table.tokenizer, table.chunks)
        self._skip, self._skipped = np.array(table.skip_ids, dtype=np.int32), frozenset(table.skip_ids)
        self._rows, self._scales = _plain(table.rows), _plain(table.scales)
        self._phrases = table.phrases
        if table.phrases is not None:
            self._phrase_rows, self._phrase_scales = _plain(table.phrases.rows), _plain(table.phrases.scales)

    def __reduce__(self) -> tuple[type[QueryEncoder], tuple[TokenTable, str]]:
        if self._terms is not None:
            raise UsageError("an open index's encoder counts by its database: pass the index's path, and open it there")
        return type(self), (self.table, self.counts)

    @staticmethod
    def load(path: str | Path, dim: int | None = None, counts: str | None = None) -> QueryEncoder:
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
        """V, the number of tokens that the table has rows for."""
        return len(self.table)

    @property
    def words(self) -> Words | None:
        """What tells the words that the sparse vector counts; None where it counts tokens."""
        return None if self._terms is None else self._terms.words

    def encode(self, texts: Sequence[str] | str) -> Encoded:
        """Dense and sparse vectors of queries.

        Args:
            texts: any number of queries; one string is one query. Empty queries give zero vectors.

        Returns:
            ``dense`` float32 [n, d], unit rows; ``sparse`` [n, V], counts; ``trust`` and ``unknown`` where the
            table was fitted. A query of which nothing is understood has the zero vector.

        Raises:
            UsageError: what is no string, or no sequence of strings.
        """
        texts = _strings(texts)
        if len(texts) >= BATCH:
            ids, offsets = self._flat_ids(texts, leading_space=False)
            (dense, whole), counts = self._pool_batch(ids, offsets), self._count_batch(texts, (ids, offsets))
            return _without_strangers(Encoded(dense, counts, *self._trust_batch(ids, offsets, whole)))
        rows = self._ids(texts, leading_space=False)
        return _without_strangers(Encoded(self._pool(rows), self._count(texts, rows), *self._trust(rows)))

    def encode_dense(self, texts: Sequence[str] | str) -> NDArray[np.float32]:
        """The dense vectors alone: float32 [n, d], unit rows, zero rows for empty queries."""
        texts = _strings(texts)
        if len(texts) >= BATCH:
            return self._pool_batch(*self._flat_ids(texts, leading_space=False))[0]
        return self._pool(self._ids(texts, leading_space=False))

    def encode_sparse(self, texts: Sequence[str] | str) -> SparseVectors:
        """The counts alone: [n, V]."""
        texts = _strings(texts)
        if len(texts) >= BATCH:
            return self._count_batch(texts)
        return self._count(texts)

    def tokenize(self, texts: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Token ids of the dense side: flat int32, and int64 [n + 1] where each text begins.

        They are what ``tokenizers`` gives without special tokens, cut to the table's ``max_length``.
        """
        return self._flat_ids(_strings(texts), leading_space=False)

    def _ids(self, texts: Sequence[str], leading_space: bool, report: bool = True) -> list[list[int]]:
        """Ids of a few texts, those cut reported. An empty query has none, not even that of a space put before it."""
        rows = [self.chunks.ids(text, leading_space) if text else [] for text in texts]
        limit = self.table.max_length
        too_long = [i for i, row in enumerate(rows) if len(row) > limit]
        if too_long:
            if report:
                self._report_truncated(len(too_long), len(texts))
            for i in too_long:
                rows[i] = rows[i][:limit]
        return rows

    def _flat_ids(
        self, texts: Sequence[str], leading_space: bool, report: bool = True
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Ids of many texts, as `_ids` gives them, flat."""
        ids, offsets = self.chunks.flat_ids(texts, leading_space)
        if ids.max(initial=0) >= len(self.table):  # compiled code would read past the rows
            raise self._too_few_rows()
        lengths, limit = np.diff(offsets), self.table.max_length
        kept = np.minimum(lengths, limit)
        if leading_space and "" in texts:
            kept[[text == "" for text in texts]] = 0
        if not len(texts) or (kept == lengths).all():
            return ids, offsets
        too_long = int((lengths > limit).sum())
        if report and too_long:
            self._report_truncated(too_long, len(texts))
        starts = np.concatenate([[0], np.cumsum(kept)])
        return ids[np.repeat(offsets[:-1] - starts[:-1], kept) + np.arange(starts[-1])], starts

    def _report_truncated(self, count: int, n: int) -> None:
        if not self.truncated:
            warnings.warn(
                f"{count} of {n} queries are longer than {self.table.max_length} tokens and were cut; "
                "said once, QueryEncoder.truncated goes on counting",
                stacklevel=4,
            )
        self.truncated += count

    def _too_few_rows(self) -> ArtifactError:
        return ArtifactError(f"the table has {len(self.table)} rows, its tokenizer more ids: make the table again")

    def _pool(self, rows_of_ids: list[list[int]]) -> NDArray[np.float32]:
        try:
            return self._sum_up(rows_of_ids)
        except IndexError:
            raise self._too_few_rows() from None

    def _sum_up(self, rows_of_ids: list[list[int]]) -> NDArray[np.float32]:
        out = np.zeros((len(rows_of_ids), self.dim), dtype=np.float32)
        skip = self._skipped
        for unit, ids in zip(out, rows_of_ids, strict=True):
            total = None
            if self._phrases is not None:
                ids, found = self._phrases.segment(ids)
                total = _sum_rows(self._phrase_rows, self._phrase_scales, found) if found else None
            kept = ids if skip.isdisjoint(ids) else [i for i in ids if i not in skip]
            if kept:
                tokens = _sum_rows(self._rows, self._scales, kept)
                total = tokens if total is None else total + tokens
            if total is None:
                continue
            norm = float(total.dot(total)) ** 0.5
            if norm > 0:
                np.multiply(total, 1 / norm, out=unit)
        return out

    def _pool_batch(
        self, ids: NDArray[np.int32], offsets: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Unit rows [n, d], and which of the queries have one of their own as a whole [n]: both of one matching."""
        from lightretriever.query.kernels import pool_phrases, pool_rows  # numba loads with the first large batch

        n = len(offsets) - 1
        out, whole = np.empty((n, self.dim), dtype=np.float32), np.zeros(n, dtype=bool)
        rows = _bits(self._rows)

        def pool(start: int, end: int) -> None:
            part = offsets[start : end + 1]
            if self._phrases is None:
                pool_rows(ids, part, rows, self._scales, self._skip, out[start:end])
                return
            phrase_rows = _bits(self._phrase_rows)
            found, starts = self._phrases.match(ids, part, len(rows))
            alone = np.flatnonzero(np.diff(starts) == 1)
            whole[start + alone] = found[starts[alone]] >= len(rows) + len(self._phrases) - self._phrases.whole
            pool_phrases(
                found,
                starts,
                rows,
                self._scales,
                phrase_rows,
                self._phrase_scales,
                self._skip,
                out[start:end],
            )

        parts = max(1, min(THREADS, n // TEXTS_PER_THREAD))
        bounds = [n * i // parts for i in range(parts + 1)]
        with ThreadPoolExecutor(parts) as threads:
            list(threads.map(pool, bounds[:-1], bounds[1:]))
        return out, whole

    def _trust(self, rows_of_ids: list[list[int]]) -> Trust:
        evidence, phrases = self.table.evidence, self._phrases
        if evidence is None:
            return None, None
        trusts, unknown = [], []
        for ids in rows_of_ids:
            total, sure = (0.0, 0.0) if phrases is not None and phrases.is_whole(ids) else evidence.add_up(ids)
            trusts.append(sure / total if total > 0 else 1.0)
            unknown.append(total - sure)
        return np.array(trusts, dtype=np.float32), np.array(unknown, dtype=np.float32)

    def _trust_batch(self, ids: NDArray[np.int32], offsets: NDArray[np.int64], whole: NDArray[np.bool_]) -> Trust:
        if self.table.evidence is None:
            return None, None
        total, sure = self.table.evidence.add_up_many(ids, offsets)
        total[whole] = 0.0
        understood = np.divide(sure, total, out=np.ones_like(total), where=total > 0)
        return understood, np.where(total > 0, total - sure, np.float32(0))

    def _count(self, texts: Sequence[str], dense: list[list[int]] | None = None) -> SparseVectors:
        """Counts of a few queries; ``dense`` are their ids on the dense side, where these are at hand."""
        if self._terms is not None:
            return self._terms.count(texts, self.counts == "bow")
        spaced = self.table.leading_space
        rows = dense if dense is not None and not spaced else self._ids(texts, spaced, report=dense is None)
        try:
            return count_few(rows, self.vocab_size, self.counts == "bow")
        except IndexError:
            raise self._too_few_rows() from None

    def _count_batch(self, texts: Sequence[str], dense: FlatIds | None = None) -> SparseVectors:
        """Likewise of many."""
        if self._terms is not None:
            return self._terms.count(texts, self.counts == "bow")
        from lightretriever.query.kernels import count_flat

        spaced = self.table.leading_space
        flat = dense if dense is not None and not spaced else self._flat_ids(texts, spaced, report=dense is None)
        return count_flat(*flat, self.vocab_size, self.counts == "bow")


def _strings(texts: Iterable[str]) -> Sequence[str]:
    """Queries as they were given, one string being one. Raises UsageError for what is none."""
    if isinstance(texts, str):
        return [texts]
    if not isinstance(texts, list | tuple):
        named = isinstance(texts, Mapping | Set) or getattr(texts, "ndim", 1) != 1  # a data frame has two dimensions
        if named or not isinstance(texts, Iterable):
            raise UsageError(f"the queries are of type {type(texts).__name__}: a string or a list of strings is needed")
        texts = list(texts)
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            raise UsageError(f"query {place} is of type {type(text).__name__}: a string is needed")
    return texts


def _without_strangers(encoded: Encoded) -> Encoded:
    """Zero vectors for queries of which nothing is understood: whatever their rows add up to, it says nothing."""
    if encoded.trust is not None and not encoded.trust.all():
        encoded.dense[encoded.trust == 0] = 0
    return encoded


def _plain(array: NDArray[np.generic] | None) -> NDArray:
    """`plain_view`, of no numbers for None."""
    return plain_view(np.ones(0, np.float32) if array is None else array)


def _bits(rows: NDArray) -> NDArray:
    """Rows as the kernels take them: float16's bits as uint16."""
    return rows.view(np.uint16) if rows.dtype == np.float16 else rows


def _sum_rows(rows: NDArray, scales: NDArray[np.float32], numbers: list[int]) -> NDArray[np.float32]:
    """The sum of some rows [d], whatever they are stored as."""
    taken = rows.take(numbers, axis=0)
    if taken.dtype != np.float32:
        taken = taken.astype(np.float32)
        if len(scales):
            taken *= scales.take(numbers)[:, None]
    return np.add.reduce(taken, axis=0)
