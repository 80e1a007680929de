"""The small frozen types that pass between the two towers, the index and the evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class SparseVectors:
    """n sparse vectors as compressed sparse rows (CSR), token ids ascending within a row.

    Attributes:
        indptr: int64 [n + 1]; row i is the slice ``indptr[i]:indptr[i + 1]`` of the other two.
        indices: int32 [non-zeros]; token ids in 0 … width - 1.
        values: float32 [non-zeros]; counts of a query, impacts of a document. Never zero.
        width: V, the number of token ids.
        vocabulary: what these are: 0 the tokens of the document model, else terms of the index of that identity.
    """

    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    values: NDArray[np.float32]
    width: int
    vocabulary: int = 0

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def row(self, i: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Token ids and values of row i, as views."""
        start, end = self.indptr[i], self.indptr[i + 1]
        return self.indices[start:end], self.values[start:end]

    def to_dense(self) -> NDArray[np.float32]:
        """float32 [n, width]; for tests and small n, since it holds every zero."""
        dense = np.zeros((len(self), self.width), dtype=np.float32)
        rows = np.repeat(np.arange(len(self)), np.diff(self.indptr))
        dense[rows, self.indices] = self.values
        return dense


def sparse_from_dense(dense: NDArray[np.float32]) -> SparseVectors:
    """The non-zero entries of a float32 [n, width] array."""
    rows, columns = np.nonzero(dense)
    return SparseVectors(
        indptr=np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(dense)))]).astype(np.int64),
        indices=columns.astype(np.int32),
        values=dense[rows, columns].astype(np.float32),
        width=dense.shape[1],
    )


def concatenate_sparse(parts: Sequence[SparseVectors]) -> SparseVectors:
    """The rows of all parts, in order. Raises ValueError for no parts or parts of different width."""
    if not parts or any(part.width != parts[0].width for part in parts):
        raise ValueError("concatenate_sparse needs at least one part, all of one width")
    lengths = np.concatenate([np.diff(part.indptr) for part in parts])
    return SparseVectors(
        indptr=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        indices=np.concatenate([part.indices for part in parts]),
        values=np.concatenate([part.values for part in parts]),
        width=parts[0].width,
        vocabulary=parts[0].vocabulary,
    )


def take_sparse(sparse: SparseVectors, rows: NDArray[np.intp] | Sequence[int]) -> SparseVectors:
    """The given rows, in the given order; a row may be taken more than once."""
    chosen = np.asarray(rows, dtype=np.intp)
    lengths = np.diff(sparse.indptr)[chosen]
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    # Position of every taken entry: its row's start plus its offset within the row.
    source = np.repeat(sparse.indptr[chosen] - indptr[:-1], lengths) + np.arange(indptr[-1])
    return SparseVectors(indptr, sparse.indices[source], sparse.values[source], sparse.width, sparse.vocabulary)


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """What either tower makes of n texts.

    Attributes:
        dense: float32 [n, d], rows of unit length; the zero row for a query with no tokens.
        sparse: [n, V], or None where the model has no sparse side.
        trust: float32 [n], the share of each query that its dense vector understands, 0 … 1: how far a hybrid search
            listens to it, see `lightretriever.query.evidence`. None: all of it, as where a model has read the text.
        unknown: float32 [n], how much is not understood, as summed inverse document frequencies; None with ``trust``.
    """

    dense: NDArray[np.float32]
    sparse: SparseVectors | None = None
    trust: NDArray[np.float32] | None = None
    unknown: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.dense)

    def take(self, rows: NDArray[np.intp] | Sequence[int]) -> Encoded:
        """Some of them, in the given order."""
        chosen = np.asarray(rows, dtype=np.intp)
        sparse = None if self.sparse is None else take_sparse(self.sparse, chosen)
        trust, unknown = (None if array is None else array[chosen] for array in (self.trust, self.unknown))
        return Encoded(self.dense[chosen], sparse, trust, unknown)


_NONE: Mapping[str, object] = {}
_SHOWN = 200  # characters


class Place(NamedTuple):
    """Where a passage is in its document.

    Attributes:
        start, end: its characters in the document's text.
        headings: those that it stands under, from the top.
        page: where it begins, from 1; None where there are no pages.
    """

    start: int
    end: int
    headings: tuple[str, ...] = ()
    page: int | None = None


class Marker(Protocol):
    """Finds what of a text to show for a query; see `lightretriever.query.snippet`."""

    def mark(self, text: str) -> tuple[str, tuple[tuple[int, int], ...]]:
        """A part of the text, and where in it the query's words are."""


class Hit(NamedTuple):
    """One document found for a query. A plain tuple, since a search makes a thousand in a millisecond.

    Attributes:
        id: the document's id, as the user gave it.
        score: what the hits are ordered by: the arm's own in a one-arm search, else the fused score. A part of that one
            compares a query's hits with each other and nothing else. How alike they are is the dense score.
        title, text, metadata: the document's payload; where documents are split, the text is that of the best passage.
        dense_score, sparse_score: inner products; None where that arm was not asked, or ranks alone are fused.
        dense_rank, sparse_rank: place in that arm's list, the best being 1; None where it did not list the document.
        passage: the id of the passage that was found; "" where documents are stored whole.
        place: where it is in the document; None likewise.
        marker: knows the query's words; None where only its vectors were given.
    """

    id: str
    score: float
    title: str = ""
    text: str = ""
    metadata: Mapping[str, object] = _NONE
    dense_score: float | None = None
    dense_rank: int | None = None
    sparse_score: float | None = None
    sparse_rank: int | None = None
    passage: str = ""
    place: Place | None = None
    marker: Marker | None = None

    @property
    def snippet(self) -> str:
        """What to show of the text for this query: a sentence or more with its words; the beginning where the query's
        text was not given. Made when it is asked for, in some 50 µs."""
        return self.marked()[0]

    @property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """Where the query's words are in the snippet: ``snippet[start:end]``."""
        return self.marked()[1]

    @property
    def location(self) -> str:
        """Where to find it, as ``guide.md, Install > Linux, page 3``; "" where the document was stored whole, or texts
        were not asked for."""
        if self.place is None:
            return ""
        headings, page = " > ".join(self.place.headings), self.place.page
        return ", ".join(filter(None, (self.id, headings, "" if page is None else f"page {page}")))

    def as_dict(self) -> dict[str, object]:
        """All that it says, JSON-able."""
        own = self._asdict()
        del own["marker"]
        place = None if self.place is None else self.place._asdict()
        snippet, spans = self.marked()
        return {**own, "place": place, "location": self.location, "snippet": snippet, "spans": spans}

    def marked(self) -> tuple[str, tuple[tuple[int, int], ...]]:
        """Snippet and spans at once, for half the time."""
        return (self.text[:_SHOWN], ()) if self.marker is None else self.marker.mark(self.text)


@dataclass(frozen=True, slots=True)
class Run:
    """What a system retrieved for each query, as in a TREC run file.

    Attributes:
        scores: query id to (document id to score, higher is better).
        tag: the system's name, the sixth column of a run file.
    """

    scores: Mapping[str, Mapping[str, float]]
    tag: str = "lightretriever"
