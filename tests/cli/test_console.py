"""What is shown: numbers for people, tables, progress with and without a terminal."""

from __future__ import annotations

import os
import pty
import sys

import pytest

from lightretriever.cli import console
from lightretriever.cli.console import format_bytes, format_seconds, format_table, parse_shard, progress, shorten
from lightretriever.errors import UsageError


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0421, "0.042 s"),
        (3.14, "3.1 s"),
        (37.2, "37 s"),
        (59.7, "1 min 00 s"),
        (250, "4 min 10 s"),
        (7500, "2 h 05 min"),
    ],
)
def test_seconds(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (999, "999 B"), (3400, "3.4 kB"), (120_000_000, "120 MB"), (5e12, "5000 GB")]
)
def test_bytes(size: float, text: str) -> None:
    assert format_bytes(size) == text


def test_table_columns_are_aligned() -> None:
    shown = format_table(["", "value"], [["one", "1"], ["three", "100"]], right=[1])
    assert shown == "       value\none        1\nthree    100"


def test_shorten_is_one_line_of_at_most_so_many_characters() -> None:
    assert shorten("a  b\nc", 10) == "a b c"
    assert shorten("word " * 100, 12) == "word word w…"
    assert len(shorten("x" * 10_000_000, 50)) == 50


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "1/0", "-1/2", "a/b", "1/2/3", "1.5/2"])
def test_impossible_shards_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--shard"):
        parse_shard(text)
    assert parse_shard("2/4") == (2, 4)


def test_progress_in_a_log_is_plain_lines_with_rate_and_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 1000, 4))
    monkeypatch.setattr(console.time, "monotonic", lambda: float(next(clock)))
    with progress("encoding", "documents") as report:
        for done in (0, 10, 20, 30):
            report(done, 40)
    lines = capsys.readouterr().err.splitlines()
    assert 1 < len(lines) < 4
    assert all(line.startswith("encoding: ") for line in lines)
    assert " of 40 documents, 1.2/s, " in lines[0]
    assert lines[0].endswith("s left")
    assert lines[-1].startswith("encoding: 30 documents in ")


@pytest.mark.parametrize(
    ("environment", "marks", "screen"),
    [
        ({"TERM": "xterm"}, True, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False, True),
        ({"TERM": "dumb"}, False, False),
    ],
)
def test_marks_are_for_terminals_that_can_and_people_who_want_them(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], marks: bool, screen: bool
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert not console.shows_marks()  # pytest's own standard output is no terminal
    master, slave = pty.openpty()
    with os.fdopen(slave, "w", encoding="utf-8") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        assert (console.shows_marks(), console.is_screen(terminal)) == (marks, screen)
    os.close(master)


def test_nothing_said_or_tabled_steers_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    console.say("a \x1b[2J file\x9b")
    assert capsys.readouterr().err == "a  [2J file \n"
    assert format_table(["", "v"], [["\x07a", "1"]]) == "    v\n a  1"
    assert shorten("\x1b]0;title\x07 b", 20) == "]0;title b"


def test_progress_on_a_terminal_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    master, slave = pty.openpty()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with os.fdopen(slave, "w", encoding="utf-8") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with progress("encoding", "documents") as report:
            report(10, 40)
            report(40, 40)
        shown = b""
        while b"documents in " not in shown:  # the closing line
            shown += os.read(master, 100_000)
    os.close(master)
    assert b"40/40 documents" in shown
    assert b"/s" in shown
    assert "━".encode() in shown
    assert b"encoding: 40 documents in " in shown
