"""BM25 as a sparse document vector over the tower's own tokens, so that a query's token counts score it exactly.

The impact of token t in document d is ``idf(t) · tf / (tf + k1 · (1 − b + b · |d| / mean))`` with k1 = 0.9, b = 0.4 and
``idf(t) = ln(1 + (N − df(t) + ½) / (df(t) + ½))`` (Robertson and Zaragoza 2009 without the constant factor k1 + 1,
as Lucene has it). The inner product with the counts of a query is then its BM25 score. The whole text counts,
however long; byte-level BPE reads it after one space, as it reads a query (METHOD "Queries").
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from lightretriever.artifact import load_tensors, save_tensors
from lightretriever.errors import ArtifactError
from lightretriever.text.tokenizer import encode_batch
from lightretriever.types import SparseVectors

K1, B = 0.9, 0.4
_BATCH = 512  # texts tokenised at once


def count_tokens(texts: Sequence[str], tokenizer: Tokenizer, leading_space: bool, width: int) -> SparseVectors:
    """Token counts of each text, without special tokens: [n, width].

    Args:
        texts: of any length; nothing is cut.
        tokenizer: the table's.
        leading_space: whether each text is read after one space.
        width: V, more than any token id.
    """
    flat: list[NDArray[np.int64]] = []
    lengths: list[int] = []
    for start in range(0, len(texts), _BATCH):
        batch = [f" {text}" if leading_space and text else text for text in texts[start : start + _BATCH]]
        for encoding in encode_batch(tokenizer, batch):
            ids = encoding.ids
            lengths.append(len(ids))
            flat.append(np.array(ids, dtype=np.int64))
    rows = np.repeat(np.arange(len(texts)), lengths)
    keys, counts = np.unique(rows * width + np.concatenate([*flat, np.empty(0, np.int64)]), return_counts=True)
    indptr = np.searchsorted(keys, np.arange(len(texts) + 1) * width).astype(np.int64)
    return SparseVectors(indptr, (keys % width).astype(np.int32), counts.astype(np.float32), width)


def inverse_frequencies(documents: int, frequency: NDArray[np.int64]) -> NDArray[np.float64]:
    """idf of every token, float64 [V], none negative: of how many documents there are, and how many hold each."""
    return np.asarray(np.log1p((documents - frequency + 0.5) / (frequency + 0.5)))


@dataclass(frozen=True, slots=True)
class BM25:
    """What BM25 knows of a collection. Impacts made with one are comparable with each other, not with another's.

    Attributes:
        documents: N, how many the statistics were taken of.
        mean_length: their mean number of tokens.
        frequency: int64 [V], df: how many of them hold each token.
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

    def impacts(self, counts: SparseVectors) -> SparseVectors:
        """Document vectors [n, V] for token counts [n, V]; a token that the statistics never saw has df 0."""
        idf = inverse_frequencies(self.documents, self.frequency)
        of_row = np.diff(counts.indptr)
        tf = counts.values.astype(np.float64)
        totals = np.concatenate([[0.0], np.cumsum(tf)])
        lengths = totals[counts.indptr[1:]] - totals[counts.indptr[:-1]]
        norms = K1 * (1 - B + B * lengths / max(self.mean_length, 1e-9))
        values = idf[counts.indices] * tf / (tf + np.repeat(norms, of_row))
        return SparseVectors(counts.indptr, counts.indices, values.astype(np.float32), counts.width)

    def save(self, path: Path) -> None:
        """Write a safetensors file, atomically."""
        tensors = {
            "documents": np.array([self.documents], dtype=np.int64),
            "mean_length": np.array([self.mean_length], dtype=np.float64),
            "frequency": self.frequency,
        }
        save_tensors(path, tensors)

    @staticmethod
    def load(path: Path) -> BM25:
        """Read what `save` wrote. Raises ArtifactError when it is absent or damaged."""
        tensors = load_tensors(path)
        try:
            documents, mean_length = tensors["documents"], tensors["mean_length"]
            frequency = tensors["frequency"]
            found = BM25(int(documents.item()), float(mean_length.item()), frequency)
            good = (
                (documents.dtype, mean_length.dtype, frequency.dtype) == (np.int64, np.float64, np.int64)
                and found.documents >= 0
                and 0 <= found.mean_length < np.inf
                and frequency.ndim == 1
                and 0 <= frequency.min(initial=0) <= frequency.max(initial=0) <= found.documents
            )
        except (KeyError, ValueError):
            good = False
        if not good:
            raise ArtifactError(f"{path} holds no BM25 statistics: refresh them, or make the index again")
        return found
