"""How work that takes a while tells how far it is."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int | None], None]
"""Called with how much is done, and of how much where that is known."""
Report = Callable[[str], Progress]
"""Called when a phase begins, with its name; gives what to tell its progress to."""


def silent(done: int, total: int | None) -> None:
    """Progress that nobody asked for."""
