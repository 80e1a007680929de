"""What an engine must do to hold an index: the narrow protocol, and the plain values that cross it.

An engine stores points. It knows nothing of tables, tokens or fusion; ids are checked, vectors are of unit length,
payloads are JSON-able and filters are parsed before they reach it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID, uuid5

import numpy as np
from numpy.typing import NDArray

from lightretriever.errors import ArtifactError
from lightretriever.index.filter.language import Filter
from lightretriever.index.filter.tags import stored_conditions
from lightretriever.text.corpus import Document
from lightretriever.types import SparseVectors

NAMESPACE = UUID("5a3f1c0e-2d57-5b0e-9c55-0d8a1f6e7b42")
Payload = Mapping[str, Any]


def point_key(document_id: str) -> int:
    """The engine's id of a document: a UUIDv5 of the user's, so that the same id is the same point.

    As an integer of 128 bits, because Python compares and hashes those some ten times faster than UUID objects.
    """
    return uuid5(NAMESPACE, document_id).int


@dataclass(frozen=True, slots=True)
class Points:
    """n points to store, or read back.

    Attributes:
        keys: the engine's ids, distinct; see `point_key`.
        dense: float32 [n, d], rows of unit length.
        sparse: [n, V], or None where the index has no sparse arm.
        payloads: what `document_payload` makes.
    """

    keys: Sequence[int]
    dense: NDArray[np.float32]
    sparse: SparseVectors | None
    payloads: Sequence[Payload]


@dataclass(frozen=True, slots=True)
class Ranking:
    """What one arm found for one query, best first; equal scores by key, so that the order never changes.

    Attributes:
        keys: the engine's ids.
        scores: inner products, as float.
    """

    keys: list[int]
    scores: list[float]


class Backend(Protocol):
    """An engine. Every method raises ArtifactError when the engine fails, with the engine's own words; and LockedError
    in a process that was forked from the one that opened it, but for `close`, which does nothing there."""

    def upsert(self, points: Points) -> None:
        """Store points, replacing those of equal key. Searches see them when this returns, and a killed process
        loses none of them; `flush` makes them survive a power cut."""

    def delete(self, keys: Sequence[int]) -> None:
        """Remove points; keys that do not exist are passed over."""

    def existing(self, keys: Sequence[int]) -> set[int]:
        """Which of the keys exist."""

    def search_dense(self, vectors: NDArray[np.float32], k: int, where: Filter | None = None) -> list[Ranking]:
        """The k points of greatest inner product for each row of [n, d], among those that pass; exact where a
        filter is given."""

    def search_sparse(self, queries: SparseVectors, k: int, where: Filter | None = None) -> list[Ranking]:
        """Likewise for each sparse row; exact; points that share no token with the query are not listed."""

    def payloads(self, keys: Sequence[int], fields: Sequence[str] = ()) -> list[Payload]:
        """The payload of each key, in order, or the fields named of it; a key that does not exist any more gives {}."""

    def points(self, keys: Sequence[int]) -> Points:
        """Those of the keys that exist, in the order given, with their vectors; sparse is as wide as it has to be."""

    def page(self, start: int, size: int, vectors: bool = False) -> Points:
        """The first ``size`` points whose key is ``start`` or more, ordered by key; without ``vectors`` dense is
        [n, 0] and sparse None."""

    def count(self) -> int:
        """How many points there are."""

    def info(self) -> Mapping[str, object]:
        """What the engine says of itself, for people; JSON-able."""

    def flush(self) -> None:
        """Make all that was acknowledged survive a power cut."""

    def optimise(self) -> None:
        """Build what makes searches fast over all that was stored since; blocks."""

    def close(self) -> None:
        """Flush and release the engine; nothing may be called afterwards."""


def pages(backend: Backend, size: int, vectors: bool = False) -> Iterator[Points]:
    """Every point of an engine, ``size`` at a time, ordered by key. What is written meanwhile may be in it or not."""
    start = 0
    while start < 1 << 128:
        page = backend.page(start, size, vectors)
        if not page.keys:
            return
        yield page
        start = page.keys[-1] + 1


def document_payload(document: Document) -> dict[str, Any]:
    """What is stored beside a document's vectors: id, title, text, metadata, and what filters look at in its place.

    The metadata is JSON in a string, because the engine does not give every fraction back as it was.
    """
    return {
        "id": document.id,
        "title": document.title,
        "text": document.text,
        "metadata": json.dumps(dict(document.metadata), ensure_ascii=False),
        **stored_conditions(document.metadata),
    }


def stored_metadata(payload: Payload) -> dict[str, Any]:
    """The metadata in what `document_payload` made.

    Raises:
        ArtifactError: an engine gave something else.
    """
    try:
        metadata = json.loads(payload["metadata"])
    except (KeyError, TypeError, ValueError, RecursionError):
        metadata = None
    if not isinstance(metadata, dict):
        raise ArtifactError(
            f"the engine holds a document whose metadata is damaged ({str(payload.get('id'))[:80]!r}): add it again"
        )
    return metadata
