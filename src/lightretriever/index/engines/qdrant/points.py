"""What a document is on a Qdrant server: a point, its payload and its vectors, there and back.

What comes back is checked: a collection may have been written to by something else, and answers come over a network.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID, uuid5

import numpy as np
from numpy.typing import NDArray
from qdrant_client import models

from lightretriever.errors import ArtifactError
from lightretriever.index.engines.engine import Rows
from lightretriever.index.filter.tags import stored_conditions
from lightretriever.text.corpus import Document
from lightretriever.types import SparseVectors

NAMESPACE = UUID("5a3f1c0e-2d57-5b0e-9c55-0d8a1f6e7b42")
DENSE, SPARSE = "dense", "sparse"
_WIDEST = np.iinfo(np.int32).max
Payload = Mapping[str, Any]


def point_id(document_id: str) -> str:
    """A document's id there: a UUIDv5 of the user's, so that the same id is the same point."""
    return str(uuid5(NAMESPACE, document_id))


def point_at(place: int) -> str:
    """The id that is a number of 128 bits; ids are in the order of their numbers, as texts too."""
    return str(UUID(int=place))


def place_of(record: Any) -> int:
    """The number of a point's id. Raises ArtifactError for a point of something else."""
    try:
        return UUID(record.id).int
    except (ValueError, TypeError, AttributeError):
        raise _damaged(record.payload, f"the id {str(record.id)[:80]!r}") from None


def document_payload(document: Document) -> dict[str, Any]:
    """What is stored beside a document's vectors: id, title, text, metadata, and what filters look at in its place.

    The metadata is JSON in a string, because the server does not give every fraction back as it was.
    """
    return {
        "id": document.id,
        "title": document.title,
        "text": document.text,
        "metadata": json.dumps(dict(document.metadata), ensure_ascii=False),
        **stored_conditions(document.metadata),
    }


def stored_document(payload: Payload | None, texts: bool = True) -> Document:
    """The document of what `document_payload` made; without ``texts`` of its id alone.

    Raises:
        ArtifactError: the server gave something else.
    """
    if payload is None or not isinstance(payload.get("id"), str):
        raise _damaged(payload, "no id")
    if not texts:
        return Document(payload["id"], "")
    if not isinstance(payload.get("title"), str) or not isinstance(payload.get("text"), str):
        raise _damaged(payload, "no title or text")
    return Document(payload["id"], payload["text"], payload["title"], stored_metadata(payload))


def stored_metadata(payload: Payload | None) -> dict[str, Any]:
    """The metadata in what `document_payload` made. Raises ArtifactError where the server gave something else."""
    try:
        metadata = json.loads((payload or {})["metadata"])
    except (KeyError, TypeError, ValueError, RecursionError):
        metadata = None
    if not isinstance(metadata, dict):
        raise _damaged(payload, "damaged metadata")
    return metadata


def point_vectors(rows: Rows, i: int) -> dict[str, Any]:
    """The vectors of row i as the server takes them. One without a number in it is left out, so that nothing finds it:
    a zero row would be found by its inner product, 0, before all that are less than perpendicular."""
    vectors: dict[str, Any] = {}
    if rows.dense[i].any():
        vectors[DENSE] = rows.dense[i].tolist()
    if rows.sparse is not None and rows.sparse.indptr[i] < rows.sparse.indptr[i + 1]:
        vectors[SPARSE] = sparse_vector(rows.sparse, i)
    return vectors


def sparse_vector(sparse: SparseVectors, i: int) -> models.SparseVector:
    """Row i as the server takes it."""
    indices, values = sparse.row(i)
    return models.SparseVector(indices=indices.tolist(), values=values.tolist())


def stored_rows(records: Sequence[Any], dim: int, width: int | None, vectors: bool) -> Rows:
    """The documents of what the server gave.

    Args:
        records: points, with their payload.
        dim: d of the dense vectors.
        width: V of the sparse vectors, or more where one of the documents has a token beyond it; None where there are
            none.
        vectors: whether the points have theirs.

    Raises:
        ArtifactError: the server gave something else.
    """
    documents = [stored_document(record.payload) for record in records]
    if not vectors:
        return Rows(documents, np.empty((len(documents), 0), np.float32), None)
    dense = _dense_rows(records, dim)
    return Rows(documents, dense, None if width is None else _sparse_rows(records, width))


def _dense_rows(records: Sequence[Any], dim: int) -> NDArray[np.float32]:
    dense = np.zeros((len(records), dim), np.float32)
    for row, record in enumerate(records):
        vector = (record.vector or {}).get(DENSE)
        if vector is None:
            continue
        if not isinstance(vector, list) or len(vector) != dim:
            raise _damaged(record.payload, f"a vector that does not have {dim} dimensions")
        dense[row] = vector
    finite = np.isfinite(dense).all(axis=1)
    if not finite.all():
        raise _damaged(records[int(np.argmin(finite))].payload, "numbers that are none in its vector")
    return dense


def _sparse_rows(records: Sequence[Any], width: int) -> SparseVectors:
    """The server may give a vector's terms in the order it keeps them: by index is how `SparseVectors` has them."""
    found = [(record.vector or {}).get(SPARSE) for record in records]
    lengths = [0 if vector is None else len(vector.indices) for vector in found]
    flat = [index for vector in found if vector is not None for index in vector.indices]
    weights = [value for vector in found if vector is not None for value in vector.values]
    if any(vector is not None and len(vector.values) != length for vector, length in zip(found, lengths, strict=True)):
        raise _damaged(None, "sparse vectors of which numbers are missing")
    rows, indices = np.repeat(np.arange(len(records)), lengths), np.array(flat, dtype=np.int64)
    order = np.lexsort((indices, rows))
    rows, indices, values = rows[order], indices[order], np.array(weights, dtype=np.float32)[order]
    twice = np.append((np.diff(rows) == 0) & (np.diff(indices) == 0), False) if len(rows) else np.zeros(0, bool)
    wrong = twice | (indices < 0) | (indices >= _WIDEST) | ~np.isfinite(values) | (values == 0)
    if wrong.any():
        raise _damaged(records[int(rows[np.argmax(wrong)])].payload, "a sparse vector that is none of ours")
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    width = max(width, int(indices.max(initial=-1)) + 1)
    return SparseVectors(indptr, indices.astype(np.int32), values, width)


def _damaged(payload: Payload | None, what: str) -> ArtifactError:
    name = str((payload or {}).get("id"))[:80]
    return ArtifactError(f"the engine holds a document with {what} ({name!r}): add it again, or delete the point")
