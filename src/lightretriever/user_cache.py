"""Where a user's machine keeps what can be made again: one folder, which may be removed at any time."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from lightretriever.errors import ArtifactError

VARIABLE = "LIGHTRETRIEVER_CACHE"


def cache_folder() -> Path:
    """The folder that the environment names with ``LIGHTRETRIEVER_CACHE``, or else the platform's place for caches.

    That is ``lightretriever`` in ``XDG_CACHE_HOME`` or ``~/.cache``; on macOS ``~/Library/Caches/lightretriever``; on
    Windows ``%LOCALAPPDATA%\\lightretriever\\Cache``. It need not exist.

    Raises:
        ArtifactError: the user has no home.
    """
    if chosen := os.environ.get(VARIABLE):
        return Path(chosen).expanduser().absolute()
    try:
        home = Path.home()
    except RuntimeError:
        raise ArtifactError(f"there is no home folder to keep a cache in: name a folder with {VARIABLE}") from None
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "lightretriever" / "Cache"
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "lightretriever"
    named = Path(os.environ.get("XDG_CACHE_HOME") or "")
    return (named if named.is_absolute() else home / ".cache") / "lightretriever"  # as the XDG specification has it
