"""An index in one file, taken while it serves: a tar of its folder, compressed by Zstandard, with checksums inside.

Writers wait while the engine's files are copied, searches do not; compressing goes on beside both. The graph is in it,
so a restored index answers exactly as this one did.
"""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import zstandard

from lightretriever.artifact import new_file, new_folder
from lightretriever.errors import ArtifactError
from lightretriever.index.blocks import copy_file, copy_stream
from lightretriever.index.checksums import FILE, check_files, note_closed
from lightretriever.index.edge import RESERVE, check_room
from lightretriever.index.manifest import IndexManifest
from lightretriever.index.state import State

_LEVEL = 1  # vectors hardly compress; it is for texts and for what the engine leaves empty


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
    output.parent.mkdir(parents=True, exist_ok=True)
    copy = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    try:
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
        compressor = zstandard.ZstdCompressor(_LEVEL, threads=-1)
        with (
            new_file(output) as temporary,
            temporary.open("wb") as stream,
            compressor.stream_writer(stream, closefd=False) as packed,
            tarfile.open(fileobj=packed, mode="w|") as archive,
        ):
            for name in (FILE, *sorted(entry.name for entry in copy.iterdir() if entry.name != FILE)):
                archive.add(copy / name, name)
    finally:
        shutil.rmtree(copy, ignore_errors=True)
    return Snapshot(documents, output.stat().st_size, waited)


def restore_snapshot(file: Path, output: Path) -> IndexManifest:
    """Make an index of a snapshot.

    Args:
        file: what `Index.snapshot` wrote.
        output: a folder that does not exist.

    Returns:
        The index's manifest.

    Raises:
        ArtifactError: the file is no snapshot, damaged, or from a newer version; ``output`` exists; the disk is full.
    """
    if not file.is_file():
        raise ArtifactError(f"{file} does not exist, or is no file")
    with new_folder(output) as folder:
        try:
            with (
                file.open("rb") as stream,
                zstandard.ZstdDecompressor().stream_reader(stream) as unpacked,
                tarfile.open(fileobj=unpacked, mode="r|") as archive,
            ):
                for entry in archive:
                    _extract(archive, entry, folder)
        except (tarfile.TarError, zstandard.ZstdError, EOFError) as error:
            raise ArtifactError(f"{file} is damaged, or no snapshot ({error}): take another") from None
        except OSError as error:
            raise ArtifactError(f"{output} cannot be written ({error.strerror}): make room and run again") from None
        if not (folder / FILE).is_file():
            raise ArtifactError(f"{file} is no snapshot of an index, or not all of one: take another")
        manifest = IndexManifest.load(folder)
        check_files(folder)
    return manifest


def _copy_part(source: Path, target: Path) -> None:
    if source.is_file():
        copy_file(source, target)
    elif source.is_dir():
        for folder, _, names in os.walk(source):
            place = target / Path(folder).relative_to(source)
            place.mkdir()
            for name in names:
                copy_file(Path(folder, name), place / name)


def _extract(archive: tarfile.TarFile, entry: tarfile.TarInfo, folder: Path) -> None:
    """Plain files and folders below ``folder``, and nothing else that a tar can hold."""
    parts = Path(entry.name).parts
    if entry.name.startswith(("/", "\\")) or ".." in parts or not (entry.isdir() or entry.isfile()):
        raise ArtifactError(f"a snapshot cannot hold {entry.name!r}: this is none")
    if entry.isdir():
        (folder / entry.name).mkdir(parents=True, exist_ok=True)
        return
    content = archive.extractfile(entry)
    assert content is not None
    check_room(folder, RESERVE)  # it may be mostly holes; what does not fit is said as it is written
    copy_stream(content, folder / entry.name, entry.size)
