"""A server under load: started as people start it, asked by wrk from another process, or at a steady pace."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

START = 120.0  # seconds that a server may take to be ready
_LUA = """
local bodies = {{}}
for line in io.lines("{bodies}") do bodies[#bodies + 1] = line end
local i = 0
request = function()
  i = i % #bodies + 1
  return wrk.format("POST", "{path}", {{["content-type"] = "application/json"}}, bodies[i])
end
"""


@dataclass(frozen=True)
class Server:
    """One that runs: where, its processes that answer, and how long it took to be ready."""

    url: str
    workers: list[int]
    ready_seconds: float


@dataclass(frozen=True)
class Load:
    """What wrk saw.

    Attributes:
        per_second: answers.
        p50_ms, p99_ms: of one.
        refused: answers that were no 2xx, and sockets that failed.
    """

    per_second: float
    p50_ms: float
    p99_ms: float
    refused: int


@contextmanager
def served(index: Path, *options: str) -> Iterator[Server]:
    """`lightretriever serve`, until the block ends."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        program = [sys.executable, "-m", "lightretriever", "serve", str(index), "--port", "0", *options]
        begun = time.perf_counter()
        with log.open("wb") as out:
            process = subprocess.Popen(program, stderr=out)
        try:
            url = _wait_for(log, process, begun)
            ready = time.perf_counter() - begun
            lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
            workers = [line["process"] for line in lines if line["event"] == "ready"]
            yield Server(url, workers, ready)
        finally:
            process.terminate()
            process.wait(60)


def _wait_for(log: Path, process: subprocess.Popen[bytes], begun: float) -> str:
    wanted = 2 if "--workers" in process.args and process.args[-1] == "2" else 1  # type: ignore[operator, index]
    while time.perf_counter() - begun < START:
        text = log.read_text()
        if process.poll() is not None:
            raise SystemExit(text)
        found = re.search(r"http://[^\s,]+:\d+", text)
        if found and text.count('"event":"ready"') >= wanted:
            with suppress(OSError), urllib.request.urlopen(f"{found[0]}/readyz"):
                return found[0]
        time.sleep(0.005)
    raise SystemExit(f"the server was not ready within {START:.0f} s")


def wrk(server: Server, path: str, bodies: Sequence[str], connections: int, seconds: int) -> Load:
    """As many requests as so many connections can send one after another. Raises SystemExit without wrk."""
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is needed: apt-get install wrk")
    with tempfile.TemporaryDirectory() as folder:
        script, file = Path(folder) / "ask.lua", Path(folder) / "bodies"
        file.write_text("\n".join(bodies))
        script.write_text(_LUA.format(bodies=file, path=path))
        program = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(script), server.url]
        said = subprocess.run(program, capture_output=True, text=True, check=True).stdout
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    failed = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", said)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    assert rate is not None, said
    return Load(
        float(rate[1]),
        _milliseconds(said, "50%"),
        _milliseconds(said, "99%"),
        (int(refused[1]) if refused else 0) + (sum(map(int, failed.groups())) if failed else 0),
    )


def _milliseconds(said: str, share: str) -> float:
    found = re.search(rf"^\s+{share}\s+([\d.]+)(us|ms|s)", said, re.MULTILINE)
    assert found is not None, said
    return float(found[1]) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[found[2]]


def paced(server: Server, path: str, bodies: Sequence[str], per_second: float, seconds: int) -> Load:
    """Requests at a steady pace, whether those before are answered or not, as many callers send them. What one takes is
    counted from when it should have been sent."""
    return asyncio.run(_paced(server, path, bodies, per_second, seconds))


async def _paced(server: Server, path: str, bodies: Sequence[str], per_second: float, seconds: int) -> Load:
    parts = urlsplit(server.url)
    free: asyncio.LifoQueue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.LifoQueue()
    for _ in range(32):
        free.put_nowait(await asyncio.open_connection(parts.hostname, parts.port))
    took: list[float] = []
    refused = 0
    loop = asyncio.get_running_loop()
    begun = loop.time()

    async def ask(number: int) -> None:
        nonlocal refused
        due = begun + number / per_second
        reader, writer = await free.get()
        body = bodies[number % len(bodies)].encode()
        head = (
            f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
        )
        writer.write(head.encode() + b"\r\n\r\n" + body)
        said = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", said)
        assert length is not None, said
        await reader.readexactly(int(length[1]))
        took.append((loop.time() - due) * 1e3)
        refused += not said.startswith(b"HTTP/1.1 200")
        free.put_nowait((reader, writer))

    async with asyncio.TaskGroup() as group:
        for number in range(int(per_second * seconds)):
            late = begun + number / per_second - loop.time()
            if late > 0:
                await asyncio.sleep(late)
            group.create_task(ask(number))
    took.sort()
    rate = len(took) / (loop.time() - begun)
    return Load(rate, took[len(took) // 2], took[int(len(took) * 0.99)], refused)


def memory(process: int) -> dict[str, int]:
    """Bytes of a process: resident, and of these anonymous, which are its own and no pages of files."""
    said = Path(f"/proc/{process}/smaps_rollup").read_text()
    found = {name.lower(): int(size) << 10 for name, size in re.findall(r"^(Rss|Anonymous):\s+(\d+) kB", said, re.M)}
    return {"resident": found["rss"], "anonymous": found["anonymous"]}
