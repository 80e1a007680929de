"""`lightretriever mcp` in a process of its own, spoken to over its pipes a line at a time, as broken as one likes."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from serving.running import PATIENCE

_CLIENT = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}


class Agent:
    """A client that says what it is told to."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: queue.Queue[str] = queue.Queue()
        self._last = 0
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put("")

    def say(self, line: str) -> None:
        """A line as it is."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def ask(self, method: str, params: object = None) -> dict[str, Any]:
        """A request's answer; every line until then must be JSON."""
        self._last += 1
        self.say(json.dumps({"jsonrpc": "2.0", "id": self._last, "method": method, "params": params or {}}))
        while (found := json.loads(self.lines.get(timeout=PATIENCE))).get("id") != self._last:
            pass
        return dict(found)

    def call(self, tool: str, **arguments: object) -> dict[str, Any]:
        """The result of a tool."""
        return dict(self.ask("tools/call", {"name": tool, "arguments": arguments})["result"])

    def fails(self, tool: str, **arguments: object) -> str:
        """What a tool says went wrong."""
        result = self.call(tool, **arguments)
        assert result["isError"] and "structuredContent" not in result
        (said,) = result["content"]
        assert "\n" not in said["text"]
        return str(said["text"])

    def found(self, query: str, **arguments: object) -> list[str]:
        """The ids of a search's hits."""
        result = self.call("search", query=query, **arguments)
        assert not result.get("isError"), result
        return [hit["id"] for hit in result["structuredContent"]["hits"]]

    def shake_hands(self) -> dict[str, Any]:
        """As every client begins."""
        found = self.ask("initialize", _CLIENT)
        self.say(json.dumps({"jsonrpc": "2.0", "method": "notifications/initialized"}))
        return found


@contextmanager
def agent(*arguments: object) -> Iterator[Agent]:
    """`lightretriever mcp` with these arguments; its input is closed at the end, which has to end it."""
    program = [sys.executable, "-m", "lightretriever", "mcp", *map(str, arguments)]
    process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8")
    try:
        made = Agent(process)
        made.shake_hands()
        yield made
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(PATIENCE) == 0
        assert made.lines.get(timeout=PATIENCE) == ""
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
