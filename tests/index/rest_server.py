"""Qdrant's REST protocol on 127.0.0.1, answered by `qdrant_client`'s local mode: the way to a server without one.

It has no graph, no shards and no disk; what it is for is everything between a backend and a server: addresses, keys,
JSON there and back, and failures made on purpose.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from qdrant_client import QdrantClient, models

BEFORE, AFTER, BUSY, SLOW_WRITE = "lose the request", "lose the answer", "say 503", "say wait_timeout"


@dataclass
class RestServer:
    """One server.

    Attributes:
        url: scheme, host, port and prefix.
        key: what requests have to bring.
        faults: what goes wrong with the next requests whose method and path end as the first of each pair says.
        requests: method and path of all that came, and how many points were written by each.
        keys: the key that each of them brought, None where none did.
        elsewhere: where all requests are sent on to, "" to answer them here.
    """

    client: QdrantClient
    url: str = ""
    prefix: str = ""
    key: str | None = None
    faults: list[tuple[str, str]] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    elsewhere: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def fault(self, request: str) -> str:
        for i, (end, what) in enumerate(self.faults):
            if request.endswith(end):
                del self.faults[i]
                return what
        return ""


@contextmanager
def serve(prefix: str = "", key: str | None = None) -> Iterator[RestServer]:
    state = RestServer(QdrantClient(":memory:"), prefix=prefix, key=key)
    http = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"state": state}))
    http.daemon_threads = True
    state.url = f"http://127.0.0.1:{http.server_address[1]}{prefix}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    state: RestServer
    protocol_version = "HTTP/1.1"  # connections are kept, as a server's are

    def _any(self) -> None:
        state = self.state
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or b"{}")
        parts = urlsplit(self.path)
        path = parts.path.removeprefix(state.prefix)
        with state.lock:
            state.requests.append((self.command, path))
            state.keys.append(self.headers.get("api-key"))
            if state.elsewhere:
                return self._answer(307, {"status": {"error": "moved"}}, state.elsewhere + self.path)
            if not parts.path.startswith(state.prefix):
                return self._answer(404, {"status": {"error": f"no such path: {parts.path}"}})
            if state.key is not None and self.headers.get("api-key") != state.key:
                return self._answer(401, {"status": {"error": "Invalid API key or JWT"}})
            fault = state.fault(f"{self.command} {path}")
            if fault == BUSY:
                return self._answer(503, {"status": {"error": "1 of 2 replicas are not available"}})
            if fault == BEFORE:
                return self._hang_up()
            try:
                query = {name: values[0] for name, values in parse_qs(parts.query).items()}
                result = _act(state.client, self.command, [unquote(p) for p in path.split("/")[1:]], body, query)
            except KeyError as error:
                return self._answer(404, {"status": {"error": f"no such call: {error}"}})
            except Exception as error:
                status = 404 if "not found" in str(error) else 400
                return self._answer(status, {"status": {"error": str(error)}})
        if fault == AFTER:
            return self._hang_up()
        if fault == SLOW_WRITE:
            result = {"operation_id": 1, "status": "wait_timeout"}
        if path == "/":
            return self._answer(200, result)
        return self._answer(200, {"result": result, "status": "ok", "time": 0.0})

    do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = _any

    def _answer(self, status: int, value: object, location: str = "") -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        if location:
            self.send_header("Location", location)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _hang_up(self) -> None:
        self.close_connection = True

    def log_message(self, *arguments: object) -> None:
        pass


def _act(client: QdrantClient, method: str, path: list[str], body: Any, query: dict[str, str]) -> Any:
    name = path[1] if len(path) > 1 else ""
    actions: dict[tuple[str, ...], Callable[[], Any]] = {
        ("GET", ""): lambda: {"title": "qdrant", "version": "1.18.0"},
        ("GET", "aliases"): lambda: _plain(client.get_aliases()),
        ("GET", "collections"): lambda: _plain(client.get_collections()),
        ("GET", "collections", "*"): lambda: _plain(client.get_collection(name)),
        ("PUT", "collections", "*"): lambda: _create(client, name, body),
        ("PATCH", "collections", "*"): lambda: client.update_collection(name, metadata=body.get("metadata")),
        ("DELETE", "collections", "*"): lambda: client.delete_collection(name),
        ("PUT", "collections", "*", "index"): lambda: _indexed(client, name, body),
        ("PUT", "collections", "*", "points"): lambda: _upsert(client, name, body, query),
        ("POST", "collections", "*", "points"): lambda: _plain(
            client.retrieve(name, body["ids"], with_payload=body["with_payload"], with_vectors=body["with_vector"])
        ),
        ("PUT", "collections", "*", "points", "vectors"): lambda: _plain(
            client.update_vectors(name, models.UpdateVectors(**body).points)
        ),
        ("POST", "collections", "*", "points", "delete"): lambda: _plain(
            client.delete(name, models.PointIdsList(**body))
        ),
        ("POST", "collections", "*", "points", "count"): lambda: _plain(client.count(name, exact=True)),
        ("POST", "collections", "*", "points", "scroll"): lambda: _scroll(client, name, models.ScrollRequest(**body)),
        ("POST", "collections", "*", "points", "query", "batch"): lambda: _plain(
            client.query_batch_points(name, models.QueryRequestBatch(**body).searches)
        ),
    }
    if path == ["collections", "aliases"]:
        return client.update_collection_aliases(models.ChangeAliasesOperation(**body).actions)
    return actions[(method, *(("*" if i == 1 else part) for i, part in enumerate(path)))]()


def _create(client: QdrantClient, name: str, body: Any) -> bool:
    wanted = models.CreateCollection(**body)
    return client.create_collection(
        name, wanted.vectors, sparse_vectors_config=wanted.sparse_vectors, metadata=wanted.metadata
    )


def _indexed(client: QdrantClient, name: str, body: Any) -> Any:
    models.CreateFieldIndex(**body)
    client.get_collection(name)
    return {"operation_id": 0, "status": "completed"}


def _upsert(client: QdrantClient, name: str, body: Any, query: dict[str, str]) -> Any:
    if query.get("wait") != "true":
        raise ValueError("a write that does not wait")
    return _plain(client.upsert(name, models.PointsList(**body).points))


def _scroll(client: QdrantClient, name: str, wanted: models.ScrollRequest) -> Any:
    points, following = client.scroll(
        name,
        wanted.filter,
        offset=wanted.offset,
        limit=wanted.limit,
        with_payload=wanted.with_payload,
        with_vectors=wanted.with_vector,
    )
    return {"points": _plain(points), "next_page_offset": following}


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.model_dump(mode="json", exclude_none=True)
