"""Texts as bags of tokens: the rows of the least-squares problem that a table is fitted by."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from lightretriever.query.phrases import PhraseTable
from lightretriever.tables.kernels import multiply
from lightretriever.text.tokenizer import encode_batch
from lightretriever.types import SparseVectors, take_sparse


@dataclass(frozen=True, slots=True)
class Bags:
    """n texts as compressed sparse rows: distinct token ids, ascending, with their weights.

    Attributes:
        indptr: int64 [n + 1].
        ids: int32 [non-zeros], 0 … width - 1.
        weights: float32 [non-zeros]; a token's share of its text's tokens, times the text's scale.
        width: number of ids (V).
    """

    indptr: NDArray[np.int64]
    ids: NDArray[np.int32]
    weights: NDArray[np.float32]
    width: int

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def take(self, rows: NDArray[np.intp]) -> Bags:
        """The given texts, in the given order."""
        taken = take_sparse(SparseVectors(self.indptr, self.ids, self.weights, self.width), rows)
        return Bags(taken.indptr, taken.indices, taken.values, taken.width)

    def scaled(self, scale: NDArray[np.float32]) -> Bags:
        """Each text's weights times its own factor [n]."""
        factors = np.repeat(scale, np.diff(self.indptr)).astype(np.float32)
        return Bags(self.indptr, self.ids, self.weights * factors, self.width)

    def relabelled(self, new_ids: NDArray[np.int32], width: int) -> Bags:
        """Ids replaced by ``new_ids[id]``, which must ascend with id."""
        return Bags(self.indptr, new_ids[self.ids], self.weights, width)

    def below(self, width: int) -> Bags:
        """The ids below ``width`` alone: of bags with phrases, their tokens."""
        kept = self.ids < width
        indptr = np.concatenate([[0], np.cumsum(kept)])[self.indptr].astype(np.int64)
        return Bags(indptr, self.ids[kept], self.weights[kept], width)

    def document_frequency(self) -> NDArray[np.int64]:
        """In how many texts each id occurs [width]."""
        return np.bincount(self.ids, minlength=self.width)

    def multiply(self, table: NDArray[np.float32]) -> NDArray[np.float32]:
        """Every text's weighted sum of table rows: [n, d]."""
        out = np.empty((len(self), table.shape[1]), dtype=np.float32)
        multiply(self.indptr, self.ids, self.weights, np.ascontiguousarray(table), out)
        return out


@dataclass(frozen=True, slots=True)
class Tokens:
    """n texts as their token ids, in order and without specials.

    Attributes:
        ids: int32, flat.
        offsets: int64 [n + 1], where each text begins in ``ids``.
    """

    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def joined(self, other: Tokens) -> Tokens:
        """These texts, then the others."""
        offsets = np.concatenate([self.offsets, other.offsets[1:] + self.offsets[-1]])
        return Tokens(np.concatenate([self.ids, other.ids]), offsets)


def tokenise(texts: Sequence[str], tokenizer: Tokenizer, max_tokens: int) -> Tokens:
    """The tokens of n texts, each as a query would be tokenised (METHOD "Queries").

    Args:
        texts: n texts.
        tokenizer: without truncation.
        max_tokens: tokens kept of each text, from its beginning.

    Raises:
        ModelError: the tokenizer fails on a text.
    """
    ids: list[NDArray[np.int32]] = [np.empty(0, np.int32)]
    for start in range(0, len(texts), 4096):  # pieces bound the memory of the tokenizer's own objects
        encodings = encode_batch(tokenizer, list(texts[start : start + 4096]))
        ids += [np.asarray(encoding.ids[:max_tokens], dtype=np.int32) for encoding in encodings]
    return Tokens(np.concatenate(ids), np.cumsum([len(row) for row in ids], dtype=np.int64))


def make_bags(tokens: Tokens, width: int, skip_ids: Iterable[int] = (), phrases: PhraseTable | None = None) -> Bags:
    """Mean bags of texts, ``skip_ids`` left out.

    Args:
        tokens: of n texts; the bag of one without tokens is empty.
        width: V, above every id.
        skip_ids: ids that a query skips.
        phrases: found in the texts as in a query, and counted beside their tokens, under ids from V on.
    """
    skipped = np.asarray(sorted(skip_ids), dtype=np.int32)
    indptr = np.zeros(len(tokens) + 1, dtype=np.int64)
    ids: list[NDArray[np.int32]] = []
    weights: list[NDArray[np.float32]] = []
    found = None if phrases is None else phrases.match(tokens.ids, tokens.offsets, width)
    for row, (start, end) in enumerate(pairwise(tokens.offsets)):
        own = tokens.ids[start:end]
        kept = features = own[~np.isin(own, skipped)] if len(skipped) else own
        if found is not None:
            part = found[0][found[1][row] : found[1][row + 1]]
            features = np.concatenate([kept, part[part >= width]])
        distinct, counts = np.unique(features, return_counts=True)
        indptr[row + 1] = len(distinct)
        ids.append(distinct)
        weights.append((counts / max(len(kept), 1)).astype(np.float32))
    np.cumsum(indptr, out=indptr)
    total = width + (0 if phrases is None else len(phrases))
    empty_ids, empty_weights = np.empty(0, np.int32), np.empty(0, np.float32)
    return Bags(indptr, np.concatenate([empty_ids, *ids]), np.concatenate([empty_weights, *weights]), total)


def text_key(text: str) -> bytes:
    """Sixteen bytes, the same for the same text everywhere: they de-duplicate, and order as if at random."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def join_bags(first: Bags, second: Bags) -> Bags:
    """The texts of both, over one vocabulary."""
    indptr = np.concatenate([first.indptr, second.indptr[1:] + first.indptr[-1]])
    ids = np.concatenate([first.ids, second.ids])
    return Bags(indptr, ids, np.concatenate([first.weights, second.weights]), first.width)


def unit_rows(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows divided by their length; zero rows stay zero."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.float32(1e-12))
