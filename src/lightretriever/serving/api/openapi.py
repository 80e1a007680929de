"""`/openapi.json`: the description of all endpoints, made of what they are declared as."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from starlette.responses import Response

from lightretriever import __version__
from lightretriever.serving.access.keys import OPEN
from lightretriever.serving.http.endpoint import JSON, OWN, Call, Endpoint, Face
from lightretriever.serving.http.errors import Refused

_REF = "#/components/schemas/{name}"
_PATH = re.compile(r"{(\w+)(?::\w+)?}")
PATH = "/openapi.json"


def describe(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """An OpenAPI 3.1 document."""
    shown = [endpoint for endpoint in endpoints if endpoint.shown]
    named = [(each.takes, each.asks, *_gives(each), *(kind for _, kind in each.reads)) for each in shown]
    kinds = [kind for some in named for kind in some if kind is not None]
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REF)
    of_kind = dict(zip(map(repr, kinds), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for each in shown:
        path = _PATH.sub(r"{\1}", each.path)
        paths.setdefault(path, {})[each.method.lower()] = _operation(each, of_kind, components)
    errors = {_error_name(face): _error_schema(face) for face in {each.face.name: each.face for each in shown}.values()}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "LightRetriever",
            "version": __version__,
            "description": "Hybrid search with a language model for documents and none for queries.",
        },
        "paths": paths,
        "components": {
            "schemas": {**components, **errors},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(each: Endpoint, of_kind: dict[str, Any], components: dict[str, Any]) -> dict[str, Any]:
    said: dict[str, Any] = {"summary": each.summary, "tags": [each.face.name]}
    said["operationId"] = f"{each.method.lower()}_{re.sub(r'[^a-z0-9]+', '_', each.path.lower()).strip('_')}"
    asked = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PATH.findall(each.path)
    ]
    if each.asks is not None:
        schema = of_kind[repr(each.asks)]
        fields = components[schema["$ref"].rpartition("/")[2]]
        asked += [
            {"name": name, "in": "query", "required": name in fields.get("required", ()), "schema": kind}
            for name, kind in fields["properties"].items()
        ]
    if asked:
        said["parameters"] = asked
    if each.takes is not None:
        said["requestBody"] = {"required": True, "content": {JSON: {"schema": of_kind[repr(each.takes)]}}}
    elif each.reads:
        content = {mime: {"schema": of_kind[repr(kind)]} for mime, kind in each.reads}
        said["requestBody"] = {"required": True, "content": content}
    given = [of_kind[repr(kind)] for kind in _gives(each)]
    schema = given[0] if len(given) == 1 else {"anyOf": given}
    body = {"content": {JSON: {"schema": schema}}} if given else {}
    error = {"content": {JSON: {"schema": {"$ref": _REF.format(name=_error_name(each.face))}}}}
    said["responses"] = {
        "2XX": {"description": "The answer.", **body},
        "4XX": {"description": "The request is refused.", **error},
        "5XX": {"description": "The server is busy, or failed.", **error},
    }
    said["security"] = [] if each.may == OPEN else [{"key": []}, {}]
    return said


def _gives(each: Endpoint) -> tuple[Any, ...]:
    """The types of its answer."""
    if each.gives is None:
        return ()
    return each.gives if isinstance(each.gives, tuple) else (each.gives,)


def _error_name(face: Face) -> str:
    return f"{re.sub(r'[^A-Za-z]', '', face.name.title())}Error"


def _error_schema(face: Face) -> dict[str, Any]:
    return _schema_of(face.write_error(Refused(422, "what is wrong", "field")))


def _schema_of(value: object) -> dict[str, Any]:
    """What looks like an example."""
    if isinstance(value, dict):
        return {"type": "object", "properties": {name: _schema_of(member) for name, member in value.items()}}
    return {"type": ["string", "null"]}


def openapi_endpoint(described: Mapping[str, Any]) -> Endpoint:
    """Gives a description."""
    body = msgspec.json.encode(described)

    async def openapi(_: Call) -> Response:
        return Response(body, media_type=JSON)

    return Endpoint("GET", PATH, openapi, "This description.", may=OPEN, face=OWN, gives=dict[str, Any])
