"""A connection that cannot be held for ever, nor filled without end: uvicorn's, with deadlines and bounds."""

from __future__ import annotations

import asyncio
from asyncio import TimerHandle
from typing import Any

import msgspec
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from lightretriever.serving.http.endpoint import OWN
from lightretriever.serving.http.errors import Refused
from lightretriever.serving.log import say
from lightretriever.serving.settings import Limits


class BoundConnection(HttpToolsProtocol):
    """One client's connection.

    Args:
        limits: headers have to come whole within ``slow`` seconds and ``header`` bytes; an answer has to be read as
            fast; one connection more than ``connections`` is closed.
        config, server_state, app_state: as uvicorn gives them.
    """

    def __init__(
        self,
        limits: Limits,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._limits = limits
        self._deadline: TimerHandle | None = None
        self._head = 0  # bytes since the last request's headers ended
        self._in_head = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client is there."""
        super().connection_made(_Gathered(transport, self.loop))  # type: ignore[arg-type]
        if len(self.connections) > self._limits.connections:
            self._refuse(Refused(503, "too many connections: come back in a second", headers=(("retry-after", "1"),)))
            return
        self._start()

    def connection_lost(self, exc: Exception | None) -> None:
        """It has gone."""
        self._stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Some of a request."""
        if self._in_head:
            if self._deadline is None:
                self._start()
            self._head += len(data)
        super().data_received(data)
        # The headers of a long body come in the same piece as some of it.
        if self._in_head and self._head > self._limits.header:
            self._refuse(Refused(431, f"the headers are larger than {self._limits.header:,} bytes"))

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP."""
        del msg  # uvicorn's words; ours are JSON
        self._refuse(Refused(400, "this is no HTTP request"))

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._in_head = True

    def on_headers_complete(self) -> None:
        """Its headers are there."""
        self._in_head = False
        self._head = 0
        self._stop()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """All of it is there."""
        super().on_message_complete()
        self._in_head = True

    def pause_writing(self) -> None:
        """The client reads more slowly than it is answered."""
        super().pause_writing()
        self._stop()
        self._deadline = self.loop.call_later(self._limits.seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """It reads again."""
        super().resume_writing()
        self._stop()

    def _start(self) -> None:
        self._deadline = self.loop.call_later(self._limits.slow, self._too_slow)

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        if self._head or self.cycle is None:
            self._refuse(Refused(408, f"the headers took more than {self._limits.slow:g} seconds"))

    def _refuse(self, refused: Refused) -> None:
        """Answer what never comes to the application, and close."""
        if self.transport.is_closing():
            return
        self._stop()
        client = self.client[0] if self.client else None
        say("refused", status=refused.status, refused=refused.code, client=client)
        cycle = self.cycle
        unread = cycle is not None and cycle.more_body and not cycle.response_started  # its own body is at fault
        if cycle is not None and unread:
            cycle.disconnected = True
            cycle.message_event.set()
        if cycle is None or cycle.response_complete or unread:  # else what is being answered would be garbled
            body = msgspec.json.encode(OWN.write_error(refused))
            headers = [*refused.headers, ("content-type", "application/json"), ("content-length", str(len(body)))]
            lines = [f"{name}: {value}\r\n".encode() for name, value in [*headers, ("connection", "close")]]
            self.transport.write(b"".join([STATUS_LINE[refused.status], *lines, b"\r\n", body]))
        self.transport.close()


class _Gathered:
    """A transport that sends together what is written in one turn of the event loop. uvicorn writes an answer's headers
    and its body apart, and each is a call of the system, which takes longer than to encode a query."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send it when this turn ends."""
        if not self._held:
            self._loop.call_soon(self._send)
        self._held.append(data)

    def close(self) -> None:
        """Once all is sent."""
        self._send()
        self._transport.close()

    def _send(self) -> None:
        held, self._held = self._held, []
        if held and not self._transport.is_closing():
            self._transport.write(b"".join(held))
