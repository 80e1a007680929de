"""Work in the background: whoever waits for it, or ends it, learns what became of it."""

from __future__ import annotations

import threading
import time

import pytest

from lightretriever.errors import ArtifactError, UsageError
from lightretriever.index.background import Background, check_stopped
from lightretriever.index.durability import Durability, FlushPolicy


class Work:
    """Lasts until it may end, or shall stop, and fails then."""

    def __init__(self, error: Exception) -> None:
        self._error, self.may_end, self.begun = error, threading.Event(), threading.Event()

    def __call__(self, stopped: threading.Event) -> None:
        self.begun.set()
        end = time.monotonic() + 10
        while not self.may_end.wait(0.01) and time.monotonic() < end:
            check_stopped(stopped, "the index")
        raise self._error


def test_waiting_raises_whatever_the_work_failed_with() -> None:
    background, work = Background(), Work(RuntimeError("CUDA out of memory"))
    background.run("reindexing", work, wait=False)
    assert background.said == "reindexing"
    work.may_end.set()
    with pytest.raises(RuntimeError, match="CUDA out of memory"):
        background.wait()
    assert background.said == "failed reindexing: RuntimeError: CUDA out of memory"
    background.wait()  # said once
    background.run("optimising", lambda _: None, wait=True)
    assert background.said == ""


def test_who_waits_for_it_from_the_beginning_gets_it_too() -> None:
    def fail(_: threading.Event) -> None:
        raise ArtifactError("the disk is full")

    background = Background()
    with pytest.raises(ArtifactError, match=r"^the disk is full$"):
        background.run("optimising", fail, wait=True)
    assert background.said == "failed optimising: the disk is full"
    background.wait()


@pytest.mark.parametrize("wait", [False, True])
def test_one_piece_of_work_at_a_time(wait: bool) -> None:
    background, work = Background(), Work(ValueError("ended"))
    background.run("reindexing", work, wait=False)
    with pytest.raises(UsageError, match="busy reindexing: wait for that first"):
        background.run("optimising", lambda _: None, wait)
    work.may_end.set()
    with pytest.raises(ValueError, match="ended"):
        background.wait()


def test_work_that_is_stopped_has_ended_when_that_returns() -> None:
    background, work = Background(), Work(ValueError("it was not stopped"))
    background.run("optimising", work, wait=False)
    assert work.begun.wait(10)
    background.stop()
    assert background.said == "failed optimising: the index was closed before the work in the background was done"
    background.stop()
    with pytest.raises(ArtifactError, match="was closed before"):
        background.wait()


def test_work_can_be_stopped_as_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    background, beginning = Background(), threading.Event()
    work, said = Work(ValueError("it was not stopped")), []

    class Slow(threading.Thread):
        def start(self) -> None:
            beginning.set()
            time.sleep(0.1)
            super().start()

    def stop() -> None:
        beginning.wait(10)
        background.stop()
        said.append(background.said)

    stopper = threading.Thread(target=stop)
    stopper.start()
    monkeypatch.setattr("lightretriever.index.background.Thread", Slow)
    background.run("optimising", work, wait=False)
    stopper.join()
    assert len(said) == 1 and "was closed before" in said[0]


def test_the_next_write_raises_whatever_a_flush_by_the_clock_failed_with() -> None:
    failures = [RuntimeError("no such pipe")]

    def flush() -> None:
        if failures:
            raise failures.pop()

    durability = Durability(FlushPolicy(documents=9, seconds=0.01), flush)
    assert not durability.is_due(1)
    assert not durability.wrote(1, durable=False)
    end = time.monotonic() + 10
    while failures and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(0.05)
    with pytest.raises(RuntimeError, match="no such pipe"):
        durability.is_due(1)
    assert durability.pending == 1  # nothing is durable that was not
    assert not durability.is_due(1)
