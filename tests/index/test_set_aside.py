"""An index that takes the place of another: a script that makes one can run again; what is no index stays."""

from __future__ import annotations

from pathlib import Path

import pytest
from index.conftest import RandomTower, make_encoder

from lightretriever import Index
from lightretriever.artifact import read_json, write_json
from lightretriever.errors import ArtifactError, LockedError, UsageError

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


def test_an_index_that_is_open_is_not_overwritten(tmp_path: Path) -> None:
    with Index.create(tmp_path / "index", make_encoder(), sparse="bm25", model=RandomTower()) as index:  # type: ignore[arg-type]
        index.add_documents(DOCUMENTS)
        with pytest.raises(LockedError):
            make(tmp_path / "index", DOCUMENTS, overwrite=True)
        assert index.count == 4


def test_one_that_cannot_be_made_leaves_the_old_one(tmp_path: Path) -> None:
    make(tmp_path / "index", DOCUMENTS)
    with pytest.raises(UsageError, match="sparse"):
        Index.create(tmp_path / "index", make_encoder(), sparse="nought", overwrite=True)
    with Index.open(tmp_path / "index") as index:
        assert index.count == 4
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_documents_on_a_server_are_not_left_there_unseen(tmp_path: Path) -> None:
    make(tmp_path / "index", DOCUMENTS)
    manifest = tmp_path / "index" / "manifest.json"
    write_json(manifest, {**read_json(manifest), "engine": "http://localhost:6333/things", "shard": "things"})
    with pytest.raises(ArtifactError, match="on a server"):
        make(tmp_path / "index", DOCUMENTS, overwrite=True)
    assert manifest.is_file()
