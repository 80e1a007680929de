"""One process at a time in a folder; the system lets go of the lock when the process dies."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import IO

from lightretriever.errors import LockedError

LOCK = "lock"
_HELD = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)


class _LockFile(FileIO):
    """A file whose lock ends when this process closes it.

    The system ends it when the last copy of the descriptor is closed, and a process that was forked meanwhile, such as
    one that is about to start a program, has a copy.
    """

    def __init__(self, path: Path, mode: str) -> None:
        super().__init__(path, mode)
        self._taker = os.getpid()

    def close(self) -> None:
        if sys.platform != "win32" and not self.closed and os.getpid() == self._taker:  # not in a copy of the process
            import fcntl

            with suppress(OSError):  # where nothing was held
                fcntl.flock(self, fcntl.LOCK_UN)
        super().close()


def lock_folder(folder: Path, name: str = LOCK, shared: bool = False) -> IO[bytes]:
    """Take the folder; it is held until the file that this gives is closed. The file, ``name``, stays.

    On a file system that knows no locks nothing is held. What is held ``shared`` is so against those only who do not
    share it; Windows knows no such thing.

    Raises:
        LockedError: it is held already, here or in another process.
    """
    file = _LockFile(folder / name, "ab")
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            file.close()
            raise LockedError(
                f"{folder} is being written to already: wait until that is done, or stop it and run again"
            ) from None
    return file


@contextmanager
def pass_lock(folder: Path, name: str) -> Iterator[tuple[int, ...]]:
    """Take a lock for a process that is started in the block, which has it until it ends.

    Yields:
        The descriptors to pass to it; none on Windows, where nothing is held.

    Raises:
        LockedError: another process has it.
        OSError: the file cannot be made.
    """
    if sys.platform == "win32":
        yield ()
        return
    import fcntl

    descriptor = os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _HELD:
                raise LockedError(f"{folder} is being worked on already") from None
        yield (descriptor,)
    finally:
        os.close(descriptor)  # the system's lock stays as long as the process has its copy
