"""The process that opened an engine: one forked from it has mere copies of its locks, pipes and connections."""

from __future__ import annotations

import os

from lightretriever.errors import LockedError


def check_owner(where: object, process: int) -> None:
    """Check that this is the process that opened an index or engine.

    Raises:
        LockedError: it was forked from that one.
    """
    if os.getpid() != process:
        raise LockedError(
            f"{where} was opened in process {process}, from which this one was forked: open it again after the fork, "
            "once that process has closed it"
        )
