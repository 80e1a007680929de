"""When what was written is made to survive a power cut: at every call, or every so many documents or seconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock, Timer

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
    """Counts what is not durable yet, and says when the policy has it flushed."""

    def __init__(self, policy: FlushPolicy, flush: Callable[[], None]) -> None:
        """``flush`` makes all durable; the clock calls it too."""
        self.policy = policy
        self.pending = 0
        self._flush = flush
        self.begin_again()

    def begin_again(self) -> None:
        """In a process that was just forked nothing was written, and no clock runs."""
        self.pending = 0
        self._lock = Lock()
        self._timer: Timer | None = None
        self._failed: Exception | None = None  # on the clock, where nobody could be told

    def is_due(self, documents: int, flush: bool | None = None) -> bool:
        """Whether a write of so many documents is to be durable when it returns; ``flush`` is what the caller says.

        Raises:
            What a flush on the clock failed with since.
        """
        if self._failed is not None:
            failed, self._failed = self._failed, None
            raise failed
        return flush is True or (flush is None and self.pending + documents >= self.policy.documents)

    def wrote(self, documents: int, durable: bool, clock: bool = True) -> bool:
        """Note a write. Returns whether all is durable. ``clock``: whether the policy's seconds begin."""
        with self._lock:
            self.pending = 0 if durable else self.pending + documents
            if durable and self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if self.pending and clock and self.policy.seconds is not None and self._timer is None:
                self._timer = Timer(self.policy.seconds, self._late)
                self._timer.daemon = True
                self._timer.start()
            return not self.pending

    def flush(self) -> None:
        """Make everything durable."""
        self._flush()
        self.wrote(0, durable=True)

    def _late(self) -> None:
        self._timer = None
        try:
            self.flush()
        except Exception as error:
            self._failed = error
