"""Folders beside an output, in which it is made: what a killed process left in one is removed by the next.

A folder is held by a lock as long as its process lives, so what nobody holds is nobody's.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lightretriever.artifact import fsync_folder, fsync_path, writing
from lightretriever.errors import ArtifactError, LockedError
from lightretriever.paths import absolute
from lightretriever.vectors.lock import LOCK, lock_folder

_SUFFIX = ".part"
_YOUNG = 60.0  # seconds; a folder's process may be about to lock it


@contextmanager
def scratch_folder(output: Path) -> Iterator[Path]:
    """A new folder beside ``output``, on the same disk, that is gone when the block ends; first those are removed that
    killed processes left there for the same output.

    Raises:
        ArtifactError: it cannot be made.
    """
    with writing(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{output.name}.", suffix=_SUFFIX, dir=output.parent))
        held = lock_folder(folder)
    try:
        if _is_locked(folder):  # on a file system that knows no locks nobody can tell whose a folder is
            _remove_abandoned(output)
        yield folder
    finally:
        held.close()  # before it is removed: Windows keeps what is open
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """A temporary folder that becomes ``path`` when the block ends well, every file of it flushed to the disk, and
    vanishes when it does not; what a killed process left of the same ``path`` vanishes first.

    Raises:
        ArtifactError: ``path`` exists, or cannot be written.
    """
    target = absolute(path)
    with writing(target):
        if target.exists():
            raise ArtifactError(f"{target} exists already: remove it or choose another output")
    with scratch_folder(target) as scratch, writing(target):
        temporary = scratch / "new"
        temporary.mkdir()  # not the scratch folder itself, which is private: it is as open as any new folder
        yield temporary
        fsync_folder(temporary)
        temporary.rename(target)
        fsync_path(target.parent)


def _is_locked(folder: Path) -> bool:
    try:
        lock_folder(folder).close()
    except LockedError:
        return True
    return False


def _remove_abandoned(output: Path) -> None:
    ours = re.compile(rf"\.{re.escape(output.name)}\.[a-z0-9_]{{8}}{re.escape(_SUFFIX)}")
    for place in output.parent.iterdir():
        if not ours.fullmatch(place.name) or place.is_symlink() or not place.is_dir():
            continue
        with suppress(OSError):
            if (place / LOCK).is_file():
                abandoned = not _is_locked(place)
            else:
                abandoned = time.time() - place.stat().st_mtime > _YOUNG
            if abandoned:
                shutil.rmtree(place, ignore_errors=True)
