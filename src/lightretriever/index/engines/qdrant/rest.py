"""Waiting for a Qdrant server to be done with what it builds in the background."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event

from qdrant_client import models

from lightretriever.errors import ArtifactError

PATIENCE = 6 * 3600.0  # seconds
_POLL = 0.2  # seconds between two looks at the server's state


def wait_for_rest(
    where: str, state: Callable[[], models.CollectionInfo], go_on: Callable[[], object], stopped: Event
) -> None:
    """Wait until a collection is optimised, or ``stopped`` is set.

    Args:
        where: the collection's URL, for messages.
        state: how it is.
        go_on: tells the server to go on; after its start it waits for a word.
        stopped: by another thread.

    Raises:
        ArtifactError: the server cannot do it, or takes longer than `PATIENCE`.
    """
    end, rested = time.monotonic() + PATIENCE, 0
    while True:
        now = state()
        status = str(now.status)
        rested = rested + 1 if status == "green" else 0
        if rested == 2:  # it may be at rest for a moment, between a write and the work that the write calls for
            return
        if status == "red":
            said = getattr(now.optimizer_status, "error", "it does not say why")
            raise ArtifactError(f"{where}: the server cannot optimise the collection: {said}")
        if status == "grey":
            go_on()
        if time.monotonic() > end:
            raise ArtifactError(
                f"{where} is not optimised after {PATIENCE / 3600:g} hours: it goes on by itself, and searches are "
                "right meanwhile"
            )
        if stopped.wait(_POLL):
            return
