"""``check`` says that all is well, or what is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cli.conftest import Outcome
from index.conftest import fill


@pytest.mark.parametrize("sparse", ["lm", "bm25", "none"])
def test_an_index_as_it_was_written(verb: Callable[..., Outcome], tmp_path: Path, sparse: str) -> None:
    with fill(tmp_path / "i", 30, sparse)[0] as index:
        index.optimise()
        index.delete(["d1", "d2"])
    done = verb("check", tmp_path / "i")
    assert (done.code, done.out, done.err) == (0, "everything is as it was written\n", "")
    assert json.loads(verb("check", tmp_path / "i", "--json").out)["damage"] == []


def test_each_damage_in_a_line(verb: Callable[..., Outcome], tmp_path: Path) -> None:
    with fill(tmp_path / "i", 30)[0] as index:
        index.optimise()
    (array,) = (tmp_path / "i" / "segments").glob("*/dense.hi.bin")
    flip(array, 7)
    database = tmp_path / "i" / "index.db"
    database.write_bytes(database.read_bytes().replace(b"title 5", b"title t"))
    code, out, err = (done := verb("check", tmp_path / "i")).code, done.out.splitlines(), done.err
    assert (code, err) == (1, "")
    assert len(out) == 2
    assert "the index's database is damaged: the document of key 6" in out[0]
    assert str(array) in out[1]
    assert "`lightretriever optimise` builds it again" in out[1]
    as_json = verb("check", tmp_path / "i", "--json")
    assert (as_json.code, as_json.err) == (1, "")
    assert json.loads(as_json.out) == {"path": str(tmp_path / "i"), "damage": out}


def test_what_is_no_index(verb: Callable[..., Outcome], tmp_path: Path) -> None:
    done = verb("check", tmp_path / "none")
    assert done.code == 1
    assert done.out == f"{tmp_path / 'none'} does not exist: name the folder of an index\n"


def flip(file: Path, at: int) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)
