"""BM25 as a sparse document vector over counts of terms, so that a query's counts score it exactly.

The impact of token t in document d is ``idf(t) · tf / (tf + k1 · (1 − b + b · |d| / mean))`` with k1 = 0.9, b = 0.75
and ``idf(t) = ln(1 + (N − df(t) + ½) / (df(t) + ½))`` (Robertson and Zaragoza 2009 without the constant factor k1 + 1,
as Lucene has it). The inner product with the counts of a query is then its BM25 score. The whole text counts,
however long. Where terms are the tower's tokens, byte-level BPE reads a text after one space, as it reads a query
(METHOD "Queries"). k1 and b were chosen on the training queries of six collections; docs/sparse.md has the table.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lightretriever.query.kernels import count_flat
from lightretriever.text.memo import ChunkTokenizer
from lightretriever.types import SparseVectors

K1, B = 0.9, 0.75
_HEAD = "<qdq"


def count_tokens(texts: Sequence[str], chunks: ChunkTokenizer, leading_space: bool, width: int) -> SparseVectors:
    """Token counts of each text, without special tokens: [n, width].

    Args:
        texts: of any length; nothing is cut.
        chunks: over the table's tokenizer.
        leading_space: whether each text is read after one space.
        width: V, more than any token id.
    """
    some = [text for text in texts if text] if leading_space else texts  # or the space alone would be a token
    counts = count_flat(*chunks.flat_ids(some, leading_space), width)
    if len(some) == len(texts):
        return counts
    return replace(counts, indptr=counts.indptr[np.cumsum([0, *map(bool, texts)])])


def inverse_frequencies(documents: int, frequency: NDArray[np.int64]) -> NDArray[np.float64]:
    """idf of every token, float64 [V], none negative: of how many documents there are, and how many hold each."""
    return np.asarray(np.log1p((documents - frequency + 0.5) / (frequency + 0.5)))


@dataclass(frozen=True, slots=True)
class BM25:
    """What BM25 knows of a collection. Impacts made with one are comparable with each other, not with another's.

    Attributes:
        documents: N, how many the statistics were taken of.
        mean_length: their mean number of tokens.
        frequency: int64 [V], df: how many of them hold each token; tokens beyond were in none.
    """

    documents: int
    mean_length: float
    frequency: NDArray[np.int64]

    @staticmethod
    def of(counts: Iterable[SparseVectors], width: int) -> BM25:
        """Statistics of a collection whose token counts come part by part; each part [n, width]."""
        documents, tokens = 0, 0.0
        frequency = np.zeros(width, dtype=np.int64)
        for part in counts:
            documents += len(part)
            tokens += float(part.values.sum(dtype=np.float64))
            frequency += np.bincount(part.indices, minlength=width)
        return BM25(documents, tokens / max(documents, 1), frequency)

    def impacts(self, counts: SparseVectors, k1: float = K1, b: float = B) -> SparseVectors:
        """Document vectors [n, V] for token counts [n, V]; a token that the statistics never saw has df 0."""
        known = self.frequency
        if len(known) < counts.width:
            known = np.pad(known, (0, counts.width - len(known)))
        idf = inverse_frequencies(self.documents, known[counts.indices])
        of_row = np.diff(counts.indptr)
        tf = counts.values.astype(np.float64)
        totals = np.concatenate([[0.0], np.cumsum(tf)])
        lengths = totals[counts.indptr[1:]] - totals[counts.indptr[:-1]]
        norms = k1 * (1 - b + b * lengths / max(self.mean_length, 1e-9))
        values = idf * tf / (tf + np.repeat(norms, of_row))
        return replace(counts, values=values.astype(np.float32))

    def pack(self) -> bytes:
        """As bytes, with a checksum."""
        head = struct.pack(_HEAD, self.documents, self.mean_length, len(self.frequency))
        body = head + zlib.compress(np.ascontiguousarray(self.frequency, np.int64).tobytes(), 1)
        return zlib.crc32(body).to_bytes(4, "little") + body

    @staticmethod
    def unpack(packed: object, width: int) -> BM25:
        """Of what `pack` made, where there are ``width`` tokens by now. Raises ValueError when it is something else."""
        if not isinstance(packed, bytes) or int.from_bytes(packed[:4], "little") != zlib.crc32(packed[4:]):
            raise ValueError("they are not what was written")
        if len(packed) < 4 + struct.calcsize(_HEAD):
            raise ValueError("they are not what was written")
        documents, mean_length, tokens = struct.unpack_from(_HEAD, packed, 4)
        if tokens > width:
            raise ValueError(f"they count {tokens} tokens, the index has {width}")
        try:
            unpacked = zlib.decompressobj().decompress(packed[4 + struct.calcsize(_HEAD) :], 8 * tokens + 1)
        except zlib.error:
            unpacked = b""
        frequency = np.frombuffer(unpacked if len(unpacked) == 8 * tokens else b"", np.int64)
        good = documents >= 0 and 0 <= mean_length < np.inf and len(frequency) == tokens
        if not good or not 0 <= frequency.min(initial=0) <= frequency.max(initial=0) <= documents:
            raise ValueError("their numbers contradict each other")
        return BM25(documents, mean_length, frequency)
