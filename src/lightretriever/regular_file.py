"""Files that a folder names, opened only where they are files, and no longer than what they should be.

A pipe or a device in a file's place would be waited for, or read, for ever.
"""

from __future__ import annotations

import errno
import stat
from pathlib import Path


def file_size(path: str | Path, longest: int | None = None) -> int:
    """Bytes of a file.

    Args:
        path: the file; links are followed.
        longest: how many bytes it may have; None for any number.

    Raises:
        OSError: it is absent, no regular file, or too long; ``strerror`` says which.
    """
    status = Path(path).stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is no file", str(path))
    if longest is not None and status.st_size > longest:
        raise OSError(errno.EFBIG, f"it is longer than {longest >> 20} MB", str(path))
    return status.st_size


def read_file(path: str | Path, longest: int) -> bytes:
    """All bytes of a file of at most ``longest``. Raises OSError as `file_size`, or when it cannot be read."""
    size = file_size(path, longest)
    with Path(path).open("rb") as file:
        return file.read(size)  # not all that it may be: a buffer of that size would be made
