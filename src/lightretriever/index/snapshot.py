"""An index in one file, taken while it is used: a tar of its folder, compressed by Zstandard, with checksums inside.

The database is copied by SQLite's backup interface, of one moment; its segments are in it too, so a restored index
answers exactly as this one did. Neither searches nor writes wait.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from lightretriever.artifact import fsync_path, writing
from lightretriever.errors import ArtifactError
from lightretriever.index.archive import read_archive, write_archive
from lightretriever.index.engines.local.check import check_rows
from lightretriever.index.folder import open_database, open_table
from lightretriever.index.segment.segment import FOLDER, Description, read_descriptions, restamp
from lightretriever.index.settings import Settings
from lightretriever.index.state import State
from lightretriever.index.store.database import FILE, Database, explained
from lightretriever.index.store.schema import drop_vectors, new_identity
from lightretriever.index.store.state import read_state, set_state
from lightretriever.index.store.values import read_settings, write_settings
from lightretriever.paths import absolute
from lightretriever.scratch import new_folder, scratch_folder

RESERVE = 64 << 20  # bytes of the disk that a copy leaves free
_TRIES = 5  # of copying, where segments were replaced meanwhile


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What taking one came to.

    Attributes:
        documents: how many are in it.
        bytes: the file's size.
    """

    documents: int
    bytes: int


def take_snapshot(state: State, output: Path) -> Snapshot:
    """Write an index to one file; see `Index.snapshot`."""
    if output.exists():
        raise ArtifactError(f"{output} exists already: remove it or choose another output")
    settings = state.current.settings
    if not settings.local:
        raise ArtifactError(f"{state.path} is held by {settings.engine}: take a snapshot there")
    with scratch_folder(output) as scratch, writing(output):
        copy, packed = scratch / "copy", scratch / "packed"
        size = sum(file.stat().st_size for file in state.path.rglob("*") if file.is_file())
        _check_room(scratch, size + size // 2)
        documents = _copy(state, copy)
        others = {file.relative_to(copy).as_posix() for file in copy.rglob("*") if file.is_file()} - {FILE}
        write_archive(copy, [FILE, *sorted(others)], packed)
        fsync_path(packed)
        packed.replace(output)
        fsync_path(output.parent)
    return Snapshot(documents, output.stat().st_size)


def restore_snapshot(file: Path, output: Path) -> int:
    """Make an index of a snapshot.

    Args:
        file: what `Index.snapshot` wrote.
        output: a folder that does not exist.

    Returns:
        How many documents it has.

    Raises:
        ArtifactError: the file is no snapshot of a local index, damaged, or from a newer version; it holds more than it
            declares, or than `Index.snapshot` writes; ``output`` exists; the disk is full.
    """
    if not file.is_file():
        raise ArtifactError(f"{file} does not exist, or is no file")
    with new_folder(output) as folder:
        paths = read_archive(file, folder, RESERVE)
        if paths[:1] != [FILE]:
            raise ArtifactError(f"{file} is no snapshot of an index: take another")
        with _saying(file, folder):
            return _check(folder, paths, file)


def _copy(state: State, copy: Path) -> int:
    """The index of one moment, its large files by links; how many documents there are."""
    for _ in range(_TRIES):
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        with explained(state.database.file), state.database.reading() as connection:
            target = sqlite3.connect(copy / FILE)
            try:
                connection.backup(target)
            finally:
                target.close()
        database = Database(copy / FILE)
        try:
            settings, documents, segments = _settled(database)
        finally:
            database.close()
        try:
            _link(state.path / settings.table, copy / settings.table)
            for name in segments:
                _link(state.path / FOLDER / name, copy / FOLDER / name)
        except FileNotFoundError:
            continue
        return documents
    raise ArtifactError(f"{state.path} is being built all the time: take the snapshot again")


def _settled(database: Database) -> tuple[Settings, int, dict[str, Description]]:
    """Drop what another document model has so far."""
    with database.writing() as connection:
        settings = read_settings(connection, database.file)
        if settings.successor is not None:
            connection.execute(drop_vectors(int(str(settings.successor["vectors"]))))
            settings = replace(settings, successor=None)
            write_settings(connection, settings)
        return settings, read_state(connection).documents, read_descriptions(connection, database.file)


def _check(folder: Path, paths: list[str], file: Path) -> int:
    """Check that all of it belongs together, and is what was written."""
    database = open_database(folder)
    try:
        with database.reading() as connection:
            settings = read_settings(connection, database.file)
            segments = read_descriptions(connection, database.file)
        if not settings.local:
            raise ArtifactError(f"{file} is of an index on a server ({settings.engine}): a snapshot holds all of one")
        wanted = {FILE, settings.table, FOLDER}
        stray = {path.partition("/")[0] for path in paths} - wanted
        stray |= {path for path in paths if path.startswith(f"{FOLDER}/") and path.split("/")[1] not in segments}
        if stray:
            raise ArtifactError(f"{file} holds {min(stray)!r}, which is no part of its index: take another")
        open_table(folder, settings)
        restamp(folder, database)
        with database.writing() as connection:  # two copies give new words numbers each in its own way
            set_state(connection, identity=new_identity())
        return check_rows(database, settings)
    finally:
        database.close()


def _link(source: Path, target: Path) -> None:
    """A copy of a folder whose files never change."""
    target.mkdir(parents=True)
    for file in source.iterdir():
        try:
            os.link(file, target / file.name)
        except FileNotFoundError:
            raise
        except OSError:  # the file system has no links
            shutil.copyfile(file, target / file.name)


def _check_room(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size + RESERVE:
        raise ArtifactError(
            f"{absolute(folder).parent}: the disk is full ({free >> 20:,} MB free, {size + RESERVE >> 20:,} MB "
            "needed): make room and run again"
        )


@contextmanager
def _saying(file: Path, folder: Path) -> Iterator[None]:
    """Name the snapshot in what is said of its files: the folder they are in is gone when it is read."""
    try:
        yield
    except ArtifactError as error:
        reason = str(error).replace(f"{folder}{os.sep}", "").replace(str(folder), "it").rpartition(": ")[0]
        raise ArtifactError(f"{file} is damaged, or no snapshot ({reason or error}): take another") from None
