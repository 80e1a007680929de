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
from lightretriever.index import edge
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
    with Index.create(tmp_path / "i", make_encoder()) as index, pytest.raises(OSError, match="Read-only"):
        index.snapshot(disk / "snapshot")
