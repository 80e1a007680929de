"""What an engine must do to hold an index: the narrow protocol, and the plain values that cross it.

An engine stores documents with their vectors and finds them again. It knows nothing of tables, tokens or fusion; ids
are checked, vectors are of unit length or zero, metadata is JSON-able and filters are parsed before they reach it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from threading import Event
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lightretriever.errors import MismatchError
from lightretriever.index.filter.language import Filter
from lightretriever.text.corpus import Document
from lightretriever.types import SparseVectors, take_sparse

START = -1
"""Where `Engine.page` begins."""
_FEW = 16  # documents that say little of what documents are in general


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """n documents with their vectors, to store or read back.

    Attributes:
        documents: of distinct ids.
        dense: float32 [n, d], rows of unit length; a zero row is no vector. [n, 0] where vectors were not asked for.
        sparse: [n, V], or None where the index has no sparse side, or vectors were not asked for. Of BM25 token counts
            for an engine that keeps these (`Engine.keeps_counts`), else impacts.
    """

    documents: Sequence[Document]
    dense: NDArray[np.float32]
    sparse: SparseVectors | None

    def __len__(self) -> int:
        return len(self.documents)

    def take(self, rows: Sequence[int]) -> Rows:
        """Some of them, in the given order."""
        sparse = None if self.sparse is None else take_sparse(self.sparse, rows)
        return Rows([self.documents[row] for row in rows], self.dense[np.asarray(rows, np.intp)], sparse)


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """What one arm found for one query, best first; equal scores by key, so that the order never changes.

    Attributes:
        keys: int64 [n], each a document, within one `Found`.
        scores: float32 [n], inner products.
    """

    keys: NDArray[np.int64]
    scores: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.keys)


NOTHING = Ranking(np.empty(0, np.int64), np.empty(0, np.float32))


@dataclass(frozen=True, slots=True, eq=False)
class Rankings:
    """The rankings of q queries side by side.

    Attributes:
        counts: int64 [q], how long each is.
        keys, scores: int64 [q, k] and float32 [q, k], as of `Ranking`; of no meaning beyond a list's end.
        others: float32 [q, k], the other arm's scores of the same documents; [q, 0] where they were not asked for.
    """

    counts: NDArray[np.int64]
    keys: NDArray[np.int64]
    scores: NDArray[np.float32]
    others: NDArray[np.float32]

    @staticmethod
    def of(rankings: Sequence[Ranking]) -> Rankings:
        """Of one for each query."""
        counts = np.fromiter(map(len, rankings), np.int64, len(rankings))
        shape = len(rankings), int(counts.max(initial=0))
        keys, scores = np.zeros(shape, np.int64), np.zeros(shape, np.float32)
        for i, ranking in enumerate(rankings):
            keys[i, : len(ranking)], scores[i, : len(ranking)] = ranking.keys, ranking.scores
        return Rankings(counts, keys, scores, unknown(len(rankings)))

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, i: int) -> Ranking:
        count = self.counts[i]
        return Ranking(self.keys[i, :count], self.scores[i, :count])

    def __iter__(self) -> Iterator[Ranking]:
        return (self[i] for i in range(len(self)))

    @property
    def arrays(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
        """Its four."""
        return self.counts, self.keys, self.scores, self.others


def unknown(queries: int) -> NDArray[np.float32]:
    """In place of scores that were not asked for."""
    return np.empty((queries, 0), np.float32)


def ends_of(queries: NDArray[np.float32], total: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """What inner products of queries [q, d] with documents are in general, and the queries' lengths: float64 [q, 2].

    Args:
        total, count: the sum float64 [d] of so many documents' vectors. Of very few the first is near 0.
    """
    products: NDArray[np.float64] = queries * (total / (count + _FEW))
    squares = np.square(queries, dtype=np.float64)  # sums not by BLAS, which gives one query other last bits than many
    return np.stack([products.sum(axis=1), np.sqrt(squares.sum(axis=1))], axis=1)


def check_vocabulary(asked: Asked, vocabulary: int) -> None:
    """Raises MismatchError for queries whose counts are of other things than that vocabulary's; 0 is the tokens of the
    document model."""
    if asked.sparse is None or asked.sparse.vocabulary == vocabulary:
        return
    has = "the document model's tokens" if not asked.sparse.vocabulary else "another index's words"
    wanted = "the document model's tokens" if not vocabulary else "words of its own"
    raise MismatchError(
        f"the queries are counted in {has}, the index in {wanted}: encode them with the index's encoder"
    )


def nothing(queries: int) -> Rankings:
    """What an arm finds that was not asked."""
    return Rankings(np.zeros(queries, np.int64), np.empty((queries, 0), np.int64), unknown(queries), unknown(queries))


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """q queries.

    Attributes:
        dense: float32 [q, d], unit rows; None to leave that arm out. A zero row finds nothing.
        sparse: [q, V] token counts; None likewise.
        depth: how many documents of each arm, at most.
        where: what they must pass.
        both: whether every document listed is to have the other arm's score too; both arms are asked then.
    """

    dense: NDArray[np.float32] | None
    sparse: SparseVectors | None
    depth: int
    where: Filter | None = None
    both: bool = False

    def __len__(self) -> int:
        if self.dense is not None:
            return len(self.dense)
        return 0 if self.sparse is None else len(self.sparse)


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What was found, at one moment of the index.

    Attributes:
        dense, sparse: the lists of each query; empty where the arm was left out.
        ids: of the documents of keys int64 [n], in their order; None for one that is gone by now, unless the engine
            has it at hand still.
        fetch: the documents of keys, in their order; None for one that is gone by now.
        dense_scores: cosines of one query's vector float32 [d] with documents of keys; NaN for one that is gone,
            unless the engine has its vector at hand still.
        ends: float64 [q, 2], what each query's inner product is with documents in general, and with one that is just
            like it; None where ``both`` was not asked.
    """

    dense: Rankings
    sparse: Rankings
    ids: Callable[[NDArray[np.int64]], Sequence[str | None]]
    fetch: Callable[[Sequence[int]], list[Document | None]]
    dense_scores: Callable[[NDArray[np.float32], Sequence[int]], NDArray[np.float32]]
    ends: NDArray[np.float64] | None = None


class Engine(Protocol):
    """An engine. Every method raises ArtifactError when the engine fails, with the engine's own words, and LockedError
    when others write to it for too long."""

    keeps_counts: bool
    """Whether the sparse rows of a BM25 index are token counts here, of which it makes the impacts itself."""

    def store(self, rows: Rows, tenant: str | None) -> int:
        """Store documents, replacing those of equal id; how many were replaced. Searches see them when this returns,
        and a killed process loses none of them; `flush` makes them survive a power cut.

        Raises:
            InputError: one has the id of another tenant's document, ``tenant`` being the metadata field that says
                whose one is; nothing is stored.
        """

    def delete(self, ids: Sequence[str], where: Filter | None) -> int:
        """Remove the documents of these ids that pass; how many there were."""

    def search(self, asked: Asked) -> Found:
        """The documents of greatest inner product in each arm, among those that pass. Sparse lists are exact, and do
        not have documents that share no token with the query; dense ones are exact where a filter is given, else as
        good as `info` says."""

    def existing(self, ids: Sequence[str]) -> set[str]:
        """Which of the ids there are."""

    def documents(self, ids: Sequence[str]) -> dict[str, Document]:
        """Those of the ids that there are."""

    def rows(self, ids: Sequence[str]) -> Rows:
        """Those of the ids that there are, in the order given, with their vectors."""

    def page(self, after: int, size: int, vectors: bool = False) -> tuple[Rows, int]:
        """The next ``size`` documents after a place (`START` is before the first), in no order that means anything but
        always the same, and the place of the last of them; no documents at the end."""

    def count(self) -> int:
        """How many documents there are."""

    def info(self) -> Mapping[str, object]:
        """What the engine says of itself, for people; JSON-able."""

    def flush(self) -> None:
        """Make all that was acknowledged survive a power cut."""

    def optimise(self, stopped: Event | None = None) -> None:
        """Build what makes searches fast over all that was stored since; blocks, until it is set that it shall stop."""

    def close(self) -> None:
        """Release the engine; nothing may be called afterwards."""


def pages(engine: Engine, size: int, vectors: bool = False) -> Iterator[Rows]:
    """Every document of an engine, ``size`` at a time. What is written meanwhile may be in it or not."""
    after = START
    while True:
        rows, after = engine.page(after, size, vectors)
        if not len(rows):
            return
        yield rows
