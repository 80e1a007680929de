"""API keys: made, kept as hashes, found; and what each allows on a running server."""

from __future__ import annotations

import base64
import hashlib
import json
import stat
import sys
from pathlib import Path

import pytest
from serving.conftest import Guarded

from lightretriever.errors import ArtifactError, UsageError
from lightretriever.serving.access.keys import Key, find_key, load_keys, new_key, presented, tenant_value
from lightretriever.serving.settings import ServeOptions


def test_a_key_is_kept_as_its_hash(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    first, second = new_key(file, "one"), new_key(file, "two", "write", 7)
    text = file.read_text()
    assert first not in text and second not in text and len(first) > 40
    assert load_keys(file) == (
        Key("one", hashlib.sha256(first.encode()).hexdigest()),
        Key("two", hashlib.sha256(second.encode()).hexdigest(), "write", 7),
    )
    if sys.platform != "win32":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    keys = load_keys(file)
    assert find_key(keys, second) == keys[1] and find_key(keys, first) == keys[0]
    for wrong in ("", first[:-1], first + "x", first.upper(), "\ud800"):
        assert find_key(keys, wrong) is None
    with pytest.raises(UsageError, match="'one' already"):
        new_key(file, "one")
    with pytest.raises(UsageError, match="read or write"):
        new_key(file, "three", "admin")
    with pytest.raises(UsageError, match="name"):
        new_key(file, "line\nbreak")


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"keys": []}', '{"keys": [{"name": "a"}]}', '{"keys": [{"name": "a", "sha256": "00"}]}', "\xff"],
)
def test_a_damaged_file_of_keys_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "keys.json"
    file.write_text(text, encoding="latin-1")
    with pytest.raises(ArtifactError, match=r"keys\.json"):
        load_keys(file)
    with pytest.raises(ArtifactError, match="cannot be read"):
        load_keys(tmp_path / "none.json")


def test_where_keys_stand_in_a_request() -> None:
    basic = base64.b64encode(b"anybody:secret:x")
    for headers, found in [
        ([(b"authorization", b"Bearer abc")], ("abc", False)),
        ([(b"authorization", b"bearer  abc ")], ("abc", False)),
        ([(b"api-key", b"abc")], ("abc", False)),
        ([(b"x-api-key", b"abc")], ("abc", False)),
        ([(b"authorization", b"Basic " + basic)], ("secret:x", True)),
        ([(b"authorization", b"Basic !!")], ("", True)),
        ([(b"authorization", b"\xff\xfe")], ("", False)),
        ([], ("", False)),
    ]:
        assert presented(headers) == found
    assert [tenant_value(text) for text in (None, "ann", "7", "true", "[1]", "1.5")] == [
        None,
        "ann",
        7,
        True,
        "[1]",
        1.5,
    ]


def test_an_address_that_others_reach_needs_keys(tmp_path: Path) -> None:
    for host in ("0.0.0.0", "192.168.1.4", "::", "example.org"):
        with pytest.raises(UsageError, match="others can reach"):
            ServeOptions(tmp_path, host=host)
        assert not ServeOptions(tmp_path, host=host, insecure=True).private
        ServeOptions(tmp_path, host=host, keys=tmp_path)
    for host in ("127.0.0.1", "localhost", "::1", "127.8.0.1"):
        assert ServeOptions(tmp_path, host=host).private


def test_nothing_is_read_without_a_key(guarded: Guarded) -> None:
    server = guarded.server
    for method, path, body in [
        ("GET", "/search?q=a", None),
        ("POST", "/search", {"query": "a"}),
        ("POST", "/v1/embeddings", {"input": "a"}),
        ("POST", "/embed", {"inputs": "a"}),
        ("POST", "/v2/embed", {"input_type": "search_query", "texts": ["a"]}),
        ("POST", "/vectors", {"text": "a"}),
        ("GET", "/documents/d1", None),
        ("DELETE", "/documents/d1", None),
        ("POST", "/documents", {"documents": []}),
        ("GET", "/metrics", None),
        ("GET", "/v1/models", None),
        ("POST", "/reload", None),
    ]:
        for key in ("", "lr_wrong", guarded.read[:-1]):
            answer = server.ask(method, path, body, key=key)
            assert answer.status == 401, (path, answer.body)
            assert answer.headers["www-authenticate"]
            assert not key or key not in answer.body.decode()
    for path in ("/healthz", "/readyz", "/health", "/.well-known/live", "/openapi.json"):
        assert server.get(path).status in (200, 204)


def test_a_key_that_reads_does_not_write(guarded: Guarded) -> None:
    server = guarded.server
    by_owner = {"query": "w01", "filter": {"owner": "bob"}}
    assert server.post("/search", by_owner, key=guarded.read).status == 200
    for method, path, body in [
        ("POST", "/documents", {"documents": [{"id": "x"}]}),
        ("DELETE", "/documents/d1", None),
        ("POST", "/reload", None),
    ]:
        answer = server.ask(method, path, body, key=guarded.read)
        assert answer.status == 403 and "not write" in answer.json["error"]["message"]
    password = base64.b64encode(f"me:{guarded.write}".encode()).decode()
    browser = {"authorization": f"Basic {password}"}
    assert server.get("/search?q=w01&tenant=ann", headers=browser).status == 200
    answer = server.ask("DELETE", "/documents/d1?tenant=ann", headers=browser)
    assert answer.status == 403 and "Bearer" in answer.json["error"]["message"]


def test_a_tenants_key_sees_no_other_tenant(guarded: Guarded) -> None:
    server, key = guarded.server, guarded.ann
    for conditions in (None, {"even": True}, {"owner": "bob"}, {"$or": [{"owner": "bob"}, {"owner": "ann"}]}):
        answer = server.post("/search", {"query": "w01 w02 w03", "k": 20, "filter": conditions}, key=key)
        assert answer.status == 200
        assert {hit["metadata"]["owner"] for hit in answer.json["hits"]} <= {"ann"}
    assert len(server.post("/search", {"query": "w01 w02 w03", "k": 20}, key=key).json["hits"]) == 10
    assert server.post("/search", {"query": "a", "tenant": "bob"}, key=key).status == 403
    assert server.post("/search", {"query": "a", "tenant": "ann"}, key=key).status == 200
    assert server.get("/documents/d1", key=key).status == 200
    assert server.get("/documents/d15", key=key).status == 404
    assert server.ask("DELETE", "/documents/d15", key=key).status == 404
    assert server.get("/metrics", key=key).status == 403
    assert server.ask("POST", "/reload", key=key).status == 403

    vector = [1.0] + [0.0] * 15
    new = {"id": "new", "text": "w01", "vector": vector, "sparse": {"indices": [3], "values": [1.0]}}
    theirs = server.post("/documents", {"documents": [new | {"metadata": {"owner": "bob"}}]}, key=key)
    assert theirs.status == 403
    taken = server.post("/documents", {"documents": [new | {"id": "d15"}]}, key=key)
    assert taken.status == 422 and "another" in taken.json["error"]["message"]
    assert server.post("/documents", {"documents": [new]}, key=key).json["stored"] == 1
    assert server.get("/documents/new", key=key).json["metadata"] == {"owner": "ann"}
    assert server.ask("DELETE", "/documents/new", key=key).json == {"deleted": 1}


def test_without_a_tenants_key_the_call_names_the_tenant(guarded: Guarded) -> None:
    server, key = guarded.server, guarded.read
    answer = server.post("/search", {"query": "w01"}, key=key)
    assert answer.status == 422 and "keeps tenants apart" in answer.json["error"]["message"]
    found = server.post("/search", {"query": "w01 w02", "tenant": "bob", "k": 20}, key=key).json["hits"]
    assert found and {hit["metadata"]["owner"] for hit in found} == {"bob"}


def test_errors_are_in_the_faces_own_words(guarded: Guarded) -> None:
    ask = guarded.server.post
    assert ask("/v1/embeddings", {"input": "a"}).json["error"]["type"] == "authentication_error"
    assert ask("/embed", {"inputs": "a"}).json["error_type"] == "Backend"
    assert "message" in ask("/v2/embed", {"texts": ["a"]}).json
    assert isinstance(ask("/vectors", {"text": "a"}).json["error"], str)


def test_the_log_has_no_key_and_no_query(guarded: Guarded) -> None:
    server = guarded.server
    server.post("/search", {"query": "unheard w01", "k": 0}, key=guarded.read)
    server.get(f"/search?q=unheard&api-key={guarded.read}")
    text = server.log_file.read_text()
    assert server.log and all({"time", "level", "event"} <= line.keys() for line in server.log)
    assert not any(secret in text for secret in (guarded.read, guarded.write, guarded.ann, "unheard"))
    refused = [line for line in server.log if line.get("status") == 422]
    assert refused and {"method", "route", "ms", "client", "key"} <= refused[-1].keys()
    assert refused[-1]["key"] == "reader"
    arguments = Path(f"/proc/{server.process.pid}/cmdline")
    if arguments.exists():
        assert guarded.read.encode() not in arguments.read_bytes()


def test_a_body_that_is_too_large_is_not_read(guarded: Guarded) -> None:
    answer = guarded.server.post("/search", {"query": "a" * 300_000}, key=guarded.read)
    assert answer.status == 413 and "200,000" in answer.json["error"]["message"]
    assert json.loads(answer.body)["error"]["code"] == "too_large"
