"""Queries of `search` that stand in no argument: from standard input, and typed on a terminal."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import pytest
from index.conftest import fill

from lightretriever.cli.explore import HELP
from lightretriever.cli.keys import BACKSPACE, CLEAR, END, ENTER, ESCAPE, LAST_WORD, edited, known

pty = pytest.importorskip("pty")


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("search") / "i"
    fill(path, 30)[0].close()
    return path


def piped(index: Path, *arguments: str, stdin: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lightretriever", "search", str(index), *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, encoding="utf-8", check=False)


@pytest.mark.parametrize("arguments", [(), ("-",)])
def test_a_query_a_line(index: Path, arguments: tuple[str, ...]) -> None:
    found = piped(index, *arguments, "-k", "2", stdin="w03\n\nw05\n")
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.startswith("“w03”\n\n1  ")
    assert "\n\n“”\n\nno hits\n\n“w05”\n\n1  " in found.stdout
    assert "\x1b" not in found.stdout


def test_json_lines_in_and_out_are_what_single_queries_give(index: Path) -> None:
    rows = [{"_id": "a", "text": "w03 w07"}, {"_id": "b", "text": "w05"}]
    found = piped(index, "-k", "3", "--json", stdin="".join(json.dumps(row) + "\n" for row in rows))
    assert (found.returncode, found.stderr) == (0, "")
    alone = [piped(index, row["text"], "-k", "3", "--json", stdin="").stdout for row in rows]
    assert found.stdout == "".join(alone)
    hits = [json.loads(line) for line in found.stdout.splitlines()]
    assert [hit["rank"] for hit in hits if hit["query"] == "w05"] == [1, 2, 3]
    wrong = piped(index, "-", stdin='{"_id": "a", "text": "x"}\nno json\n')
    assert wrong.returncode == 1
    assert "standard input:2" in wrong.stderr


class Typed:
    """`search` on a terminal of 80 columns and 24 lines, at which the test types."""

    def __init__(self, index: Path, **environment: str) -> None:
        import fcntl
        import struct
        import termios

        self.own, self.child = pty.openpty()
        fcntl.ioctl(self.child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.shown = b""
        self.before = termios.tcgetattr(self.child)
        # A test runner may have switched interrupts off for what it starts.
        program = (
            "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "from lightretriever.cli.main import main; main()"
        )
        keep = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, "search", str(index)],
            stdin=self.child,
            stdout=self.child,
            stderr=self.child,
            env={**keep, "TERM": "xterm", **environment},
        )

    def __enter__(self) -> Typed:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.own)
        os.close(self.child)

    def type(self, keys: str) -> None:
        os.write(self.own, keys.encode())

    def shows(self, text: str, seconds: float = 60) -> str:
        """What is shown from where the last call ended until a text is, which has to come."""
        until = time.monotonic() + seconds
        while text.encode() not in self.shown:
            assert time.monotonic() < until, self.shown.decode("utf-8", "replace")
            if select.select([self.own], [], [], 0.1)[0]:
                self.shown += os.read(self.own, 65_536)
        before, found, self.shown = self.shown.partition(text.encode())
        return (before + found).decode("utf-8", "replace")

    def ends(self) -> int:
        """The exit code; the terminal must be as it was."""
        import termios

        until = time.monotonic() + 60
        while self.process.poll() is None and time.monotonic() < until:
            if select.select([self.own], [], [], 0.1)[0]:
                os.read(self.own, 65_536)
        assert termios.tcgetattr(self.child) == self.before
        return self.process.wait(1)


@pytest.fixture
def typed(index: Path) -> Iterator[Typed]:
    with Typed(index) as found:
        found.shows(HELP)
        yield found


def test_hits_come_as_one_types(typed: Typed) -> None:
    for key in "w03":
        typed.type(key)
    typed.shows("search: w03▏")
    assert " 1  " in typed.shows("fused")
    typed.type(f" {LAST_WORD}w055{BACKSPACE}")
    typed.shows("search: w05▏")
    typed.shows("fused")
    typed.type(ENTER)  # keeps the hits, and begins anew
    typed.shows("search: w05\r\n\r\n 1  ")
    typed.shows("search: ▏")
    typed.type("\x1b[A\x1b[C")  # arrows are no end
    typed.type(f"w07{CLEAR}{END}")
    assert typed.ends() == 0


def test_escape_ends(typed: Typed) -> None:
    typed.type(f"ri{ESCAPE}")
    assert typed.ends() == 0


def test_an_interruption_gives_the_terminal_back(typed: Typed) -> None:
    typed.type("w03")
    typed.shows("search: w03▏")
    typed.process.send_signal(signal.SIGINT)
    assert "lightretriever: interrupted" in typed.shows("interrupted")
    assert typed.ends() == 130


def test_a_terminal_that_can_do_nothing_is_asked_line_by_line(index: Path) -> None:
    with Typed(index, TERM="dumb") as found:
        found.type("w03\n")
        found.shows("“w03”")
        assert " 1  " in found.shows("fused")
        found.type(END)
        assert found.ends() == 0


def test_keys() -> None:
    assert known("a\x1b[A\x1b[1;5Cb\x1bOPc\x1bd\n\b\té") == f"abc{ENTER}{BACKSPACE}é"
    assert known("\x1b") == ESCAPE
    line = ""
    for key in f"one two  {LAST_WORD}x{BACKSPACE}{BACKSPACE}!":
        line = edited(line, key)
    assert line == "one!"
    assert edited("one", CLEAR) == ""
