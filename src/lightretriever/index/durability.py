"""When what was written is flushed: at every call, or every so many documents or seconds."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from threading import Timer

from lightretriever.errors import UsageError


@dataclass(frozen=True, slots=True)
class FlushPolicy:
    """How much a power cut may cost. The death of the process alone costs nothing, whatever the policy.

    Attributes:
        documents: flush when so many were written since the last flush; 1 is at every call.
        seconds: flush so long after the first unflushed write at the latest; None is whenever ``documents`` says.

    Raises:
        UsageError: neither positive.
    """

    documents: int = 1
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.documents < 1 or (self.seconds is not None and not self.seconds > 0):
            raise UsageError(f"{self}: flush at least every 1 document, and after more than 0 seconds")


class Durability:
    """Counts what is not durable yet, and flushes when the policy says. One writer at a time calls it."""

    def __init__(self, policy: FlushPolicy, flush: Callable[[], None], writing: AbstractContextManager[object]) -> None:
        """``flush`` makes all durable; ``writing`` is what a writer holds, and the clock when it flushes."""
        self.policy = policy
        self.pending = 0
        self._flush, self._writing = flush, writing
        self._timer: Timer | None = None
        self._failed: Exception | None = None  # on the clock, where nobody could be told

    def wrote(self, documents: int, flush: bool | None = None) -> bool:
        """Note a write, and flush if it is time, or if told to; False tells not to. Returns whether all is durable."""
        if self._failed is not None:
            failed, self._failed = self._failed, None
            raise failed
        self.pending += documents
        if not self.pending:
            return True
        if flush or (flush is None and self.pending >= self.policy.documents):
            self.flush()
        elif flush is None and self.policy.seconds is not None and self._timer is None:
            self._timer = Timer(self.policy.seconds, self._late)
            self._timer.daemon = True
            self._timer.start()
        return not self.pending

    def flush(self) -> None:
        """Make everything durable."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._flush()
        self.pending = 0

    def _late(self) -> None:
        with self._writing:
            if self._timer is None:
                return  # somebody flushed since
            try:
                self.flush()
            except Exception as error:
                self._failed = error
