"""Checksums of an index's files, so that what a disk, a copy or a hand changed is named and never served.

They are taken when an index is closed, and checked when it is opened. Where the process that had it was killed, only
the files are checked that nothing writes to once they are made: vectors, graphs, posting lists, tables. The engine
brings the others up to date from its log, whose entries have checksums of their own. The log itself is left out: when
the index was closed, it held nothing that the other files lack.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lightretriever.artifact import MANIFEST, read_json, write_json
from lightretriever.checked import COUNT, flag, inner_path, items, mapping, read_fields, whole
from lightretriever.errors import ArtifactError
from lightretriever.index.blocks import data_blocks
from lightretriever.vectors.lock import LOCK

FILE = "checksums.json"
_UNCHECKED = {"wal"}  # folders
_LASTING = {"matrix.dat", "quantized.data", "graph.bin", "links_compressed.bin", "inverted_index.dat"}
"""The engine's files that are never written to again."""
_FIELDS = {"closed": flag, "files": mapping(items(whole(-COUNT), 3), inner_path, 100_000)}


def check_files(path: Path) -> None:
    """Compare an index's files with what was noted when it was closed.

    Raises:
        ArtifactError: one is absent, or not what it was; it is named.
    """
    if not (path / FILE).exists():
        return  # made just now, or by a process that was killed before it had closed it once
    noted = _read(path)
    for name, (size, _, sum_of) in noted["files"].items():
        file = path / name
        if not noted["closed"] and not (_lasting(name) and file.exists()):
            continue
        if not file.exists():
            raise ArtifactError(f"{file} is gone: restore the index from a snapshot, or make it again")
        try:
            same = file.stat().st_size == size and checksum(file) == sum_of
        except OSError as error:
            raise ArtifactError(f"{file} cannot be read ({error.strerror}): see to the disk") from None
        if not same:
            raise ArtifactError(
                f"{file} is damaged (it is not what it was when the index was closed): restore the index from a "
                "snapshot, or make it again"
            )


def _read(path: Path) -> dict[str, Any]:
    """What was noted. Raises ArtifactError when it is not what `note_closed` notes."""
    way_out = "remove it to open the index unchecked, or restore a snapshot"
    found = read_fields(read_json(path / FILE), _FIELDS, path / FILE, way_out)
    if any(len(noted) != 3 for noted in found["files"].values()):
        raise ArtifactError(f"{path / FILE} is damaged: {way_out}")
    return found


def note_open(path: Path) -> None:
    """Say that files may change from here on."""
    if (path / FILE).exists():
        write_json(path / FILE, {**_read(path), "closed": False})


def note_closed(path: Path, parts: Sequence[str]) -> None:
    """Take the checksums of all files of an index's parts, and of its manifest; of those that last they are known."""
    files = _read(path)["files"] if (path / FILE).exists() else {}
    taken = {}
    for file in part_files(path, (*parts, MANIFEST)):
        name, status = file.relative_to(path).as_posix(), file.stat()
        known = files.get(name)
        if known and _lasting(name) and known[:2] == [status.st_size, status.st_mtime_ns]:
            taken[name] = known
        else:
            taken[name] = [status.st_size, status.st_mtime_ns, checksum(file)]
    write_json(path / FILE, {"closed": True, "files": taken})


def _lasting(name: str) -> bool:
    return name.startswith(("table", "bm25")) or name.rpartition("/")[2] in _LASTING


def part_files(path: Path, parts: Sequence[str]) -> Iterator[Path]:
    """The files whose content matters after the index was closed, in a fixed order."""
    for part in parts:
        if (path / part).is_dir():
            for folder, folders, names in os.walk(path / part):
                folders[:] = sorted(set(folders) - _UNCHECKED)
                yield from (Path(folder, name) for name in sorted(set(names) - {LOCK}))
        elif (path / part).exists():
            yield path / part


def checksum(file: Path) -> int:
    """CRC-32 of a file's blocks that are not all zero, each with its position: a copy that fills the holes of the
    engine's files has the same."""
    total = 0
    for position, block in data_blocks(file):
        total = zlib.crc32(block, zlib.crc32(position.to_bytes(8, "little"), total))
    return total
