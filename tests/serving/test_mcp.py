"""`mcp`: by the SDK's own client, over both transports, and by hand, as nobody should speak to it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from index.conftest import WORDS, RandomTower, fill, make_documents, make_encoder, payload
from serving.agent import Agent, agent
from serving.running import Running, running

from lightretriever import Index
from lightretriever.passages.options import PassageOptions
from lightretriever.serving.access.keys import new_key
from lightretriever.text.corpus import Document

pytest.importorskip("mcp")
import httpx2
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

QUERY = f"{WORDS[1]} {WORDS[5]} {WORDS[9]}"
LONG = " ".join(WORDS[i * 7 % len(WORDS)] + ("." if i % 9 == 0 else "") for i in range(900))


@pytest.fixture(scope="module")
def split_index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A long document and a short one, in passages."""
    path = tmp_path_factory.mktemp("mcp") / "split.index"
    with Index.create(path, make_encoder(), model=RandomTower(), passages=PassageOptions(24, 4)) as index:  # type: ignore[arg-type]
        texts = {"long.md": LONG, "short.md": f"{WORDS[3]} {WORDS[4]}"}
        index.add_documents([Document(name, text, name, {"kind": "note"}) for name, text in texts.items()])
    return path


@pytest.fixture(scope="module")
def talk(made_index: Path) -> Iterator[Agent]:
    """One process over the made index, for all tests that change nothing."""
    with agent(made_index) as found:
        yield found


async def check_tools(client: Client, path: Path) -> None:
    """What the tools say and give, against the index itself."""
    search, fetch = (await client.list_tools()).tools
    assert (search.name, fetch.name) == ("search", "fetch")
    assert "'made' (300 documents)" in str(search.description) and '{"group": 0}' in str(search.description)
    for tool in (search, fetch):
        assert tool.annotations is not None and tool.annotations.read_only_hint
        assert all(field["description"] for field in tool.input_schema["properties"].values())
    asked = {"query": QUERY, "k": 4, "mode": "dense", "filter": {"even": True}}
    found = await client.call_tool("search", asked)  # the client checks it against the schema
    with Index.open(path) as index:
        expected = index.search(QUERY, 4, "dense", {"even": True})
        (document,) = index.get(expected[0].id)[expected[0].id]
    hits = found.structured_content["hits"]
    assert [hit["id"] for hit in hits] == [hit.id for hit in expected]
    assert [hit["score"] for hit in hits] == [round(hit.score, 4) for hit in expected]
    assert hits[0]["text"] == expected[0].text and hits[0]["metadata"] == expected[0].metadata
    assert all(hit.text in found.content[0].text for hit in expected)
    read = await client.call_tool("fetch", {"id": hits[0]["id"]})
    assert read.structured_content["text"] == document.text and read.structured_content["next"] is None
    assert document.text in read.content[0].text
    refused = await client.call_tool("search", {"query": QUERY, "k": 0})
    assert refused.is_error and "k" in refused.content[0].text


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_an_agents_program_searches_over_pipes(made_index: Path, mode: Any) -> None:
    program = ["-m", "lightretriever", "mcp", str(made_index)]

    async def use() -> None:
        environment = {"PYTHONPATH": ":".join(filter(None, sys.path))}
        async with Client(
            StdioServerParameters(command=sys.executable, args=program, env=environment), mode=mode
        ) as it:
            await check_tools(it, made_index)

    asyncio.run(use())


@pytest.fixture(scope="module")
def plain_http(made_index: Path) -> Iterator[Running]:
    """Over HTTP, for this machine alone."""
    with running(made_index, "--http", verb="mcp") as found:
        yield found


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_an_agents_program_searches_over_http(plain_http: Running, made_index: Path, mode: Any) -> None:
    async def use() -> None:
        async with Client(f"{plain_http.url}/mcp", mode=mode) as it:
            await check_tools(it, made_index)

    asyncio.run(use())


def test_http_lets_no_web_page_in_and_says_what_it_takes(plain_http: Running) -> None:
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    accept = {"accept": "application/json, text/event-stream"}
    assert plain_http.post("/mcp", ping, headers={**accept, "origin": "https://elsewhere.example"}).status == 403
    assert plain_http.post("/mcp", ping, headers={**accept, "host": "elsewhere.example"}).status == 421
    assert plain_http.get("/mcp").status == 405 and plain_http.get("/").status == 404
    assert plain_http.post("/mcp", b"{", headers={**accept, "content-type": "application/json"}).status == 400
    assert plain_http.post("/mcp", {**ping, "id": "x" * (1 << 20)}, headers=accept).status == 413
    assert plain_http.post("/mcp", ping, headers={**accept, "origin": "http://localhost:6274"}).json["result"] == {}


def test_a_key_finds_its_tenants_documents_alone(tmp_path: Path) -> None:
    documents = make_documents(20)
    encoded = RandomTower().encode(documents)
    with Index.create(tmp_path / "two.index", make_encoder(), tenant="owner") as index:
        rows = [payload(d) | {"metadata": {"owner": "ann" if i < 10 else "bob"}} for i, d in enumerate(documents)]
        index.add([d.id for d in documents], encoded, rows)
    keys = tmp_path / "keys.json"
    everybody, ann = new_key(keys, "everybody"), new_key(keys, "ann's", tenant="ann")
    anns = {document.id for document in documents[:10]}

    async def ask(url: str, key: str, use: Callable[[Client], Awaitable[None]]) -> None:
        async with (
            httpx2.AsyncClient(headers={"authorization": f"Bearer {key}"}) as http,
            Client(streamable_http_client(url, http_client=http)) as client,
        ):
            await use(client)

    async def as_ann(client: Client) -> None:
        assert "owner" not in str((await client.list_tools()).tools[0].description)
        hits = (await client.call_tool("search", {"query": QUERY, "k": 20})).structured_content["hits"]
        assert hits and {hit["id"] for hit in hits} <= anns
        assert (await client.call_tool("search", {"query": QUERY, "filter": {"owner": "bob"}})).structured_content == {
            "hits": []
        }
        assert (await client.call_tool("fetch", {"id": "d15"})).is_error

    async def as_everybody(client: Client) -> None:
        assert '{"owner": …}' in str((await client.list_tools()).tools[0].description)
        assert "owner" in (await client.call_tool("search", {"query": QUERY})).content[0].text
        answer = await client.call_tool("search", {"query": QUERY, "filter": {"owner": "bob"}})
        assert not {hit["id"] for hit in answer.structured_content["hits"]} & anns
        assert "owner" in (await client.call_tool("fetch", {"id": "d15"})).content[0].text
        bobs = await client.call_tool("fetch", {"id": "d15", "filter": {"owner": "bob"}})
        assert bobs.structured_content["text"] == documents[15].text
        assert (await client.call_tool("fetch", {"id": "d15", "filter": {"owner": "ann"}})).is_error

    with running(tmp_path / "two.index", "--http", "--keys", keys, verb="mcp") as server:
        refused = server.post("/mcp", {"jsonrpc": "2.0", "id": 1, "method": "ping"})
        assert refused.status == 401 and refused.headers["www-authenticate"] == "Bearer"
        asyncio.run(ask(f"{server.url}/mcp", ann, as_ann))
        asyncio.run(ask(f"{server.url}/mcp", everybody, as_everybody))
    with agent(tmp_path / "two.index", "--tenant", "ann") as bound:
        assert set(bound.found(QUERY, k=20)) <= anns


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        ("search", {}, "query"),
        ("search", {"query": 3}, "query"),
        ("search", {"query": ""}, "query"),
        ("search", {"query": "a" * 10_000}, "10,000 characters: give at most 8,192"),
        ("search", {"query": "a", "k": 51}, "50"),
        ("search", {"query": "a", "k": "5"}, "`k`"),
        ("search", {"query": "a", "mode": "magic"}, "magic"),
        ("search", {"query": "a", "limit": 5}, "limit"),
        ("search", {"query": "a", "filter": "lang"}, "filter"),
        ("search", {"query": "a", "filter": {"$near": 1}}, "$near"),
        ("fetch", {"id": "nobody"}, "there is no document 'nobody': give an id that search returned"),
        ("fetch", {"id": "x" * 3000}, "id"),
        ("fetch", {"id": "d1", "start": -1}, "start"),
        ("fetch", {"id": None}, "id"),
    ],
)
def test_what_a_tool_cannot_do_is_said_in_a_line(talk: Agent, tool: str, arguments: dict[str, Any], said: str) -> None:
    assert said in talk.fails(tool, **arguments)
    assert talk.found(QUERY, k=1)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{",
        "[]",
        "7",
        "\x00\ufffd",
        '{"jsonrpc": "2.0", "id": 900, "method": "no/such"}',
        '{"jsonrpc": "2.0", "id": 901, "method": "tools/call"}',
        '{"jsonrpc": "2.0", "id": 902, "method": "tools/call", "params": {"name": "search", "arguments": [1]}}',
        '{"jsonrpc": "2.0", "id": {}, "method": "tools/list"}',
        "[" * 100_000,
    ],
)
def test_what_is_no_request_ends_nothing(talk: Agent, line: str) -> None:
    talk.say(line)
    assert talk.found(QUERY, k=2)


def test_an_unknown_tool_is_an_error_of_the_protocol(talk: Agent) -> None:
    error = talk.ask("tools/call", {"name": "delete", "arguments": {}})["error"]
    assert error["code"] == -32602 and error["message"] == "there is no tool 'delete': call one of search, fetch"


def test_a_passage_leads_to_its_document_which_is_read_to_its_end(split_index: Path) -> None:
    with agent(split_index, "--size", 1000) as talk:
        assert "passages of documents" in talk.ask("tools/list")["result"]["tools"][0]["description"]
        (first, *_) = talk.call("search", query=f"{WORDS[7]} {WORDS[14]}", k=1)["structuredContent"]["hits"]
        assert first["id"] == "long.md" and first["metadata"] == {"kind": "note"}
        assert LONG[first["start"] :].startswith(first["text"]) and first["location"] == "long.md"
        here = talk.call("fetch", id="long.md", start=first["start"])["structuredContent"]
        assert here["text"].startswith(first["text"])
        text, start = "", 0
        while start is not None:
            part = talk.call("fetch", id="long.md", start=start)
            assert len(part["structuredContent"]["text"]) <= 1000
            text, start = text + part["structuredContent"]["text"], part["structuredContent"]["next"]
            assert start is None or f"with start {start} for more" in part["content"][0]["text"]
        assert text == LONG
        assert talk.call("fetch", id="short.md#0")["structuredContent"]["id"] == "short.md"
        beyond = talk.call("fetch", id="long.md", start=10**9)["structuredContent"]
        assert beyond["text"] == "" and beyond["next"] is None


def test_what_others_write_is_found_and_an_index_that_is_replaced_is_opened(tmp_path: Path) -> None:
    path, away, other = tmp_path / "my.index", tmp_path / "away.index", tmp_path / "other.index"
    fill(path, 20)[0].close()
    fill(other, 5)[0].close()
    with agent(path) as talk:
        assert len(talk.found(QUERY, k=50, mode="dense")) == 20
        with Index.open(path) as writer:
            new = make_documents(21)[20:]
            writer.add([new[0].id], RandomTower().encode(new), [payload(new[0])])
            assert new[0].id in talk.found(QUERY, k=50, mode="dense")
            writer.delete([new[0].id])
            assert new[0].id not in talk.found(QUERY, k=50, mode="dense")
        path.rename(away)
        assert talk.fails("search", query=QUERY) == "the index 'my' was moved or removed: ask again when it is back"
        assert "not there now" in talk.ask("tools/list")["result"]["tools"][0]["description"]
        away.rename(path)
        assert len(talk.found(QUERY, k=50, mode="dense")) == 20
        path.rename(away)
        other.rename(path)
        assert len(talk.found(QUERY, k=50, mode="dense")) == 5
        (path / "index.db").unlink()
        (path / "index.db").write_bytes(b"no database")
        assert "index.db" in talk.fails("search", query=QUERY)


def test_a_search_loads_neither_torch_nor_transformers(made_index: Path) -> None:
    program = f"""
import sys
from pathlib import Path
import lightretriever.serving.mcp.stdio
from lightretriever.serving.access.keys import ANYONE
from lightretriever.serving.mcp.options import McpOptions
from lightretriever.serving.mcp.tools import Tools
from lightretriever.serving.settings import ServeOptions
tools = Tools(McpOptions(ServeOptions(Path({str(made_index)!r}))))
assert tools.described(ANYONE) and tools.call("search", {{"query": {QUERY!r}}}, ANYONE).data["hits"]
print(sorted({{"torch", "transformers", "qdrant_client", "pyarrow"}} & set(sys.modules)))
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "[]"


def test_nothing_but_the_protocol_is_written_to_standard_output(made_index: Path) -> None:
    """Not even what a library prints."""
    program = f"""
import os, sys
from pathlib import Path
from lightretriever.serving.mcp.options import McpOptions
from lightretriever.serving.mcp import stdio, tools
from lightretriever.serving.settings import ServeOptions
import asyncio
class Noisy(tools.Tools):
    def call(self, *arguments):
        print("noise"); os.write(1, b"more noise")
        return super().call(*arguments)
asyncio.run(stdio.serve_stdio(Noisy(McpOptions(ServeOptions(Path({str(made_index)!r}))))))
"""
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    lines = [
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "fetch", "arguments": {"id": "d1"}}},
    ]
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        process.stdin.write("".join(json.dumps(line) + "\n" for line in lines))
        process.stdin.flush()
        assert [json.loads(process.stdout.readline())["id"] for _ in range(2)] == [1, 2]
        process.stdin.close()
        assert process.stdout.read() == "" and "noise" in process.stderr.read()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nowhere"], 1, "nowhere is no index"),
        ([".", "--http", "--host", "0.0.0.0"], 2, "--insecure"),
        ([".", "--keys", "keys.json"], 2, "keys are for --http"),
        ([".", "--size", "10"], 2, "give at least 1,000"),
    ],
)
def test_what_cannot_be_served_is_said_in_a_line(arguments: list[str], code: int, said: str) -> None:
    program = [sys.executable, "-m", "lightretriever", "mcp", *arguments]
    found = subprocess.run(program, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert found.returncode == code and said in found.stderr and not found.stdout
    assert found.stderr.count("\n") == 1


def test_without_the_sdk_the_extra_is_named(made_index: Path) -> None:
    program = f"""
import sys
sys.modules["mcp"] = None
from lightretriever.cli.main import main
main(["mcp", {str(made_index)!r}])
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert found.returncode == 1 and "pip install 'lightretriever[mcp]'" in found.stderr


def test_whoever_leaves_before_the_answer_leaves_no_complaint(made_index: Path) -> None:
    program = [sys.executable, "-m", "lightretriever", "mcp", str(made_index)]
    pipe = subprocess.PIPE
    with subprocess.Popen(program, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        process.stdout.close()
        process.stdin.write('{"jsonrpc": "2.0", "id": 1, "method": "ping"}\n')
        process.stdin.close()
        assert process.wait() == 0 and not process.stderr.read()


def test_an_error_of_the_protocol_reaches_the_client(plain_http: Running) -> None:
    async def use() -> None:
        async with Client(f"{plain_http.url}/mcp") as client:
            with pytest.raises(MCPError, match="there is no tool 'delete'"):
                await client.call_tool("delete", {})

    asyncio.run(use())
