"""A real server in a process of its own, and a plain client of it."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

PATIENCE = 60.0  # seconds, of a machine that does much else


@dataclass(frozen=True)
class Answer:
    """What the server said."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Running:
    """A server that runs."""

    url: str
    process: subprocess.Popen[bytes]
    log_file: Path

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        return str(parts.hostname), int(parts.port or 0)

    @property
    def log(self) -> list[dict[str, Any]]:
        """The lines of its log so far."""
        lines = self.log_file.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def ask(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None, key: str = ""
    ) -> Answer:
        """One request on a connection of its own; what is no bytes is sent as JSON."""
        sent = dict(headers or {})
        if key:
            sent["authorization"] = f"Bearer {key}"
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            sent.setdefault("content-type", "application/json")
        connection = http.client.HTTPConnection(*self.address, timeout=PATIENCE)
        try:
            connection.request(method, path, body, sent)
            got = connection.getresponse()
            return Answer(got.status, {name.lower(): value for name, value in got.getheaders()}, got.read())
        finally:
            connection.close()

    def get(self, path: str, **named: Any) -> Answer:
        return self.ask("GET", path, **named)

    def post(self, path: str, body: object, **named: Any) -> Answer:
        return self.ask("POST", path, body, **named)


@contextmanager
def running(*arguments: object, environment: Mapping[str, str] | None = None, verb: str = "serve") -> Iterator[Running]:
    """`lightretriever serve` with these arguments, on a port that the system picks; ended as a supervisor does it."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        program = [sys.executable, "-m", "lightretriever", verb, *map(str, arguments), "--port", "0"]
        with log.open("wb") as out:
            process = subprocess.Popen(program, stderr=out, stdout=out, env={**os.environ, **(environment or {})})
        try:
            url = until(lambda: _address(log, process), "the server says where it is")
            server = Running(url, process, log)
            until(lambda: _is_ready(server, verb), "the server is ready")
            yield server
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise


def until(found: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """Poll until something true comes, which is given."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if value := found():
            return value
        time.sleep(0.01)
    raise AssertionError(f"not within {patience:.0f} s: {what}")


def _address(log: Path, process: subprocess.Popen[bytes]) -> str:
    text = log.read_text(encoding="utf-8")
    assert process.poll() is None, text
    found = re.search(r"http://[^\s,]+:\d+", text)
    return found[0] if found else ""


def _is_ready(server: Running, verb: str) -> bool:
    assert server.process.poll() is None, server.log_file.read_text(encoding="utf-8")
    try:
        return server.get("/readyz").status == (200 if verb == "serve" else 404)
    except OSError:
        return False
