"""What was opened stays what it is when the working directory changes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from index.conftest import RandomTower, fill, make_documents, make_encoder

from lightretriever import Index, QueryEncoder, TokenTable
from lightretriever.artifact import new_file
from lightretriever.errors import UsageError
from lightretriever.index.ingest import index_corpus
from lightretriever.paths import absolute
from lightretriever.scratch import new_folder


def test_a_path_is_what_it_means_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    assert absolute("a/b") == tmp_path / "a" / "b"
    assert absolute(Path("a")) == tmp_path / "a"
    assert absolute("~/a") == tmp_path / "home" / "a"
    assert absolute("~nobody-of-this-name/a") == tmp_path / "~nobody-of-this-name" / "a"
    assert absolute("./~") == tmp_path / "~"
    assert absolute(str(tmp_path)) == tmp_path
    for wrong in ("", "a\0b", 7, b"bytes"):
        with pytest.raises(UsageError, match="the path is"):
            absolute(wrong)  # type: ignore[arg-type]


@pytest.mark.skipif(os.name == "nt", reason="a folder in use cannot be removed there")
def test_a_relative_path_without_a_working_directory_is_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(UsageError, match="the working directory is gone"):
        absolute("an.index")


def test_an_index_writes_where_it_was_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    documents = [{"id": document.id, "text": document.text} for document in make_documents(8)]
    monkeypatch.chdir(tmp_path)
    Index.create("an.index", make_encoder(), sparse="bm25").close()
    tower = RandomTower()
    index = Index.open("an.index", model=tower)  # type: ignore[arg-type]
    index.add_documents(documents[:3])
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert index.path == tmp_path / "an.index"
    index.add_documents(documents[3:6])
    index.refresh_bm25()
    index.optimise()
    index.set_table(make_encoder(3).table)
    index.set_fusion(index.fusion)
    index.reindex(make_encoder(), tower)  # type: ignore[arg-type]
    assert index.add_documents(documents[6:]).durable
    assert index.delete(["d1"]) == 1
    index.snapshot("a.snapshot")
    index.close()
    Index.restore("a.snapshot", "restored.index")
    assert sorted(path.name for path in Path().iterdir()) == ["a.snapshot", "restored.index"]
    for path in ("../an.index", "restored.index"):
        with Index.open(path) as again:
            assert sorted(document.id for document in again.documents()) == ["d0", *(f"d{i}" for i in range(2, 8))]


def test_a_snapshot_goes_where_it_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index, _, _ = fill(tmp_path / "an.index", 5)
    monkeypatch.chdir(tmp_path)
    with index, new_file("a.txt") as file, new_folder("a.folder") as folder:
        monkeypatch.chdir("/")
        file.write_text("words")
        (folder / "inside").write_text("words")
    assert (tmp_path / "a.txt").read_text() == (tmp_path / "a.folder" / "inside").read_text() == "words"


def test_an_encoder_is_of_the_folder_it_was_loaded_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_encoder().table.save("table")
    (tmp_path / "elsewhere").mkdir()
    table, encoder = TokenTable.load("table"), QueryEncoder.load("table")
    monkeypatch.chdir("elsewhere")
    table.save("copy")
    np.testing.assert_array_equal(QueryEncoder.load("copy").encode_dense("w03 w07"), encoder.encode_dense("w03 w07"))


def test_a_corpus_is_indexed_where_it_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()

    def documents():  # type: ignore[no-untyped-def]
        for number, document in enumerate(make_documents(6)):
            if number == 3:
                monkeypatch.chdir("elsewhere")
            yield document

    index_corpus("an.index", documents(), RandomTower(), make_encoder(), sparse="bm25")  # type: ignore[arg-type]
    assert not any((tmp_path / "elsewhere").iterdir())
    with Index.open(tmp_path / "an.index") as index:
        assert index.count == 6
