"""Turns go on in the order in which they were asked for, whoever gives up waiting."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType

import pytest

from lightretriever.index.turns import Turns


def taken_within(turns: Turns, seconds: float) -> bool:
    def take() -> None:
        with turns:
            pass

    taker = threading.Thread(target=take, daemon=True)
    taker.start()
    taker.join(seconds)
    return not taker.is_alive()


@pytest.mark.skipif(sys.platform == "win32", reason="no signal can be sent to a thread there")
@pytest.mark.parametrize("turn_came", [False, True])
def test_whoever_is_interrupted_as_he_waits_leaves_the_queue(turn_came: bool) -> None:
    turns, held, leave = Turns(), threading.Event(), threading.Event()

    def hold() -> None:
        with turns:
            held.set()
            leave.wait(10)

    holder = threading.Thread(target=hold)

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        if turn_came:  # between the moment it is our turn and the moment we know
            leave.set()
            holder.join()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupt)
    alarm = threading.Timer(0.1, signal.pthread_kill, (threading.get_ident(), signal.SIGUSR1))
    try:
        holder.start()
        held.wait()
        alarm.start()
        with pytest.raises(KeyboardInterrupt), turns:
            pass
    finally:
        signal.signal(signal.SIGUSR1, before)
        leave.set()
        holder.join()
    assert taken_within(turns, 2)
    assert taken_within(turns, 2)
