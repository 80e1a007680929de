"""Documents with their vectors into the engine, the last of equal ids winning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lightretriever.errors import MismatchError, UsageError
from lightretriever.index.backend import Backend, Points, document_payload, point_key
from lightretriever.index.novelty import NOTHING, Novelty, measure_novelty
from lightretriever.index.sparse import SparseSide
from lightretriever.index.tenant import check_ids, check_owners
from lightretriever.text.corpus import Document, as_document
from lightretriever.types import Encoded, take_sparse
from lightretriever.vectors.parts import check_vectors


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


def given_documents(ids: Sequence[str], payloads: Sequence[Mapping[str, object]] | None, sparse: str) -> list[Document]:
    """The documents that `Index.add` was given, n ids and n payloads, for an index of that sparse side.

    Raises:
        MismatchError: not as many of one as of the other.
        UsageError: no text where BM25 needs one.
        InputError: an id or payload that cannot be stored.
    """
    rows = payloads if payloads is not None else [{}] * len(ids)
    if len(rows) != len(ids):
        raise MismatchError(f"{len(ids)} ids, {len(rows)} payloads: one for each is needed")
    if sparse == "bm25" and any("text" not in row for row in rows):
        raise UsageError("the sparse side is BM25 of the texts: every payload needs its text")
    fields = ({name: value for name, value in row.items() if name not in ("_id", "id")} for row in rows)
    return [as_document({"text": "", **row, "_id": name}) for name, row in zip(ids, fields, strict=True)]
