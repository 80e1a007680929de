"""An index in one file, taken while it serves: a tar of its folder, compressed by Zstandard, with checksums inside.

Writers wait while the engine's files are copied, searches do not; compressing goes on beside both. The graph is in it,
so a restored index answers exactly as this one did.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from lightretriever.artifact import MANIFEST, fsync_path, writing
from lightretriever.errors import ArtifactError
from lightretriever.index.archive import read_archive, write_archive
from lightretriever.index.blocks import copy_file
from lightretriever.index.checksums import FILE, check_files, note_closed
from lightretriever.index.edge import RESERVE, check_room
from lightretriever.index.manifest import IndexManifest
from lightretriever.index.state import State
from lightretriever.scratch import scratch_folder


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What taking one came to.

    Attributes:
        documents: how many are in it.
        bytes: the file's size.
        waited: seconds that writers waited, while files were copied.
    """

    documents: int
    bytes: int
    waited: float


def take_snapshot(state: State, output: Path) -> Snapshot:
    """Write an index to one file; see `Index.snapshot`."""
    if output.exists():
        raise ArtifactError(f"{output} exists already: remove it or choose another output")
    if state.current.manifest.engine != "edge":
        raise ArtifactError(f"{state.path} is held by {state.current.manifest.engine}: take a snapshot there")
    with scratch_folder(output) as scratch, writing(output):
        copy, packed = scratch / "copy", scratch / "packed"
        copy.mkdir()
        start = time.perf_counter()
        with state.writing:
            state.durability.flush()
            current = state.current
            documents = current.backend.count()
            manifest = replace(current.manifest, successor=None, documents=documents)
            sizes = (file.stat() for part in manifest.parts for file in (state.path / part).rglob("*"))
            check_room(copy, RESERVE + 2 * sum(getattr(size, "st_blocks", size.st_size // 512) * 512 for size in sizes))
            for part in manifest.parts:
                _copy_part(state.path / part, copy / part)
        waited = time.perf_counter() - start
        manifest.save(copy)
        note_closed(copy, manifest.parts)
        others = {file.relative_to(copy).as_posix() for file in copy.rglob("*") if file.is_file()} - {MANIFEST, FILE}
        write_archive(copy, [MANIFEST, FILE, *sorted(others)], packed)
        fsync_path(packed)
        packed.replace(output)
        fsync_path(output.parent)
    return Snapshot(documents, output.stat().st_size, waited)


def restore_snapshot(file: Path, output: Path) -> IndexManifest:
    """Make an index of a snapshot.

    Args:
        file: what `Index.snapshot` wrote.
        output: a folder that does not exist.

    Returns:
        The index's manifest.

    Raises:
        ArtifactError: the file is no snapshot of an embedded index, damaged, or from a newer version; it holds more
            than it declares, or than `Index.snapshot` writes; ``output`` exists; the disk is full.
    """
    if not file.is_file():
        raise ArtifactError(f"{file} does not exist, or is no file")
    if output.exists():
        raise ArtifactError(f"{output} exists already: remove it or choose another output")
    with scratch_folder(output) as scratch, writing(output):
        folder = scratch / "index"
        folder.mkdir()
        paths = read_archive(file, folder, RESERVE)
        if paths[:2] != [MANIFEST, FILE]:
            raise ArtifactError(f"{file} is no snapshot of an index: take another")
        with _saying(file, folder):
            manifest = IndexManifest.load(folder)
        if manifest.engine != "edge":
            raise ArtifactError(f"{file} is of an index on a server ({manifest.engine}): a snapshot holds all of one")
        stray = {path.partition("/")[0] for path in paths[2:]} - set(manifest.parts)
        if stray:
            raise ArtifactError(f"{file} holds {min(stray)!r}, which is no part of its index: take another")
        with _saying(file, folder):
            check_files(folder)
        for entry in folder.rglob("*"):
            fsync_path(entry)
        fsync_path(folder)
        folder.rename(output)
        fsync_path(output.parent)
    return manifest


@contextmanager
def _saying(file: Path, folder: Path) -> Iterator[None]:
    """Name the snapshot in what is said of its files: the folder they are in is gone when it is read."""
    try:
        yield
    except ArtifactError as error:
        reason = str(error).replace(f"{folder}{os.sep}", "").replace(str(folder), "it").rpartition(": ")[0]
        raise ArtifactError(f"{file} is damaged, or no snapshot ({reason or error}): take another") from None


def _copy_part(source: Path, target: Path) -> None:
    if source.is_file():
        copy_file(source, target)
    elif source.is_dir():
        for folder, _, names in os.walk(source):
            place = target / Path(folder).relative_to(source)
            place.mkdir()
            for name in names:
                copy_file(Path(folder, name), place / name)
