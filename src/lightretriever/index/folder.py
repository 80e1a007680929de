"""The index's folder: made whole or not at all, opened only when all in it belongs together, by one owner."""

from __future__ import annotations

import os
from pathlib import Path

from lightretriever.artifact import new_folder
from lightretriever.errors import ArtifactError, LockedError, UsageError
from lightretriever.index.backend import Backend
from lightretriever.index.edge import RESERVE, EdgeBackend, check_room
from lightretriever.index.manifest import SPARSE_KINDS, IndexManifest
from lightretriever.query.table import TokenTable

OWNER = "owner"


def create_folder(path: Path, table: TokenTable, manifest: IndexManifest) -> None:
    """Write an empty index.

    Raises:
        UsageError: an unknown kind of sparse side.
        ArtifactError: ``path`` exists, the disk is full, or the engine failed.
    """
    if manifest.sparse not in SPARSE_KINDS:
        raise UsageError(f"sparse is {manifest.sparse!r}: choose one of {', '.join(SPARSE_KINDS)}")
    if path.exists():
        raise ArtifactError(f"{path} exists already: open it, remove it, or choose another output")
    with new_folder(path) as folder:
        check_room(folder, RESERVE)
        table.save(folder / manifest.table)
        EdgeBackend.create(folder / manifest.shard, manifest.dim, manifest.sparse != "none").close()
        manifest.save(folder)


def open_folder(path: Path, manifest: IndexManifest) -> tuple[TokenTable, Backend]:
    """The table and the engine of an index, checked against its manifest; this process owns it from here on.

    Raises:
        ArtifactError: a part is absent or damaged.
        MismatchError: the table is not the index's; both are named.
        LockedError: it is open already; the owner is named.
    """
    table = TokenTable.load(path / manifest.table)
    manifest.check_table(table, f"the table in {path / manifest.table}")
    if manifest.engine != "edge":
        raise ArtifactError(
            f"{path} is held by the engine {manifest.engine!r}, which this lightretriever does not know"
        )
    try:
        backend = EdgeBackend.open(path / manifest.shard)
    except LockedError:
        raise LockedError(f"{path} is open already in {_owner(path)}: close it there first") from None
    (path / OWNER).write_text(f"{os.getpid()}\n", encoding="ascii")
    return table, backend


def release_folder(path: Path) -> None:
    """Say that nobody owns the index any more; the engine is closed already."""
    (path / OWNER).unlink(missing_ok=True)


def _owner(path: Path) -> str:
    """For people; the engine's own lock decides."""
    try:
        pid = int((path / OWNER).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return "another process"
    return "this process" if pid == os.getpid() else f"process {pid}"
