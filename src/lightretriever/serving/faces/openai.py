"""OpenAI's face: `POST /v1/embeddings`, which knows queries from documents, and `GET /v1/models`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct
from starlette.responses import Response

from lightretriever.query.encoder import QueryEncoder
from lightretriever.serving.faces.embed import KINDS, as_base64, count_tokens, embed, texts_of_ids
from lightretriever.serving.http.endpoint import Call, Endpoint, Face, answer
from lightretriever.serving.http.errors import Refused

TokenId = Annotated[int, Meta(ge=0, le=2**31 - 1)]


class EmbeddingsRequest(Struct, frozen=True, kw_only=True):
    """Texts, or token ids of the model's own tokenizer. What else clients send is passed over."""

    input: str | list[str | TokenId | list[TokenId]]
    model: str | None = None
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1)] | None = None
    input_type: Literal["query", "document", "passage", "search_query", "search_document", "full"] | None = None
    user: str | None = None


class Embedding(Struct, frozen=True):
    """One vector: numbers, or float32 in base64."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class Usage(Struct, frozen=True):
    """Tokens of all texts."""

    prompt_tokens: int
    total_tokens: int


class Embeddings(Struct, frozen=True):
    """A vector for each text, in order."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: Usage


class Model(Struct, frozen=True):
    """A model that is served; what it is besides its name is ours."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    dimensions: int
    document_model: str


class Models(Struct, frozen=True):
    """All that are served, the default first."""

    object: Literal["list"]
    data: list[Model]


def _error(refused: Refused) -> object:
    kinds = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
    kind = kinds.get(refused.status, "invalid_request_error" if refused.status < 500 else "server_error")
    parameter = refused.parameter or None
    code = "model_not_found" if refused.parameter == "model" else refused.code
    return {"error": {"message": refused.message, "type": kind, "param": parameter, "code": code}}


FACE = Face("OpenAI", _error, {422: 400, 409: 400})


async def embeddings(call: Call) -> Response:
    """`POST /v1/embeddings`."""
    asked: EmbeddingsRequest = call.body
    with call.site.served.use() as opened:
        name, encoder = opened.encoder(asked.model)
        given: list[Any] = [asked.input] if isinstance(asked.input, str) else asked.input
        if given and all(isinstance(one, int) for one in given):
            given = [given]
        texts = [one for one in given if isinstance(one, str)]
        if not texts:
            texts = texts_of_ids(encoder, [one for one in given if isinstance(one, list)])
        if len(texts) < len(given):
            raise Refused(422, "the input mixes texts and token ids: send one or the other", "input")
        dense = await embed(call, encoder, texts, KINDS[asked.input_type or "query"], asked.dimensions)
        tokens = count_tokens(encoder, texts)
    rows = map(as_base64, dense) if asked.encoding_format == "base64" else dense.tolist()
    data = [Embedding("embedding", place, row) for place, row in enumerate(rows)]
    return answer(Embeddings("list", data, name, Usage(tokens, tokens)))


async def models(call: Call) -> Response:
    """`GET /v1/models`."""
    with call.site.served.use() as opened:
        return answer(Models("list", [_model(call, *opened.encoder(name)) for name in opened.names]))


async def model(call: Call) -> Response:
    """`GET /v1/models/{name}`."""
    with call.site.served.use() as opened:
        return answer(_model(call, *opened.encoder(call.path["name"])))


def _model(call: Call, name: str, encoder: QueryEncoder) -> Model:
    table = encoder.table
    return Model(name, "model", int(call.site.started), "lightretriever", table.dim, table.model)


ENDPOINTS = (
    Endpoint("POST", "/v1/embeddings", embeddings, "Vectors of queries, or of documents (OpenAI).",
             takes=EmbeddingsRequest, gives=Embeddings, face=FACE),
    Endpoint("GET", "/v1/models", models, "The models that are served (OpenAI).", gives=Models, face=FACE),
    Endpoint("GET", "/v1/models/{name:path}", model, "One of them (OpenAI).", gives=Model, face=FACE),
)  # fmt: skip
