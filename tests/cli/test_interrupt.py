"""Ctrl-C, at whatever moment: exit code 130, one line that says how to go on, and nothing half-written."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from index.conftest import WORDS, fill, make_encoder, unit_rows

from lightretriever.vectors.folder import VectorsFolder

Verb = Callable[..., Any]
# Runs a command line that is interrupted when it makes a file last, or gives it its name, for the n-th time.
SCRIPT = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # which what started the tests may have switched off
left = int(sys.argv[1])
def interrupting(call):
    def interrupted(*given, **named):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGINT)
        return call(*given, **named)
    return interrupted
os.fsync, os.replace, os.rename = map(interrupting, (os.fsync, os.replace, os.rename))
from lightretriever.cli.main import execute
code = execute(sys.argv[2:])
sys.exit(3 if left > 0 else code)
"""
GOES_ON = "run the same command again to go on from there"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are sent in another way there")


def interrupted(moment: int, *arguments: object) -> None:
    command = [sys.executable, "-c", SCRIPT, str(moment), *(str(argument) for argument in arguments)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 130, found.stderr
    assert found.stdout == ""
    last = found.stderr.splitlines()[-1]
    assert last.startswith("lightretriever: interrupted: ")
    assert last.endswith(GOES_ON)
    assert "Traceback" not in found.stderr


def test_an_index_goes_on_from_wherever_it_was(verb: Verb, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [
        {"id": f"d{number}", "text": " ".join(rng.choice(WORDS, 8)), "embedding": row.tolist()}
        for number, row in enumerate(unit_rows(rng, 40))
    ]
    (tmp_path / "v.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    make_encoder().table.save(tmp_path / "table")
    made = ("index", tmp_path / "v.jsonl", "--table", tmp_path / "table", "-o")
    assert verb(*made, tmp_path / "whole").code == 0
    searches = [("-k", "40", "--json", "--mode", mode) for mode in ("dense", "sparse", "hybrid")]
    expected = [verb("search", tmp_path / "whole", "w03 w05", *search).out for search in searches]
    for moment in (1, 7, 20, 45):
        place = tmp_path / str(moment)
        place.mkdir()
        interrupted(moment, *made, place / "i")
        assert verb(*made, place / "i").code == 0
        assert [verb("search", place / "i", "w03 w05", *search).out for search in searches] == expected
        assert [path.name for path in place.iterdir()] == ["i"]


def test_encoding_goes_on_from_wherever_it_was(verb: Verb, tower: Path, folder: Path, tmp_path: Path) -> None:
    made = ("encode", folder, "--model", tower, "-o")
    assert verb(*made, tmp_path / "whole").code == 0
    expected = VectorsFolder.open(tmp_path / "whole").digest
    for moment in (1, 6):
        interrupted(moment, *made, tmp_path / "v")
        assert verb(*made, tmp_path / "v").code == 0
        assert VectorsFolder.open(tmp_path / "v").digest == expected
        shutil.rmtree(tmp_path / "v")


def test_queries_that_come_one_by_one(tmp_path: Path) -> None:
    fill(tmp_path / "i", 12)[0].close()
    command = [sys.executable, "-c", SCRIPT, "0", "search", str(tmp_path / "i"), "-", "-k", "1", "--json"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        process.stdin.write("w03\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["query"] == "w03"
        time.sleep(0.2)  # now it waits for the next
        process.send_signal(signal.SIGINT)
        process.wait(60)
        assert process.returncode == 130
        assert process.stderr.read() == "lightretriever: interrupted: 1 query answered, go on with those after\n"


def test_what_starts_anew_says_so(tmp_path: Path) -> None:
    fill(tmp_path / "i", 12)[0].close()
    command = [sys.executable, "-c", SCRIPT, "1", "snapshot", str(tmp_path / "i"), "-o", str(tmp_path / "s")]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 130
    told = "lightretriever: interrupted: nothing was written, run the same command again to begin anew\n"
    assert found.stderr == told
    assert [path.name for path in tmp_path.iterdir()] == ["i"]
