"""Segments out of the database: what was written since the last is built while searches and writes go on.

A build reads the documents of a range of keys as they are at one moment, writes a new folder, brings it to the disk,
and puts it in force in one transaction, in place of those that it took in. Interrupted anywhere, it did nothing. Run
in a process of its own, it gives way to searches:

    python -m lightretriever.index.engines.local.build INDEX
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import IO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lightretriever.artifact import fsync_folder, fsync_path, writing
from lightretriever.axes import principal_axes
from lightretriever.errors import ArtifactError, LightRetrieverError, LockedError
from lightretriever.index.background import check_stopped
from lightretriever.index.bm25 import BM25
from lightretriever.index.engines.local.follower import impacts_of
from lightretriever.index.engines.local.writer import take_statistics
from lightretriever.index.segment.codes import Codes, encode_unit
from lightretriever.index.segment.dense import build as build_dense
from lightretriever.index.segment.dense import wants_axes
from lightretriever.index.segment.files import list_arrays, new_array, write_arrays
from lightretriever.index.segment.ids import pack_ids
from lightretriever.index.segment.segment import (
    FOLDER,
    Description,
    open_segment,
    parts_of,
    read_descriptions,
    read_segments,
    remove_others,
    write_description,
)
from lightretriever.index.segment.sparse import build_sparse
from lightretriever.index.settings import Settings
from lightretriever.index.store.database import FILE, Connection, Database
from lightretriever.index.store.documents import fetch_vectors, read_ids, vector_pages
from lightretriever.index.store.state import State, change_state, read_state, set_state
from lightretriever.index.store.terms import sparse_width
from lightretriever.index.store.values import read_settings, read_statistics, write_statistics
from lightretriever.types import SparseVectors
from lightretriever.vectors.lock import lock_folder, pass_lock

DUE = 4_096
"""Documents that are in no segment, from which on one is built of them."""
NICENESS = 10
_LARGER = 3  # a segment is taken into the next as long as it is not so many times larger
_SAMPLE = 8_192  # documents whose principal axes are taken for those of all
_STARTED = "started"
_LOOK = 0.1  # seconds between two looks at a process that builds
_LOOKED_AT = 0.5  # seconds in which those are gone who only looked whether anybody builds


@dataclass(frozen=True, slots=True)
class Plan:
    """What to build.

    Attributes:
        settings, state: of the moment that it is read of.
        after, until: it takes in all documents whose key is greater than the one and at most the other.
        replaced: segments that it takes the place of.
        vectors: the table to read; another than the index's while it goes over to another document model.
        statistics: of which impacts are made; None where there are none.
        new_statistics: whether these were taken for it, and are put in force with it.
    """

    settings: Settings
    state: State
    after: int
    until: int
    replaced: tuple[str, ...]
    statistics: BM25 | None
    new_statistics: bool


Planner: TypeAlias = Callable[[Connection, Path], Plan]


@dataclass(frozen=True, slots=True)
class Built:
    """A segment that is in no database yet."""

    name: str
    description: Description
    plan: Plan


def optimise(path: Path, database: Database, stopped: Event | None = None) -> None:
    """Build one segment of everything, with BM25 statistics of all that there is, when no other build is under way;
    nothing where that is what there is, as when another has just built it.

    Raises:
        ArtifactError: the disk is full, or the database damaged, or it was stopped; the index is as it was.
    """
    with await_builder(path, stopped or Event()):
        if _is_whole(path, database):
            _remove_others(path, database)
        else:
            _build(path, database, plan_all)


def build_due(path: Path, database: Database) -> None:
    """Build a segment of what is in none, taking in smaller ones before it, until little is left. Raises as
    `optimise`, and LockedError when another process is building."""
    with building(path):
        if find_damaged(path, database):
            _build(path, database, plan_all)
        while is_due(database):
            _build(path, database, _plan_next)


def is_due(database: Database) -> bool:
    """Whether there is enough to build."""
    with database.reading() as connection:
        connection.execute("BEGIN")
        descriptions = read_descriptions(connection, database.file).values()
        state = read_state(connection)
    until = max((description.until for description in descriptions), default=0)
    gone = state.next_gone - max((description.gone for description in descriptions), default=1)
    return state.next_key - 1 - until >= DUE or (gone >= DUE and gone > state.documents // 4)


def _is_whole(path: Path, database: Database) -> bool:
    """Whether one segment holds everything that there is and nothing else, under statistics of just that."""
    with database.reading() as connection:
        connection.execute("BEGIN")
        segments = list(read_descriptions(connection, database.file).values())
        settings, state = read_settings(connection, database.file), read_state(connection)
    if len(segments) != 1 or (settings.sparse == "bm25" and state.changes):
        return False
    (whole,) = segments
    ends = (whole.after, whole.until, whole.gone, whole.documents, whole.vectors)
    wanted = (0, state.next_key - 1, state.next_gone, state.documents, settings.vectors)
    return ends == wanted and not find_damaged(path, database)


def find_damaged(path: Path, database: Database) -> dict[str, str]:
    """Segments in force that cannot be opened, and why."""
    with database.reading() as connection:
        connection.execute("BEGIN")
        settings = read_settings(connection, database.file)
        descriptions, damaged = read_segments(connection, database.file)
        for name, description in descriptions.items():
            try:
                open_segment(path, name, description, settings.dim, settings.sparse != "none")
            except ArtifactError as error:
                damaged[name] = str(error)
    return damaged


def start_building(path: Path) -> subprocess.Popen[bytes] | None:
    """Let a process of its own do `build_due`; it ends by itself, and goes on when this one ends.

    Returns:
        The process; None where there is one already, of whatever process, or none can be started: the next write tries
        again.
    """
    try:
        (path / FOLDER).mkdir(exist_ok=True)
        with pass_lock(path / FOLDER, _STARTED) as held:  # from now on: it takes a second to begin
            return _process(path, "due", subprocess.DEVNULL, held)
    except (OSError, LockedError):
        return None


def run_build(path: Path, stopped: Event) -> None:
    """Let a process of its own do `optimise`, until it is done or shall stop. Raises what that says."""
    try:
        process = _process(path, "all", subprocess.PIPE)
    except OSError as error:
        raise ArtifactError(f"{path}: a process to build it cannot be started ({error.strerror})") from None
    with process:
        while process.poll() is None:
            if stopped.wait(_LOOK):
                process.terminate()
        said = b"" if process.stderr is None else process.stderr.read()
    check_stopped(stopped, path)
    if process.returncode:
        lines = said.decode("utf-8", "replace").strip().splitlines() or [f"it ended with {process.returncode}"]
        raise ArtifactError(f"{path} was not built: {lines[-1]}")


def _process(path: Path, what: str, errors: int, held: Sequence[int] = ()) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen(
        [sys.executable, "-m", "lightretriever.index.engines.local.build", str(path), what],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=errors,
        env=environment,
        start_new_session=errors == subprocess.DEVNULL,
        pass_fds=held,
    )


def is_building(path: Path) -> bool:
    """Whether a process is building. Those who look are in the way of nobody else who does, and of a build for so long
    that it waits."""
    try:
        lock_folder(path / FOLDER, shared=True).close()
    except LockedError:
        return True
    except OSError:
        return False  # nothing was ever built, or nothing can be
    return False


def building(path: Path) -> IO[bytes]:
    """Take the builder's lock; it is held until the file that this gives is closed.

    Raises:
        LockedError: another process is building.
    """
    with writing(path / FOLDER):
        (path / FOLDER).mkdir(exist_ok=True)
        end = time.monotonic() + _LOOKED_AT
        while True:
            try:
                return lock_folder(path / FOLDER)
            except LockedError:
                if time.monotonic() > end:
                    raise LockedError(f"{path} is being built already: wait until that is done") from None
            time.sleep(_LOOKED_AT / 100)


def await_builder(path: Path, stopped: Event) -> IO[bytes]:
    """Likewise, once those who build are done: a large write has just begun one. Raises ArtifactError when it shall
    stop before."""
    while True:
        with suppress(LockedError):
            return building(path)
        stopped.wait(_LOOK)
        check_stopped(stopped, path)


def _build(path: Path, database: Database, planned: Planner) -> None:
    built = build_segment(path, database, planned)
    try:
        with database.writing() as connection:
            if read_settings(connection, database.file).vectors != built.description.vectors:
                raise ArtifactError(f"{path} went over to another document model meanwhile")
            put_in_force(connection, database.file, built)
    except BaseException:
        shutil.rmtree(path / FOLDER / built.name, ignore_errors=True)
        raise
    _remove_others(path, database)


def _remove_others(path: Path, database: Database) -> None:
    """What is not in force: replaced, or of a build that was killed."""
    with database.reading() as connection:
        remove_others(path, read_descriptions(connection, database.file))


def build_segment(path: Path, database: Database, planned: Planner) -> Built:
    """Write a new segment, and bring it to the disk. To be called by who holds the builder's lock.

    Raises:
        ArtifactError: the disk is full, or the database is damaged; nothing is left of it.
    """
    name = secrets.token_hex(8)
    folder = path / FOLDER / name
    _remove_others(path, database)
    try:
        with writing(folder):
            folder.mkdir()
            with database.reading() as connection:
                connection.execute("BEGIN")
                plan = planned(connection, database.file)
                keys, ids = read_ids(connection, plan.after, plan.until)
                rotation = _axes(connection, plan, keys)
                codes, total, sparse = _read(connection, plan, folder, keys, rotation)
            for array in (codes.hi, codes.lo):
                if isinstance(array, np.memmap):
                    array.flush()
            dense = build_dense(codes, threads=os.cpu_count() or 1, rotation=rotation, total=total)
            arrays = parts_of(keys, pack_ids(ids), dense, None if sparse is None else build_sparse(sparse))
            write_arrays(folder, arrays)
            listing = list_arrays(folder, arrays)
            fsync_folder(folder)
            fsync_path(folder.parent)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    gone, vectors = plan.state.next_gone, plan.settings.vectors
    description = Description(plan.after, plan.until, gone, vectors, len(keys), *listing.fields)
    return Built(name, description, plan)


def put_in_force(connection: Connection, file: Path, built: Built) -> None:
    """Name a segment in place of others, and its statistics; forget keys that nobody needs to know to be gone any more.
    To be called within a transaction."""
    plan = built.plan
    for old in plan.replaced:
        connection.execute("DELETE FROM segments WHERE name = ?", (old,))
    write_description(connection, built.name, built.description)
    if plan.new_statistics and plan.statistics is not None:
        write_statistics(connection, plan.statistics)
        set_state(connection, changes=read_state(connection).changes - plan.state.changes)
    first = min(one.gone for one in read_descriptions(connection, file).values())
    connection.execute("DELETE FROM gone WHERE number < ?", (first,))
    set_state(connection, first_gone=first)
    change_state(connection, version=1)


def plan_all(connection: Connection, file: Path) -> Plan:
    """Everything, with new statistics."""
    settings, state = read_settings(connection, file), read_state(connection)
    return plan_until(connection, settings, state.next_key - 1)


def plan_until(connection: Connection, settings: Settings, until: int) -> Plan:
    """Everything up to a key, for these settings, with new statistics."""
    counted = settings.sparse == "bm25"
    statistics = take_statistics(connection, settings, until) if counted else None
    replaced = tuple(name for (name,) in connection.execute("SELECT name FROM segments"))
    return Plan(settings, read_state(connection), 0, until, replaced, statistics, counted)


def _plan_next(connection: Connection, file: Path) -> Plan:
    """The smaller segments at the end, and what is in none: so there are few segments, and no document is built often.
    A new segment of everything has new statistics."""
    descriptions = list(read_descriptions(connection, file).items())
    settings, state = read_settings(connection, file), read_state(connection)
    last = state.next_key - 1
    size, replaced = last - (descriptions[-1][1].until if descriptions else 0), []
    while descriptions and descriptions[-1][1].documents <= _LARGER * size:
        name, smaller = descriptions.pop()
        size += smaller.documents
        replaced.append(name)
    if not descriptions:
        return plan_all(connection, file)
    after = descriptions[-1][1].until
    return Plan(settings, state, after, last, tuple(replaced), read_statistics(connection, settings), False)


def _axes(connection: Connection, plan: Plan, keys: NDArray[np.int64]) -> NDArray[np.float32] | None:
    """Those of a sample of the documents to build, or None where there are too few."""
    settings = plan.settings
    if not wants_axes(len(keys), settings.dim):
        return None
    chosen = np.random.default_rng(0).choice(keys, min(_SAMPLE, len(keys)), replace=False)
    vectors = fetch_vectors(
        connection, settings.vectors, settings.dim, sparse_width(connection, settings), chosen.tolist()
    )
    return principal_axes(vectors.dense, settings.dim)[0]


def _read(
    connection: Connection,
    plan: Plan,
    folder: Path,
    keys: NDArray[np.int64],
    rotation: NDArray[np.float32] | None,
) -> tuple[Codes, NDArray[np.float64], list[SparseVectors] | None]:
    """Dense codes and sparse vectors of the documents to build, codes straight into the files, and the sum of the dense
    vectors."""
    settings, until, count = plan.settings, plan.until, len(keys)
    high, low = (new_array(folder, f"dense.{name}", "int8", (count, settings.dim)) for name in ("hi", "lo"))
    codes = Codes(high, low, np.empty(count, np.float32))
    width = sparse_width(connection, settings)
    parts: list[SparseVectors] = []
    total = np.zeros(settings.dim)
    done, lacking = 0, ArtifactError("documents of the index lack their vectors: restore a snapshot")
    for rows in vector_pages(connection, settings.vectors, settings.dim, width, plan.after, until):
        these = slice(done, done + len(rows))
        if these.stop > count:
            raise ArtifactError("the index has vectors of documents that it lacks: restore a snapshot")
        if not np.array_equal(rows.keys, keys[these]):
            raise lacking
        vectors = rows.dense if rotation is None else rows.dense @ rotation
        codes.hi[these], codes.lo[these], codes.scales[these] = encode_unit(vectors)
        total += rows.dense.sum(axis=0, dtype=np.float64)
        sparse = impacts_of(rows, settings, plan.statistics)
        if sparse is not None:
            parts.append(sparse)
        done = these.stop
    if done < count:
        raise lacking
    return codes, total, None if width is None else parts


def main() -> None:
    """Build what is due of the index named, or all of it; what fails is tried again after the next write."""
    path, what = Path(sys.argv[1]), sys.argv[2]
    with suppress(OSError, AttributeError):
        os.nice(NICENESS)
    database = Database(path / FILE)
    try:
        with database.reading():  # raises where the index is gone by now, before anything is made there
            pass
        (optimise if what == "all" else build_due)(path, database)
    except LightRetrieverError as error:
        sys.exit(str(error))
    finally:
        database.close()


if __name__ == "__main__":
    main()
