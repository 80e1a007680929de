"""The files that documents were read from come back as they were noted, or the row is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from index.conftest import make_encoder

from lightretriever import Index
from lightretriever.errors import ArtifactError
from lightretriever.index.engines.local.check import check_index
from lightretriever.index.store.files import NotedFile, forget_files, note_files, read_files

NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
FILES = st.builds(
    NotedFile, NAMES, NAMES, st.integers(0, 2**62), st.integers(-(2**62), 2**62), st.lists(NAMES).map(tuple)
)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    return Index.create(tmp_path_factory.mktemp("files") / "i", make_encoder())


@given(st.lists(FILES, unique_by=lambda file: file.id), st.data())
def test_what_is_noted_comes_back(index: Index, files: list[NotedFile], data: st.DataObject) -> None:
    gone = data.draw(st.sets(st.sampled_from(files))) if files else set()
    with index._state.writing() as connection:
        forget_files(connection, list(read_files(connection)))
        note_files(connection, files)
        note_files(connection, files[:1])
        forget_files(connection, [file.id for file in gone])
    with index._state.database.reading() as connection:
        assert read_files(connection) == {file.id: file for file in files if file not in gone}


@pytest.mark.parametrize("change", ["size = 7", "documents = '[1]'", "digest = 'x'"])
def test_a_damaged_row_is_named(tmp_path: Path, change: str) -> None:
    with Index.create(tmp_path / "i", make_encoder()) as index:
        with index._state.writing() as connection:
            note_files(connection, [NotedFile("guide.md", "ab", 3, 4, ("guide.md",))])
        assert list(check_index(index.path)) == []
        with index._state.writing() as connection:
            connection.execute(f"UPDATE files SET {change}")
        with index._state.database.reading() as connection, pytest.raises(ArtifactError, match="guide"):
            read_files(connection)
        assert "guide.md" in "".join(check_index(index.path))
