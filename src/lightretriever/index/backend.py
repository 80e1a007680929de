"""What an engine must do to hold an index: the narrow protocol, and the plain values that cross it.

An engine stores points. It knows nothing of tables, tokens or fusion; ids are checked, vectors are of unit length,
payloads are JSON-able and filters are lists of tags before they reach it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID, uuid5

import numpy as np
from numpy.typing import NDArray

from lightretriever.artifact import sha256_bytes
from lightretriever.errors import UsageError
from lightretriever.text.corpus import Document
from lightretriever.types import SparseVectors

NAMESPACE = UUID("5a3f1c0e-2d57-5b0e-9c55-0d8a1f6e7b42")
MAX_TAG_BYTES = 200
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
    """An engine. Every method raises ArtifactError when the engine fails, with the engine's own words."""

    def upsert(self, points: Points) -> None:
        """Store points, replacing those of equal key. Searches see them when this returns, and a killed process
        loses none of them; `flush` makes them survive a power cut."""

    def delete(self, keys: Sequence[int]) -> None:
        """Remove points; keys that do not exist are passed over."""

    def existing(self, keys: Sequence[int]) -> set[int]:
        """Which of the keys exist."""

    def search_dense(self, vectors: NDArray[np.float32], k: int, tags: Sequence[str] = ()) -> list[Ranking]:
        """The k points of greatest inner product for each row of [n, d], among those that have all the tags."""

    def search_sparse(self, queries: SparseVectors, k: int, tags: Sequence[str] = ()) -> list[Ranking]:
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
    """What is stored beside a document's vectors: id, title, text, metadata, and a tag for each metadata value."""
    return {
        "id": document.id,
        "title": document.title,
        "text": document.text,
        "metadata": dict(document.metadata),
        "tags": metadata_tags(document.metadata),
    }


def metadata_tags(metadata: Mapping[str, object]) -> list[str]:
    """One tag for each field with a plain value, and for each plain value in a field that holds a list.

    Equality filters compare tags, because the engine's own conditions cannot ask for true or false, for fractions,
    or for fields whose name has a quotation mark. A tag holds name and value as JSON, so none equals another's.
    """
    tags: dict[str, None] = {}
    for name, value in metadata.items():
        for item in value if isinstance(value, list | tuple) else (value,):
            if isinstance(item, str | int | float | bool):
                tags[_tag(name, item)] = None
    return list(tags)


def filter_tags(conditions: Mapping[str, object] | None) -> list[str]:
    """The tags that a document needs for ``{field: value}`` to hold, in all fields.

    Raises:
        UsageError: a value that is no string, number, true or false.
    """
    if conditions is None:
        return []
    if not isinstance(conditions, Mapping):
        raise UsageError(f"the filter is of type {type(conditions).__name__}: a mapping of field to value is needed")
    tags = []
    for name, value in conditions.items():
        if not isinstance(value, str | int | float | bool):
            raise UsageError(
                f"the filter wants {name!r} to equal a {type(value).__name__}: a string, a number, true or false can be"
            )
        tags.append(_tag(name, value))
    return tags


def _tag(name: str, value: str | float | bool) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # 2 and 2.0 are one number; true is none
    tag = json.dumps([name, value], ensure_ascii=False)
    if len(tag) * 4 <= MAX_TAG_BYTES or len(tag.encode("utf-8", "replace")) <= MAX_TAG_BYTES:
        return tag
    return "sha256:" + sha256_bytes(tag.encode("utf-8", "surrogatepass"))
