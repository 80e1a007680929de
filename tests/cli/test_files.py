"""From a folder to answers, as one types it: index, search, sync, refit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from pipeline.test_build import make_docs

Verb = Any


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    return make_docs(tmp_path / "docs", 5)


def test_a_folder_is_indexed_and_followed(verb: Verb, tower: Path, docs: Path, tmp_path: Path) -> None:
    (docs / "photo.png").write_bytes(b"\x89PNG")
    (docs / "bad.epub").write_bytes(b"PK nothing")
    built = verb("index", docs, "-o", tmp_path / "i", "--model", tower, "--chunk-tokens", "40")
    assert built.code == 0, built.err
    assert "left out: 1 not a document (--list-left-out names them)" in built.err
    assert "not read: " in built.err and "bad.epub" in built.err
    assert "5 documents in" in built.err and "passages" in built.err
    again = verb("index", docs, "-o", tmp_path / "i", "--model", tower, "--chunk-tokens", "40")
    assert again.code == 0 and "complete already" in again.err
    hits = [json.loads(line) for line in verb("search", tmp_path / "i", "number 3", "--json").out.splitlines()]
    assert {hit["id"] for hit in hits} == {f"f{i}.md" for i in range(5)}
    assert all(hit["location"].startswith(hit["id"]) for hit in hits)
    (docs / "f1.md").unlink()
    (docs / "f2.md").write_text("# New\n\nwho read the file in one thread")
    synced = verb("sync", tmp_path / "i", "--list-left-out")
    assert synced.code == 0 and "0 new, 1 changed, 1 gone, 4 as they were" in synced.err, synced.err
    assert "photo.png: not a document" in synced.err
    assert "0 new, 0 changed, 0 gone, 5 as they were" in verb("sync", tmp_path / "i", docs).err
    refitted = verb("refit", tmp_path / "i", "--sentences", "0")
    assert refitted.code == 0 and "queries are looked up in a table fitted to" in refitted.err
    assert json.loads(verb("search", tmp_path / "i", "thread", "-k", "1", "--json").out)["id"] == "f2.md"


def test_rows_stay_whole_unless_asked(verb: Verb, tower: Path, folder: Path, tmp_path: Path) -> None:
    whole = verb("index", folder, "-o", tmp_path / "whole", "--model", tower)
    assert whole.code == 0 and "passages" not in whole.err.splitlines()[-2]
    split = verb("index", folder, "-o", tmp_path / "split", "--model", tower, "--chunk-tokens", "20")
    assert split.code == 0 and "4 documents in" in split.err
    for name in ("whole", "split"):
        evaluated = verb("eval", tmp_path / name, "--data", folder, "--json")
        assert evaluated.code == 0, evaluated.err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["index", "nowhere", "-o", "i"], 1, "nowhere does not exist"),
        (["index", "empty", "-o", "i"], 1, "empty holds no documents"),
        (["index", "docs", "-o", "i", "--chunk-tokens", "3"], 2, "a passage of 3 tokens"),
        (["index", "docs", "empty", "-o", "i", "--columns", "id=a"], 2, "belong to one source"),
        (["index", "docs", "-o", "i", "--include", "[", "--model", "no-model"], 1, "include"),
        (["sync", "nowhere"], 1, "nowhere does not exist"),
        (["refit", "nowhere"], 1, "nowhere does not exist"),
    ],
)
@pytest.mark.usefixtures("docs")
def test_what_cannot_be(
    verb: Verb, tmp_path: Path, arguments: list[str], code: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    outcome = verb(*arguments)
    assert outcome.code == code, outcome.err
    assert message in outcome.err and outcome.err.count("\n") == 1
    assert not (tmp_path / "i").exists()


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_watching_follows_until_it_is_interrupted(verb: Verb, tower: Path, docs: Path, tmp_path: Path) -> None:
    assert verb("index", docs, "-o", tmp_path / "i", "--model", tower).code == 0
    arguments = [sys.executable, "-m", "lightretriever", "sync", str(tmp_path / "i"), "--watch", "0.2"]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            while "5 as they were" not in process.stderr.readline():
                assert process.poll() is None
            (docs / "new.md").write_text("the snow")
            while "1 new" not in process.stderr.readline():
                assert process.poll() is None
            process.send_signal(signal.SIGINT)
            end = time.monotonic() + 20
            while process.poll() is None and time.monotonic() < end:
                time.sleep(0.05)
        finally:
            process.kill()
        assert process.returncode == 130
