"""The index's folder: made whole or not at all, opened only when all in it belongs together, by one owner.

A part that is replaced (table, shard, statistics) is written beside the old one under a name of its own; saving the
manifest is what makes it the index's. Parts that no manifest names are what an interrupted replacement left behind.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING

from lightretriever.artifact import fsync_path
from lightretriever.errors import ArtifactError, LockedError, MissingExtraError, UsageError
from lightretriever.index.backend import Backend
from lightretriever.index.edge import RESERVE, EdgeBackend, check_room
from lightretriever.index.manifest import PARTS, SPARSE_KINDS, IndexManifest
from lightretriever.index.qdrant_url import check_engine, is_address, parse_address
from lightretriever.index.remote import RemoteBackend
from lightretriever.query.table import TokenTable
from lightretriever.scratch import new_folder
from lightretriever.vectors.lock import lock_folder

if TYPE_CHECKING:
    from lightretriever.index.qdrant_server import QdrantServer

OWNER = "owner"
STARTING = 5.0  # seconds; a killed process's lock lasts until the program that it was about to start begins
ORPHAN = 30.0  # seconds; the index is ours, and the process that held its engine for a killed one is about to end
_PART = re.compile(r"\.?(table|shard|bm25)(-\d+)?(\..*)?|\.(manifest|checksums|migration)\.json\..*")


def create_folder(path: Path, table: TokenTable, manifest: IndexManifest) -> None:
    """Write an empty index.

    Raises:
        UsageError: an unknown kind of sparse side, or an engine that there is not.
        ArtifactError: ``path`` exists, the disk is full, or the engine failed or cannot be reached.
        MissingExtraError: the engine is a server, and `qdrant-client` is not installed.
    """
    check_engine(manifest.engine)
    if manifest.sparse not in SPARSE_KINDS:
        raise UsageError(f"sparse is {manifest.sparse!r}: choose one of {', '.join(SPARSE_KINDS)}")
    if path.exists():
        raise ArtifactError(f"{path} exists already: open it, remove it, or choose another output")
    with new_folder(path) as folder:
        check_room(folder, RESERVE)
        table.save(folder / manifest.table)
        if is_address(manifest.engine):
            backend = _server(manifest).create(manifest.dim, manifest.sparse != "none", manifest.binding())
            manifest = replace(manifest, shard=backend.collection)
            backend.close()
        else:
            create_engine(folder, manifest).close()
        manifest.save(folder)


def check_entries(path: Path) -> None:
    """Check that an index's folder holds files and folders of its own only.

    Raises:
        ArtifactError: there is a link in it, which may lead anywhere, or what is neither file nor folder.
    """
    try:
        for entry in _entries(path):
            if entry.is_symlink() or not (entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False)):
                raise ArtifactError(
                    f"{entry.path} is a link, or neither file nor folder: an index holds its own files only; put what "
                    "it stands for in its place"
                )
    except OSError as error:
        raise ArtifactError(f"{error.filename or path} cannot be read ({error.strerror})") from None


def _entries(path: str | Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(path) as entries:
        for entry in entries:
            yield entry
            if entry.is_dir(follow_symlinks=False):
                yield from _entries(entry.path)


def own_folder(path: Path) -> IO[bytes]:
    """Take the index for this process, until the file that this gives is closed.

    Raises:
        LockedError: another process has it, or this one; the message names it.
        ArtifactError: the folder is read-only.
    """
    until = time.monotonic() + STARTING
    while True:
        try:
            owned = lock_folder(path, OWNER)
            break
        except LockedError:
            pid = _owner(path)
            if _lives(pid):
                process = {None: "another process", os.getpid(): "this process"}.get(pid, f"process {pid}")
                raise LockedError(f"{path} is open already in {process}: close it there first") from None
            if time.monotonic() > until:
                raise LockedError(
                    f"{path} is open still in a process that was forked from process {pid}, which is gone: end that "
                    f"one, which `lsof {path / OWNER}` names"
                ) from None
        except OSError as error:
            raise ArtifactError(
                f"{path} cannot be written to ({error.strerror}): the engine writes also where it is only searched, "
                "so copy the index to a place that can be"
            ) from None
        time.sleep(0.01)
    try:
        owned.truncate(0)
        owned.write(f"{os.getpid()}\n".encode("ascii"))
        owned.flush()
    except OSError as error:  # the disk is full: it says who has the index, which the lock decides
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            owned.close()
            raise ArtifactError(f"{path / OWNER} cannot be written ({error.strerror}): see to the disk") from None
    return owned


def open_table(path: Path, manifest: IndexManifest) -> TokenTable:
    """The index's own table, checked against its manifest.

    Raises:
        ArtifactError: it is absent or damaged.
        MismatchError: it is not the index's; both are named.
    """
    table = TokenTable.load(path / manifest.table)
    manifest.check_table(table, f"the table in {path / manifest.table}")
    return table


def create_engine(path: Path, manifest: IndexManifest, live: bool = False, niceness: int = 0) -> Backend:
    """An empty engine for what the manifest says, in ``manifest.shard``; ``live``: in a process of its own.

    Raises:
        ArtifactError: the disk is full, or the engine cannot be made.
    """
    shard, sparse = path / manifest.shard, manifest.sparse != "none"
    if is_address(manifest.engine):
        return _server(manifest).make(manifest.shard, manifest.dim, sparse, manifest.binding())
    if live:
        return RemoteBackend.create(shard, manifest.dim, sparse, niceness)
    return EdgeBackend.create(shard, manifest.dim, sparse)


def open_engine(path: Path, manifest: IndexManifest, live: bool = False) -> Backend:
    """The engine that holds the index; ``live``: in a process of its own.

    Raises:
        ArtifactError: it is absent or damaged, one that is not known here, or a server that cannot be reached.
        LockedError: another process has it still. Nobody has what a server holds to himself.
        MismatchError: a server's collection belongs to another table or model; what differs is named.
    """
    if is_address(manifest.engine):
        return _server(manifest).open(manifest.binding(), manifest.shard)
    if manifest.engine != "edge":
        raise ArtifactError(
            f"{path} is held by the engine {manifest.engine!r}, which this lightretriever does not know"
        )
    end = time.monotonic() + ORPHAN
    while True:
        try:
            return (RemoteBackend if live else EdgeBackend).open(path / manifest.shard)
        except LockedError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def next_part(path: Path, manifest: IndexManifest, part: str) -> str:
    """A name for the successor of a table, shard or statistics, like "shard-2" and "bm25-3.safetensors".

    No part had it before: what is noted of a file (its checksum) must never be taken for another's.
    """
    if part == "shard" and is_address(manifest.engine):
        with _server(manifest) as server:
            return server.next_name()
    stem, dot, suffix = str(getattr(manifest, part)).partition(".")
    kind = stem.partition("-")[0]
    number = manifest.generation + 1
    while (path / f"{kind}-{number}{dot}{suffix}").exists():
        number += 1
    return f"{kind}-{number}{dot}{suffix}"


def shard_exists(path: Path, manifest: IndexManifest) -> bool:
    """Whether there is something by the name of ``manifest.shard``."""
    if is_address(manifest.engine):
        with _server(manifest) as server:
            return server.exists(manifest.shard)
    return (path / manifest.shard).exists()


def announce(before: IndexManifest, manifest: IndexManifest) -> None:
    """Tell a server that its collection belongs to another table from now on; to be done before it is so on disk."""
    if is_address(manifest.engine) and manifest.shard == before.shard and manifest.binding() != before.binding():
        with _server(manifest) as server:
            server.bind(manifest.shard, manifest.binding())


def settle(manifest: IndexManifest) -> None:
    """Let a server's alias stand for the collection that the manifest names, if it is the newer of the two."""
    if is_address(manifest.engine):
        with _server(manifest) as server:
            server.settle(manifest.shard)


def remove_named(path: Path, manifest: IndexManifest, part: str) -> None:
    """Remove the "table", "shard" or "statistics" that a manifest names."""
    if part == "shard" and is_address(manifest.engine):
        with _server(manifest) as server:
            server.drop(manifest.shard)
    else:
        remove_part(path / getattr(manifest, part))


def remove_leftovers(path: Path, manifest: IndexManifest) -> None:
    """Remove parts that the manifest does not name: an earlier process was killed as it replaced them."""
    wanted = set(manifest.parts)
    if manifest.successor:
        wanted |= {str(manifest.successor[part]) for part in PARTS}
    for entry in path.iterdir():
        if _PART.fullmatch(entry.name) and entry.name not in wanted:
            remove_part(entry)


def remove_part(part: Path) -> None:
    """Remove a file or folder; what the system will not let go of now is left to the next `remove_leftovers`."""
    if part.is_dir():
        shutil.rmtree(part, ignore_errors=True)
    else:
        with suppress(OSError):
            part.unlink()


def sync_shard(path: Path, manifest: IndexManifest) -> None:
    """Bring all of an embedded engine's files to the disk now, so that no later, small sync has to wait for them."""
    if manifest.engine == "edge":
        for file in (path / manifest.shard).rglob("*"):
            try:
                fsync_path(file)
            except FileNotFoundError:  # the engine was done with it
                pass
            except OSError as error:
                raise ArtifactError(f"{file} cannot be synced ({error.strerror}): see to the disk") from None


def generation(manifest: IndexManifest, *new: str) -> int:
    """The greatest number that a part of the index has, had, or will have by a ``new`` name."""
    numbers = (re.search(r"-(\d+)", part) for part in (*manifest.parts, *new))
    return max(manifest.generation, *(int(number[1]) if number else 1 for number in numbers))


def _server(manifest: IndexManifest) -> QdrantServer:
    """Loaded when it is needed: it needs an extra, and some time."""
    try:
        from lightretriever.index.qdrant_server import QdrantServer
    except ModuleNotFoundError:
        raise MissingExtraError("a Qdrant server as the engine", "qdrant") from None

    return QdrantServer(parse_address(manifest.engine), named=manifest.engine_named)


def _owner(path: Path) -> int | None:
    """The process that says it has the index; the system's lock decides."""
    try:
        with (path / OWNER).open("rb") as file:
            said = file.read(20).strip()
    except OSError:
        return None
    return int(said) if said.isdigit() and 0 < int(said) < 1 << 31 else None


def _lives(pid: int | None) -> bool:
    """Whether there is such a process; yes where that cannot be asked."""
    if pid is None or sys.platform == "win32":  # where this call would end it
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True
