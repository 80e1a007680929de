"""`/documents`: read, store and remove; many are streamed as JSON lines, with vectors or for the model to encode."""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

from lightretriever.errors import LightRetrieverError
from lightretriever.index.added import Added
from lightretriever.passages.fields import without_fields
from lightretriever.serving.access.keys import WRITE, tenant_value
from lightretriever.serving.access.tenants import narrowed, of_key
from lightretriever.serving.api.messages import (
    Deleted,
    DocumentIn,
    DocumentOut,
    DocumentsIn,
    PassageOut,
    PlaceOf,
    Stored,
)
from lightretriever.serving.http.body import body_lines, decode, read_body
from lightretriever.serving.http.endpoint import JSON, Call, Endpoint, answer
from lightretriever.serving.http.errors import Refused, refusal
from lightretriever.text.corpus import Document
from lightretriever.types import Encoded, Hit, SparseVectors

if TYPE_CHECKING:
    from lightretriever.index.index import Index  # compiled searches, which embeddings do without

LINES = ("application/x-ndjson", "application/jsonl", "application/json-lines", "application/jsonlines")
_TOGETHER = 256  # documents that are stored in one transaction
_DOCUMENT = msgspec.json.Decoder(DocumentIn)
_DOCUMENTS = msgspec.json.Decoder(DocumentsIn)
_MODEL = (
    "documents are encoded by a model: start the server with --model, or send each document's vector (and, where the "
    "index's sparse side is lm, its sparse weights)"
)


class DocumentParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose document it is, where the index keeps tenants apart."""

    tenant: str = ""


async def put_documents(call: Call) -> Response:
    """`PUT` or `POST /documents`."""
    kind = Request(call.scope).headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in LINES:
        return answer(await _store_all(call, _streamed(call)))
    if kind != JSON:
        raise Refused(415, f"send {JSON} with a list of documents, or {LINES[0]} with one on each line")
    body = await read_body(call.receive, call.site.options.limits)
    return answer(await _store_all(call, _listed(decode(body, _DOCUMENTS).documents)))


async def get_document(call: Call) -> Response:
    """`GET /documents/{id}`."""
    rows, split = await stored_rows(call)
    return answer(_shown(call.path["id"], rows, split))


async def stored_rows(call: Call) -> tuple[list[Document], bool]:
    """The document of the id in a call's path, as `Index.get` gives it, and whether the index splits documents. Raises
    Refused: there is none (404), or it is another tenant's."""
    name = call.path["id"]
    with call.site.served.use() as opened:
        index = opened.needs_index()
        settings = opened.look(index)[1]
        where = narrowed(settings.tenant, call.key, tenant_value(call.query.tenant or None), None)
        rows = (await call.site.aside(index.get, [name], filter=where)).get(name)
    if rows is None:
        raise Refused(404, f"there is no document {name[:80]!r}", "id")
    return rows, settings.passages is not None


async def delete_document(call: Call) -> Response:
    """`DELETE /documents/{id}`."""
    site, name = call.site, call.path["id"]
    with site.served.use() as opened:
        index = opened.needs_index()
        where = narrowed(index.settings.tenant, call.key, tenant_value(call.query.tenant or None), None)
        async with site.writing:
            removed = await site.aside(index.delete, [name], filter=where, flush=True)
    if not removed:
        raise Refused(404, f"there is no document {name[:80]!r}", "id")
    site.metrics.wrote(removed=removed)
    return answer(Deleted(1))


Batches = AsyncIterator[tuple[int, list[DocumentIn]]]


async def _listed(documents: Sequence[DocumentIn]) -> Batches:
    for start in range(0, len(documents), _TOGETHER):
        yield start + 1, list(documents[start : start + _TOGETHER])


async def _streamed(call: Call) -> Batches:
    """Batches of lines, each with the number of its first line."""
    batch: list[DocumentIn] = []
    number = 0
    async for line in body_lines(call.receive, call.site.options.limits):
        number += 1
        try:
            batch.append(decode(line, _DOCUMENT))
        except Refused as refused:
            raise Refused(refused.status, f"line {number}: {refused.message}", refused.parameter) from None
        if len(batch) == _TOGETHER:
            yield number - len(batch) + 1, batch
            batch = []
    if batch:
        yield number - len(batch) + 1, batch


async def _store_all(call: Call, batches: Batches) -> Stored:
    """Store all; an error says how many were stored before it."""
    site, total = call.site, Added()
    with site.served.use() as opened:
        index = opened.needs_index()
        try:
            async for first, batch in batches:
                documents = [_document(index, call, each) for each in batch]
                async with site.writing:
                    total += await _store(call, index, batch, documents, first)
            if not total.documents + total.unchanged:
                raise Refused(422, "there is no document: send at least one", "documents")
        except Refused as refused:
            raise _after(refused, total) from None
        except LightRetrieverError as error:
            raise _after(refusal(error), total) from error
        finally:
            if total.documents:
                await site.aside(index.flush)
            site.metrics.wrote(stored=total.documents)
    return Stored(total.documents, total.replaced, total.unchanged)


def _after(refused: Refused, total: Added) -> Refused:
    kept = total.documents + total.unchanged
    if not kept:
        return refused
    return Refused(
        refused.status, f"{refused.message} (the {kept:,} before are stored)", refused.parameter, refused.headers
    )


async def _store(
    call: Call, index: Index, batch: Sequence[DocumentIn], documents: Sequence[Document], first: int
) -> Added:
    """One batch, all of whose documents come with vectors, or none."""
    given = [each.vector is not None for each in batch]
    if all(given):
        last = {document.id: row for row, document in enumerate(documents)}
        rows = sorted(last.values())
        encoded = _vectors(index, [batch[row] for row in rows], first)
        chosen = [documents[row] for row in rows]
        ids = [document.id for document in chosen]
        return await call.site.aside(index.add, ids, encoded, chosen, flush=False)
    if any(given):
        raise Refused(422, "some documents come with a vector and some without: send these apart", "vector")
    if call.site.tower is None:
        raise Refused(409, _MODEL, "vector")
    return await call.site.aside(index.add_documents, documents)


def _document(index: Index, call: Call, each: DocumentIn) -> Document:
    metadata = of_key(index.settings.tenant, call.key, each.metadata)
    return Document(each.id, each.text, each.title, metadata)


def _vectors(index: Index, batch: Sequence[DocumentIn], first: int) -> Encoded:
    """Their vectors, as they came. Raises Refused: of several lengths, or not readable (422)."""
    rows = [_vector(each, first + place) for place, each in enumerate(batch)]
    if len({len(row) for row in rows}) > 1:
        raise Refused(422, "the vectors have several lengths: send those of the index's model", "vector")
    sparse = _sparse(index, batch) if index.settings.sparse == "lm" else None
    return Encoded(np.stack(rows), sparse)


def _vector(each: DocumentIn, number: int) -> NDArray[np.float32]:
    if not isinstance(each.vector, str):
        return np.array(each.vector, np.float32)
    try:
        return np.frombuffer(base64.b64decode(each.vector, validate=True), "<f4").astype(np.float32)
    except (binascii.Error, ValueError):
        raise Refused(422, f"document {number}: its vector is no float32 numbers in base64", "vector") from None


def _sparse(index: Index, batch: Sequence[DocumentIn]) -> SparseVectors:
    width = index.settings.width
    indptr, indices, values = [0], list[int](), list[float]()
    for each in batch:
        if each.sparse is None:
            raise Refused(422, f"document {each.id[:80]!r}: the index needs its sparse weights too", "sparse")
        pairs = sorted(zip(each.sparse.indices, each.sparse.values, strict=False))
        ids = [index for index, _ in pairs]
        if (
            len(each.sparse.indices) != len(each.sparse.values)
            or len(set(ids)) < len(ids)
            or max(ids, default=0) >= width
        ):
            raise Refused(
                422, f"document {each.id[:80]!r}: sparse needs a value for each token id below {width}", "sparse"
            )
        pairs = [(token, value) for token, value in pairs if value > 0]
        indices += [token for token, _ in pairs]
        values += [value for _, value in pairs]
        indptr.append(len(indices))
    return SparseVectors(np.array(indptr, np.int64), np.array(indices, np.int32), np.array(values, np.float32), width)


def _shown(name: str, rows: Sequence[Document], split: bool) -> DocumentOut:
    if not split:
        return DocumentOut(name, rows[0].title, dict(rows[0].metadata), rows[0].text)
    passages: list[PassageOut] = []
    title, own = "", dict[str, Any]()
    for row in rows:
        title, kept, place = without_fields(row.metadata)
        own = dict(kept)
        location = Hit(name, 0.0, place=place).location
        where = PlaceOf(place.start, place.end, list(place.headings), place.page)
        passages.append(PassageOut(row.id, row.text, location, where))
    return DocumentOut(name, title, own, UNSET, passages)


_PUT: dict[str, Any] = {"may": WRITE, "gives": Stored, "reads": ((JSON, DocumentsIn), (LINES[0], DocumentIn))}
ENDPOINTS = (
    Endpoint("PUT", "/documents", put_documents, "Store documents, replacing those of equal id.", **_PUT),
    Endpoint("POST", "/documents", put_documents, "The same.", **_PUT),
    Endpoint("GET", "/documents/{id:path}", get_document, "A document.", asks=DocumentParameters, gives=DocumentOut),
    Endpoint("DELETE", "/documents/{id:path}", delete_document, "Remove a document.", may=WRITE,
             asks=DocumentParameters, gives=Deleted),
)  # fmt: skip
