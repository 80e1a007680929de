"""One process at a time in a folder; the system lets go of the lock when the process dies."""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import IO

from lightretriever.errors import LockedError

LOCK = "lock"
_HELD = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)


def lock_folder(folder: Path, name: str = LOCK) -> IO[bytes]:
    """Take the folder; it is held until the file that this gives is closed. The file, ``name``, stays.

    On a file system that knows no locks nothing is held.

    Raises:
        LockedError: it is held already, here or in another process.
    """
    file = (folder / name).open("ab")
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            file.close()
            raise LockedError(
                f"{folder} is being written to already: wait until that is done, or stop it and run again"
            ) from None
    return file
