"""One SQLite file that any number of processes read while one writes, and what SQLite says when it cannot, in a line.

It is in WAL mode: a reader sees the last commit before it began, and waits for nobody. A commit survives the death of
its process at once, and a power cut when it was durable, or after a later one that was (`Database.writing`).
"""

from __future__ import annotations

import ctypes
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from types import TracebackType

from lightretriever.errors import ArtifactError, LockedError, UsageError
from lightretriever.paths import absolute

FILE = "index.db"
APPLICATION = int.from_bytes(b"LRix", "big")
PAGE = 16_384
"""Bytes of a page: several documents have room in one, and a small write changes not many."""
PATIENCE = 30.0
"""Seconds that a writer waits for others."""
_CACHE = 16 << 10  # kB of pages that a connection keeps
_QUIET = 10.0  # seconds that a fork waits for what this process is doing with the file
WAL, SHM = "-wal", "-shm"


class Connection(sqlite3.Connection):
    """With what its last user knew of the file.

    Attributes:
        seen: SQLite's ``data_version``, which changes with every commit of another connection; −1 if never asked.
        file: device and inode of what it opened, and what else `Database` goes by.
    """

    seen = -1
    file: tuple[int, ...] = ()

    def moved(self) -> bool:
        """Whether another connection committed something since this was last asked; 5 µs."""
        version = self.execute("PRAGMA data_version").fetchone()[0]
        before, self.seen = self.seen, version
        return bool(before != version)


class Database:
    """The file, open in this process: connections to read, and one to write. Threads may share it, and forks.

    SQLite does not know of forks: a child that goes on with what its parent had open can damage the file. So a fork
    waits until nothing is under way here, while nothing else begins, and the child closes its copies and opens its own.
    Where that takes too long, or the block that forks is itself at the file, SQLite in the child holds the parent's
    locks for its own, and cannot be rid of them: there the child is refused.

    Attributes:
        file: its path.
        writable: whether this process may write; else nothing beside it is made either.
        replaced: how often another file was found in its place.
    """

    def __init__(self, file: Path) -> None:
        """Opens nothing yet; see `reading` and `writing`."""
        self.file = file = absolute(file)
        self.writable = os.access(file.parent, os.W_OK) and os.access(file, os.W_OK)
        self.replaced = 0
        self._opened: tuple[int, ...] = ()
        self._closed = False
        self._idle: list[Connection] = []
        self._writer: Connection | None = None
        self._lock = threading.RLock()
        self._quiet = threading.Condition()
        self._users = self._forks = 0
        self._here = _Here()
        _watch_forks()
        _databases.add(self)

    def reading(self, looked: bool = False) -> Reading:
        """A connection to read with, of nobody else until the ``with`` block ends.

        Args:
            looked: the caller has read a moment ago, so that it need not be looked for another file in its place.

        Raises:
            ArtifactError: the file is absent, damaged, or cannot be opened.
            UsageError: it is closed.
        """
        return Reading(self, looked)

    @contextmanager
    def writing(self, durable: bool = True) -> Iterator[Connection]:
        """A transaction, committed when the block ends well; re-entrant: an inner block is part of the outer one.

        Args:
            durable: whether the commit, and every one before it, survives a power cut when the block has ended.

        Raises:
            LockedError: others have been writing for longer than `PATIENCE`.
            ArtifactError: the file cannot be written, or the disk is full; nothing of the block is stored.
            UsageError: it is closed.
        """
        self._enter()
        try:
            with self._lock, explained(self.file):
                self._check_open()  # it may have been closed while this waited
                connection = self._writer
                if connection is not None and not connection.in_transaction and connection.file != self._now():
                    connection.close()
                    connection = None
                if connection is None:
                    connection = self._writer = self._connect(writing=True)
                if connection.in_transaction:
                    yield connection
                    return
                connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield connection
                    connection.execute("COMMIT")
                except BaseException:
                    if connection.in_transaction:
                        connection.rollback()
                    raise
        finally:
            self._leave()

    @property
    def closed(self) -> bool:
        """Whether it was closed in this process."""
        return self._closed

    def close(self) -> None:
        """Close every connection that nobody uses, the others when they are done; a second call does nothing."""
        self._closed = True
        with self._lock, suppress(sqlite3.Error):
            while self._idle:
                self._idle.pop().close()
            if self._writer is not None:
                self._writer.close()
                self._writer = None

    def _check_open(self) -> None:
        if self._closed:
            raise UsageError(f"{self.file.parent} is closed: open it again")

    def _enter(self) -> None:
        self._check_open()
        with self._quiet:
            while self._forks and not self._here.users:
                self._quiet.wait()
            self._users += 1
        self._here.users += 1

    def _leave(self) -> None:
        self._here.users -= 1
        with self._quiet:
            self._users -= 1
            if self._forks:
                self._quiet.notify_all()

    def _take(self, looked: bool) -> Connection:
        if looked:
            with suppress(IndexError):
                return self._idle.pop()
        now = self._now()
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return self._connect(writing=False)
            if connection.file == now:
                return connection
            connection.close()  # another index took the place of the one that it reads

    def _now(self) -> tuple[int, ...]:
        """What there is by the file's name: a folder may be replaced, and connections go on with what was. Where this
        process may not write, also what tells that another did: it can take no lock that one would wait for."""
        try:
            status = os.stat(self.file)  # noqa: PTH116 - a search waits for it
        except OSError:
            raise ArtifactError(
                f"{self.file} does not exist: {self.file.parent} is no index, or not complete"
            ) from None
        if self.writable:
            return status.st_dev, status.st_ino
        with suppress(OSError):
            log = self.file.with_name(FILE + WAL).stat()
            return status.st_dev, status.st_ino, log.st_ino
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns

    def _give_back(self, connection: Connection) -> None:
        if connection.in_transaction:
            connection.rollback()
        if self._closed:
            connection.close()
        else:
            self._idle.append(connection)

    def _connect(self, writing: bool) -> Connection:
        now = self._now()
        if now[:2] != self._opened[:2]:
            self.replaced += bool(self._opened)
            self._opened = now
        if now in _refused:
            raise UsageError(
                f"this process was forked while its parent was at {self.file.parent}, and cannot use it: fork when "
                "nothing is written, built or read there, or spawn"
            )
        if writing and not self.writable:
            raise ArtifactError(f"{self.file.parent} is read-only: it can be searched, not changed")
        mode = "rw"
        if not self.writable:  # the files by which readers and writers agree cannot be made: there is no writer either
            mode = "ro" if self._has_log() else "ro&immutable=1"
        connection = sqlite3.connect(
            f"{self.file.as_uri()}?mode={mode}",
            uri=True,
            timeout=PATIENCE,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
            factory=Connection,
        )
        try:
            for pragma in ("trusted_schema = OFF", "cell_size_check = ON", f"cache_size = -{_CACHE}"):
                connection.execute(f"PRAGMA {pragma}")
        except BaseException:
            connection.close()
            raise
        connection.file = now
        return connection

    def _has_log(self) -> bool:
        """Whether there is a log to read, too. Raises ArtifactError where SQLite would have to write to read it."""
        log = self.file.with_name(FILE + WAL)
        if not log.exists() or not log.stat().st_size:
            return False
        if not self.file.with_name(FILE + SHM).exists():
            raise ArtifactError(
                f"{self.file.parent} is read-only, and {log.name} holds what is not in {FILE} yet: open it once where "
                "it may be written to"
            )
        return True

    def _hold_for_fork(self) -> None:
        self._quiet.acquire()
        self._forks += 1
        end = time.monotonic() + _QUIET
        while self._users > self._here.users and time.monotonic() < end:
            self._quiet.wait(0.1)

    def _go_on_after_fork(self) -> None:
        self._forks -= 1
        self._quiet.notify_all()
        self._quiet.release()

    def _begin_in_child(self) -> None:
        for connection in (*self._idle, *([] if self._writer is None else [self._writer])):
            if self._users:  # it may be in the midst of something, holding locks that nobody lets go of here
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
            else:
                with suppress(sqlite3.Error):
                    connection.close()
        if self._users:
            with suppress(ArtifactError):
                _refused.add(self._now())
        self._idle, self._writer, self._users, self._forks = [], None, 0, 0
        self._lock, self._quiet, self._here = threading.RLock(), threading.Condition(), _Here()


class _Here(threading.local):
    """How many blocks of this thread use a database."""

    users = 0


class Reading:
    """See `Database.reading`. Not a generator's context manager: a search has some microseconds for it."""

    __slots__ = ("_connection", "_database", "_looked")

    def __init__(self, database: Database, looked: bool) -> None:
        self._database, self._looked = database, looked

    def __enter__(self) -> Connection:
        self._database._enter()
        try:
            self._connection = self._database._take(self._looked)
        except BaseException as error:
            self._database._leave()
            explain(self._database.file, error)
            raise
        return self._connection

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database._give_back(self._connection)
        self._database._leave()
        if error is not None:
            explain(self._database.file, error)


def create(file: Path, statements: Sequence[str], version: int) -> None:
    """Make a file of these tables, in WAL mode. Raises ArtifactError when it cannot be written."""
    with explained(file):
        connection = sqlite3.connect(file, isolation_level=None)
        try:
            for pragma in (f"page_size = {PAGE}", "journal_mode = WAL", f"application_id = {APPLICATION}"):
                connection.execute(f"PRAGMA {pragma}")
            connection.execute("BEGIN")
            for statement in statements:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {version}")
            connection.execute("COMMIT")
        finally:
            connection.close()


@contextmanager
def explained(file: Path) -> Iterator[None]:
    """Make one line of what SQLite says. Raises LockedError and ArtifactError in place of sqlite3's."""
    try:
        yield
    except sqlite3.Error as error:
        explain(file, error)
        raise


def explain(file: Path, error: BaseException) -> None:
    """Raise what an error of sqlite3's is to a user; other errors pass."""
    if not isinstance(error, sqlite3.Error):
        return
    said, folder = str(error), file.parent
    match (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            raise LockedError(
                f"{folder} is being written to by another process for more than {PATIENCE:g} s: try again, or see to "
                "that process"
            ) from None
        case sqlite3.SQLITE_FULL:
            raise ArtifactError(f"{file} cannot be written (the disk is full): make room and run again") from None
        case sqlite3.SQLITE_READONLY:
            raise ArtifactError(f"{file} cannot be written (it is read-only): copy the index elsewhere") from None
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_FORMAT:
            raise ArtifactError(
                f"{file} is damaged ({said}): `lightretriever check {folder}` says where; restore a snapshot"
            ) from None
        case _:
            name = getattr(error, "sqlite_errorname", type(error).__name__)
            raise ArtifactError(f"{file} cannot be used ({said}, {name}): see to the file and its disk") from None


_databases: weakref.WeakSet[Database] = weakref.WeakSet()  # all of this process, for a fork to see to
_refused: set[tuple[int, ...]] = set()  # files that the parent was at when it forked this process


@cache
def _watch_forks() -> None:
    if not hasattr(os, "register_at_fork"):
        return
    forking = threading.Lock()  # of two threads that fork at once, each would wait for the other
    held: list[Database] = []

    def before() -> None:
        forking.acquire()
        held.extend(_databases)
        for database in held:
            database._hold_for_fork()

    def in_parent() -> None:
        for database in held:
            database._go_on_after_fork()
        held.clear()
        forking.release()

    def in_child() -> None:
        for database in held:
            database._begin_in_child()
        held.clear()
        forking.release()

    os.register_at_fork(before=before, after_in_parent=in_parent, after_in_child=in_child)
