"""An index out of the way of the one that takes its place: put back if that fails, removed if it does not."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightretriever.errors import ArtifactError
from lightretriever.index.folder import own_folder
from lightretriever.index.manifest import IndexManifest
from lightretriever.index.qdrant_url import is_address


@contextmanager
def set_aside(path: Path) -> Iterator[None]:
    """Hold what is at ``path`` aside within the block; nothing need be there.

    Raises:
        ArtifactError: it is no index of ours, or one whose documents are on a server: it stays as it was.
        LockedError: a process has it open.
    """
    if not path.exists():
        yield
        return
    if is_address(IndexManifest.load(path).engine):
        raise ArtifactError(f"{path} has its documents on a server, where they would stay: remove them there first")
    own_folder(path).close()  # nobody has it; Windows moves no folder with an open file in it
    aside = path.with_name(f".{path.name}.replaced")
    shutil.rmtree(aside, ignore_errors=True)  # of a killed process
    path.rename(aside)
    try:
        yield
    except BaseException:
        if not path.exists():
            aside.rename(path)
        raise
    shutil.rmtree(aside, ignore_errors=True)
