"""How much of a query a fitted table understands: what the texts of its fit said of every token.

A row that no text moved says nothing, or what the prior said; one that a single text moved says little. A token's
confidence is ``c(n) = (n + c₀) / (n + 1)``, n being the number of texts that hold it and c₀ what a row of the prior is
worth alone. A query's trust is the mean confidence of its tokens, each weighted by its inverse document frequency
``u(n) = ln((N + 1) / (n + ½))``: not knowing "the" matters little, not knowing a name matters much.

Pieces of words are met everywhere, whole words are not: all of "khachapuri" is cut into pieces that other words have
too. So a piece that goes on with a word is counted together with the piece before it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightretriever.artifact import load_tensors, plain_view, save_tensors, sha256_bytes
from lightretriever.errors import ArtifactError

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)  # without slots, for the arrays that are made once
class Evidence:
    """Of each token, and of each pair of pieces within a word, the number of texts that hold it.

    Attributes:
        frequency: uint32 [V].
        inner: bool [V], tokens that go on with a word.
        pairs: int64 [P], ascending: ``left · V + right``, right being an inner token.
        pair_frequency: uint32 [P].
        texts: N, how many the fit saw.
        prior: c₀ in 0 … 1, the confidence in a row that no text moved.
    """

    frequency: NDArray[np.uint32]
    inner: NDArray[np.bool_]
    pairs: Ints
    pair_frequency: NDArray[np.uint32]
    texts: int
    prior: float = 0.0

    def __reduce__(self) -> tuple[type[Evidence], tuple[object, ...]]:
        return Evidence, tuple(getattr(self, field.name) for field in fields(self))  # views are made anew

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of all of it."""
        arrays = (self.frequency, self.inner, self.pairs, self.pair_frequency)
        numbers = b"%d %r" % (self.texts, self.prior)
        return sha256_bytes(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays) + numbers)

    def confidences(self, frequency: NDArray[np.unsignedinteger]) -> NDArray[np.float32]:
        """c of tokens that so many texts hold."""
        return ((frequency + self.prior) / (frequency + 1.0)).astype(np.float32)

    def weights(self, frequency: NDArray[np.unsignedinteger]) -> NDArray[np.float32]:
        """u of tokens that so many texts hold."""
        return np.log((self.texts + 1.0) / (frequency + 0.5)).clip(min=0.0).astype(np.float32)

    @cached_property
    def arrays(self) -> Arrays:
        """What a query's trust is added up from, a weight and a known share of it for every token and pair."""
        none = np.zeros(1, dtype=np.uint32)
        weight, pair_weight = self.weights(self.frequency), self.weights(self.pair_frequency)
        new = float(self.weights(none)[0])
        return Arrays(
            inner=self.inner,
            pairs=self.pairs,
            weight=weight,
            known=weight * self.confidences(self.frequency),
            pair_weight=pair_weight,
            pair_known=pair_weight * self.confidences(self.pair_frequency),
            new_weight=new,
            new_known=new * self.prior,
        )

    def add_up(self, ids: Sequence[int]) -> tuple[float, float]:
        """The weight of a query's tokens, and how much of it is understood. Plain Python: numpy is slower on so few."""
        weights, known, inner, pairs, pair_weights, pair_known = self._views
        arrays = self.arrays
        width, last, total, sure, before = len(self.frequency), len(pairs), 0.0, 0.0, -1
        for token in ids:
            if before >= 0 and inner[token]:
                key = before * width + token
                place = bisect_left(pairs, key)
                if place < last and pairs[place] == key:
                    total += pair_weights[place]
                    sure += pair_known[place]
                else:
                    total += arrays.new_weight
                    sure += arrays.new_known
            else:
                total += weights[token]
                sure += known[token]
            before = token
        return total, sure

    def add_up_many(self, ids: NDArray[np.int32], offsets: Ints) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """`add_up` of many queries [n], compiled: of flat ids, and where each query begins in them [n + 1]."""
        from lightretriever.query.kernels import add_evidence  # numba loads with the first large batch

        total, sure = np.empty(len(offsets) - 1, dtype=np.float32), np.empty(len(offsets) - 1, dtype=np.float32)
        arrays = self.arrays
        add_evidence(
            ids,
            offsets,
            *(plain_view(array) for array in (arrays.inner, arrays.pairs, arrays.weight, arrays.known)),
            *(plain_view(array) for array in (arrays.pair_weight, arrays.pair_known)),
            arrays.new_weight,
            arrays.new_known,
            total,
            sure,
        )
        return total, sure

    @cached_property
    def _views(self) -> tuple[memoryview, memoryview, memoryview, memoryview, memoryview, memoryview]:
        # Indexing a memoryview gives a plain number at a third of what indexing an array costs.
        arrays = self.arrays
        found = (arrays.weight, arrays.known, arrays.inner, arrays.pairs, arrays.pair_weight, arrays.pair_known)
        one, two, three, four, five, six = (np.ascontiguousarray(array).data for array in found)
        return one, two, three, four, five, six

    def save(self, path: Path) -> None:
        """Write all of it to one safetensors file. Raises ArtifactError when it cannot be written."""
        tensors = {
            "frequency": self.frequency,
            "inner": self.inner,
            "pairs": self.pairs,
            "pair_frequency": self.pair_frequency,
            "texts": np.array([self.texts], dtype=np.int64),
            "prior": np.array([self.prior], dtype=np.float64),
        }
        save_tensors(path, tensors)

    @staticmethod
    def load(path: Path, width: int) -> Evidence:
        """Read what `save` wrote, for a vocabulary of ``width`` ids.

        Raises:
            ArtifactError: the file is absent, damaged, or of another vocabulary.
        """
        found = load_tensors(path)
        wanted = {"frequency": np.uint32, "inner": np.bool_, "pairs": np.int64, "pair_frequency": np.uint32}
        shapes = {name: (found[name].ndim, found[name].dtype) for name in found}
        whole = all(shapes.get(name) == (1, np.dtype(kind)) for name, kind in wanted.items())
        if whole and all(name in found and found[name].shape == (1,) for name in ("texts", "prior")):
            arrays = found["frequency"], found["inner"], found["pairs"], found["pair_frequency"]
            evidence = Evidence(*arrays, int(found["texts"][0]), float(found["prior"][0]))
            if evidence._is_whole(width):
                return evidence
        raise ArtifactError(f"{path} is damaged, or of another table: make the table again")

    def _is_whole(self, width: int) -> bool:
        """Whether shapes and numbers fit together."""
        pairs, count = self.pairs, len(self.pairs)
        return (
            len(self.frequency) == len(self.inner) == width
            and len(self.pair_frequency) == count
            and self.texts >= max(self.frequency.max(initial=0), self.pair_frequency.max(initial=0))
            and 0.0 <= self.prior <= 1.0
            and bool((pairs[1:] > pairs[:-1]).all())
            and (count == 0 or (int(pairs[0]) >= 0 and int(pairs[-1]) < width * width))
        )


@dataclass(frozen=True, slots=True, eq=False)
class Arrays:
    """See `Evidence.arrays`: float32 [V] and [P], and what a pair that no text holds has."""

    inner: NDArray[np.bool_]
    pairs: Ints
    weight: NDArray[np.float32]
    known: NDArray[np.float32]
    pair_weight: NDArray[np.float32]
    pair_known: NDArray[np.float32]
    new_weight: float
    new_known: float


def gather_evidence(ids: NDArray[np.integer], offsets: Ints, inner: NDArray[np.bool_], prior: float = 0.0) -> Evidence:
    """Count the tokens of texts.

    Args:
        ids: flat token ids, 0 … V - 1.
        offsets: int64 [n + 1], where each text begins in ``ids``.
        inner: bool [V], tokens that go on with a word.
        prior: see `Evidence`.
    """
    width, texts = len(inner), len(offsets) - 1
    tokens = ids.astype(np.int64)
    text_of = np.repeat(np.arange(texts, dtype=np.int64), np.diff(offsets))
    once = np.unique(text_of * width + tokens)
    goes_on = inner[tokens[1:]] & (text_of[1:] == text_of[:-1])
    keys = (tokens[:-1] * width + tokens[1:])[goes_on]
    # A pair's number among the distinct ones leaves room for the text's beside it, which the key itself may not.
    distinct, numbers = np.unique(keys, return_inverse=True)
    pairs_once = np.unique(text_of[1:][goes_on] * max(len(distinct), 1) + numbers)
    pair_frequency = np.bincount(pairs_once % max(len(distinct), 1), minlength=len(distinct))
    return Evidence(
        frequency=np.bincount(once % width, minlength=width).astype(np.uint32),
        inner=inner,
        pairs=distinct,
        pair_frequency=pair_frequency.astype(np.uint32),
        texts=texts,
        prior=prior,
    )
