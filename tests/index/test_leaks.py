"""Searching, writing and opening for long takes no more memory and no more files than doing so a little."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from index.conftest import fill
from index.ledger import put, remove

from lightretriever import Index

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux tells of a process")
MEGABYTE = 1 << 20


def memory() -> int:
    """Anonymous memory of this process, in bytes."""
    gc.collect()
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon")]
    return int(line.split()[1]) << 10


def files() -> list[str]:
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found.append(str(entry.readlink()))
        except FileNotFoundError:  # that of the listing itself
            continue
    return found


def mapped(path: Path) -> set[str]:
    lines = Path("/proc/self/maps").read_text().splitlines()
    return {line.split(None, 5)[5] for line in lines if str(path) in line}


def grows(action: Callable[[], object], times: int) -> int:
    """Bytes by which the second half of many calls grows memory, and no file more is open after it."""
    for _ in range(times // 2):
        action()
    before, opened = memory(), len(files())
    for _ in range(times // 2):
        action()
    assert len(files()) <= opened
    return memory() - before


@pytest.mark.parametrize("times", [10_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_searches(tmp_path: Path, times: int) -> None:
    with fill(tmp_path / "i", 60)[0] as index:
        index.optimise()
        put(index, [(number, 0) for number in range(1_000, 1_020)])
        number = iter(range(times))

        def search() -> None:
            turn = next(number)
            where = {"group": turn % 500} if turn % 40 == 0 else None
            index.search(f"w{turn % 38:02d} w{turn % 7:02d}", 5, filter=where)

        assert grows(search, times) < 6 * MEGABYTE


@pytest.mark.parametrize("times", [200, pytest.param(1_000, marks=pytest.mark.slow)])
def test_openings(tmp_path: Path, times: int) -> None:
    with fill(tmp_path / "i", 60)[0] as index:
        index.optimise()

    def open_it() -> None:
        with Index.open(tmp_path / "i") as index:
            assert index.search("w01 w02", 1)

    assert grows(open_it, times) < 6 * MEGABYTE
    assert not [name for name in files() if str(tmp_path) in name]


@pytest.mark.parametrize("times", [40, pytest.param(400, marks=pytest.mark.slow)])
def test_old_segments_go(tmp_path: Path, times: int) -> None:
    """Files and mappings of a segment go with the one that takes its place, in the builder and in other readers."""
    with fill(tmp_path / "i", 60)[0] as index, Index.open(tmp_path / "i") as reader:

        def build() -> None:
            put(index, [(number, 0) for number in range(5)])
            remove(index, [(3, 0)])
            index.optimise()
            assert index.search("w01 w02", 1) == reader.search("w01 w02", 1)

        assert grows(build, times) < 6 * MEGABYTE
        gc.collect()
        (folder,) = [entry for entry in (tmp_path / "i" / "segments").iterdir() if entry.is_dir()]
        arrays = {name for name in mapped(tmp_path / "i") if name.partition(" (")[0].endswith(".bin")}
        assert arrays
        assert all(str(folder) in name and "(deleted)" not in name for name in arrays)
        assert not [name for name in files() if "(deleted)" in name and str(tmp_path) in name]


def test_a_log_is_not_kept_growing(tmp_path: Path) -> None:
    """A reader that is open, and searches, does not keep what was written in the log."""
    with fill(tmp_path / "i", 60)[0] as index, Index.open(tmp_path / "i") as reader:
        sizes = []
        for turn in range(300):
            put(index, [(number, turn) for number in range(8)])
            reader.search("w01 w02", 1)
            sizes.append(os.stat(tmp_path / "i" / "index.db-wal").st_size)  # noqa: PTH116
        assert max(sizes) < 40 * MEGABYTE
        assert sizes[-1] == max(sizes[:150]) or sizes[-1] < 24 * MEGABYTE
