"""What verbs print on a terminal of 80 columns."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Verb = Callable[..., Any]
SCRIPT = """
import json, sys
from lightretriever.cli.main import execute
for line in json.loads(sys.argv[1]):
    print("$", *line[:1], flush=True)
    assert execute(line) == 0, line
"""
WORDS = ("everest", "light", "bulb", "csv", "file", "mountain", "world", "history", "thread", "invented")


def on_terminal(lines: list[list[object]], folder: Path) -> list[str]:
    """What command lines show on a terminal of 80 columns, in a folder; progress bars are drawn over."""
    pty = pytest.importorskip("pty")
    import fcntl
    import struct
    import termios

    own, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
    spelled = json.dumps([[str(argument) for argument in line] for line in lines])
    env = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, spelled],
        stdin=child,
        stdout=child,
        stderr=child,
        cwd=folder,
        env={**env, "TERM": "xterm"},
    )
    os.close(child)
    shown = b""
    while True:
        try:
            piece = os.read(own, 65_536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        shown += piece
    os.close(own)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode("utf-8", "replace")).replace("\r\n", "\n")
    assert process.wait() == 0, text
    return [line.rpartition("\r")[2] for line in text.split("\n")]


@pytest.fixture
def data(folder: Path, tmp_path: Path) -> Path:
    """The tiny collection with queries enough to tune on."""
    data = shutil.copytree(folder, tmp_path / "data")
    queries = {f"more{number}": f"{word} of the {WORDS[-number]}" for number, word in enumerate(WORDS)}
    rows = [{"_id": query, "text": text} for query, text in queries.items()]
    (data / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for split in ("dev", "test"):
        (data / f"qrels/{split}.tsv").write_text("".join(f"{query}\tbulb\t1\n" for query in queries))
    long = "a-document-with-a-name-that-is-much-longer-than-most-names-are"
    rows = [{"_id": long, "text": "zq xjk vw " * 40}, {"_id": long, "text": "kkq jzx wv qqz " * 40}]
    (tmp_path / "one.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return data


def test_nothing_is_wider_than_80_columns_and_nothing_says_one_documents(tower: Path, data: Path) -> None:
    model = ("--model", tower)
    shown = on_terminal(
        [
            ["encode", "data", *model, "-o", "vectors"],
            ["fit", tower, "--vectors", "vectors", "--texts", "data", "-o", "table", "--l2", "0.1"],
            ["index", "data", *model, "--table", "table", "-o", "the.index", "--sparse", "bm25"],
            ["index", "data", *model, "--table", "table", "-o", "the.index", "--sparse", "bm25"],
            ["add", "the.index", "one.jsonl"],
            ["add", "the.index", "data", "--refresh"],
            ["tune", "the.index", "--data", "data"],
            ["tune", "the.index", "--data", "data", "--dry-run"],
            ["eval", "the.index", "--data", "data", "--against", "symmetric,bm25"],
            ["tune", "the.index", "--data", "data", "--cross-validate"],
            ["info", "the.index"],
            ["tune", "the.index"],
            ["tune", "the.index", "--weight", "0.7"],
            *([["info", kind] for kind in ("the.index", "table", "vectors", tower)]),
            ["search", "the.index", "zq xjk csv file", "-k", "3"],
            ["run", "the.index", "--queries", "data", "--output", "a.run"],
            ["eval", "a.run", "--qrels", "data/qrels/test.tsv"],
            ["queries", "table", "data/queries.jsonl", "-o", "q.npy"],
            ["delete", "the.index", "bulb", "nobody"],
            ["info", "the.index"],
            ["optimise", "the.index"],
            ["check", "the.index"],
            ["snapshot", "the.index", "-o", "saved.tar"],
            ["restore", "saved.tar", "-o", "two.index"],
            ["set-table", "two.index", "table"],
            ["reindex", "two.index", *model, "--table", "table"],
            ["cache", tower, "-o", "cached"],
        ],
        data.parent,
    )
    path = re.compile(r"\S{60,}")  # a path or a hash is not broken: the terminal does that
    assert [line for line in shown if len(line) > 80 and not path.search(line)] == []
    assert [
        line for line in shown if re.search(r"(?<![\d.,])1 (documents|queries|texts|rows|hits|ids|vectors)\b", line)
    ] == []
    told = "\n".join(shown)
    assert "warning: 1 document with an id that came again" in told
    assert re.search(r"unknown to table +[\d.]+% of these tokens", told)
    assert re.search(r"drift +[\d.]+% of the documents, since BM25 counted them", told)
    assert re.search(r"vocabulary covered +[\d.]+% of the tokenizer's tokens are in these texts", told)


def test_what_a_log_keeps_is_a_line_each(verb: Verb, tower: Path, data: Path, tmp_path: Path) -> None:
    """Only a terminal breaks lines: a file or a pipe is read by programs too."""
    assert verb("cache", tower, "-o", tmp_path / "table").code == 0
    index = tmp_path / "the.index"
    made = verb("index", data, "--model", tower, "--table", tmp_path / "table", "-o", index, "--sparse", "bm25")
    assert made.code == 0, made.err
    told = verb("tune", index).err.splitlines()
    assert told == [
        f"{index} is changed: weights by query (without judged queries, by the package's network)",
        "before: 0.7 dense, 0.3 sparse (default)",
    ]
