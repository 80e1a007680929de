"""Who is sent the key: a server that the caller named, and nobody else."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from index.engines.data import make_rows
from index.engines.qdrant.conftest import CONTENTS, reach
from index.engines.qdrant.test_rebuild import Writers
from index.rest_server import RestServer, serve

from lightretriever.errors import ArtifactError, UsageError
from lightretriever.index.engines.engine import Asked
from lightretriever.index.engines.qdrant import calls
from lightretriever.index.engines.qdrant.calls import Connection
from lightretriever.index.engines.qdrant.key import PLAIN_HTTP, SERVERS, key_for
from lightretriever.index.engines.qdrant.rebuild import Successor, replace_collection
from lightretriever.index.engines.qdrant.url import API_KEY, parse_address

SECRET = "s3cret"
pytestmark = pytest.mark.filterwarnings(
    "error:Api key is used"
)  # the client's own: whether http may be is decided here


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(API_KEY, SECRET)
    for name in (SERVERS, PLAIN_HTTP):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[RestServer]:
    with serve(key=SECRET) as running:
        yield running


@pytest.fixture
def stranger() -> Iterator[RestServer]:
    """A server that asks for no key, and remembers those it is given."""
    with serve() as running:
        yield running


def test_the_caller_names_a_server_by_argument_or_environment(
    server: RestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{server.url}/everest"
    made = reach(url).create(CONTENTS)
    made.store(make_rows(4), None)
    with pytest.raises(ArtifactError, match=rf"refuses the key .*{SERVERS} names"):
        reach(url, named=False).open(CONTENTS)
    monkeypatch.setenv(SERVERS, f"https://elsewhere.example {server.url}")
    assert reach(url, named=False).open(CONTENTS).count() == 4
    assert made.connection.another().call(lambda client: client.count("everest-1")).count == 4


def test_a_server_that_nobody_named_gets_no_key_whatever_is_asked_of_it(
    server: RestServer, stranger: RestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SERVERS, server.url)
    made, rows = reach(f"{stranger.url}/everest", named=False).create(CONTENTS), make_rows(4)
    made.store(rows, None)
    made.search(Asked(rows.dense, rows.sparse, 3)).fetch([0])
    made.bind({**CONTENTS.binding, "table_hash": "bb"})
    successor = Successor("everest-2", made.contents, lambda old: old)
    replace_collection(made, successor, Writers(), lambda _: None).delete(["d1"], None)
    assert len(stranger.keys) > 20
    assert set(stranger.keys) == {None}


def test_no_redirect_is_followed(server: RestServer, stranger: RestServer) -> None:
    made, rows = reach(f"{server.url}/everest").create(CONTENTS), make_rows(4)
    made.store(rows, None)
    server.elsewhere = stranger.url
    for ask in (
        lambda: made.search(Asked(rows.dense, None, 1)),
        lambda: made.delete(["d1"], None),
        lambda: made.store(rows, None),
    ):
        with pytest.raises(ArtifactError, match="the engine failed: 307 moved"):
            ask()
    assert stranger.requests == []


@pytest.mark.parametrize(
    ("servers", "address", "sent"),
    [
        ("https://host", "https://host/name", True),
        ("https://host:6333/", "https://HOST/name", True),
        ("https://host/name", "https://host/name?shards=3", True),
        ("https://host/proxy", "https://host/proxy/name", True),
        ("https://host/proxy", "https://host/proxy2/name", False),
        ("https://host/proxy", "https://host/name", False),
        ("https://host", "https://host:443/name", False),
        ("https://host", "http://host/name", False),
        ("https://host", "https://host.evil.org/name", False),
        ("https://host", "https://evil.org/host", False),
        ("https://a\nhttps://b", "https://b/name", True),
        ("", "https://host/name", False),
    ],
)
def test_a_named_server_is_that_one_alone(
    servers: str, address: str, sent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SERVERS, servers)
    assert key_for(parse_address(address), named=False) == (SECRET if sent else None)
    assert key_for(parse_address("https://other/name"), named=True) == SECRET


@pytest.mark.parametrize("servers", ["host", "host:6333", "ftp://host", "https://", "https://host:port"])
def test_what_names_no_server_is_said(servers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SERVERS, servers)
    with pytest.raises(UsageError, match=f"{SERVERS} holds '{servers}'"):
        key_for(parse_address("https://host/name"), named=False)


@pytest.mark.parametrize(
    "host", ["host", "10.0.0.1", "localhost.evil.org", "127.0.0.1.evil.org", "[fe80::1]", "0.0.0.0"]
)
def test_a_key_goes_over_plain_http_to_this_machine_only(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    address = parse_address(f"http://{host}/name")
    with pytest.raises(UsageError, match="in the clear: use https") as raised:
        key_for(address, named=True)
    assert SECRET not in str(raised.value)
    assert key_for(address, named=False) is None
    for here in ("localhost", "127.0.0.1", "127.9.9.9", "[::1]"):
        assert key_for(parse_address(f"http://{here}/name"), named=True) == SECRET
    monkeypatch.setenv(PLAIN_HTTP, "1")
    assert key_for(address, named=True) == SECRET


@contextmanager
def silent_server() -> Iterator[str]:
    """Accepts whoever comes and never says a word."""
    kept: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def accept() -> None:
            while True:
                try:
                    kept.append(listening.accept()[0])
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)
    for connection in kept:
        connection.close()


def test_a_server_that_never_answers_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "TIMEOUT", 1)
    monkeypatch.setattr(calls, "LIMIT", 1.0)
    with silent_server() as url:
        begun = time.monotonic()
        with pytest.raises(ArtifactError, match=rf"{url}/everest: the server did not answer within 1 s"):
            reach(f"{url}/everest").open(CONTENTS)
        assert time.monotonic() - begun < 15


@pytest.mark.parametrize(
    "path",
    [
        "team/../boss",
        "team/./x",
        "team/%2e%2E/boss",
        "team/%252e./boss",
        "team/..;v=1/boss",
        "team/a%2F..%2F..",
        "a%5Cb/x",
    ],
)
def test_no_address_leads_out_of_its_prefix(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="in its path, which may lead elsewhere"):
        parse_address(f"https://host/{path}/name")
    monkeypatch.setenv(SERVERS, f"https://host/{path}")
    with pytest.raises(UsageError, match="in its path, which may lead elsewhere"):
        key_for(parse_address("https://host/team/name"), named=False)


def test_a_key_for_this_machine_passes_no_proxy(
    server: RestServer, stranger: RestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, stranger.url)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for host in ("127.0.0.1", "localhost"):
        made = reach(f"{server.url.replace('127.0.0.1', host)}/{host}").create(CONTENTS)
        made.store(make_rows(4), None)
        assert made.count() == 4
    assert stranger.requests == []


def test_an_answer_without_end_in_its_depth_is_one_line() -> None:
    body = b"[" * 150_000

    class Deep(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(400)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Deep) as http:
        threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        with pytest.raises(ArtifactError, match=r"the engine failed: 400 \[+$"):
            reach(f"http://127.0.0.1:{http.server_address[1]}/deep").create(CONTENTS)
        http.shutdown()


def test_a_key_that_would_go_in_the_clear_is_no_connection() -> None:
    with pytest.raises(UsageError, match="in the clear"):
        Connection(parse_address("http://elsewhere.example/everest"), named=True)
    Connection(parse_address("http://elsewhere.example/everest"), named=False).close()
