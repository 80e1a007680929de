"""New folders: what a killed process left beside an output goes with the next run, what a living one has stays."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lightretriever.scratch import new_folder

KILLED = """
import os, sys
from lightretriever.scratch import new_folder
with new_folder(sys.argv[1]) as folder:
    (folder / "half").write_text("of it")
    os._exit(9)
"""


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_the_next_run_clears_what_a_killed_one_left(tmp_path: Path) -> None:
    (tmp_path / ".results.mine").mkdir()
    for output in ("results", "results"):
        assert subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / output)]).returncode == 9
    assert len(names(tmp_path)) == 2  # the first one's went with the second
    with new_folder(tmp_path / "results") as folder:
        (folder / "whole").write_text("all of it")
    assert names(tmp_path) == [".results.mine", "results"]
    assert names(tmp_path / "results") == ["whole"]


def test_two_that_make_the_same_folder_leave_each_other_alone(tmp_path: Path) -> None:
    with new_folder(tmp_path / "results") as first, pytest.raises(RuntimeError):
        (first / "a").write_text("1")
        with new_folder(tmp_path / "results"):
            raise RuntimeError
    assert names(tmp_path) == ["results"]
    assert names(tmp_path / "results") == ["a"]
