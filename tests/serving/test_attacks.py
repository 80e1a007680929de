"""Raw sockets: clients that are slow, too large, malformed or two-faced get a 4xx, and nobody else waits."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from index.conftest import WORDS
from serving.running import PATIENCE, Running, running, until

BODY = json.dumps({"query": WORDS[1]}).encode()
HEAD = b"POST /search HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"


@pytest.fixture(scope="module")
def strict(made_index: Path) -> Iterator[Running]:
    """A server that waits for one second."""
    limits = ("slow=1", "seconds=5", "header=8192", "requests=4", "connections=40", "body=100000")
    with running(made_index, *(part for limit in limits for part in ("--limit", limit))) as found:
        yield found


def exchange(server: Running, *parts: bytes, close: bool = False) -> bytes:
    """Send, and read until the server closes, or a whole answer is there."""
    with socket.create_connection(server.address, timeout=PATIENCE) as client:
        for part in parts:
            client.sendall(part)
        if close:
            client.shutdown(socket.SHUT_WR)
        return received(client)


def received(client: socket.socket) -> bytes:
    answer = b""
    while True:
        try:
            part = client.recv(1 << 16)
        except ConnectionResetError:
            return answer
        answer += part
        head, _, body = answer.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        if not part or (length and len(body) >= int(length[1])):
            return answer


def status_of(answer: bytes) -> int:
    found = re.match(rb"HTTP/1\.1 (\d{3}) ", answer)
    assert found, answer[:200]
    return int(found[1])


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/9.9\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /search?q=a HTTP/1.1\r\nhost: localhost\r\nbad header\r\n\r\n",
        b"GET /search?q=a HTTP/1.1\r\nhost: localhost\r\nx : 1\r\n\r\n",
        b"GET /search?q=a HTTP/1.1\r\nhost: localhost\r\nx: a\0b\r\n\r\n",
        HEAD + b"content-length: -1\r\n\r\n",
        HEAD + b"content-length: 1e3\r\n\r\n",
        HEAD + b"content-length: " + b"9" * 40 + b"\r\n\r\n",
        HEAD + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
        HEAD + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /x HTTP/1.1\r\n\r\n",
        HEAD + b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        HEAD + b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\n-1\r\n{}\r\n0\r\n\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\n" + b"f" * 30 + b"\r\n",
    ],
)
def test_what_two_readers_could_read_in_two_ways_is_400_and_the_end(strict: Running, sent: bytes) -> None:
    answer = exchange(strict, sent)
    assert 400 <= status_of(answer) < 500
    assert answer.count(b"HTTP/1.1 ") == 1  # nothing of it was taken for a request of its own
    assert strict.get("/healthz").status == 200


def test_requests_that_follow_one_another_are_answered_in_order(strict: Running) -> None:
    one = HEAD + b"content-length: %d\r\n\r\n" % len(BODY) + BODY
    last = b"GET /nothing HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    with socket.create_connection(strict.address, timeout=PATIENCE) as client:
        client.sendall(one + one + last)
        answer = b""
        while part := client.recv(1 << 16):
            answer += part
    assert re.findall(rb"HTTP/1\.1 (\d{3})", answer) == [b"200", b"200", b"404"]


def test_a_body_in_chunks(strict: Running) -> None:
    chunks = b"".join(b"%x\r\n%s\r\n" % (1, BODY[i : i + 1]) for i in range(len(BODY)))
    assert status_of(exchange(strict, HEAD + b"transfer-encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")) == 200
    large = b"%x\r\n" % 60_000 + b"a" * 60_000 + b"\r\n"
    answer = exchange(strict, HEAD + b"transfer-encoding: chunked\r\n\r\n" + large + large)
    assert status_of(answer) == 413


def test_a_client_that_dawdles_is_told_and_left(strict: Running) -> None:
    for sent in (b"", b"GET /search?q=a HTTP/1.1\r\nhost: loc", HEAD + b"content-length: 50\r\n\r\n{"):
        started = time.monotonic()
        answer = exchange(strict, sent)
        assert status_of(answer) == 408, sent
        assert 0.5 < time.monotonic() - started < 30


def test_drops_of_headers_do_not_keep_it_waiting(strict: Running) -> None:
    with socket.create_connection(strict.address, timeout=PATIENCE) as client:
        client.sendall(b"GET /search?q=a HTTP/1.1\r\n")
        stop = threading.Event()

        def drip() -> None:
            while not stop.wait(0.1):
                try:
                    client.sendall(b"x: y\r\n")
                except OSError:
                    return

        dripping = threading.Thread(target=drip)
        dripping.start()
        try:
            assert status_of(received(client)) == 408
        finally:
            stop.set()
            dripping.join()


def test_a_flood_of_headers_is_431(strict: Running) -> None:
    for flood in (b"x: " + b"a" * 10_000, b"\r\n".join(b"x%d: y" % i for i in range(3_000)), b"x" * 20_000):
        assert status_of(exchange(strict, b"GET /search?q=a HTTP/1.1\r\n" + flood)) in (400, 431)
    assert status_of(exchange(strict, b"GET /" + b"a" * 20_000)) in (400, 431)


def test_more_than_the_limit_is_503_with_when_to_come_back(strict: Running) -> None:
    """Four are being answered, whose bodies do not come; the fifth is told so."""
    held = [socket.create_connection(strict.address, timeout=PATIENCE) for _ in range(4)]
    try:
        for client in held:
            client.sendall(HEAD + b"content-length: 50\r\n\r\n{")
        answer = until(lambda: _busy(strict), "it is busy")
        assert b"retry-after: 1" in answer and b'"code":"busy"' in answer
        assert strict.get("/healthz").status == 200  # which is never busy
    finally:
        for client in held:
            client.close()
    until(lambda: strict.post("/search", {"query": "w01"}).status == 200, "they have left")


def test_more_connections_than_the_limit(strict: Running) -> None:
    held = [socket.create_connection(strict.address, timeout=PATIENCE) for _ in range(60)]
    try:
        answers = [received(client) for client in held[-10:]]
        assert any(status_of(answer) == 503 for answer in answers if answer)
    finally:
        for client in held:
            client.close()
    until(lambda: strict.get("/healthz").status == 200, "they have left")


def test_a_page_of_another_site_reaches_nothing_here(strict: Running) -> None:
    for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example"):
        answer = strict.get("/search?q=a", headers={"host": host})
        assert answer.status == 421
    for host in ("localhost:8000", "127.0.0.1", "[::1]:80", "[::1]"):
        assert strict.get("/search?q=a", headers={"host": host}).status == 200
    answer = strict.get("/search?q=a", headers={"origin": "https://evil.example"})
    assert not any(name.startswith("access-control") for name in answer.headers)
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert strict.post("/documents", b"x=y", headers=form).status == 415


def test_a_site_that_is_named_may_call(made_index: Path) -> None:
    site = "https://app.example"
    with running(made_index, "--origin", site, "--limit", "rate=2") as server:
        asked = {"origin": site, "access-control-request-method": "POST"}
        allowed = server.ask("OPTIONS", "/search", headers=asked)
        assert allowed.status == 200 and allowed.headers["access-control-allow-origin"] == site
        other = server.ask("OPTIONS", "/search", headers=asked | {"origin": "https://evil.example"})
        assert other.status == 400
        answers = [server.post("/search", {"query": "w01"}) for _ in range(20)]
        refused = [answer for answer in answers if answer.status == 429]
        assert refused and int(refused[0].headers["retry-after"]) >= 1
        assert {answer.status for answer in answers} == {200, 429}


def _busy(server: Running) -> bytes:
    answer = exchange(server, HEAD + b"content-length: %d\r\n\r\n" % len(BODY) + BODY)
    return answer if status_of(answer) == 503 else b""
