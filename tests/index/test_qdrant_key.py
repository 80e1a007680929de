"""Who is sent the key: a server that the caller named, and nobody else."""

from __future__ import annotations

import json
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from index.conftest import RandomTower, make_documents, make_encoder, payload
from index.rest_server import RestServer, serve

from lightretriever import Index
from lightretriever.cli.main import execute
from lightretriever.errors import ArtifactError, MismatchError, UsageError
from lightretriever.index import qdrant_calls
from lightretriever.index.ingest import index_corpus
from lightretriever.index.migrate import migrate_index
from lightretriever.index.qdrant_key import PLAIN_HTTP, SERVERS, key_for
from lightretriever.index.qdrant_url import API_KEY, parse_address

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


def fill(index: Index) -> None:
    documents = make_documents(4)
    index.add([d.id for d in documents], RandomTower().encode(documents), [payload(d) for d in documents])


def test_the_caller_names_a_server_by_argument_or_environment(
    server: RestServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{server.url}/everest"
    with Index.create(tmp_path / "i", make_encoder(), engine=url) as index:
        fill(index)
    with Index.open(tmp_path / "i", engine=url) as index:
        assert index.count == 4
        index.set_table(make_encoder(3).table)
        index.optimise()
    with pytest.raises(ArtifactError, match=rf"refuses the key .*{SERVERS} names"):
        Index.open(tmp_path / "i")
    with pytest.raises(MismatchError, match=r"the index is held by .*/everest, not by edge"):
        Index.open(tmp_path / "i", engine="edge")
    monkeypatch.setenv(SERVERS, f"https://elsewhere.example {server.url}")
    with Index.open(tmp_path / "i") as index:
        assert index.search("w01 w02", 2)


def test_building_and_migrating_name_it_too(server: RestServer, tmp_path: Path) -> None:
    url = f"{server.url}/built"
    index_corpus(tmp_path / "built", make_documents(5), RandomTower(), make_encoder(), engine=url)
    with Index.create(tmp_path / "local", make_encoder()) as index:
        fill(index)
    assert migrate_index(tmp_path / "local", f"{server.url}/moved", tmp_path / "moved").documents == 4
    assert migrate_index(tmp_path / "local", f"{server.url}/moved", tmp_path / "moved").copied == 0


def test_a_server_that_only_a_manifest_names_gets_no_key(
    server: RestServer, stranger: RestServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(API_KEY)
    Index.create(tmp_path / "theirs", make_encoder(), "bm25", engine=f"{stranger.url}/everest").close()
    monkeypatch.setenv(API_KEY, SECRET)
    monkeypatch.setenv(SERVERS, server.url)
    stranger.keys.clear()
    with Index.open(tmp_path / "theirs", model=RandomTower()) as index:  # type: ignore[arg-type]
        index.add_documents(make_documents(4))
        index.search("w01")
        index.refresh_bm25()
        index.set_table(make_encoder(3).table)
        index.delete(["d1"])
        index.info()
    migrate_index(tmp_path / "theirs", "edge", tmp_path / "ours")
    for arguments in (["search", str(tmp_path / "theirs"), "w01"], ["info", str(tmp_path / "theirs")]):
        assert execute(arguments) == 0
    assert len(stranger.keys) > 20
    assert set(stranger.keys) == {None}


def test_a_manifest_that_was_changed_leads_to_no_key(server: RestServer, stranger: RestServer, tmp_path: Path) -> None:
    with Index.create(tmp_path / "i", make_encoder(), engine=f"{server.url}/everest") as index:
        fill(index)
    for file in ("manifest.json", "checksums.json"):
        shutil.copy(tmp_path / "i" / file, tmp_path / file)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "i/manifest.json").write_text(json.dumps({**manifest, "engine": f"{stranger.url}/everest"}))
    (tmp_path / "i/checksums.json").unlink()
    with pytest.raises(ArtifactError):
        Index.open(tmp_path / "i")
    with pytest.raises(MismatchError, match="the index is held by"):
        Index.open(tmp_path / "i", engine=f"{server.url}/everest")
    assert stranger.keys
    assert set(stranger.keys) == {None}


def test_no_redirect_is_followed(server: RestServer, stranger: RestServer, tmp_path: Path) -> None:
    with Index.create(tmp_path / "i", make_encoder(), engine=f"{server.url}/everest") as index:
        fill(index)
        server.elsewhere = stranger.url
        for ask in (lambda: index.search("w01"), lambda: index.delete(["d1"]), lambda: fill(index)):
            with pytest.raises(ArtifactError, match="the engine failed: 307 moved"):
                ask()
        server.elsewhere = ""
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


def test_a_server_that_never_answers_is_waited_for_once(
    stranger: RestServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(API_KEY)
    Index.create(tmp_path / "i", make_encoder(), engine=f"{stranger.url}/everest").close()
    with silent_server() as url:
        manifest = json.loads((tmp_path / "i/manifest.json").read_text())
        (tmp_path / "i/manifest.json").write_text(json.dumps({**manifest, "engine": f"{url}/everest"}))
        (tmp_path / "i/checksums.json").unlink()
        monkeypatch.setattr(qdrant_calls, "TIMEOUT", 1)
        monkeypatch.setattr(qdrant_calls, "LIMIT", 1.0)
        begun = time.monotonic()
        with pytest.raises(ArtifactError, match=rf"{url}/everest: the server did not answer within 1 s"):
            Index.open(tmp_path / "i")
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
    server: RestServer, stranger: RestServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, stranger.url)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for host in ("127.0.0.1", "localhost"):
        url = f"{server.url.replace('127.0.0.1', host)}/{host}"
        with Index.create(tmp_path / host, make_encoder(), engine=url) as index:
            fill(index)
            assert index.count == 4
    assert stranger.requests == []


def test_an_answer_without_end_in_its_depth_is_one_line(tmp_path: Path) -> None:
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
            Index.create(tmp_path / "i", make_encoder(), engine=f"http://127.0.0.1:{http.server_address[1]}/deep")
        http.shutdown()
