"""What verbs read is begun before any model is: what is wrong is refused at once, and a pipe loses nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lightretriever import Index, TokenTable
from lightretriever.vectors.folder import VectorsFolder

Verb = Callable[..., Any]
# Runs command lines, and says of each its exit code and whether torch was there afterwards.
SCRIPT = """
import json, sys
from lightretriever.cli.main import execute
for line in json.load(sys.stdin):
    print(json.dumps([execute(line), "torch" in sys.modules]), flush=True)
"""
LINE = json.dumps({"_id": "heron", "text": "A heron stands in the reeds."}) + "\n"
WRONG = {
    "absent.jsonl": (None, "absent.jsonl does not exist"),
    "broken.jsonl": ('{"_id": "1", "text"\n' + LINE, "broken.jsonl:1: "),
    "blank.jsonl": ("", "blank.jsonl holds no "),
    "numbers.jsonl": ('{"_id": "1", "text": 1.5}\n' + LINE, "numbers.jsonl:1: document 1: its text is float"),
    "half.jsonl.gz": (b"\x1f\x8b\x08\x00", "half.jsonl.gz"),
}


@pytest.fixture
def index(verb: Verb, tower: Path, folder: Path, tmp_path: Path) -> Path:
    assert verb("cache", tower, "-o", tmp_path / "table").code == 0
    made = ("--model", tower, "--table", tmp_path / "table", "-o", tmp_path / "i", "--sparse", "bm25")
    assert verb("index", folder, *made).code == 0
    return tmp_path / "i"


def refused(lines: list[list[object]]) -> list[str]:
    """The errors of command lines that all must fail before torch is imported."""
    spelled = json.dumps([[str(argument) for argument in line] for line in lines])
    found = subprocess.run(
        [sys.executable, "-c", SCRIPT], input=spelled, capture_output=True, text=True, encoding="utf-8", check=True
    )
    assert [json.loads(line) for line in found.stdout.splitlines()] == [[1, False]] * len(lines), found.stderr
    return [line for line in found.stderr.splitlines() if line.startswith("lightretriever: ")]


@pytest.mark.parametrize("name", WRONG)
def test_no_model_is_loaded_for_texts_that_cannot_be_read(index: Path, tower: Path, tmp_path: Path, name: str) -> None:
    content, message = WRONG[name]
    bad, good, out = tmp_path / name, tmp_path / "good.jsonl", tmp_path / "out"
    good.write_text(LINE)
    if content is not None:
        bad.write_bytes(content if isinstance(content, bytes) else content.encode())
    table = tmp_path / "table"
    errors = refused(
        [
            ["encode", bad, "--model", tower, "-o", out],
            ["index", bad, "--model", tower, "--table", table, "-o", out],
            ["add", index, bad, "--model", tower],
            ["fit", tower, "--texts", bad, "-o", out],
            ["fit", tower, "--texts", good, bad, "-o", out],
            ["fit", tower, "--texts", good, "--phrases", "5", "--queries-log", bad, "-o", out],
            ["cache", tower, "--phrases", "5", "--queries-log", bad, "-o", out],
            ["bench", tower, "--corpus", bad],
        ]
    )
    assert [error for error in errors if message not in error] == []
    assert not out.exists()


def test_no_model_is_loaded_for_tables_that_are_not_there(tower: Path, tmp_path: Path) -> None:
    (tmp_path / "good.jsonl").write_text(LINE)
    fit = ["fit", tower, "--texts", tmp_path / "good.jsonl", "-o", tmp_path / "out"]
    absent = tmp_path / "absent"
    assert len(refused([[*fit, "--prior", absent], [*fit, "--axes-of", absent]])) == 2


def test_no_model_is_loaded_for_judgements_that_do_not_fit(
    index: Path, tower: Path, folder: Path, tmp_path: Path
) -> None:
    other = tmp_path / "sets" / "other"
    (other / "qrels").mkdir(parents=True)
    (other / "queries.jsonl").write_text('{"_id": "a", "text": "heron"}\n')
    (other / "qrels/test.tsv").write_text("a\tnobody\t1\n")
    (other / "corpus.jsonl").write_text('{"_id": "nobody"}\n')
    against = ("--against", "symmetric")
    suite = ["eval", "--suite", tmp_path / "sets", "--table", tmp_path / "table", "--work", tmp_path / "work"]
    fit = ["fit", tower, "--texts", folder, "-o", tmp_path / "t"]
    errors = refused(
        [
            ["eval", index, "--data", other, *against],
            ["eval", index, "--data", folder, "--split", "absent", *against],
            [*suite, "--model", tower],
            [*fit, "--report", tmp_path / "r", "--data", other, "--split", "test"],
        ]
    )
    assert "none of the 1 document judged" in errors[0]
    assert "no split 'absent'" in errors[1]
    assert "corpus.jsonl:1: document nobody has no text" in errors[2]
    assert "corpus.jsonl:1: document nobody has no text" in errors[3]


def test_training_looks_at_its_files_before_torch_is_loaded(tower: Path, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text('{"query": "reeds", "positive_passages": [{"text": "A heron."}]}\n')
    (tmp_path / "wrong.jsonl").write_text('{"query": "reeds", "positive_passages": 3}\n')
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "run.toml").write_text(
        f'output = "{tmp_path / "out"}"\nmodel = {{ base = "{tower}" }}\n'
        f'data = {{ files = [{{ path = "{tmp_path / "pairs.jsonl"}" }}] }}\n'
    )
    train = ["train", tmp_path / "run.toml", "--set"]
    errors = refused(
        [
            [*train, f"data.files.0.path={tmp_path / 'absent.jsonl'}"],
            [*train, f"data.files.0.path={tmp_path / 'wrong.jsonl'}"],
            [*train, f"data.files.0.path={tmp_path / 'empty.jsonl'}"],
            [*train, f"validation.data={tmp_path / 'absent'}"],
            [*train, f"validation.data={folder}", "--set", "validation.split=train"],
            [*train, f'data.exclude=["{tmp_path / "absent"}"]'],
        ]
    )
    said = ("absent.jsonl does not", "wrong.jsonl:1: positive_passages is int", "empty.jsonl holds no usable example")
    said += ("absent is no folder", "no split 'train'", "absent is no folder")
    assert [error for error, part in zip(errors, said, strict=True) if part not in error] == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_loses_neither_its_first_document_nor_its_others(
    verb: Verb, index: Path, tower: Path, folder: Path, tmp_path: Path
) -> None:
    corpus = (folder / "corpus.jsonl").read_bytes()

    def piped(*arguments: object) -> Any:
        """Runs a verb that reads the corpus from a pipe, which can be read but once."""
        pipe = tmp_path / "pipe.jsonl"
        os.mkfifo(pipe)
        writer = threading.Thread(target=lambda: pipe.write_bytes(corpus), daemon=True)
        writer.start()
        try:
            outcome = verb(*[pipe if argument == "PIPE" else argument for argument in arguments])
        finally:
            writer.join(timeout=10)
            pipe.unlink()
        assert outcome.code == 0, outcome.err
        return outcome

    piped("encode", "PIPE", "--model", tower, "-o", tmp_path / "v")
    assert VectorsFolder.open(tmp_path / "v").count == 4
    made = ("--model", tower, "--table", tmp_path / "table", "-o", tmp_path / "from", "--sparse", "bm25")
    piped("index", "PIPE", *made)
    with Index.open(tmp_path / "from") as opened:
        assert opened.count == 4
    assert "4 as they were" in piped("add", index, "PIPE", "--model", tower).err
    piped("fit", tower, "--texts", "PIPE", "-o", tmp_path / "fitted", "--l2", "0.1")
    assert verb("fit", tower, "--texts", folder, "-o", tmp_path / "again", "--l2", "0.1").code == 0
    assert TokenTable.load(tmp_path / "fitted").hash == TokenTable.load(tmp_path / "again").hash
