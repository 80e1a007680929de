"""A folder's checksums: whatever is changed, cut or gone is named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightretriever.checksum import PART, check_files, take_checksums
from lightretriever.errors import ArtifactError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checked")
    (folder / "small").write_bytes(b"a few words")
    (folder / "empty").write_bytes(b"")
    with (folder / "large").open("wb") as file:  # four parts, the last of them short
        for part in range(3):
            file.write(bytes([part + 1]) * PART)
        file.write(b"the end")
    return folder


NAMES = ["small", "empty", "large"]


def test_what_was_not_changed_is_good(folder: Path) -> None:
    taken = take_checksums(folder, NAMES)
    assert [taken[name]["bytes"] for name in NAMES] == [11, 0, 3 * PART + 7]
    assert [len(taken[name]["crc32"]) for name in NAMES] == [1, 0, 4]
    assert len(set(taken["large"]["crc32"])) == 4
    check_files(folder, taken)


@settings(max_examples=25)
@given(st.sampled_from(["small", "large"]), st.floats(0, 1, exclude_max=True), st.integers(0, 7))
def test_any_flipped_bit_is_found(folder: Path, name: str, place: float, bit: int) -> None:
    taken = take_checksums(folder, NAMES)
    at = int(place * (folder / name).stat().st_size)
    with (folder / name).open("r+b") as file:
        file.seek(at)
        good = file.read(1)
        try:
            file.seek(at)
            file.write(bytes([good[0] ^ 1 << bit]))
            file.flush()
            with pytest.raises(ArtifactError, match=f"{name} is damaged"):
                check_files(folder, taken)
        finally:
            file.seek(at)
            file.write(good)
    check_files(folder, taken)


def test_files_that_are_cut_longer_or_gone_are_named(folder: Path) -> None:
    taken = take_checksums(folder, NAMES)
    for size in (PART, 3 * PART + 6, 3 * PART + 8):
        whole = (folder / "large").stat().st_size
        tail = (folder / "large").read_bytes()[min(size, whole) :]
        os.truncate(folder / "large", size)
        with pytest.raises(ArtifactError, match=rf"large is damaged \({size:,} bytes"):
            check_files(folder, taken)
        os.truncate(folder / "large", min(size, whole))
        with (folder / "large").open("ab") as file:
            file.write(tail)
    check_files(folder, taken)
    (folder / "empty").unlink()
    with pytest.raises(ArtifactError, match="empty cannot be read"):
        check_files(folder, taken)
    (folder / "empty").mkdir()
    with pytest.raises(ArtifactError, match="empty"):
        check_files(folder, taken)
    (folder / "empty").rmdir()
    (folder / "empty").touch()
