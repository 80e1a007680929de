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
from index.ledger import check_searches, holdings, put, remove

from lightretriever import Index
from lightretriever.errors import ArtifactError
from lightretriever.fusion import Fusion
from lightretriever.index.durability import FlushPolicy
from lightretriever.index.engines.local.build import build_due
from lightretriever.index.engines.local.check import check_index
from lightretriever.index.ingest import index_corpus
from lightretriever.index.migrate import migrate_index
from lightretriever.text.corpus import Document

TOWER = RandomTower()
FULL = r"No space left on device|the disk is full"
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


def fill_up(disk: Path, leave: int = 0) -> Path:
    """Write a file until nothing goes in any more, but for some bytes."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as stream:
        for size in (1 << 20, 4_096):
            try:
                while True:
                    stream.write(bytes(size))
            except OSError:
                continue
    if leave:
        os.truncate(filler, max(filler.stat().st_size - leave, 0))
    return filler


@pytest.mark.parametrize("flush", [None, FlushPolicy(documents=1_000)])
def test_a_full_disk_stops_writes_and_keeps_what_was_acknowledged(mount: Mount, flush: FlushPolicy | None) -> None:
    disk = mount("size=40m")
    held: dict[int, int] = {}
    with Index.create(disk / "i", make_encoder(), flush=flush) as index:
        with pytest.raises(ArtifactError, match=f"i/index.db cannot be written .*({FULL}).*make room"):
            for turn in range(4_000):
                documents = make_documents(4)
                padded = [Document(f"p{turn}-{d.id}", random.Random(turn).randbytes(50_000).hex()) for d in documents]
                index.add([d.id for d in padded], TOWER.encode(documents), [payload(d) for d in padded])
                put(index, [(turn, turn)])
                held[turn] = turn
        assert len(held) > 20
        numbered = {"version": {"$gte": 0}}
        assert {hit.id for hit in index.search("w01", 4_000, "dense", numbered)} >= {f"d{n}" for n in held}
        with pytest.raises(ArtifactError, match=FULL):
            for turn in range(10_000):
                put(index, [(turn, turn + 1)])
                held[turn] = turn + 1
        assert {hit.id for hit in index.search("w01", 4_000, "dense", numbered)} >= {f"d{n}" for n in held}
    with Index.open(disk / "i") as index:
        found = {hit.id: hit.metadata["version"] for hit in index.search("w01", 20_000, "dense", numbered)}
        assert {number: found[f"d{number}"] for number in held} == held
    assert not list(check_index(disk / "i"))


def test_room_that_is_made_is_used(mount: Mount) -> None:
    disk = mount("size=30m")
    with Index.create(disk / "i", make_encoder()) as index:
        put(index, [(number, 0) for number in range(50)])
        filler = fill_up(disk)
        for _ in range(3):
            with pytest.raises(ArtifactError, match=FULL):
                for turn in range(5_000):
                    put(index, [(number + 50, turn) for number in range(50)])
        held = holdings(index.engine)
        filler.unlink()
        put(index, [(200, 1)])
        remove(index, [(1, -1)])
        del held[1]
        index.optimise()
        check_searches(index, {**held, 200: 1})
    assert not list(check_index(disk / "i"))


@pytest.mark.parametrize("leave", [0, 40_000, 100_000])
def test_a_full_disk_in_a_build_leaves_the_index_as_it_was(mount: Mount, leave: int) -> None:
    disk = mount("size=60m")
    with Index.create(disk / "i", make_encoder()) as index:
        put(index, [(number, 0) for number in range(600)])
        index.optimise()
        put(index, [(number, 1) for number in range(100)])
        before, held = index.info(), holdings(index.engine)
        filler = fill_up(disk, leave)
        with pytest.raises(ArtifactError, match=FULL) as caught:
            index.optimise()
        assert "\n" not in str(caught.value)
        assert index.info()["segments"] == before["segments"]
        check_searches(index, held)
        build_due(index.path, index._state.database)  # nothing is due, and nothing is lost
        filler.unlink()
        index.optimise()
        assert index.info()["segments"] == [600]
        check_searches(index, held)
    assert not list(check_index(disk / "i"))
    assert len(list((disk / "i" / "segments").glob("*/keys.bin"))) == 1


def test_a_folder_that_cannot_be_written_can_be_searched(mount: Mount, tmp_path: Path) -> None:
    disk = mount("size=100m")
    with Index.create(disk / "i", make_encoder()) as index:
        put(index, [(number, 0) for number in range(20)])
    mount("remount,ro")
    with Index.open(disk / "i") as index:
        check_searches(index, dict.fromkeys(range(20), 0))
        with pytest.raises(ArtifactError, match=r"read-only"):
            put(index, [(1, 1)])
        with pytest.raises(
            ArtifactError, match=r"snapshot cannot be written \(Read-only file system\): choose a place"
        ):
            index.snapshot(disk / "snapshot")
        index.snapshot(tmp_path / "snapshot")
    assert not list(check_index(disk / "i"))


def test_a_full_disk_is_one_line_whatever_is_written(mount: Mount, tmp_path: Path) -> None:
    Index.create(tmp_path / "other", make_encoder(), "bm25").close()
    disk = mount("size=100m")
    with Index.create(disk / "i", make_encoder(), "bm25") as index:
        documents = make_documents(5)
        index.add([d.id for d in documents], TOWER.encode(documents), [payload(d) for d in documents])
        index.snapshot(tmp_path / "good")
        before = index.fusion
        filler = fill_up(disk)
        with pytest.raises(ArtifactError, match=FULL):  # what room the log has is used up first
            for turn in range(10_000):
                index.set_fusion(Fusion(dense=turn / 10_000, sparse=1 - turn / 10_000))
                before = index.fusion
        assert index.fusion == before
        for write in (
            lambda: index.set_table(make_encoder(0).table),
            lambda: index.snapshot(disk / "snapshot"),
            lambda: index.refresh_bm25(),
            lambda: index.add(["x"], TOWER.encode(documents[:1]), [{"text": "w01"}]),
            lambda: Index.create(disk / "another", make_encoder()),
            lambda: Index.restore(tmp_path / "good", disk / "restored"),
            lambda: migrate_index(tmp_path / "other", "local", disk / "migrated"),
            lambda: index_corpus(disk / "built", documents, TOWER, make_encoder()),
        ):
            with pytest.raises(ArtifactError, match=FULL) as caught:
                write()
            assert "\n" not in str(caught.value)
        assert index.count == 5
        filler.unlink()
        index.set_fusion(Fusion(dense=0.5, sparse=0.5))
    with Index.open(disk / "i") as index:
        assert index.fusion.dense == 0.5
    assert [entry.name for entry in disk.iterdir()] == ["i"]
