"""Whether an index is what was written: SQLite's own check, every row's checksum, and every segment's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from lightretriever.errors import ArtifactError, LightRetrieverError
from lightretriever.index.filter.conditions import check_conditions
from lightretriever.index.folder import open_database
from lightretriever.index.segment.segment import check_segment, open_segment, read_segments
from lightretriever.index.settings import Settings
from lightretriever.index.store.database import FILE, WAL, Connection, Database
from lightretriever.index.store.documents import document_pages, read_gone, read_vectors, vector_pages
from lightretriever.index.store.files import read_files
from lightretriever.index.store.state import read_state
from lightretriever.index.store.terms import sparse_width, term_pages
from lightretriever.index.store.values import check_names, read_settings, read_statistics
from lightretriever.index.store.wal import lost_commits
from lightretriever.query.table import TokenTable
from lightretriever.text.tokenizer import tokenizer_hash

_MOST = 20  # things wrong that are named
_LAST = (1 << 63) - 1


def check_index(path: Path) -> Iterator[str]:
    """What is wrong with the index in a folder, each in a line; nothing where all is as it was written."""
    log = path / f"{FILE}{WAL}"
    try:
        lost = lost_commits(log)
    except OSError as error:
        yield f"{log} cannot be read ({error.strerror}): see to its permissions, or restore a snapshot"
        return
    if lost:  # whoever opens the index now goes on without them, and the log is gone
        yield f"{log} is damaged, and with it the last {lost:,} writes or more: restore a snapshot"
        return
    try:
        database = open_database(path)
    except ArtifactError as error:
        yield str(error)
        return
    try:
        yield from find_damage(path, database)
    finally:
        database.close()


def find_damage(path: Path, database: Database) -> Iterator[str]:
    """What is wrong with an index, each in a line; nothing where all is as it was written."""
    yield from _said(partial(_check_pages, database))
    try:
        with database.reading() as connection:
            settings = read_settings(connection, database.file)
            segments, damaged = read_segments(connection, database.file)
    except ArtifactError as error:
        yield str(error)
        return
    yield from _said(partial(_check_rows, database, settings))
    yield from _check_tables(path, settings)
    yield from damaged.values()
    for name, description in segments.items():
        try:
            check_segment(path, name, description)
            open_segment(path, name, description, settings.dim, settings.sparse != "none")
        except ArtifactError as error:
            yield str(error)


def _check_tables(path: Path, settings: Settings) -> Iterator[str]:
    tables = [(settings.table, settings.table_hash)]
    if settings.successor is not None:
        tables.append((str(settings.successor["table"]), str(settings.successor["table_hash"])))
    for name, of in tables:
        try:
            table = TokenTable.load(path / name)
            parts = {part: getattr(table, part) for part in ("phrases", "evidence")}
            anew = replace(table, **{part: held and replace(held) for part, held in parts.items()})  # hashes taken anew
            if anew.hash != of or tokenizer_hash(table.tokenizer) != table.tokenizer_hash:
                yield f"{path / name} is not the table that the index was made with: restore a snapshot"
        except LightRetrieverError as error:
            yield str(error)


def check_rows(database: Database, settings: Settings) -> int:
    """Read every row and compare it with its checksum; how many documents there are.

    Raises:
        ArtifactError: a row is not what was written, or rows are missing.
    """
    for said in _check_rows(database, settings):
        raise ArtifactError(said)
    with database.reading() as connection:
        return read_state(connection).documents


def _said(check: Callable[[], Iterable[str]]) -> Iterator[str]:
    """What a check finds, and what it fails with."""
    try:
        yield from check()
    except ArtifactError as error:
        yield str(error)


def _check_pages(database: Database) -> Iterator[str]:
    with database.reading() as connection:
        for (said,) in connection.execute(f"PRAGMA integrity_check({_MOST})").fetchall():
            if said != "ok":
                yield f"{database.file} is damaged ({' '.join(said.split())}): restore a snapshot"


def _check_rows(database: Database, settings: Settings) -> Iterator[str]:
    """One line for every table that is not what was written."""
    with database.reading() as connection:
        connection.execute("BEGIN")
        state = read_state(connection)
        checks: list[Callable[[], str]] = [
            partial(_check_documents, connection, settings, state.documents, state.next_key),
            partial(_check_gone, connection, state.first_gone, state.next_gone),
            partial(_check_conditions, connection),
            partial(_check_statistics, connection, settings),
            partial(_check_files, connection),
            partial(_check_terms, connection),
        ]
        if settings.successor is not None:
            checks.append(partial(_check_successor, connection, settings))
        said: dict[str, None] = {}  # each once: several checks read the documents
        for check in checks:
            try:
                said[check()] = None
            except ArtifactError as error:
                said[str(error)] = None
        yield from (f"{database.file}: {line}" for line in said if line)


def _check_documents(connection: Connection, settings: Settings, documents: int, next_key: int) -> str:
    width = sparse_width(connection, settings)
    count, after = 0, 0
    for found in document_pages(connection):
        last = found[-1][0]
        rows = read_vectors(connection, settings.vectors, settings.dim, width, after, last, len(found) + 1)
        if rows.keys.tolist() != [key for key, _ in found]:
            return f"documents lack their vectors, after key {after}: restore a snapshot"
        count, after = count + len(found), last
    if settings.local and count != documents:
        return f"it has {count:,} documents, {documents:,} were stored: restore a snapshot"
    if after >= next_key or len(read_vectors(connection, settings.vectors, settings.dim, width, after, _LAST, 1)):
        return f"it has keys after {after}, which no document has: restore a snapshot"
    return ""


def _check_gone(connection: Connection, first: int, following: int) -> str:
    keys = read_gone(connection, 0).tolist()
    numbers = [number for (number,) in connection.execute("SELECT number FROM gone ORDER BY number")]
    there = connection.execute("SELECT count(*) FROM gone JOIN documents USING (key)").fetchone()[0]
    if numbers != list(range(first, following)) or there or len(keys) != len(numbers):
        return "the list of what was removed is not what was written: restore a snapshot"
    return ""


def _check_conditions(connection: Connection) -> str:
    """Compare what filters look at with documents' metadata."""
    lacking, strays = check_conditions(connection, _metadata(connection))
    return "what filters look at is not the documents' metadata: restore a snapshot" if lacking or strays else ""


def _metadata(connection: Connection) -> Iterator[tuple[int, Mapping[str, object]]]:
    for found in document_pages(connection):
        yield from ((key, document.metadata) for key, document in found)


def _check_statistics(connection: Connection, settings: Settings) -> str:
    check_names(connection)
    read_statistics(connection, settings)
    return ""


def _check_files(connection: Connection) -> str:
    read_files(connection)
    return ""


def _check_terms(connection: Connection) -> str:
    for _ in term_pages(connection):
        pass  # reading is what checks them
    return ""


def _check_successor(connection: Connection, settings: Settings) -> str:
    """The vectors of another document model, as far as there are any."""
    assert settings.successor is not None
    table, dim, width = (int(str(settings.successor[name])) for name in ("vectors", "dim", "width"))
    kind = str(settings.successor["sparse"])
    sparse = sparse_width(connection, replace(settings, sparse=kind, width=width))
    for _ in vector_pages(connection, table, dim, sparse, 0, _LAST):
        pass  # reading is what checks them
    return ""
