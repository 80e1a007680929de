"""Rows for sequences of tokens, found in a query by longest match. The dense side only: counts stay per token.

There are two kinds. A *phrase* of two tokens or more stands for its tokens wherever they come: from the left, the
longest phrase that begins at a token replaces the rows of its tokens in the sum. A *whole query* stands for a query
that is exactly its tokens, and then for all of it: its row is the tower's own vector of that query.

Both are found through one hash table of 64-bit keys. A phrase is a path of a trie, whose step from a node by a token
has the key ``node << 32 | token``; a whole query has a hash of its tokens, which are then compared. So no match is
ever guessed, and a table of a million rows is looked up from a memory map as it lies on the disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightretriever.artifact import map_tensor, plain_view, save_tensors, sha256_bytes
from lightretriever.errors import ArtifactError, UsageError

EMPTY = -1  # in place of a key
GOLDEN = 0x9E3779B97F4A7C15  # 2^64 over the golden ratio: multiplying spreads keys over the slots
PRIME = 0x100000001B3
_MASK = (1 << 64) - 1


@dataclass(frozen=True, eq=False)
class PhraseTable:
    """P sequences of tokens with a row each; the last ``whole`` of them are whole queries. Made by `build_phrases`.

    Attributes:
        ids: int32, the sequences one after the other.
        indptr: int64 [P + 1], where each begins in ``ids``.
        rows: [P, d], as a token table's: the sum of the phrase's token rows and its correction; not normalised.
        scales: float32 [P] for int8 rows, else None.
        shares: float32 [P], 0 … 1: how much of what was found for a phrase its row keeps, the rest being its tokens'
            own rows; 1 for whole queries.
        whole: how many of the sequences are whole queries.
        roots: int32 [V], the trie's node of a first token; 0 for none.
        keys: int64 [slots], a power of two; `EMPTY` where there is none.
        values: int32 [slots], the node that a step leads to, or the whole query's number.
        ends: int32 [nodes], the phrase that ends at a node; -1 for none.
    """

    ids: NDArray[np.int32] = field(repr=False)
    indptr: NDArray[np.int64] = field(repr=False)
    rows: NDArray[np.generic]
    scales: NDArray[np.float32] | None
    shares: NDArray[np.float32] = field(repr=False)
    whole: int
    roots: NDArray[np.int32] = field(repr=False)
    keys: NDArray[np.int64] = field(repr=False)
    values: NDArray[np.int32] = field(repr=False)
    ends: NDArray[np.int32] = field(repr=False)

    def __len__(self) -> int:
        return len(self.rows)

    def __reduce__(self) -> tuple[type[PhraseTable], tuple[object, ...]]:
        parts = (getattr(self, field.name) for field in fields(self))  # views for quick access are made anew
        return PhraseTable, tuple(np.array(part) if isinstance(part, np.ndarray) else part for part in parts)

    def sequence(self, number: int) -> list[int]:
        """The tokens of one of the sequences."""
        return self.ids[self.indptr[number] : self.indptr[number + 1]].tolist()

    @cached_property
    def longest_whole(self) -> int:
        """Tokens of the longest whole query."""
        return int(np.diff(self.indptr[len(self) - self.whole :]).max(initial=0))

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the sequences, their kinds and their rows as stored."""
        parts = [self.ids, self.indptr, self.rows] + ([] if self.scales is None else [self.scales])
        return sha256_bytes(b"".join(np.ascontiguousarray(part).tobytes() for part in parts) + b"%d" % self.whole)

    @cached_property
    def _views(self) -> tuple[memoryview, memoryview, memoryview, memoryview]:
        # Indexing a memoryview gives a plain int at a third of what indexing an array costs.
        roots, keys, values, ends = (np.asarray(a).data for a in (self.roots, self.keys, self.values, self.ends))
        return roots, keys, values, ends

    def segment(self, ids: list[int]) -> tuple[list[int], list[int]]:
        """One query in plain Python, as `kernels.match_phrases` does many: tokens left over, and phrases found."""
        roots, keys, values, ends = self._views
        if self.whole and len(ids) <= self.longest_whole:
            number = self._find_whole(ids)
            if number >= 0:
                return [], [number]
        if len(ends) < 2:
            return ids, []
        slot_mask, shift = len(keys) - 1, 65 - len(keys).bit_length()
        tokens, found = list[int](), list[int]()
        i, n = 0, len(ids)
        while i < n:
            node, best, end, j = roots[ids[i]], -1, i + 1, i + 1
            while node and j < n:
                key = node << 32 | ids[j]
                slot = (key * GOLDEN & _MASK) >> shift
                while (known := keys[slot]) != key and known != EMPTY:
                    slot = (slot + 1) & slot_mask
                if known == EMPTY:
                    break
                node = values[slot]
                j += 1
                if ends[node] >= 0:
                    best, end = ends[node], j
            if best < 0:
                tokens.append(ids[i])
            else:
                found.append(best)
            i = end
        return tokens, found

    def is_whole(self, ids: list[int]) -> bool:
        """Whether these tokens are one of the whole queries."""
        return bool(self.whole) and len(ids) <= self.longest_whole and self._find_whole(ids) >= 0

    def match(
        self, ids: NDArray[np.int32], offsets: NDArray[np.int64], width: int
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Many queries, compiled: flat ids with each phrase found as ``width`` plus its number, and where texts begin.

        Args:
            ids: int32, flat, 0 … width - 1.
            offsets: int64 [n + 1], where each text begins in ``ids``.
            width: V.
        """
        from lightretriever.query.kernels import match_phrases  # numba loads with the first large batch

        found = np.empty(int(offsets[-1] - offsets[0]), dtype=np.int32)
        found_offsets = np.empty(len(offsets), dtype=np.int64)
        index = (self.roots, self.keys, self.values, self.ends, self.ids, self.indptr)
        arrays = (plain_view(array) for array in index)
        match_phrases(ids, offsets, self.longest_whole, *arrays, width, found, found_offsets)
        return found, found_offsets

    def _find_whole(self, ids: list[int]) -> int:
        """The number of the whole query that is these tokens, or -1."""
        _, keys, values, _ = self._views
        hashed = len(ids)
        for token in ids:
            hashed = (hashed ^ token) * PRIME & _MASK
        hashed = (hashed | 1 << 63) & ~1
        key, slot_mask = hashed - (1 << 64), len(keys) - 1
        slot = (hashed * GOLDEN & _MASK) >> (65 - len(keys).bit_length())
        while (known := keys[slot]) != EMPTY:
            if known == key and self.sequence(values[slot]) == ids:
                return values[slot]
            slot = (slot + 1) & slot_mask
        return -1

    def save(self, path: Path) -> None:
        """Write all of it to one safetensors file.

        Raises:
            ArtifactError: it cannot be written.
        """
        tensors = {name: getattr(self, name) for name in _TENSORS}
        save_tensors(path, tensors if self.scales is None else tensors | {"scales": self.scales})

    @staticmethod
    def load(path: Path, whole: int, dtype: str, shape: tuple[int, int]) -> PhraseTable:
        """Open what `save` wrote; rows stay on disk until they are touched.

        Args:
            path: the file.
            whole: how many of the sequences are whole queries.
            dtype, shape: of the rows of the token table.

        Raises:
            ArtifactError: the file is absent, damaged, or not what the arguments say.
        """
        found = {name: map_tensor(path, name) for name in _TENSORS}
        phrases = PhraseTable(scales=map_tensor(path, "scales") if dtype == "int8" else None, whole=whole, **found)
        if not (phrases._fits(dtype, shape) and phrases._leads_nowhere_else()):
            raise ArtifactError(f"{path} is damaged, or of another table: make the table again")
        return phrases

    def _fits(self, dtype: str, shape: tuple[int, int]) -> bool:
        """Whether arrays have the types that kernels are compiled for, and lengths that fit together."""
        count, slots = len(self.rows), len(self.keys)
        arrays = {name: getattr(self, name) for name in (*_TENSORS, "scales") if name != "rows"}
        return (
            all(array is None or (array.ndim, array.dtype) == (1, _DTYPES[name]) for name, array in arrays.items())
            and (self.rows.ndim, self.rows.dtype.name) == (2, dtype)
            and self.rows.shape[1] == shape[1]
            and len(self.roots) == shape[0]
            and 0 <= self.whole <= count == len(self.indptr) - 1 == len(self.shares)
            and (self.scales is None or len(self.scales) == count)
            and slots == len(self.values) > 0
            and slots & (slots - 1) == 0
            and len(self.ends) > 0
        )

    def _leads_nowhere_else(self) -> bool:
        """Whether every number in it is one of a place that there is: kernels do not check."""
        free, nodes, count = self.keys == EMPTY, len(self.ends), len(self)
        limits = np.where(self.keys < 0, count, nodes)  # a whole query's key is negative, a step's is not
        return bool(
            free.any()  # where a search for what is not there ends
            and ((self.values >= 0) & (self.values < limits) | free).all()
            and self.roots.min(initial=0) >= 0
            and self.roots.max(initial=0) < nodes
            and self.ends.min() >= -1
            and self.ends.max() < count
            and self.indptr[0] == 0
            and (np.diff(self.indptr) > 0).all()
            and self.indptr[-1] == len(self.ids)
        )


_TENSORS = ("ids", "indptr", "rows", "shares", "roots", "keys", "values", "ends")
_DTYPES = {"indptr": np.int64, "keys": np.int64, "shares": np.float32, "scales": np.float32} | dict.fromkeys(
    ("ids", "roots", "values", "ends"), np.int32
)


def build_phrases(
    phrases: Sequence[Sequence[int]],
    queries: Sequence[Sequence[int]],
    rows: NDArray[np.generic],
    scales: NDArray[np.float32] | None,
    shares: NDArray[np.float32],
    width: int,
) -> PhraseTable:
    """A table of phrases, then of whole queries.

    Args:
        phrases: sequences of two tokens or more, distinct.
        queries: sequences of one token or more, distinct.
        rows, scales, shares: see `PhraseTable`; phrases first.
        width: V, above every id.

    Raises:
        UsageError: a sequence that comes twice, is too short or has an impossible id; or not one row for each.
    """
    sequences = [*phrases, *queries]
    lengths = np.fromiter(map(len, sequences), np.int64, count=len(sequences))
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = np.fromiter((i for sequence in sequences for i in sequence), np.int32, count=int(indptr[-1]))
    if not len(rows) == len(shares) == len(sequences):
        raise UsageError(f"{len(sequences)} phrases, {len(rows)} rows, {len(shares)} shares: give one for each")
    if (lengths < 1).any() or (lengths[: len(phrases)] < 2).any():
        raise UsageError("a phrase needs two tokens or more, a whole query one: leave the others out")
    if len(ids) and (ids.min() < 0 or ids.max() >= width):
        raise UsageError(f"a phrase has an id outside 0 … {width - 1}: make it with the table's own tokenizer")
    from lightretriever.query.kernels import fill_phrases  # numba, where a table is made

    slots = 1 << max(3, (2 * (int(lengths[: len(phrases)].sum()) + len(queries))).bit_length())
    keys, values = np.full(slots, EMPTY, dtype=np.int64), np.zeros(slots, dtype=np.int32)
    roots = np.zeros(width, dtype=np.int32)
    ends = np.full(int(lengths[: len(phrases)].sum()) + 1, -1, dtype=np.int32)
    nodes, twice = fill_phrases(ids, indptr, len(phrases), roots, keys, values, ends)
    if twice >= 0:
        raise UsageError(f"phrase {twice} comes twice: give each once")
    return PhraseTable(ids, indptr, rows, scales, shares, len(queries), roots, keys, values, ends[:nodes])
