"""A folder is free when the one who took it says so, whatever copies of the process there are."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from lightretriever.errors import LockedError
from lightretriever.vectors.lock import lock_folder

forks = pytest.mark.skipif(sys.platform == "win32", reason="processes are not copied there")


def test_a_folder_is_taken_once(tmp_path: Path) -> None:
    lock = lock_folder(tmp_path)
    with pytest.raises(LockedError, match="is being written to already"):
        lock_folder(tmp_path)
    lock.close()
    lock.close()
    lock_folder(tmp_path).close()


@forks
def test_a_copy_of_the_process_does_not_keep_a_folder(tmp_path: Path) -> None:
    lock = lock_folder(tmp_path)
    copy = os.dup(lock.fileno())  # as a forked process has
    lock.close()
    lock_folder(tmp_path).close()
    os.close(copy)


@forks
def test_a_copy_of_the_process_does_not_free_a_folder(tmp_path: Path) -> None:
    lock = lock_folder(tmp_path)
    child = os.fork()
    if not child:
        lock.close()
        os._exit(0)
    os.waitpid(child, 0)
    with pytest.raises(LockedError):
        lock_folder(tmp_path)
    lock.close()
