"""Processes for tests that kill them: forked from the one that runs the tests, so they start at once."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

forks = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of forking a process with threads
]


def fork(action: Callable[[], object], seconds: int = 120) -> int:
    """Do it in a process of its own, which ends with 0 when it was done, and by itself after some time."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return child
    signal.alarm(seconds)
    status = 1
    try:
        action()
        status = 0
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)


def ended(child: int) -> int:
    """Wait for it; what it ended with, or minus the signal that it was killed with."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill(child: int) -> int:
    """Kill it; what it ended with, if it ended before."""
    os.kill(child, signal.SIGKILL)
    return ended(child)


def await_file(file: Path, child: int, seconds: float = 60) -> None:
    """Wait until a process made a file; it must not end before."""
    end = time.monotonic() + seconds
    while not file.exists():
        assert os.waitpid(child, os.WNOHANG) == (0, 0), "it ended"
        assert time.monotonic() < end
        time.sleep(0.002)


def kill_builders(path: Path) -> None:
    """Kill the processes that build an index in the background."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            line = (process / "cmdline").read_bytes().split(b"\0")
            if b"lightretriever.index.engines.local.build" in line and os.fsencode(path) in line:
                os.kill(int(process.name), signal.SIGKILL)
