"""Streamable HTTP at /mcp, behind the same door as the HTTP server: keys, host names, limits.

Nothing is kept between requests: tools that only read need no session, and nobody can fill one up.
"""

from __future__ import annotations

import asyncio
import logging
from time import perf_counter
from urllib.parse import urlsplit

from mcp.server.transport_security import TransportSecuritySettings
from starlette.types import ASGIApp, Receive, Scope, Send

from lightretriever.serving.access.guard import Gate, check_host, check_room, known_method, log_request
from lightretriever.serving.access.keys import ANYONE, Key, find_key, load_keys, presented
from lightretriever.serving.access.rate import Rate
from lightretriever.serving.http.endpoint import refuse
from lightretriever.serving.http.errors import Refused, busy
from lightretriever.serving.log import say
from lightretriever.serving.mcp.options import McpOptions
from lightretriever.serving.mcp.protocol import KEY, make_server
from lightretriever.serving.mcp.tools import Tools
from lightretriever.serving.settings import ServeOptions, is_loopback

PATH = "/mcp"
_LONGEST = 1 << 20  # bytes of a body: a query is far less


def create_app(options: McpOptions, tools: Tools) -> ASGIApp:
    """The application. Raises ArtifactError: the keys cannot be read."""
    keys = load_keys(options.served.keys) if options.served.keys is not None else ()
    app = make_server(tools).streamable_http_app(
        streamable_http_path=PATH,
        json_response=True,
        stateless_http=True,
        max_request_body_size=min(_LONGEST, options.served.limits.body),
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),  # the door's own is more
    )
    return Door(app, options.served, keys)


class Door:
    """Lets requests in: from where, with which key, how often and how many."""

    def __init__(self, app: ASGIApp, options: ServeOptions, keys: tuple[Key, ...]) -> None:
        self._app = app
        self._options = options
        self._keys = keys
        self._gate = Gate(Rate(options.limits.rate))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, notes = perf_counter(), dict[str, object]()
        try:
            key = self._admit(scope)
            notes["key"] = key.name
            scope.setdefault("state", {})[KEY] = key
            self._gate.inside += 1
            try:
                async with asyncio.timeout(self._options.limits.seconds):
                    await self._app(scope, receive, send)
            finally:
                self._gate.inside -= 1
            return
        except Refused as error:
            refused = error
        except TimeoutError:
            refused = busy("it took too long: come back later", 5)
        except Exception as error:  # whatever it is, this request alone fails of it
            say("failed", logging.ERROR, error)
            refused = Refused(500, "the server failed: its log says how")
        notes["refused"] = refused.code
        log_request(scope, PATH, refused.status, perf_counter() - started, notes)
        await refuse(refused)(scope, receive, send)

    def _admit(self, scope: Scope) -> Key:
        """Who asks. Raises Refused: nobody who may, too often, or too many at once."""
        check_host(scope, self._options)
        check_origin(scope)
        if scope["path"] != PATH:
            raise Refused(404, f"there is nothing here: the tools are at {PATH}")
        if known_method(scope) != "POST":  # no stream to listen to, no session to end
            raise Refused(405, f"{PATH} takes POST", headers=(("allow", "POST"),))
        key = ANYONE if not self._keys else _key_of(scope, self._keys)
        check_room(self._gate, key, scope, self._options.limits.requests)
        return key


def check_origin(scope: Scope) -> None:
    """Raises Refused (403) for what a web page of another machine has a browser send, as the protocol demands."""
    for name, value in scope["headers"]:
        if name == b"origin" and not is_loopback(_host_of(value.decode("latin-1"))):
            raise Refused(403, "web pages cannot call this: an agent's own program can")


def _host_of(origin: str) -> str:
    try:
        return urlsplit(origin).hostname or ""
    except ValueError:
        return ""


def _key_of(scope: Scope, keys: tuple[Key, ...]) -> Key:
    secret, of_browser = presented(scope["headers"])
    key = find_key(keys, secret)
    if key is None or of_browser:
        message = "this key is not known here" if secret else "a key is needed: send Authorization: Bearer KEY"
        raise Refused(401, message, headers=(("www-authenticate", "Bearer"),))
    return key
