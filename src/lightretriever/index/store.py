"""Documents with their vectors into the engine, the last of equal ids winning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import TypeVar

import numpy as np

from lightretriever.errors import InputError, MismatchError, UsageError
from lightretriever.index.backend import Backend, Points, document_payload, point_key
from lightretriever.index.novelty import NOTHING, Novelty, measure_novelty
from lightretriever.index.sparse import SparseSide
from lightretriever.index.tenant import check_ids, check_owners
from lightretriever.text.corpus import Document, as_document
from lightretriever.text.rows import ID_NAMES
from lightretriever.text.values import NoJsonValueError, plain_value
from lightretriever.types import Encoded, SparseVectors, take_sparse
from lightretriever.vectors.parts import check_vectors

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Added:
    """What an addition did.

    Attributes:
        documents: how many are stored by it.
        replaced: how many of them took the place of a document with the same id, stored before.
        duplicates: how many given earlier in the same call were passed over, because a later one has their id.
        durable: whether all that was ever stored survives a power cut by now; else it does after the next flush, and
            until then the death of the process only.
        novelty: how much of their text is new to the index's table.
    """

    documents: int = 0
    replaced: int = 0
    duplicates: int = 0
    durable: bool = True
    novelty: Novelty = NOTHING

    def __add__(self, other: Added) -> Added:
        return Added(
            self.documents + other.documents,
            self.replaced + other.replaced,
            self.duplicates + other.duplicates,
            other.durable,
            self.novelty + other.novelty,
        )


def store_documents(
    backend: Backend,
    side: SparseSide,
    documents: Sequence[Document],
    encoded: Encoded,
    dim: int,
    tenant: str | None = None,
) -> Added:
    """Store n documents.

    Args:
        backend: the engine.
        side: where sparse vectors come from.
        documents: n documents with safe texts and ids.
        encoded: their vectors; dense rows of unit length or zero.
        dim: d of the index.
        tenant: the field by which the index keeps tenants apart; the documents have it.

    Raises:
        MismatchError, InputError: vectors that are not as they should be; see `check_vectors`.
        InputError: another tenant has a document of such an id; nothing is stored.
        UsageError, MismatchError: no sparse vectors where they are needed, or another vocabulary's.
        ArtifactError: the engine failed, or the disk is full.
    """
    check_vectors([document.id for document in documents], encoded, dim, zeros=True)
    check_ids(documents, tenant)
    rows = list({document.id: row for row, document in enumerate(documents)}.values())
    if not rows:
        return Added()
    chosen = [documents[row] for row in rows]
    keys = [point_key(document.id) for document in chosen]
    present = backend.existing(keys)
    if tenant is not None and present:
        check_owners(chosen, [key in present for key in keys], backend, tenant)
    sparse = side.of(chosen, None if encoded.sparse is None else take_sparse(encoded.sparse, rows))
    backend.upsert(Points(keys, encoded.dense[rows], sparse, [document_payload(document) for document in chosen]))
    novelty = measure_novelty(side.table, [document.input for document in chosen])
    return Added(len(rows), len(present), len(documents) - len(rows), novelty=novelty)


def given_documents(
    ids: Iterable[object], payloads: Iterable[Mapping[str, object] | Document] | None, sparse: str
) -> list[Document]:
    """The documents that `Index.add` was given, n ids and n payloads, for an index of that sparse side.

    Raises:
        MismatchError: not as many of one as of the other.
        UsageError: no lists, or no text where BM25 needs one.
        InputError: an id or payload that cannot be stored, or a payload with another id than the one given for it.
    """
    names = _listed(ids, "ids", "of ids, one for each vector")
    rows = [{}] * len(names) if payloads is None else _listed(payloads, "payloads", "of mappings, one for each id")
    if len(rows) != len(names):
        raise MismatchError(f"{len(names)} ids, {len(rows)} payloads: one for each is needed")
    return [_given(name, row, sparse) for name, row in zip(names, rows, strict=True)]


def given_ids(ids: Iterable[object]) -> list[str]:
    """Ids as documents have them; one string is one id.

    Raises:
        UsageError: no list.
        InputError: one that no document can have.
    """
    names = [ids] if isinstance(ids, str) else _listed(ids, "ids", "of ids")
    return [as_document({"_id": name, "text": ""}).id for name in names]


def check_encoded(encoded: object) -> None:
    """Raises UsageError for what is no `Encoded` of arrays."""
    if not isinstance(encoded, Encoded):
        raise UsageError(f"encoded is of type {type(encoded).__name__}: give Encoded(dense, sparse)")
    dense, sparse = encoded.dense, encoded.sparse
    if not isinstance(dense, np.ndarray) or dense.dtype.kind not in "fiu" or not dense.ndim:
        raise UsageError(f"dense vectors of type {type(dense).__name__}: give a NumPy array of numbers [n, d]")
    if not (sparse is None or isinstance(sparse, SparseVectors)):
        raise UsageError(f"sparse vectors of type {type(sparse).__name__}: give SparseVectors, or None")


def _listed(values: Iterable[T], name: str, what: str) -> list[T]:
    """The values of anything one-dimensional, a data frame being none."""
    try:
        if isinstance(values, str | bytes | Mapping) or getattr(values, "ndim", 1) != 1:
            raise TypeError
        return list(values)
    except TypeError:
        shown = f"the string {values[:40]!r}" if isinstance(values, str) else f"of type {type(values).__name__}"
        raise UsageError(f"{name} is {shown}: give a list {what}") from None


def _given(name: object, row: Mapping[str, object] | Document, sparse: str) -> Document:
    own: dict[str, object]
    if isinstance(row, Document):
        own, document = {"id": row.id}, as_document(replace(row, id=given_ids([name])[0]))
    elif isinstance(row, Mapping):
        if sparse == "bm25" and "text" not in row:
            raise UsageError("the sparse side is BM25 of the texts: every payload needs its text")
        own = {key: row[key] for key in ID_NAMES if key in row}
        fields = {key: value for key, value in row.items() if key not in own}
        document = as_document({"text": "", **fields, "_id": name})
    else:
        raise InputError(f"the payload of id {str(name)[:80]!r} is of type {type(row).__name__}: a mapping is needed")
    for key, value in own.items():
        said = _as_id(value)
        if said and said != document.id:
            raise InputError(f"the payload of id {document.id[:80]!r} has the {key} {said[:80]!r}: leave one out")
    return document


def _as_id(value: object) -> str:
    """An id as documents have it; "" for none."""
    try:
        plain = value if isinstance(value, Integral) else plain_value(value)
    except NoJsonValueError:
        plain = value
    return "" if plain is None else str(plain)
