"""A disk that is full, and one that cannot be written; both are made, where this process may mount file systems."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from index.conftest import RandomTower, make_documents, make_encoder, payload

from lightretriever import Index
from lightretriever.errors import ArtifactError
from lightretriever.fusion import Fusion
from lightretriever.index import edge
from lightretriever.index.ingest import index_corpus
from lightretriever.index.migrate import migrate_index
from lightretriever.text.corpus import Document

TOWER = RandomTower()
Mount = Callable[[str], Path]


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """Mounts a file system in memory, with the options given; skips where that is not allowed."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root may mount a small disk to fill")
    place = tmp_path / "disk"
    place.mkdir()

    def mounted(options: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("this machine does not let a test mount a file system")
        return place

    yield mounted
    subprocess.run(["umount", "-l", str(place)], capture_output=True, check=False)


@pytest.mark.parametrize("live", [False, True])
def test_a_full_disk_stops_writes_and_keeps_what_was_acknowledged(mount: Mount, live: bool) -> None:
    disk = mount(f"size={(edge.RESERVE >> 20) + 180}m")
    added: list[str] = []
    with Index.create(disk / "i", make_encoder(), live=live) as index:
        with pytest.raises(ArtifactError, match=r"the disk is full .* make room and run again"):
            for turn in range(200):
                documents = [
                    Document(f"n{turn}-{i}", random.Random(turn).randbytes(200_000).hex() + document.text)
                    for i, document in enumerate(make_documents(4))
                ]
                encoded = TOWER.encode([Document(document.id, document.id) for document in documents])
                index.add([d.id for d in documents], encoded, [payload(d) for d in documents])
                added += [document.id for document in documents]
        assert len(added) > 20
        with pytest.raises(ArtifactError, match="the disk is full"):
            index.optimise()
        assert len(index.search("w01", 5)) == 5
        assert index.delete(added[-1]) == 1
    with Index.open(disk / "i", live=live) as index:
        assert set(added[:-1]) <= {document.id for document in index.documents()}


def test_a_folder_that_cannot_be_written_is_refused_in_one_line(mount: Mount, tmp_path: Path) -> None:
    disk = mount("size=400m")
    Index.create(disk / "i", make_encoder()).close()
    mount("remount,ro")
    with pytest.raises(ArtifactError, match=r"i cannot be written to \(Read-only file system\)"):
        Index.open(disk / "i")
    refused = pytest.raises(
        ArtifactError, match=r"snapshot cannot be written \(Read-only file system\): choose a place"
    )
    with Index.create(tmp_path / "i", make_encoder()) as index, refused:
        index.snapshot(disk / "snapshot")


def test_a_full_disk_is_one_line_whatever_is_written(mount: Mount, tmp_path: Path) -> None:
    Index.create(tmp_path / "other", make_encoder(), "bm25").close()
    disk = mount(f"size={(edge.RESERVE >> 20) + 180}m")
    with Index.create(disk / "i", make_encoder(), "bm25") as index:
        documents = make_documents(5)
        index.add([d.id for d in documents], TOWER.encode(documents), [payload(d) for d in documents])
        index.snapshot(tmp_path / "good")
        before = index.fusion
        with (disk / "filler").open("wb") as filler:
            with pytest.raises(OSError, match="No space left"):
                while True:
                    filler.write(bytes(1 << 20))
                    filler.flush()
            full = r"No space left on device|the disk is full"
            with pytest.raises(ArtifactError, match=full):
                index.set_fusion(Fusion(dense=0.5, sparse=0.5))
            assert index.fusion == before
            for write in (
                lambda: index.set_table(make_encoder(0).table),
                lambda: index.snapshot(disk / "snapshot"),
                lambda: index.refresh_bm25(),
                lambda: index.add(["x"], TOWER.encode(documents[:1]), [{"text": "w01"}]),
                lambda: Index.create(disk / "another", make_encoder()),
                lambda: Index.restore(tmp_path / "good", disk / "restored"),
                lambda: migrate_index(tmp_path / "other", "edge", disk / "migrated"),
                lambda: index_corpus(disk / "built", documents, TOWER, make_encoder()),
            ):
                with pytest.raises(ArtifactError, match=full):
                    write()
            assert index.count == 5
        (disk / "filler").unlink()
        index.set_fusion(Fusion(dense=0.5, sparse=0.5))
    with Index.open(disk / "i") as index:
        assert index.fusion.dense == 0.5
    assert sorted(entry.name for entry in disk.iterdir()) == ["i"]
