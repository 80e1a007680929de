"""How many requests a second one caller may send: a bucket that fills as time goes by."""

from __future__ import annotations

from time import monotonic

_MOST = 10_000  # callers that are remembered


class Rate:
    """Of every caller by name.

    Args:
        per_second: how fast a bucket fills; it holds as much as comes in a second, at least one. 0: nobody is limited.
    """

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._room = max(per_second, 1.0)
        self._buckets: dict[str, tuple[float, float]] = {}

    def wait(self, caller: str, now: float | None = None) -> float:
        """Take one from a caller's bucket. Returns how many seconds it has to wait; 0 where it need not.

        Args:
            caller: its key's name, or its address.
            now: in seconds, of a clock that goes on.
        """
        if not self._per_second:
            return 0.0
        now = monotonic() if now is None else now
        held, at = self._buckets.pop(caller, (self._room, now))
        held = min(self._room, held + (now - at) * self._per_second)
        enough = held >= 1
        self._buckets[caller] = (held - 1 if enough else held, now)  # the last asked stands last
        if len(self._buckets) > _MOST:
            del self._buckets[next(iter(self._buckets))]
        return 0.0 if enough else (1 - held) / self._per_second
