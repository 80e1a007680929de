"""`queries` on files and pipes, of a table and of an index."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightretriever import Index, QueryEncoder

Verb = Callable[..., Any]


@pytest.fixture(scope="module")
def table(tower: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from lightretriever.cli.main import execute

    path = tmp_path_factory.mktemp("queries") / "table"
    assert execute(["cache", str(tower), "-o", str(path)]) == 0
    return path


def test_files_of_queries(verb: Verb, folder: Path, table: Path, tmp_path: Path) -> None:
    encoder = QueryEncoder.load(table)
    expected = encoder.encode_dense(["how tall is everest", "who invented the light bulb", "read a csv file"])
    (tmp_path / "q.txt").write_text("how tall is everest\nwho invented the light bulb\nread a csv file\n")
    for source, ids in ((folder, ["q1", "q2", "q3"]), (tmp_path / "q.txt", ["1", "2", "3"])):
        outcome = verb("queries", table, source, "-o", tmp_path / "out.npy")
        assert outcome.code == 0, outcome.err
        assert "3 vectors of 32 dimensions, ids in" in outcome.err
        assert np.array_equal(np.load(tmp_path / "out.npy"), expected)
        assert (tmp_path / "out.ids.txt").read_text().split() == ids
    outcome = verb("queries", table, folder, "-o", tmp_path / "out.jsonl", "--sparse")
    assert outcome.code == 0
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["_id"] for row in rows] == ["q1", "q2", "q3"]
    assert all(sum(row["sparse"]["values"]) >= 4 for row in rows)
    printed = verb("queries", table, folder, "-o", "-")
    assert printed.code == 0
    assert np.array_equal(np.float32([json.loads(line)["vector"] for line in printed.out.splitlines()]), expected)


def test_an_index_lends_its_table(verb: Verb, tower: Path, folder: Path, table: Path, tmp_path: Path) -> None:
    path = tmp_path / "i"
    assert verb("index", folder, "--model", tower, "--table", table, "-o", path, "--sparse", "bm25").code == 0
    assert verb("queries", path, folder, "-o", tmp_path / "a.npy").code == 0
    assert verb("queries", table, folder, "-o", tmp_path / "b.npy").code == 0
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


def test_terms_are_those_of_the_index(verb: Verb, tower: Path, folder: Path, table: Path, tmp_path: Path) -> None:
    path, asked = tmp_path / "i", tmp_path / "q.txt"
    told = verb(
        "index", folder, "--model", tower, "--table", table, "-o", path, "--analyser", "words", "--language", "en"
    )
    assert told.code == 0, told.err
    assert "its sparse side counts words (english)" in told.err
    assert json.loads(verb("info", path, "--json").out)["analyser"] == "words (english)"
    asked.write_text("the MOUNTAINS mountain of unheard\n")
    assert verb("queries", path, asked, "-o", tmp_path / "a.jsonl", "--sparse").code == 0
    counted = json.loads((tmp_path / "a.jsonl").read_text())["sparse"]
    with Index.open(path) as index:
        numbers = dict(pair for page in index.term_pages() for pair in page)
    assert counted == {"indices": [numbers["mountain"]], "values": [2]}


def test_an_analyser_that_there_is_not(verb: Verb, folder: Path, tmp_path: Path) -> None:
    for given, said in [
        (("--analyser", "stems"), "the analyser is 'stems': choose one of pieces, words, cjk"),
        (("--language", "klingon"), "the language is 'klingon': choose one of"),
        (("--analyser", "cjk", "--language", "en"), "the analyser 'cjk' has no language"),
        (
            ("--sparse", "none", "--language", "en"),
            "for the sparse side bm25, and it is 'none': leave words (english) out",
        ),
        (("--analyser", "words"), "--analyser words: name their --language, or none"),
        (("--language", "none", "--engine", "http://h:6333/c"), "counts the model's tokens, not words: choose pieces"),
    ]:
        told = verb("index", folder, "--model", "minilm", "-o", tmp_path / "i", *given)
        assert told.code == 2, told.err
        assert said in " ".join(told.err.split())
        assert not (tmp_path / "i").exists()


def test_what_cannot_be_written_is_refused(verb: Verb, folder: Path, table: Path, tmp_path: Path) -> None:
    for output, message in [
        (("-o", tmp_path / "out.bin"), "a name in .npy or .jsonl is needed"),
        (("-o", "-", "--format", "npy"), "is no stream"),
        (("-o", tmp_path / "o.npy", "--sparse"), "dense vectors alone"),
    ]:
        refused = verb("queries", table, folder, *output)
        assert refused.code == 2
        assert message in refused.err
    (tmp_path / "bad.jsonl").write_text('{"_id": "1", "text": "fine"}\n{"_id": "2"}\n')
    refused = verb("queries", table, tmp_path / "bad.jsonl", "-o", tmp_path / "out.npy")
    assert refused.code == 1
    assert "bad.jsonl:2: query 2 has no text" in refused.err
    assert not (tmp_path / "out.npy").exists()
    assert verb("queries", table, tmp_path / "bad.jsonl", "-o", tmp_path / "o", "--format", "jsonl").code == 1


def test_queries_are_answered_as_they_come_without_torch(table: Path) -> None:
    """A program that asks one query after another through pipes; torch cannot be imported there."""
    script = (
        "import sys; sys.modules.update(dict.fromkeys(['torch', 'transformers']));"
        "from lightretriever.cli.main import main; main()"
    )
    command = [sys.executable, "-c", script, "queries", str(table), "-", "-o", "-"]
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        for number, text in enumerate(["the highest mountain", "café", ""], 1):
            process.stdin.write(f"{text}\n".encode())
            process.stdin.flush()
            row = json.loads(process.stdout.readline())
            assert row["_id"] == str(number)
            assert np.linalg.norm(row["vector"]) == pytest.approx(1 if text else 0, abs=1e-6)
        process.stdin.close()
        said = process.stderr.read().decode()
    assert process.returncode == 0, said
    assert "1 of 3 queries have no token that counts" in said
