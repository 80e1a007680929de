"""What stands before every endpoint: keys, limits, strict reading, errors in the face's words, metrics and the log."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from lightretriever.errors import LightRetrieverError
from lightretriever.serving.access.keys import ANYONE, OPEN, WRITE, Key, find_key, presented
from lightretriever.serving.access.rate import Rate
from lightretriever.serving.http.body import ClientLeft, convert, decode, read_body
from lightretriever.serving.http.endpoint import JSON, OWN, Call, Endpoint, Face, refuse
from lightretriever.serving.http.errors import Refused, busy, refusal
from lightretriever.serving.log import say
from lightretriever.serving.settings import ServeOptions, is_loopback
from lightretriever.serving.site import Site

_LEFT = 499  # in the log and in metrics: the client left before its answer
_LONGEST_QUERY = 1 << 14  # bytes of a URL's query, of which the text is limited apart


@dataclass(slots=True, eq=False)
class Gate:
    """How many are inside, for all endpoints of a worker."""

    rate: Rate
    inside: int = 0


class Guarded:
    """The methods of one path, as an ASGI application."""

    def __init__(self, site: Site, gate: Gate, endpoints: Iterable[Endpoint]) -> None:
        self._site = site
        self._gate = gate
        self._endpoints = {endpoint.method: endpoint for endpoint in endpoints}
        if "GET" in self._endpoints:
            self._endpoints.setdefault("HEAD", self._endpoints["GET"])
        takes = {method: endpoint.takes for method, endpoint in self._endpoints.items() if endpoint.takes is not None}
        self._decoders = {method: msgspec.json.Decoder(kind) for method, kind in takes.items()}
        self._route = next(iter(self._endpoints.values())).path
        self._face = next(iter(self._endpoints.values())).face

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        started = perf_counter()
        notes: dict[str, object] = {}
        response = await self._respond(scope, receive, notes)
        if response is not None:
            await response(scope, receive, send)
        status = _LEFT if response is None else response.status_code
        seconds = perf_counter() - started
        self._site.metrics.request(known_method(scope), self._route, status, seconds)
        if status >= 400 or self._site.options.log_requests:
            log_request(scope, self._route, status, seconds, notes)

    async def _respond(self, scope: Scope, receive: Receive, notes: dict[str, object]) -> Response | None:
        """The answer; None where nobody waits for it."""
        endpoint = self._endpoints.get(scope["method"])
        face = self._face if endpoint is None else endpoint.face
        try:
            if endpoint is None:
                allowed = ", ".join(sorted(self._endpoints))
                raise Refused(405, f"{self._route} takes {allowed}", headers=(("allow", allowed),))
            key = self._admit(scope, endpoint, notes)
            self._gate.inside += 1
            self._site.metrics.in_flight.inc()
            try:
                # A stream of documents goes on as long as its parts come.
                async with asyncio.timeout(None if endpoint.reads else self._site.options.limits.seconds):
                    return await self._handle(endpoint, key, scope, receive, notes)
            finally:
                self._gate.inside -= 1
                self._site.metrics.in_flight.dec()
        except ClientLeft:
            return None
        except Refused as refused:
            return _refused(refused, face, notes)
        except TimeoutError:
            return _refused(busy("it took too long: send less at once, or come back later", 5), face, notes)
        except LightRetrieverError as error:
            found = refusal(error)
            if found.status >= 500:
                say("failed", logging.ERROR, error, route=self._route)
            return _refused(found, face, notes)
        except Exception as error:  # whatever it is, this request alone fails of it
            say("failed", logging.ERROR, error, route=self._route)
            return _refused(Refused(500, "the server failed: its log says how"), face, notes)

    def _admit(self, scope: Scope, endpoint: Endpoint, notes: dict[str, object]) -> Key:
        """Who asks. Raises Refused: nobody who may, too often, or too many at once."""
        site = self._site
        check_host(scope, site.options)
        if endpoint.may == OPEN:
            return ANYONE
        key = check_key(scope, endpoint, site.keys)
        notes["key"] = key.name
        check_room(self._gate, key, scope, site.options.limits.requests)
        return key

    async def _handle(
        self, endpoint: Endpoint, key: Key, scope: Scope, receive: Receive, notes: dict[str, object]
    ) -> Response:
        body: Any = None
        query: Any = None
        if endpoint.takes is not None:
            check_headers(scope, self._site.options.limits.body)
            body = decode(await read_body(receive, self._site.options.limits), self._decoders[endpoint.method])
        if endpoint.asks is not None:
            query = convert(parameters(scope["query_string"]), endpoint.asks)
        path: Mapping[str, str] = scope.get("path_params", {})
        for name, value in path.items():
            if "\0" in value or "\ufffd" in value:
                raise Refused(400, f"the {name} in the path is not UTF-8", name)
        return await endpoint.handle(Call(self._site, key, body, query, path, scope, receive, notes))


def check_room(gate: Gate, key: Key, scope: Scope, most: int) -> None:
    """Raises Refused for who asks too often (429), or where ``most`` are inside (503)."""
    client = scope.get("client")
    wait = gate.rate.wait(key.name or (client[0] if client else ""))
    if wait:
        seconds = str(max(math.ceil(wait), 1))
        raise Refused(429, f"too many requests: come back in {seconds} s", headers=(("retry-after", seconds),))
    if gate.inside >= most:
        raise busy(f"{gate.inside} requests are being answered: come back in a second")


def check_key(scope: Scope, endpoint: Endpoint, keys: tuple[Key, ...]) -> Key:
    """Whose key a request brings. Raises Refused: no key or an unknown one (401), or one that may not do it (403)."""
    if not keys:
        return ANYONE
    secret, of_browser = presented(scope["headers"])
    key = find_key(keys, secret)
    if key is None:
        challenge = 'Basic realm="lightretriever", charset="UTF-8"' if endpoint.face.name == "page" else "Bearer"
        message = "this key is not known here" if secret else "a key is needed: send Authorization: Bearer KEY"
        raise Refused(401, message, headers=(("www-authenticate", challenge),))
    if not key.allows(endpoint.may):
        raise Refused(403, "this key may read, not write")
    if of_browser and endpoint.may == WRITE:
        raise Refused(403, "to write, send the key as Authorization: Bearer KEY")
    return key


def check_host(scope: Scope, options: ServeOptions) -> None:
    """Raises Refused (421) where this machine alone may call, without a key, and a browser was led here by another
    site's name: it would answer that site's page."""
    if not options.private:
        return
    for name, value in scope["headers"]:
        if name == b"host":
            host = value.decode("latin-1").rpartition(":")[0] if value.count(b":") == 1 or value[-1:] != b"]" else ""
            host = host or value.decode("latin-1")
            if not is_loopback(host):
                raise Refused(421, "this server answers to localhost alone: start it with --host and --keys")


def check_headers(scope: Scope, longest: int) -> None:
    """Raises Refused for a body that is said to be no JSON (415), as what another site's page can have a browser send,
    or to be too long (413)."""
    kind = b""
    for name, value in scope["headers"]:
        if name == b"content-type":
            kind = value.partition(b";")[0].strip().lower()
        elif name == b"content-length" and int(value) > longest:
            raise Refused(413, f"the body is larger than {longest:,} bytes: send less at once")
    if kind != b"application/json":
        raise Refused(415, f"send JSON, with the header content-type: {JSON}")


def parameters(query: bytes) -> dict[str, Any]:
    """The parameters of a URL. Raises Refused: one comes twice, or is not UTF-8 (400)."""
    if len(query) > _LONGEST_QUERY:
        raise Refused(422, f"the URL's query has {len(query):,} bytes: at most {_LONGEST_QUERY:,} are read")
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict")
    except (UnicodeDecodeError, ValueError):
        raise Refused(400, "the URL's query is not UTF-8, percent-encoded") from None
    found = dict(pairs)
    if len(found) < len(pairs):
        raise Refused(400, "the URL's query has a parameter twice: leave one out")
    return found


def known_method(scope: Scope) -> str:
    """The method, as far as it is one: what others invent is not counted apart."""
    method = str(scope["method"])
    return method if method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH") else "other"


def log_request(scope: Scope, route: str, status: int, seconds: float, notes: Mapping[str, Any]) -> None:
    """A line for one request: no text of it, but what it was refused for."""
    client = scope.get("client")
    say(
        "request",
        logging.WARNING if status >= 400 else logging.INFO,
        method=scope["method"][:16],
        route=route,
        status=status,
        ms=round(seconds * 1e3, 3),
        client=client[0] if client else None,
        **notes,
    )


def _refused(refused: Refused, face: Face, notes: dict[str, object]) -> Response:
    notes["refused"] = refused.code
    return refuse(refused, face)


def not_found(site: Site) -> Any:
    """Answers what has no path."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        started = perf_counter()
        response = refuse(Refused(404, "there is nothing here: /docs lists what there is"), OWN)
        await response(scope, receive, send)
        seconds = perf_counter() - started
        site.metrics.request(known_method(scope), "none", 404, seconds)
        log_request(scope, "none", 404, seconds, {})

    return answer
