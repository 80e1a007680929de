"""Texts as bags of tokens: the rows of the least-squares problem that a table is fitted by."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

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


def make_bags(
    texts: Sequence[str],
    tokenizer: Tokenizer,
    width: int,
    max_tokens: int,
    skip_ids: Iterable[int] = (),
    phrases: PhraseTable | None = None,
) -> Bags:
    """Mean bags of texts as a query would be tokenised (METHOD "Queries"): no specials, ``skip_ids`` left out.

    Args:
        texts: n texts; the bag of one without tokens is empty.
        tokenizer: without truncation.
        width: V, above every id.
        max_tokens: tokens counted of each text, from its beginning.
        skip_ids: ids that a query skips.
        phrases: found in the texts as in a query, and counted beside their tokens, under ids from V on.
    """
    skipped = np.asarray(sorted(skip_ids), dtype=np.int64)
    indptr = np.zeros(len(texts) + 1, dtype=np.int64)
    ids: list[NDArray[np.int32]] = []
    weights: list[NDArray[np.float32]] = []
    for start in range(0, len(texts), 4096):  # pieces bound the memory of the tokenizer's own objects
        encodings = encode_batch(tokenizer, list(texts[start : start + 4096]))
        rows = [np.asarray(encoding.ids[:max_tokens], dtype=np.int64) for encoding in encodings]
        found = [] if phrases is None else _find_phrases(rows, phrases, width)
        for row, tokens in enumerate(rows):
            kept = tokens[~np.isin(tokens, skipped)] if len(skipped) else tokens
            features = kept if phrases is None else np.concatenate([kept, found[row]])
            distinct, counts = np.unique(features, return_counts=True)
            indptr[start + row + 1] = len(distinct)
            ids.append(distinct.astype(np.int32))
            weights.append((counts / max(len(kept), 1)).astype(np.float32))
    np.cumsum(indptr, out=indptr)
    total = width + (0 if phrases is None else len(phrases))
    empty_ids, empty_weights = np.empty(0, np.int32), np.empty(0, np.float32)
    return Bags(indptr, np.concatenate([empty_ids, *ids]), np.concatenate([empty_weights, *weights]), total)


def _find_phrases(rows: Sequence[NDArray[np.int64]], phrases: PhraseTable, width: int) -> list[NDArray[np.int32]]:
    """The phrases of each text, as ids from ``width`` on."""
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    found, bounds = phrases.match(np.concatenate([*rows, np.empty(0, np.int64)]).astype(np.int32), offsets, width)
    return [part[part >= width] for part in np.split(found[: bounds[-1]], bounds[1:-1])]


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
