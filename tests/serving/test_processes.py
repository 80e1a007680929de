"""The server's processes: what they load, how they reload and end, and what the death of one costs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from index.conftest import WORDS, fill, make_encoder
from serving.running import Running, running, until

from lightretriever import Index
from lightretriever.errors import LightRetrieverError

posix = pytest.mark.skipif(sys.platform == "win32", reason="these signals are of Unix")
READ = f"{WORDS[1]} {WORDS[4]}"


def test_a_worker_loads_neither_torch_nor_transformers(made_index: Path) -> None:
    program = f"""
import sys
from pathlib import Path
from lightretriever.serving.app import create_app
from lightretriever.serving.settings import ServeOptions
create_app(ServeOptions(Path({str(made_index)!r}), model="minilm", runtime="nowhere"))
print(sorted({{"torch", "transformers", "pydantic", "qdrant_client"}} & set(sys.modules)))
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "[]"


def test_a_server_of_tables_alone_loads_no_compiled_search(tmp_path: Path) -> None:
    make_encoder().table.save(tmp_path / "table")
    program = f"""
import sys
from pathlib import Path
from lightretriever.serving.app import create_app
from lightretriever.serving.settings import ServeOptions
create_app(ServeOptions(Path({str(tmp_path / "table")!r})))
print(sorted({{"torch", "numba", "sqlite3"}} & set(sys.modules)))
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nowhere"], 1, "nowhere does not exist"),
        ([".", "--host", "0.0.0.0"], 2, "--insecure"),
        ([".", "--host", "203.0.113.9", "--insecure"], 1, "cannot be listened on"),
        ([".", "--keys", "nowhere.json"], 1, "nowhere.json"),
        ([".", "--limit", "speed=1"], 2, "there is no limit 'speed'"),
        ([".", "--limit", "k=many"], 2, "k=1000"),
        ([".", "--limit", "k=0"], 2, "more than 0"),
        ([".", "--table", "nothing"], 2, "NAME=TABLE"),
        ([".", "--workers", "0"], 2, "at least 1"),
    ],
)
def test_what_cannot_be_served_is_said_in_a_line(made_index: Path, arguments: list[str], code: int, said: str) -> None:
    program = [sys.executable, "-m", "lightretriever", "serve", *arguments, "--port", "0"]
    found = subprocess.run(program, capture_output=True, text=True, cwd=made_index, timeout=60)
    assert (found.returncode, found.stdout) == (code, "")
    assert said in found.stderr and "Traceback" not in found.stderr


def test_a_port_that_is_taken(made_index: Path, server: Running) -> None:
    program = [sys.executable, "-m", "lightretriever", "serve", str(made_index), "--port", str(server.address[1])]
    found = subprocess.run(program, capture_output=True, text=True, timeout=60)
    assert found.returncode == 1 and "choose another --port" in found.stderr


@posix
def test_what_was_accepted_is_answered_before_the_server_ends(made_index: Path) -> None:
    with running(made_index) as server:
        body = json.dumps({"query": READ}).encode()
        head = "POST /search HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        head += f"content-length: {len(body)}\r\n\r\n"
        with socket.create_connection(server.address, timeout=30) as client:
            client.sendall(head.encode() + body[:5])
            until(lambda: b"in_flight 2.0" in server.get("/metrics").body, "it is being answered")
            server.process.send_signal(signal.SIGTERM)
            until(lambda: not _connects(server), "nobody else is let in")
            client.sendall(body[5:])
            answer = b""
            while part := client.recv(1 << 16):
                answer += part
        assert answer.startswith(b"HTTP/1.1 200 OK") and b'"hits"' in answer
        assert server.process.wait(30) == 0
        assert "Traceback" not in server.log_file.read_text()


@posix
@pytest.mark.parametrize("how", ["signal", "request"])
def test_another_index_takes_its_place_without_a_failed_request(tmp_path: Path, how: str) -> None:
    for name, count in (("one", 20), ("two", 50)):
        fill(tmp_path / name, count)[0].close()
    now = tmp_path / "now"
    now.symlink_to(tmp_path / "one", target_is_directory=True)
    with running(now) as server:
        statuses = list[int]()

        def ask() -> None:
            statuses.append(server.post("/search", {"query": READ}).status)

        with asking(ask, 3):
            until(lambda: len(statuses) > 20, "some were answered")
            (tmp_path / "next").symlink_to(tmp_path / "two", target_is_directory=True)
            (tmp_path / "next").rename(now)
            if how == "signal":
                server.process.send_signal(signal.SIGHUP)
            else:
                assert server.post("/reload", {}).json["documents"] == 50
            until(lambda: server.get("/readyz").json["documents"] == 50, "the other is served")
            before = len(statuses)
            until(lambda: len(statuses) > before + 20, "more were answered")
        assert set(statuses) == {200}
        # What cannot be opened changes nothing.
        (tmp_path / "gone").symlink_to(tmp_path / "nowhere", target_is_directory=True)
        (tmp_path / "gone").rename(now)
        assert server.ask("POST", "/reload").status == 500
        assert server.post("/search", {"query": READ}).status == 200
        assert any(line["event"].startswith("reload failed") for line in server.log)


def test_what_others_write_is_found_at_once(tmp_path: Path) -> None:
    index, documents, encoded = fill(tmp_path / "i", 10)
    with index, running(tmp_path / "i") as server:
        assert server.get("/documents/new").status == 404
        index.add(["new"], encoded.take([0]), [{"text": "w01"}])
        assert server.get("/documents/new").status == 200
        hits = server.post("/search", {"query": documents[0].text, "k": 20}).json["hits"]
        assert "new" in {hit["id"] for hit in hits}


@posix
@pytest.mark.slow
def test_two_workers_share_the_socket_the_counters_and_the_fate(made_index: Path, tmp_path: Path) -> None:
    shutil.copytree(made_index, tmp_path / "i")
    with running(tmp_path / "i", "--workers", "2") as server:
        until(lambda: len(_processes(server, "ready")) == 2, "both are ready")
        seen = _processes(server, "ready")
        for _ in range(30):
            assert server.post("/search", {"query": READ}).status == 200
        counted = server.get("/metrics").body.decode()
        assert "lightretriever_queries_total 30.0" in counted  # whichever worker is asked
        assert "lightretriever_index_documents 300.0" in counted
        server.ask("POST", "/reload")
        until(lambda: _processes(server, "reloaded") >= seen, "both reload")

        failed, answered = list[str](), list[int]()

        def ask() -> None:
            try:
                answered.append(server.post("/search", {"query": READ}).status)
            except OSError as error:
                failed.append(type(error).__name__)

        with asking(ask, 4):
            until(lambda: len(answered) > 20, "some were answered")
            os.kill(min(seen), signal.SIGKILL)
            until(lambda: len(_processes(server, "ready")) > 2, "another takes its place")
            before = len(answered)
            until(lambda: len(answered) > before + 50, "they go on")
        assert set(answered) == {200}
        assert len(failed) <= 4  # those that it was answering, one of each caller at most
    with Index.open(tmp_path / "i") as index:
        assert index.count == 300


@pytest.mark.slow
def test_workers_that_cannot_start_end_the_server(made_index: Path, tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text("{}")
    program = [sys.executable, "-m", "lightretriever", "serve", str(made_index), "--port", "0", "--workers", "2"]
    found = subprocess.run(
        [*program, "--keys", str(tmp_path / "keys.json")], capture_output=True, text=True, timeout=120
    )
    assert found.returncode != 0 and "keys.json" in found.stderr and "Traceback" not in found.stderr


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, made_index: Path) -> None:
    from lightretriever.serving.server import serve
    from lightretriever.serving.settings import ServeOptions

    monkeypatch.setitem(sys.modules, "uvicorn.server", None)
    with pytest.raises(LightRetrieverError, match=r"pip install 'lightretriever\[serve\]'"):
        serve(ServeOptions(made_index, port=0))


@contextmanager
def asking(ask: Callable[[], None], callers: int) -> Iterator[None]:
    """So many threads ask again and again until the block ends."""
    stop = threading.Event()

    def call() -> None:
        while not stop.is_set():
            ask()

    threads = [threading.Thread(target=call) for _ in range(callers)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _connects(server: Running) -> bool:
    try:
        socket.create_connection(server.address, timeout=1).close()
    except OSError:
        return False
    return True


def _processes(server: Running, event: str) -> set[int]:
    return {line["process"] for line in server.log if line["event"] == event}


def test_where_there_is_nothing_no_address_is_told(tmp_path: Path) -> None:
    program = [sys.executable, "-m", "lightretriever", "serve", str(tmp_path / "nowhere"), "--port", "0"]
    ended = subprocess.run(program, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.count("\n") == 1 and "nowhere does not exist" in ended.stderr
