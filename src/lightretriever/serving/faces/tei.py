"""The face of Hugging Face's text-embeddings-inference: `/embed`, `/embed_sparse`, `/info`, `/health`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct
from starlette.responses import Response

from lightretriever import __version__
from lightretriever.serving.access.keys import OPEN
from lightretriever.serving.api.search import check_texts
from lightretriever.serving.faces.embed import KINDS, embed
from lightretriever.serving.http.endpoint import Call, Endpoint, Face, answer
from lightretriever.serving.http.errors import Refused

Prompt = Literal["query", "document", "passage", "full"]


class EmbedRequest(Struct, frozen=True, kw_only=True):
    """A text or several. Vectors are of unit length, so ``normalize`` changes nothing; long texts are cut."""

    inputs: str | list[str]
    normalize: bool = True
    truncate: bool | None = None
    truncation_direction: str | None = None
    prompt_name: Prompt | None = None
    dimensions: Annotated[int, Meta(ge=1)] | None = None


class SparseRequest(Struct, frozen=True, kw_only=True):
    """A query or several, to be counted."""

    inputs: str | list[str]
    truncate: bool | None = None
    truncation_direction: str | None = None
    prompt_name: Literal["query"] | None = None


class SparseValue(Struct, frozen=True):
    """A token of the model, or a word of the index, and how often the query has it."""

    index: int
    value: float


class Info(Struct, frozen=True):
    """What is served, as clients of this face ask for it."""

    model_id: str
    model_sha: str | None
    model_dtype: str
    model_type: dict[str, dict[str, str]]
    max_concurrent_requests: int
    max_input_length: int
    max_batch_tokens: int
    max_batch_requests: int | None
    max_client_batch_size: int
    auto_truncate: bool
    tokenization_workers: int
    version: str
    sha: str | None
    docker_label: str | None


_KINDS = {400: "Empty", 413: "Validation", 422: "Validation", 409: "Validation", 429: "Overloaded", 503: "Overloaded"}
_FACE_NAME = "text-embeddings-inference"


def _error(refused: Refused) -> object:
    return {"error": refused.message, "error_type": _KINDS.get(refused.status, "Backend")}


FACE = Face(_FACE_NAME, _error, {409: 422})


async def embed_texts(call: Call) -> Response:
    """`POST /embed`, and `POST /`, where Hugging Face's client sends what it has no path for."""
    asked: EmbedRequest = call.body
    if not asked.normalize:
        raise Refused(422, "vectors are of unit length here: leave normalize out", "normalize")
    texts = [asked.inputs] if isinstance(asked.inputs, str) else asked.inputs
    with call.site.served.use() as opened:
        _, encoder = opened.encoder(None)
        dense = await embed(call, encoder, texts, KINDS[asked.prompt_name or "query"], asked.dimensions)
    return answer(dense.tolist())


async def embed_sparse(call: Call) -> Response:
    """`POST /embed_sparse`."""
    asked: SparseRequest = call.body
    texts = [asked.inputs] if isinstance(asked.inputs, str) else asked.inputs
    check_texts(texts, call.site.options.limits)
    with call.site.served.use() as opened:
        _, encoder = opened.encoder(None)
        counts = await call.site.aside(encoder.encode_sparse, texts)
    rows = [counts.row(place) for place in range(len(texts))]
    return answer(
        [[SparseValue(*pair) for pair in zip(ids.tolist(), values.tolist(), strict=True)] for ids, values in rows]
    )


async def info(call: Call) -> Response:
    """`GET /info`."""
    limits = call.site.options.limits
    with call.site.served.use() as opened:
        name, encoder = opened.encoder(None)
    table = encoder.table
    return answer(
        Info(
            model_id=table.model or name,
            model_sha=table.revision or None,
            model_dtype=table.dtype,
            model_type={"embedding": {"pooling": "mean"}},
            max_concurrent_requests=limits.requests,
            max_input_length=table.max_length,
            max_batch_tokens=limits.batch * table.max_length,
            max_batch_requests=None,
            max_client_batch_size=limits.batch,
            auto_truncate=True,
            tokenization_workers=1,
            version=__version__,
            sha=None,
            docker_label=None,
        )
    )


async def health(_: Call) -> Response:
    """`GET /health`."""
    return Response(status_code=200)


_TAKES: dict[str, Any] = {"takes": EmbedRequest, "gives": list[list[float]], "face": FACE}
ENDPOINTS = (
    Endpoint("POST", "/embed", embed_texts, "Vectors of queries, or of documents (TEI).", **_TAKES),
    Endpoint("POST", "/", embed_texts, "The same.", shown=False, **_TAKES),
    Endpoint("POST", "/embed_sparse", embed_sparse, "Counts of queries' words (TEI).", takes=SparseRequest,
             gives=list[list[SparseValue]], face=FACE),
    Endpoint("GET", "/info", info, "What is served (TEI).", gives=Info, face=FACE),
    Endpoint("GET", "/health", health, "Whether it is (TEI).", may=OPEN, face=FACE),
)  # fmt: skip
