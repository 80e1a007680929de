"""Cohere's face: `POST /v2/embed`, whose input type tells queries from documents."""

from __future__ import annotations

import uuid
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field
from starlette.responses import Response

from lightretriever.serving.faces.embed import KINDS, as_base64, count_tokens, embed
from lightretriever.serving.http.endpoint import Call, Endpoint, Face, answer
from lightretriever.serving.http.errors import Refused


class Content(Struct, frozen=True):
    """A part of an input."""

    type: Literal["text"]
    text: str


class Input(Struct, frozen=True):
    """An input in parts, of which there may be one."""

    content: Annotated[list[Content], Meta(min_length=1, max_length=1)]


class CohereRequest(Struct, frozen=True, kw_only=True):
    """Texts, what they are, and what the vectors are to look like."""

    input_type: Literal["search_query", "search_document"]
    model: str | None = None
    texts: list[str] | None = None
    inputs: list[Input] | None = None
    embedding_types: Annotated[list[Literal["float", "base64"]], Meta(min_length=1)] | None = None
    output_dimension: Annotated[int, Meta(ge=1)] | None = None
    truncate: Literal["NONE", "START", "END"] | None = None
    max_tokens: int | None = None


class ByType(Struct, frozen=True):
    """The vectors in each form that was asked for."""

    floats: list[list[float]] | UnsetType = field(name="float", default=UNSET)
    base64: list[str] | UnsetType = UNSET


class CohereEmbeddings(Struct, frozen=True):
    """A vector for each text, in order."""

    id: str
    embeddings: ByType
    texts: list[str]
    meta: dict[str, dict[str, str | int]]


def _error(refused: Refused) -> object:
    return {"id": str(uuid.uuid4()), "message": refused.message}


FACE = Face("Cohere", _error, {422: 400, 409: 400})


async def embed_texts(call: Call) -> Response:
    """`POST /v2/embed`."""
    asked: CohereRequest = call.body
    if (asked.texts is None) == (asked.inputs is None):
        raise Refused(422, "give texts, or inputs, and not both", "texts")
    texts = asked.texts if asked.texts is not None else [one.content[0].text for one in asked.inputs or ()]
    with call.site.served.use() as opened:
        _, encoder = opened.encoder(asked.model)
        dense = await embed(call, encoder, texts, KINDS[asked.input_type], asked.output_dimension)
        tokens = count_tokens(encoder, texts)
    wanted = asked.embedding_types or ["float"]
    vectors = ByType(
        dense.tolist() if "float" in wanted else UNSET, list(map(as_base64, dense)) if "base64" in wanted else UNSET
    )
    meta: dict[str, dict[str, str | int]] = {"api_version": {"version": "2"}, "billed_units": {"input_tokens": tokens}}
    return answer(CohereEmbeddings(str(uuid.uuid4()), vectors, texts, meta))


ENDPOINTS = (
    Endpoint("POST", "/v2/embed", embed_texts, "Vectors of queries, or of documents (Cohere).", takes=CohereRequest,
             gives=CohereEmbeddings, face=FACE),
)  # fmt: skip
