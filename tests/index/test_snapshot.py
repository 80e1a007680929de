"""Snapshots, and files that are not what they were."""

from __future__ import annotations

import io
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from index.conftest import RandomTower, payload

from lightretriever import Index
from lightretriever.errors import ArtifactError
from lightretriever.index.blocks import copy_file
from lightretriever.index.checksums import checksum, part_files

QUERIES = ["w01 w02", "w03", "w10 w11 w12"]


def answers(index: Index) -> list:
    return [index.search_many(QUERIES, 30, mode) for mode in ("dense", "sparse", "hybrid")]


@pytest.mark.parametrize("live", [False, True])
def test_a_restored_index_answers_identically(filled, tmp_path: Path, live: bool) -> None:
    index, documents, _ = filled(120, "bm25")
    index.close()
    with Index.open(index.path, live=live) as index:
        index.delete(["d5"])
        before = answers(index)
        failures: list[BaseException] = []
        done = threading.Event()

        def write() -> None:
            try:
                number = 0
                while not done.is_set():
                    name = f"later{number}"
                    index.add([name], encoded_row(number % 100), [payload(documents[number % 100])])
                    index.delete([name])
                    number += 1
            except BaseException as error:
                failures.append(error)

        tower = RandomTower()

        def encoded_row(row: int):
            return tower.encode([documents[row]])

        first = index.snapshot(tmp_path / "quiet.snapshot")
        writer = threading.Thread(target=write)
        writer.start()
        index.snapshot(tmp_path / "busy.snapshot")
        done.set()
        writer.join()
        assert not failures
        assert first.documents == 119
        assert first.bytes == (tmp_path / "quiet.snapshot").stat().st_size
        with pytest.raises(ArtifactError, match="exists already"):
            index.snapshot(tmp_path / "quiet.snapshot")
    Index.restore(tmp_path / "quiet.snapshot", tmp_path / "quiet")
    with Index.open(tmp_path / "quiet") as restored:
        assert answers(restored) == before
        assert restored.info()["bm25"] == {**restored.info()["bm25"], "changes": 1}
    Index.restore(tmp_path / "busy.snapshot", tmp_path / "busy")
    with Index.open(tmp_path / "busy") as restored:
        assert {d.id for d in restored.documents()} - {d.id for d in documents} <= {
            f"later{number}" for number in range(10_000)
        }
        assert restored.count in (119, 120)
    assert sorted(entry.name for entry in tmp_path.iterdir() if entry.name.startswith(".")) == []


def test_damaged_snapshots_are_refused_and_leave_nothing(filled, tmp_path: Path) -> None:
    index, _, _ = filled(20)
    with index:
        index.snapshot(tmp_path / "good")
    good = (tmp_path / "good").read_bytes()
    flipped = bytearray(zstandard.ZstdDecompressor().stream_reader(io.BytesIO(good)).read())
    flipped[flipped.index(b"lightretriever") + 3] ^= 1 if b"lightretriever" in flipped else 0
    escaping = io.BytesIO()
    with tarfile.open(fileobj=escaping, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("../outside"))
    pack = zstandard.ZstdCompressor().compress
    for name, content, message in [
        ("truncated", good[: len(good) // 2], "damaged"),
        ("empty", b"", "no snapshot"),
        ("text", b"hello there, this is a text", "damaged, or no snapshot"),
        ("escaping", pack(escaping.getvalue()), r"cannot hold '\.\./outside'"),
        ("flipped", pack(bytes(flipped)), "is damaged|is gone"),
    ]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ArtifactError, match=message):
            Index.restore(tmp_path / name, tmp_path / "restored")
        assert not (tmp_path / "restored").exists()
    with pytest.raises(ArtifactError, match="does not exist"):
        Index.restore(tmp_path / "nowhere", tmp_path / "restored")
    with pytest.raises(ArtifactError, match="exists already"):
        Index.restore(tmp_path / "good", index.path)
    assert not (tmp_path / "outside").exists()


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    place = next((i for i, byte in enumerate(content) if byte), 0)
    content[place] ^= 4
    file.write_bytes(bytes(content))


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize("harm", [flip, truncate, Path.unlink])
def test_every_file_that_was_changed_is_named(filled, harm: Callable[[Path], object]) -> None:
    index, _, _ = filled(20, "bm25")
    index.optimise()
    index.close()
    files = [file for file in part_files(index.path, index_parts(index.path)) if file.stat().st_size]
    assert len(files) > 20
    for file in files:
        good = file.read_bytes()
        harm(file)
        with pytest.raises(ArtifactError) as raised:
            Index.open(index.path)
        assert str(file) in str(raised.value) or file.name == "table.json"
        file.write_bytes(good)
    with Index.open(index.path) as index:
        assert index.count == 20


def index_parts(path: Path) -> list[str]:
    return ["table", "shard", "bm25.safetensors", "manifest.json"] if (path / "bm25.safetensors").exists() else []


def test_a_copy_has_the_checksum_of_the_file(tmp_path: Path) -> None:
    with (tmp_path / "holes").open("wb") as file:
        file.seek(3_000_000)
        file.write(b"something")
        file.truncate(5_000_000)
    copy_file(tmp_path / "holes", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == (tmp_path / "holes").read_bytes()
    (tmp_path / "full").write_bytes((tmp_path / "holes").read_bytes())
    assert checksum(tmp_path / "holes") == checksum(tmp_path / "copy") == checksum(tmp_path / "full")
    (tmp_path / "full").write_bytes((tmp_path / "holes").read_bytes()[1:] + b"\0")
    assert checksum(tmp_path / "holes") != checksum(tmp_path / "full")
