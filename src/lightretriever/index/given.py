"""What `Index.add` and `Index.delete` are given, as documents and ids, or refused in a line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from numbers import Integral
from typing import TypeVar

import numpy as np

from lightretriever.errors import InputError, MismatchError, UsageError
from lightretriever.text.corpus import Document, as_document
from lightretriever.text.rows import ID_NAMES
from lightretriever.text.values import NoJsonValueError, plain_value
from lightretriever.types import Encoded, SparseVectors

T = TypeVar("T")


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
