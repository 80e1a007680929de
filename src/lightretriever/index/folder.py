"""The index's folder: made whole or not at all, and its token tables, of which one is in force.

INDEX/
  index.db       documents, vectors, settings (`lightretriever.index.store`); -wal and -shm beside it while it is open
  table/         its own copy of the token table; one that takes its place is written beside it, as table-2
  segments/      what was built of the documents, and may be deleted (`lightretriever.index.segment`)
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from os import DirEntry, scandir
from pathlib import Path

from lightretriever.errors import ArtifactError, UsageError
from lightretriever.index.settings import SPARSE_KINDS, Settings
from lightretriever.index.store.database import FILE, Database, create
from lightretriever.index.store.schema import VERSION, check_schema, statements
from lightretriever.index.store.values import read_settings, write_settings
from lightretriever.query.table import TokenTable
from lightretriever.query.table_manifest import MANIFEST as TABLE_MANIFEST
from lightretriever.scratch import new_folder

_TABLE = re.compile(r"\.?table(-\d+)?(\..*)?")


def create_folder(path: Path, table: TokenTable, settings: Settings) -> None:
    """Write an empty index.

    Raises:
        UsageError: an unknown kind of sparse side.
        ArtifactError: ``path`` exists, or the disk is full; the engine's server failed, or cannot be reached.
        MissingExtraError: the engine is a server, and `qdrant-client` is not installed.
    """
    if settings.sparse not in SPARSE_KINDS:
        raise UsageError(f"sparse is {settings.sparse!r}: choose one of {', '.join(SPARSE_KINDS)}")
    if path.exists():
        raise ArtifactError(f"{path} exists already: open it, remove it, or choose another output")
    with new_folder(path) as folder:
        table.save(folder / settings.table)
        create(folder / FILE, statements(), VERSION)
        if not settings.local:
            from lightretriever.index.server import create_collection  # it needs an extra, and some time

            settings = replace(settings, collection=create_collection(settings))
        database = Database(folder / FILE)
        try:
            with database.writing() as connection:
                write_settings(connection, settings)
        finally:
            database.close()


def open_database(path: Path) -> Database:
    """The database of an index, checked to be one.

    Raises:
        ArtifactError: it is absent, damaged, or something else; or a link is in the folder, which may lead anywhere.
    """
    check_entries(path)
    if not (path / FILE).exists():
        if (path / TABLE_MANIFEST).is_file():
            raise ArtifactError(f"{path} is a token table, an index is wanted: name that, or make one of it")
        if (path / "shard").exists():
            raise ArtifactError(f"{path} was made by a version before the first release: make the index again")
        raise ArtifactError(f"{path / FILE} does not exist: {path} is no index, or not complete")
    database = Database(path / FILE)
    try:
        with database.reading() as connection:
            check_schema(connection, database.file)
    except BaseException:
        database.close()
        raise
    return database


def load_settings(path: Path) -> Settings:
    """What an index is bound to. Raises ArtifactError when it is none, or damaged."""
    database = open_database(path)
    try:
        with database.reading() as connection:
            return read_settings(connection, database.file)
    finally:
        database.close()


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
    except FileNotFoundError as error:
        if not path.exists():
            raise ArtifactError(f"{path} does not exist: name the folder of an index") from None
        del error  # another process removed what it had replaced
    except OSError as error:
        raise ArtifactError(f"{error.filename or path} cannot be read ({error.strerror})") from None


def open_table(path: Path, settings: Settings) -> TokenTable:
    """The index's own table, checked against its settings.

    Raises:
        ArtifactError: it is absent or damaged.
        MismatchError: it is not the index's; both are named.
    """
    table = TokenTable.load(path / settings.table)
    settings.check_table(table, f"the table in {path / settings.table}")
    return table


def next_table(path: Path, settings: Settings) -> str:
    """A name for a table that takes the place of the one there is."""
    _, _, number = settings.table.partition("-")
    following = int(number or 1) + 1
    while (path / f"table-{following}").exists():
        following += 1
    return f"table-{following}"


def remove_tables(path: Path, settings: Settings) -> None:
    """Remove tables that are not in force, nor about to be. To be called by who holds the writer's lock."""
    wanted = {settings.table, *([] if settings.successor is None else [settings.successor["table"]])}
    for entry in path.iterdir():
        if _TABLE.fullmatch(entry.name) and entry.name not in wanted:
            with suppress(OSError):  # what the system will not let go of now is left to the next time
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def _entries(path: str | Path) -> Iterator[DirEntry[str]]:
    with scandir(path) as entries:
        for entry in entries:
            yield entry
            if entry.is_dir(follow_symlinks=False):
                yield from _entries(entry.path)
