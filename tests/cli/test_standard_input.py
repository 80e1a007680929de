"""- stands for standard input wherever a file of documents, texts, queries or ids is read."""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from index.conftest import fill

from lightretriever import Index, TokenTable
from lightretriever.vectors.folder import VectorsFolder

Verb = Callable[..., Any]
Piped = Callable[..., Any]


@pytest.fixture
def piped(verb: Verb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Piped]:
    """Runs one command line with a text, or bytes, on its standard input."""

    def run(given: str | bytes, *arguments: object) -> Any:
        (tmp_path / "given").write_bytes(given.encode() if isinstance(given, str) else given)
        with (tmp_path / "given").open() as stream, monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", stream)
            return verb(*arguments)

    return run


@pytest.fixture
def index(tmp_path: Path) -> Path:
    fill(tmp_path / "i", 12)[0].close()
    return tmp_path / "i"


def test_documents(piped: Piped, verb: Verb, tower: Path, folder: Path, tmp_path: Path) -> None:
    corpus = (folder / "corpus.jsonl").read_bytes()
    model = ("--model", tower)
    done = piped(corpus, "encode", "-", *model, "-o", tmp_path / "v")
    assert (done.code, VectorsFolder.open(tmp_path / "v").count) == (0, 4), done.err
    assert verb("cache", tower, "-o", tmp_path / "table").code == 0
    made = ("--table", tmp_path / "table", "-o", tmp_path / "the.index", "--sparse", "bm25")
    assert piped(gzip.compress(corpus), "index", "-", *model, *made).code == 0
    assert "4 as they were" in piped(corpus, "add", tmp_path / "the.index", "-", *model).err
    with Index.open(tmp_path / "the.index") as opened:
        assert opened.count == 4
    for given, message in (
        ("", "standard input holds no documents"),
        ("a text\n", "standard input:1: not JSON"),
        ('{"text": "a"}\n', "standard input:1: the document has no id"),
    ):
        refused = piped(given, "encode", "-", *model, "-o", tmp_path / "none")
        assert (refused.code, refused.out) == (1, "")
        assert message in refused.err
    refused = piped("a text\n", "index", "-", *made)
    assert (refused.code, refused.out) == (1, "")
    assert "standard input:1: not JSON" in refused.err


def test_texts_are_lines_or_json_lines(piped: Piped, verb: Verb, tower: Path, folder: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (folder / "corpus.jsonl").read_text(encoding="utf-8").splitlines()]
    texts = [row["text"] for row in rows]
    lines = tmp_path / "texts.txt"
    lines.write_text("\n".join(texts), encoding="utf-8")
    fit = ("fit", tower, "--l2", "0.1", "-o")
    assert verb(*fit, tmp_path / "a", "--texts", lines).code == 0
    assert piped("\n".join(texts), *fit, tmp_path / "b", "--texts", "-").code == 0
    objects = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    assert piped(objects, *fit, tmp_path / "c", "--texts", "-").code == 0
    assert len({TokenTable.load(tmp_path / name).hash for name in "abc"}) == 1
    refused = piped(objects, *fit, tmp_path / "d", "--texts", "-", "--report", tmp_path / "r")
    assert refused.code == 2
    assert "name a file" in refused.err


def test_queries(piped: Piped, verb: Verb, index: Path, tmp_path: Path) -> None:
    def run(given: str) -> str:
        done = piped(given, "run", index, "--queries", "-", "--output", tmp_path / "run")
        assert done.code == 0, done.err
        return (tmp_path / "run").read_text()

    by_line = run("w03\nw05 w07\n")
    rows = [{"_id": str(number), "text": text} for number, text in enumerate(("w03", "w05 w07"), 1)]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert verb("run", index, "--queries", tmp_path / "q.jsonl", "--output", tmp_path / "file").code == 0
    assert by_line == (tmp_path / "file").read_text() == run((tmp_path / "q.jsonl").read_text())


def test_ids(piped: Piped, index: Path) -> None:
    done = piped("d1\n\nd2\r\nnobody\n", "delete", index, "-", "d3")
    assert done.code == 0
    assert "3 deleted, 1 not there, 9 documents left" in done.err
