"""A lock that a process is started with is its own: nobody else gets it until it ends, whoever started it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lightretriever.errors import LockedError
from lightretriever.vectors.lock import pass_lock


@pytest.mark.skipif(sys.platform == "win32", reason="nothing is held there")
def test_a_started_process_has_the_lock_until_it_ends(tmp_path: Path) -> None:
    with pass_lock(tmp_path, "started") as held:
        process = subprocess.Popen(
            [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE, pass_fds=held
        )
    with process:
        with pytest.raises(LockedError, match="already"), pass_lock(tmp_path, "started"):
            raise AssertionError
        assert process.stdin is not None
        process.stdin.close()
        process.wait()
    with pass_lock(tmp_path, "started") as held:
        assert len(held) == 1
