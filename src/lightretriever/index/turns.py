"""A lock that is handed over in the order in which it was asked for.

``threading.Lock`` lets a thread that stores documents in a loop take it again and again while a search waits; here
the search is next.
"""

from __future__ import annotations

from collections import deque
from threading import Lock
from types import TracebackType


class Turns:
    """Use it in a ``with`` block; not re-entrant."""

    def __init__(self) -> None:
        self._mutex = Lock()
        self._taken = False
        self._waiting: deque[Lock] = deque()

    def __enter__(self) -> None:
        with self._mutex:
            if not self._taken:
                self._taken = True
                return
            turn = Lock()
            turn.acquire()
            self._waiting.append(turn)
        try:
            turn.acquire()  # until the one before lets go
        except BaseException:  # Ctrl-C: nobody may wait for one who is gone
            with self._mutex:
                if turn in self._waiting:
                    self._waiting.remove(turn)
                else:  # it was our turn already
                    self._hand_over()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._mutex:
            self._hand_over()

    def _hand_over(self) -> None:
        if self._waiting:
            self._waiting.popleft().release()
        else:
            self._taken = False
