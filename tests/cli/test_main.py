"""The command line itself: exit codes, one-line errors, help, and that parsing imports nothing heavy."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lightretriever import __version__
from lightretriever.cli import main as cli
from lightretriever.cli import run as run_verb

Verb = Callable[..., Any]  # gives .code, .out, .err; see conftest


def test_help_imports_nothing_heavy() -> None:
    program = """
import sys
from lightretriever.cli.main import execute
code = execute(["index", "--help"])
heavy = {"numpy", "torch", "transformers", "tokenizers", "qdrant_client", "numba", "rich", "sqlite3"}
heavy |= {"ir_measures", "zstandard"}
print("heavy:", sorted(heavy & set(sys.modules)), code)
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "heavy: [] 0"


def test_every_verb_has_help_with_an_example(verb: Verb) -> None:
    overview = verb("--help")
    for name in cli.VERBS:
        assert f"  {name} " in overview.out
        outcome = verb(name, "--help")
        assert outcome.code == 0
        assert f"Example:\n    lightretriever {name} " in outcome.out
        assert outcome.err == ""
    assert verb().out == overview.out
    assert verb("--version").out == f"lightretriever {__version__}\n"


def test_what_prints_results_prints_json_too_by_one_option(verb: Verb) -> None:
    said = {name: re.sub(r"\s+", " ", verb(name, "--help").out) for name in cli.VERBS}
    with_json = {name for name, text in said.items() if "--json" in text}
    assert with_json == {"search", "check", "screen", "eval", "tune", "info", "bench"}
    told = "--json Print JSON for programs: one object on a line; search prints one for each hit."
    assert all(told in said[name] for name in with_json)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], "nonsense"),
        (["search"], "INDEX"),
        (["search", "x", "y", "--depth", "3"], "--depth"),
        (["search", "x", "y", "-k", "many"], "integer"),
        (["cache", "minilm"], "--output"),
        (["fit", "-o", "t"], "nothing to fit to"),
        (["fit", "--texts", "a", "b", "-o", "t"], "name it before --texts"),
        (["eval", "x"], "--qrels"),
        (["eval", "x", "--qrels", "q", "--measures", " "], "--measures"),
        (["eval", "x", "--data", "d", "--against", "bm42"], "bm42"),
        (["encode", "c", "--model", "m", "-o", "v", "--shard", "0/2"], "--shard 0/2"),
        (["encode", "c", "--model", "m", "-o", "v", "--shard", "1/2", "--ray", "auto"], "--shard 1/2 with --ray"),
        (["encode", "c", "--model", "m", "-o", "v", "--workers", "2"], "name it with --ray ADDRESS"),
        (["index", "c", "--model", "m", "--table", "t", "-o", "i", "--engine", "qdrant"], "local is one"),
    ],
)
def test_wrong_usage_is_2_and_one_line(verb: Verb, arguments: list[str], message: str) -> None:
    outcome = verb(*arguments)
    assert outcome.code == 2
    assert outcome.out == ""
    assert re.fullmatch(r"lightretriever: [^\n]+\n", outcome.err)
    assert message in outcome.err


def test_failures_are_1_and_one_line_and_verbose_adds_the_traceback(verb: Verb, tmp_path: Path) -> None:
    outcome = verb("search", tmp_path / "nowhere", "query")
    assert outcome.code == 1
    assert re.fullmatch(r"lightretriever: [^\n]*nowhere[^\n]*\n", outcome.err)
    for arguments in (["--verbose", "search"], ["search", "--verbose"]):
        outcome = verb(*arguments, tmp_path / "nowhere", "query")
        assert outcome.code == 1
        assert outcome.err.startswith("Traceback")
        assert outcome.err.splitlines()[-1].startswith("lightretriever: ")


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (OSError(28, "No space left on device", "/data/x"), 1, "/data/x: No space left on device"),
        (MemoryError(), 1, "out of memory"),
        (ZeroDivisionError("division by zero"), 1, "unexpected ZeroDivisionError: division by zero"),
        (KeyboardInterrupt(), 130, "interrupted: nothing was written"),
    ],
)
def test_whatever_goes_wrong_is_one_line(
    verb: Verb, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: BaseException, code: int, message: str
) -> None:
    from lightretriever.text import corpus

    def fail(_: object) -> None:
        raise error

    monkeypatch.setattr(corpus, "read_queries", fail)
    outcome = verb("run", tmp_path, "--queries", "q", "--output", tmp_path / "r")
    assert outcome.code == code
    assert outcome.err.startswith(f"lightretriever: {message}")
    assert outcome.err.count("\n") == 1
    assert run_verb.EXAMPLE.startswith("lightretriever run")


def test_texts_takes_several_values_after_one_flag() -> None:
    prepare = cli._prepare
    assert prepare(["fit", "m", "--texts", "a", "b", "-o", "t"]) == (
        False,
        ["fit", "m", "--texts", "a", "--texts", "b", "-o", "t"],
    )
    assert prepare(["fit", "--verbose", "m", "--texts", "a", "--", "--verbose"]) == (
        True,
        ["fit", "m", "--texts", "a", "--", "--verbose"],
    )


def test_interrupting_says_that_running_again_resumes(tmp_path: Path) -> None:
    program = f"""
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # which what started the tests may have switched off
from lightretriever.cli.main import execute
import lightretriever.text.corpus as corpus
def endless(path):
    print("reading", flush=True)
    while True:
        time.sleep(0.05)
corpus.read_corpus = endless
sys.exit(execute(["encode", {str(tmp_path)!r}, "--model", "m", "-o", "v"]))
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "reading\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "lightretriever: interrupted: what is done is kept, run the same command again to go on from there\n"


def test_a_terminal_that_cannot_show_a_character_is_no_reason_to_fail() -> None:
    command = [sys.executable, "-m", "lightretriever", "fit", "--help"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    found = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert found.returncode == 0, found.stderr
    assert re.search(r"--l2 (\?|λ) ", found.stdout)  # click may know better than the environment what it can show


def test_a_closed_pipe_ends_quietly() -> None:
    command = f"set -o pipefail; {sys.executable} -m lightretriever --help | true; echo ${{PIPESTATUS[0]}}"
    found = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert found.stdout.strip() in ("0", "141")
    assert found.stderr == ""
