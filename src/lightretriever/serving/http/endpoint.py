"""What an endpoint is: declared once, it is routed, guarded, measured and described by that."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope

from lightretriever.serving.access.keys import READ, Key
from lightretriever.serving.http.errors import Refused
from lightretriever.serving.page.markup import Html, html

if TYPE_CHECKING:
    from lightretriever.serving.site import Site

JSON = "application/json"


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """One request, let in.

    Attributes:
        site: what is served.
        key: who asks.
        body: as `Endpoint.takes` has it; None where it takes none.
        query: as `Endpoint.asks` has it; None likewise.
        path: the parameters in its path.
        scope, receive: of ASGI, for what is streamed.
        notes: what the log is to say besides.
    """

    site: Site
    key: Key
    body: Any
    query: Any
    path: Mapping[str, str]
    scope: Scope
    receive: Receive
    notes: dict[str, object]


Handler = Callable[[Call], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Face:
    """A shape that clients know.

    Attributes:
        name: for the description.
        write_error: what it says of a refusal, JSON-able, or a page.
        statuses: which it gives in place of ours.
    """

    name: str
    write_error: Callable[[Refused], object]
    statuses: Mapping[int, int] = field(default_factory=dict)


def _own_error(refused: Refused) -> object:
    said = {"code": refused.code, "message": refused.message}
    return {"error": said | ({"parameter": refused.parameter} if refused.parameter else {})}


OWN = Face("search", _own_error)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A method of a path.

    Attributes:
        method, path: as Starlette writes paths: ``/documents/{id:path}``.
        handle: answers.
        summary: a line for people.
        may: the right that it needs: "read", "write", or "open" for none.
        takes: the type of its JSON body; None for no body, or one that it reads itself.
        asks: the type of its query parameters.
        gives: the type of its answer, or several, for the description.
        face: whose errors it gives.
        reads: the media types of a body that it reads itself, and what each holds; none for no such body.
        shown: whether the description has it.
    """

    method: str
    path: str
    handle: Handler
    summary: str
    may: str = READ
    takes: Any = None
    asks: type | None = None
    gives: Any = None
    face: Face = OWN
    reads: tuple[tuple[str, Any], ...] = ()
    shown: bool = True


_encode = msgspec.json.Encoder(enc_hook=str).encode


def answer(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A value as JSON."""
    return Response(_encode(value), status, headers, JSON)


def refuse(refused: Refused, face: Face = OWN) -> Response:
    """A refusal, as a face words it."""
    status = face.statuses.get(refused.status, refused.status)
    said = face.write_error(refused)
    if isinstance(said, Html):
        return html(said, status, dict(refused.headers))
    return answer(said, status, dict(refused.headers))
