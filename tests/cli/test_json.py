"""Data on standard output: UTF-8 JSON on any terminal and through any pipe, and no noise when its reader leaves."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightretriever.cli.console import as_typed, print_json

Verb = Callable[..., Any]
NARROW = [
    {"PYTHONIOENCODING": "cp1252"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
]


def run(*arguments: object, stdin: bytes = b"", **environment: str) -> subprocess.CompletedProcess[bytes]:
    """The command line in a process of its own."""
    command = [sys.executable, "-m", "lightretriever", *(str(argument) for argument in arguments)]
    return subprocess.run(command, capture_output=True, input=stdin, env={**os.environ, **environment}, check=False)


@pytest.fixture
def lettered(verb: Verb, tower: Path, tmp_path: Path) -> Path:
    """An index of one document whose id, text and metadata no western code page holds."""
    row = {"_id": "Ж-1", "text": "a mountain: ἄνεμος ⛰ 富士山 žluťoučký", "place": "日本"}
    (tmp_path / "corpus.jsonl").write_text(json.dumps(row), encoding="utf-8")
    assert verb("cache", tower, "-o", tmp_path / "table").code == 0
    rest = ("--model", tower, "--table", tmp_path / "table", "-o", tmp_path / "the.index", "--sparse", "bm25")
    assert verb("index", tmp_path / "corpus.jsonl", *rest).code == 0
    return tmp_path / "the.index"


@pytest.mark.parametrize("environment", NARROW)
def test_hits_are_whole_on_a_narrow_terminal(lettered: Path, environment: dict[str, str]) -> None:
    found = run("search", lettered, "富士山", "--mode", "sparse", "--json", **environment)
    assert found.returncode == 0, found.stderr
    hit = json.loads(found.stdout.decode("utf-8"))
    assert (hit["id"], hit["metadata"]) == ("Ж-1", {"place": "日本"})
    assert hit["text"].endswith("ἄνεμος ⛰ 富士山 žluťoučký")
    shown = run("search", lettered, "mountain", **environment)  # for people: letters may go, the table may not
    assert shown.returncode == 0
    assert b"mountain" in shown.stdout


def test_json_holds_nothing_that_steers_a_terminal(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    text = "\x1b[2J \x7f \x9b31m \u2028 \u202e \u2066 é"
    print_json({text: text})
    line = capsysbinary.readouterr().out.decode("utf-8")
    assert json.loads(line) == {text: text}
    assert line[:-1].isprintable()


@pytest.mark.parametrize("letters", ["é → 珠", "\ud83d alone", "\x00\x1f\u2028", "𝒳"])
def test_any_string_is_json_in_utf_8(monkeypatch: pytest.MonkeyPatch, letters: str) -> None:
    assert through(monkeypatch, {letters: [letters]}) == {letters: [letters]}


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text() | st.characters(), st.lists))
def test_what_is_printed_is_read_back(value: object) -> None:
    with pytest.MonkeyPatch.context() as patch:
        assert through(patch, value) == value


def test_what_json_has_no_word_for(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass
    class Fact:
        share: float
        place: Path

    found = through(monkeypatch, {1: (Fact(float("nan"), Path("a/b")), float("inf"))})
    assert found == {"1": [{"share": None, "place": str(Path("a/b"))}, None]}


def test_text_printed_before_comes_before(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    print("first")
    print_json("second")
    sys.stdout.flush()
    assert raw.getvalue().split() == [b"first", b'"second"']


def test_a_query_is_read_as_utf_8_where_the_locale_knows_no_letters() -> None:
    assert as_typed("how tall") == "how tall"
    assert as_typed("größe") == "größe"
    assert as_typed(os.fsencode("größe").decode("ascii", "surrogateescape")) == "größe"


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes of a shell")
def test_a_reader_that_leaves_ends_it_quietly(lettered: Path) -> None:
    command = [sys.executable, "-m", "lightretriever", "search", str(lettered), "mountain", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 128 + 13


def through(patch: pytest.MonkeyPatch, value: object) -> object:
    """The value printed on an ASCII terminal, and read again."""
    raw = io.BytesIO()
    with patch.context() as inner:
        stream = io.TextIOWrapper(raw, encoding="ascii", errors="replace")
        inner.setattr(sys, "stdout", stream)
        print_json(value)
        stream.flush()
        data = raw.getvalue()
        stream.detach()
    assert data.endswith(b"\n")
    return json.loads(data.decode("utf-8"))
