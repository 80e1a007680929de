"""Where results go, checked before the work that makes them."""

from __future__ import annotations

import os
from pathlib import Path

from lightretriever.cli.console import refuse_existing
from lightretriever.errors import ArtifactError


def check_file(path: Path) -> None:
    """Whether a file can be written there; one that is there is replaced.

    Raises:
        ArtifactError: it is a folder, or see `check_place`.
    """
    if path.is_dir():
        raise ArtifactError(f"{path} is a folder: name a file to write")
    check_place(path)


def check_folder(path: Path) -> None:
    """Whether a new folder can be made there.

    Raises:
        ArtifactError: there is something already, or see `check_place`.
    """
    refuse_existing(path)
    check_place(path)


def check_place(path: Path) -> None:
    """Whether something can be made at a path, its folder too if need be.

    Raises:
        ArtifactError: what is there of the path is no folder, or no folder that may be written to.
    """
    place = path.absolute().parent
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise ArtifactError(f"{path}: {place} is no folder: choose another output")
    if not os.access(place, os.W_OK | os.X_OK):
        raise ArtifactError(f"{path}: the folder {place} cannot be written to: choose another output")
