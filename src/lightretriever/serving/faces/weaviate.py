"""Weaviate's face: what its module text2vec-transformers asks of an inference container. Name this server as its
``queryInferenceUrl``, and a model's container as its ``passageInferenceUrl``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct
from starlette.responses import Response

from lightretriever.serving.access.keys import OPEN
from lightretriever.serving.faces.embed import KINDS, embed
from lightretriever.serving.http.endpoint import Call, Endpoint, Face, answer
from lightretriever.serving.http.errors import Refused


class VectorConfig(Struct, frozen=True, kw_only=True):
    """What the text is; a query where it is not said."""

    pooling_strategy: str | None = None
    task_type: Literal["query", "passage", ""] | None = None
    dimensions: Annotated[int, Meta(ge=0)] | None = None


class VectorRequest(Struct, frozen=True, kw_only=True):
    """One text."""

    text: str
    config: VectorConfig | None = None


class Vector(Struct, frozen=True):
    """Its vector."""

    text: str
    vector: list[float]
    dim: int


def _error(refused: Refused) -> object:
    return {"error": refused.message}


FACE = Face("Weaviate", _error)


async def vectors(call: Call) -> Response:
    """`POST /vectors`."""
    asked: VectorRequest = call.body
    config = asked.config or VectorConfig()
    with call.site.served.use() as opened:
        _, encoder = opened.encoder(None)
        kind = KINDS[config.task_type or "query"]
        dense = await embed(call, encoder, [asked.text], kind, config.dimensions or None)
    return answer(Vector(asked.text, dense[0].tolist(), dense.shape[1]))


async def well(_: Call) -> Response:
    """`GET /.well-known/live` and `ready`."""
    return Response(status_code=204)


async def meta(call: Call) -> Response:
    """`GET /meta`."""
    with call.site.served.use() as opened:
        name, encoder = opened.encoder(None)
    table = encoder.table
    return answer({"model": {"name": table.model or name, "revision": table.revision, "dim": table.dim}})


ENDPOINTS = (
    Endpoint("POST", "/vectors", vectors, "The vector of a query, or of a document (Weaviate).", takes=VectorRequest,
             gives=Vector, face=FACE),
    Endpoint("POST", "/vectors/", vectors, "The same.", takes=VectorRequest, gives=Vector, face=FACE, shown=False),
    Endpoint("GET", "/.well-known/live", well, "Whether it runs (Weaviate).", may=OPEN, face=FACE),
    Endpoint("GET", "/.well-known/ready", well, "Whether it answers (Weaviate).", may=OPEN, face=FACE),
    Endpoint("GET", "/meta", meta, "What is served (Weaviate).", gives=dict[str, dict[str, Any]], face=FACE),
)  # fmt: skip
