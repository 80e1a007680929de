"""`/docs`: the description of all calls, as a page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import groupby
from typing import Any

from lightretriever.serving.api.openapi import PATH
from lightretriever.serving.page.markup import Html, element, join


def calls(said: Mapping[str, Any]) -> Html:
    """Every call of a description with what it takes and gives, by face, and every type."""
    listed = [
        (call["tags"][0], method.upper(), path, call)
        for path, methods in said["paths"].items()
        for method, call in methods.items()
    ]
    listed.sort(key=lambda one: one[0] != "search")  # ours first, else as they are declared
    parts: list[Html] = [element("p", "The same for programs: ", element("a", PATH, href=PATH))]
    for face, some in groupby(listed, key=lambda one: one[0]):
        parts.append(element("h2", f"{face}"))
        parts += [_call(method, path, call) for _, method, path, call in some]
    parts.append(element("h2", "Types"))
    for name, schema in said["components"]["schemas"].items():
        parts.append(
            element("dl", element("dt", element("code", name)), _details(schema), class_="call", id=f"type-{name}")
        )
    return element("main", *parts, id="results", tabindex="-1")


def _call(method: str, path: str, call: dict[str, Any]) -> Html:
    rows = [element("dt", element("code", f"{method} {path}")), element("dd", call["summary"])]
    for one in call.get("parameters", ()):
        needed = ", needed" if one["required"] else ""
        rows.append(element("dd", element("code", one["name"]), f" in the {one['in']}{needed}: ", _kind(one["schema"])))
    taken = call.get("requestBody", {}).get("content", {}).items()
    given = call["responses"]["2XX"].get("content", {}).values()
    rows += [element("dd", "takes ", element("code", mime), ": ", _kind(content["schema"])) for mime, content in taken]
    rows += [element("dd", "gives ", _kind(content["schema"])) for content in given]
    return element("dl", *rows, class_="call")


def _details(schema: dict[str, Any]) -> Html:
    about = element("dd", schema["description"]) if "description" in schema else None
    needed = schema.get("required", ())
    fields = [
        element("dd", element("code", name), ", needed: " if name in needed else ": ", _kind(kind))
        for name, kind in schema.get("properties", {}).items()
    ]
    return join([about, *fields])


def _kind(schema: dict[str, Any]) -> Html:
    """A type in a few words, linked where it is one of the page's."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return element("a", element("code", name), href=f"#type-{name}")
    if "anyOf" in schema:
        return join([_kind(one) for one in schema["anyOf"]], " or ")
    if schema.get("type") == "array" and "items" in schema:
        return join(["a list of ", _kind(schema["items"])])
    if "enum" in schema:
        return element("code", " | ".join(json.dumps(one) for one in schema["enum"]))
    told = [element("code", str(schema.get("type", "any")))]
    limits = [(name, schema[name]) for name in ("minimum", "maximum", "minLength", "default") if name in schema]
    return join([*told, *(f"{name} {json.dumps(value)}" for name, value in limits)], ", ")
