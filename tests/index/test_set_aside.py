"""An index that takes the place of another: a script that makes one can run again; what is no index stays."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from index.conftest import RandomTower, make_encoder, unit_rows
from index.raw_settings import read_raw, write_raw

from lightretriever import Encoded, Index
from lightretriever.errors import ArtifactError, UsageError

DOCUMENTS = [{"id": str(i), "text": f"w{i:02d} w{i + 1:02d}"} for i in range(4)]


def make(path: Path, documents: list[dict[str, str]], **options: object) -> int:
    with Index.create(path, make_encoder(), sparse="bm25", model=RandomTower(), **options) as index:  # type: ignore[arg-type]
        index.add_documents(documents)
        return index.count


def test_the_same_script_runs_again(tmp_path: Path) -> None:
    assert make(tmp_path / "index", DOCUMENTS, overwrite=True) == 4
    assert make(tmp_path / "index", DOCUMENTS[:1], overwrite=True) == 1
    with Index.open(tmp_path / "index") as index:
        assert [hit.id for hit in index.search("w00", mode="sparse")] == ["0"]
    assert [path.name for path in tmp_path.iterdir()] == ["index"]
    with pytest.raises(ArtifactError, match="exists already"):
        make(tmp_path / "index", DOCUMENTS)


def test_what_is_no_index_is_never_overwritten(tmp_path: Path) -> None:
    for name in ("folder", "file"):
        path = tmp_path / name
        if name == "file":
            path.write_text("mine")
        else:
            (path / "inner").mkdir(parents=True)
        with pytest.raises(ArtifactError):
            make(path, DOCUMENTS, overwrite=True)
    assert (tmp_path / "folder" / "inner").is_dir()
    assert (tmp_path / "file").read_text() == "mine"


def test_those_who_have_it_open_go_over_to_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "index"
    with Index.create(path, make_encoder(), sparse="bm25", model=RandomTower()) as index:  # type: ignore[arg-type]
        index.add_documents(DOCUMENTS)
        index.optimise()  # so that there is a segment of the old one too
        assert [hit.id for hit in index.search("w00", mode="sparse", filter={"new": {"$exists": False}})] == ["0"]
        new = [{"id": "a", "text": "w00 w09", "new": True}, {"id": "b", "text": "w09"}, {"id": "c", "text": "w08 w07"}]
        assert make(path, new, overwrite=True) == 3
        assert (index.count, {document.id for document in index.documents()}) == (3, {"a", "b", "c"})
        assert [hit.id for hit in index.search("w00", mode="sparse")] == ["a"]
        assert index.search("w00", mode="sparse", filter={"new": {"$exists": False}}) == []
        assert index.add_documents([{"id": "b", "text": "w00"}]).replaced == 1
        assert make(path, DOCUMENTS[1:3], overwrite=True) == 2  # as many writes: its counts say the same
        assert [hit.id for hit in index.search("w02 w00 w09", mode="sparse")] == ["1", "2"]
        with Index.open(path) as other:
            assert other.count == 2
            assert other.search("w02") == index.search("w02")


def test_one_of_another_model_takes_its_table_along(tmp_path: Path) -> None:
    path, other = tmp_path / "index", make_encoder(5, "huge", "r9", dim=24)
    make(path, DOCUMENTS)
    with Index.open(path) as index:
        index.search("w00")
        with Index.create(path, other, sparse="none", overwrite=True) as made:
            made.add(["x"], Encoded(unit_rows(np.random.default_rng(0), 1, 24)))
        assert (index.settings.model, index.encoder.dim, index.info()["dim"]) == ("huge", 24, 24)
        assert [hit.id for hit in index.search("w00")] == ["x"]


def test_other_processes_go_over_too(tmp_path: Path) -> None:
    path = tmp_path / "index"
    make(path, DOCUMENTS)
    script = f"""
import sys
from lightretriever import Index
with Index.open({str(path)!r}) as index:
    for line in sys.stdin:
        print(index.count, *(hit.id for hit in index.search(line.strip(), mode="sparse")), flush=True)
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as reader:
        assert reader.stdin is not None and reader.stdout is not None

        def ask(query: str) -> list[str]:
            print(query, file=reader.stdin, flush=True)
            return reader.stdout.readline().split()

        assert ask("w00") == ["4", "0"]
        for turn in range(3):
            new = [{"id": f"{turn}-{i}", "text": f"w{turn:02d}"} for i in range(turn + 1)]
            make(path, new, overwrite=True)
            assert ask(f"w{turn:02d}") == [str(turn + 1), *(row["id"] for row in new)]
            assert ask("w30") == [str(turn + 1)]
        reader.stdin.close()
        assert reader.wait(60) == 0
    assert [entry.name for entry in tmp_path.iterdir()] == ["index"]


def test_one_that_cannot_be_made_leaves_the_old_one(tmp_path: Path) -> None:
    make(tmp_path / "index", DOCUMENTS)
    with pytest.raises(UsageError, match="sparse"):
        Index.create(tmp_path / "index", make_encoder(), sparse="nought", overwrite=True)
    with Index.open(tmp_path / "index") as index:
        assert index.count == 4
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_documents_on_a_server_are_not_left_there_unseen(tmp_path: Path) -> None:
    path = tmp_path / "index"
    make(path, DOCUMENTS)
    write_raw(path, {**read_raw(path), "engine": "http://localhost:6333/things", "collection": "things"})
    with pytest.raises(ArtifactError, match="on a server"):
        make(path, DOCUMENTS, overwrite=True)
    assert (path / "index.db").is_file()
