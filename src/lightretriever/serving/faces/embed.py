"""Texts to vectors, for every face: queries by look-up, documents and full queries by the model."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from lightretriever.errors import MismatchError
from lightretriever.index.full import full_vectors
from lightretriever.index.settings import check_model
from lightretriever.query.encoder import QueryEncoder
from lightretriever.serving.api.search import check_texts
from lightretriever.serving.http.endpoint import Call
from lightretriever.serving.http.errors import Refused
from lightretriever.serving.tower.messages import Ask
from lightretriever.serving.tower.remote import RemoteTower
from lightretriever.text.corpus import Document
from lightretriever.text.memo import BATCH
from lightretriever.types import Encoded
from lightretriever.vectors.parts import usable

QUERY, DOCUMENT, FULL = "query", "document", "full"
"""What texts are: queries, looked up; documents; or queries that the model is to read in full."""
KINDS = {
    "query": QUERY,
    "search_query": QUERY,
    "document": DOCUMENT,
    "passage": DOCUMENT,
    "search_document": DOCUMENT,
    "full": FULL,
}
"""What callers name the kinds of texts, here and in other services."""
Floats = NDArray[np.float32]


async def embed(call: Call, encoder: QueryEncoder, texts: Sequence[str], kind: str, dim: int | None = None) -> Floats:
    """Vectors of texts: float32 [n, d], unit rows; zero for a query without a known word.

    Args:
        call: who asks.
        encoder: whose table.
        texts: n of them.
        kind: "query", "document" or "full".
        dim: how many dimensions to keep, of which unit rows are made again; None for all.

    Raises:
        Refused: a limit (422), or no model where one is needed (409).
    """
    site = call.site
    check_texts(texts, site.options.limits)
    if dim is not None and not 1 <= dim <= encoder.dim:
        raise Refused(422, f"dimensions is {dim}: the model has {encoder.dim}", "dimensions")
    if site.options.log_queries:
        call.notes["texts"] = list(texts)
    started = perf_counter()
    if kind == QUERY:
        # Many are encoded by compiled code, which is loaded the first time.
        dense = encoder.encode_dense(texts) if len(texts) < BATCH else await site.aside(encoder.encode_dense, texts)
    else:
        dense = await _by_model(call, encoder, texts, kind)
    site.metrics.stage("encode", "lookup" if kind == QUERY else "full", perf_counter() - started)
    site.metrics.encoded(len(texts), "lookup" if kind == QUERY else "model")
    return dense if dim is None or dim == encoder.dim else shortened(dense, dim)


async def _by_model(call: Call, encoder: QueryEncoder, texts: Sequence[str], kind: str) -> Floats:
    link = call.site.tower
    if link is None:
        raise Refused(
            409,
            "queries are looked up here; documents are encoded by a model: start the server with --model",
            "input_type",
        )
    table = encoder.table
    tower = RemoteTower(link, table.tokenizer)
    said = await call.site.aside(link.ask, Ask())
    try:
        check_model("the server's --model", said.name, said.revision, "the table", table.model, table.revision)
    except MismatchError as error:
        raise Refused(409, str(error), "model") from None
    if kind == FULL:
        return await call.site.aside(full_vectors, tower, texts, table)
    documents = [Document(str(place), text) for place, text in enumerate(texts)]
    found = await call.site.aside(tower.encode, documents)
    return usable(Encoded(found.dense), table.dim, table.rotation).dense


def shortened(dense: Floats, dim: int) -> Floats:
    """The first dimensions, as unit rows; zero rows stay zero."""
    dense = dense[:, :dim]
    norms = np.linalg.norm(dense, axis=1, keepdims=True)
    return np.asarray(dense / np.where(norms > 0, norms, 1), np.float32)


def as_base64(row: Floats) -> str:
    """A vector as little-endian float32 in base64, as clients of OpenAI read it."""
    return base64.b64encode(row.astype("<f4", copy=False).tobytes()).decode()


def count_tokens(encoder: QueryEncoder, texts: Sequence[str]) -> int:
    """How many tokens texts have, as clients are told what they used."""
    return sum(min(len(encoder.chunks.ids(text, False)), encoder.table.max_length) for text in texts)


def texts_of_ids(encoder: QueryEncoder, rows: Sequence[Sequence[int]]) -> list[str]:
    """The texts of token ids. Only ids of this model's tokenizer mean anything here.

    Raises:
        Refused: an id that the tokenizer does not have, or ids that it would not make of their own text (422): they are
            of another tokenizer, as of tiktoken, with which some clients tokenise unless told not to.
    """
    tokenizer, most = encoder.table.tokenizer, len(encoder.table)
    found = []
    for ids in rows:
        text = tokenizer.decode(list(ids), skip_special_tokens=False) if max(ids, default=0) < most else None
        if text is None or list(tokenizer.encode(text, add_special_tokens=False).ids) != list(ids):
            raise Refused(
                422,
                "the token ids are of another tokenizer than this model's: send texts (in LangChain's OpenAIEmbeddings "
                "by check_embedding_ctx_length=False)",
                "input",
            )
        found.append(text)
    return found
