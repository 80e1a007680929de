"""The index that is at a path now: one that took another's place is opened, one that went is missed and awaited."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lightretriever.errors import ArtifactError
from lightretriever.paths import absolute
from lightretriever.serving.http.errors import Refused
from lightretriever.serving.served import DATABASE, Served
from lightretriever.serving.settings import ServeOptions

if TYPE_CHECKING:
    from lightretriever.index.index import Index

Identity = tuple[int, int]


class Followed:
    """An index by its path; threads may share it.

    What is committed to an index its readers find by themselves. But one that was removed, or made anew, they have open
    as it was. Its database then has another inode, which takes microseconds to see; and as long as the old one is open,
    no other file gets its number.

    Args:
        options: what to open, when it is first used.

    Raises:
        ArtifactError: there is no index.
    """

    def __init__(self, options: ServeOptions) -> None:
        self.name = absolute(options.path).stem
        self._options = options
        self._database = options.path / DATABASE
        self._lock = threading.Lock()
        self._served: Served | None = None
        self._opened: Identity | None = None
        if _identity(self._database) is None:
            raise ArtifactError(f"{options.path} is no index: make one by lightretriever index SOURCE -o INDEX")

    @contextmanager
    def use(self) -> Iterator[Index]:
        """The index, which stays open until the block ends.

        Raises:
            Refused: it is not there now (503).
            LightRetrieverError: it cannot be opened; the next use tries again.
        """
        with self._now().use() as opened:
            yield opened.needs_index()

    def _now(self) -> Served:
        with self._lock:
            there = _identity(self._database)  # before it is opened: if it is replaced meanwhile, the next use sees it
            if there is None:
                raise Refused(503, f"the index {self.name!r} was moved or removed: ask again when it is back")
            if self._served is None:
                self._served = Served(self._options)
            elif there != self._opened:
                self._served.reload()
            self._opened = there
            return self._served

    def close(self) -> None:
        """Let go of it."""
        with self._lock:
            if self._served is not None:
                self._served.close()


def _identity(file: Path) -> Identity | None:
    """Which file it is; None where there is none."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
