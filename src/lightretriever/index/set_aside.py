"""An index out of the way of the one that takes its place: put back if that fails, removed if it does not."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightretriever.errors import ArtifactError
from lightretriever.index.folder import load_settings


@contextmanager
def set_aside(path: Path) -> Iterator[None]:
    """Hold what is at ``path`` aside within the block; nothing need be there. Who has it open goes on with what it was.

    Raises:
        ArtifactError: it is no index of ours, or one whose documents are on a server: it stays as it was.
    """
    aside = path.with_name(f".{path.name}.replaced")
    if path.exists():
        if not load_settings(path).local:
            raise ArtifactError(f"{path} has its documents on a server, where they would stay: remove them there first")
        shutil.rmtree(aside, ignore_errors=True)  # of a killed process
        path.rename(aside)
    elif not aside.exists():  # else a process was killed before there was another in its place
        yield
        return
    try:
        yield
    except BaseException:
        if not path.exists():
            aside.rename(path)
        raise
    shutil.rmtree(aside, ignore_errors=True)
