"""Work in the background: whoever waits for it, or ends it, learns what became of it."""

from __future__ import annotations

import threading
import time

import pytest

from lightretriever.index.background import Background
from lightretriever.index.durability import Durability, FlushPolicy


class Work:
    """Stands where a Rebuild would: lasts until it is stopped, then fails."""

    def __init__(self, error: Exception) -> None:
        self._error, self._stopped = error, threading.Event()

    def run(self) -> None:
        assert self._stopped.wait(10)
        raise self._error

    def stop(self) -> None:
        self._stopped.set()


def test_waiting_raises_whatever_the_work_failed_with() -> None:
    background, work = Background(), Work(RuntimeError("CUDA out of memory"))
    background.run("reindexing", work, wait=False)  # type: ignore[arg-type]
    work.stop()
    with pytest.raises(RuntimeError, match="CUDA out of memory"):
        background.wait()
    assert background.said == "failed reindexing: RuntimeError: CUDA out of memory"
    background.wait()  # said once


def test_the_next_write_raises_whatever_a_flush_by_the_clock_failed_with() -> None:
    failures = [RuntimeError("no such pipe")]

    def flush() -> None:
        if failures:
            raise failures.pop()

    durability = Durability(FlushPolicy(documents=9, seconds=0.01), flush, threading.RLock())
    assert not durability.wrote(1)
    end = time.monotonic() + 10
    while failures and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(0.05)
    with pytest.raises(RuntimeError, match="no such pipe"):
        durability.wrote(1)


def test_work_can_be_stopped_as_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    background, beginning = Background(), threading.Event()
    work, stopped = Work(ValueError("stopped")), []

    class Slow(threading.Thread):
        def start(self) -> None:
            beginning.set()
            time.sleep(0.1)
            super().start()

    def stop() -> None:
        beginning.wait(10)
        background.stop()
        stopped.append(background.running)

    stopper = threading.Thread(target=stop)
    stopper.start()
    monkeypatch.setattr("lightretriever.index.background.Thread", Slow)
    background.run("optimising", work, wait=False)  # type: ignore[arg-type]
    stopper.join()
    assert stopped == [False]
