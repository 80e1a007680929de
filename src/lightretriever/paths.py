"""A user's path, made absolute where it comes in: it means the same when the working directory changes."""

from __future__ import annotations

import os
from pathlib import Path

from lightretriever.errors import UsageError


def absolute(path: str | os.PathLike[str]) -> Path:
    """The place that a path means now. ``~`` is the user's home; ``..`` and links stay, for the system to follow.

    Raises:
        UsageError: it is empty or no path; or it is relative, and the working directory is gone.
    """
    given = os.fspath(path) if isinstance(path, str | os.PathLike) else path
    if not isinstance(given, str) or not given or "\0" in given:
        raise UsageError(f"the path is {given!r}: give that of a file or folder")
    try:
        return Path(os.path.expanduser(given)).absolute()  # noqa: PTH111 (it leaves a user that there is not as it is)
    except FileNotFoundError:
        raise UsageError(f"{given} is relative, and the working directory is gone: give an absolute path") from None
