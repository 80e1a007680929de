"""An engine in a process of its own, so that none of its calls keeps this process from answering searches.

The engine holds the interpreter's lock in every call, and some take long: opening 100,000 documents a third of a
second, building their graph the best part of a minute. In a process of its own it only keeps its own callers waiting,
and these are served in turn, in steps of a few milliseconds.
"""

from __future__ import annotations

import os
import subprocess
import sys
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from math import inf
from pathlib import Path
from threading import Event, Thread
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightretriever import errors
from lightretriever.errors import ArtifactError
from lightretriever.index.backend import Payload, Points, Ranking
from lightretriever.index.edge import sync_log
from lightretriever.index.filter.language import Filter
from lightretriever.index.owner import check_owner
from lightretriever.index.turns import Turns
from lightretriever.index.wire import receive, send
from lightretriever.types import SparseVectors, take_sparse

STEP = 64  # points to write, or queries, in one call: a search waits for one at most
LOOK = 512  # points to look up in one call
PATIENCE = 60.0  # seconds that the engine may take to answer
START = 120.0  # seconds until it answers for the first time: it may have much to read of a busy disk
LONG = {"optimise": inf, "flush": 600.0, "close": 600.0}
"""Likewise for what takes long by itself."""
_LOOK_AGAIN = 0.5  # seconds between two looks at whether it is late
LOG = 100_000  # points written, after which a flush empties the log: half a second in which all wait


class RemoteBackend:
    """A Qdrant Edge shard in a process of its own as a `Backend`. Use `create` or `open`; threads may share it."""

    def __init__(self, process: subprocess.Popen[bytes], path: Path) -> None:
        assert process.stdin is not None and process.stdout is not None
        self._process, self._calls, self._answers = process, process.stdin, process.stdout
        self._path = path
        self._turns = Turns()
        self._watch = _Watch(process)
        self._logged = 0  # points in the engine's log
        self._owner = os.getpid()

    @staticmethod
    def create(path: Path, dim: int, sparse: bool, niceness: int = 0) -> RemoteBackend:
        """Make an empty shard; see `EdgeBackend.create`. ``niceness`` lowers the process's claim to the processor."""
        return _start(path, "create", str(path), str(dim), "sparse" if sparse else "none", str(niceness))

    @staticmethod
    def open(path: Path) -> RemoteBackend:
        """Open a shard; see `EdgeBackend.open`."""
        return _start(path, "open", str(path))

    @property
    def pid(self) -> int:
        """The engine's process."""
        return self._process.pid

    def upsert(self, points: Points) -> None:
        for rows in _steps(len(points.keys)):
            sparse = None if points.sparse is None else take_sparse(points.sparse, rows)
            keys, payloads = points.keys[rows.start : rows.stop], points.payloads[rows.start : rows.stop]
            self._logged += len(keys)
            self._call("upsert", Points(keys, points.dense[rows.start : rows.stop], sparse, payloads))

    def delete(self, keys: Sequence[int]) -> None:
        for rows in _steps(len(keys)):
            self._logged += len(rows)
            self._call("delete", keys[rows.start : rows.stop])

    def existing(self, keys: Sequence[int]) -> set[int]:
        found: set[int] = set()
        for rows in _steps(len(keys), LOOK):
            found |= self._call("existing", keys[rows.start : rows.stop])
        return found

    def search_dense(self, vectors: NDArray[np.float32], k: int, where: Filter | None = None) -> list[Ranking]:
        found: list[Ranking] = []
        for rows in _steps(len(vectors)):
            found += self._call("search_dense", vectors[rows.start : rows.stop], k, where)
        return found

    def search_sparse(self, queries: SparseVectors, k: int, where: Filter | None = None) -> list[Ranking]:
        found: list[Ranking] = []
        for rows in _steps(len(queries)):
            found += self._call("search_sparse", take_sparse(queries, rows), k, where)
        return found

    def payloads(self, keys: Sequence[int], fields: Sequence[str] = ()) -> list[Payload]:
        found: list[Payload] = []
        for rows in _steps(len(keys), LOOK):
            found += self._call("payloads", keys[rows.start : rows.stop], fields)
        return found

    def points(self, keys: Sequence[int]) -> Points:
        points: Points = self._call("points", keys)
        return points

    def page(self, start: int, size: int, vectors: bool = False) -> Points:
        page: Points = self._call("page", start, size, vectors)
        return page

    def count(self) -> int:
        return int(self._call("count"))

    def info(self) -> Mapping[str, object]:
        found: Mapping[str, object] = self._call("info")
        return {**found, "engine_pid": self.pid}

    def flush(self) -> None:
        check_owner(self._path.parent, self._owner)
        if self._logged < LOG and sys.platform != "win32":
            sync_log(self._path)  # from here, so that no search waits for the disk
        else:
            self._call("flush")
            self._logged = 0

    def optimise(self) -> None:
        self._call("optimise")

    def kill(self) -> None:
        """End the engine at once, in the midst of whatever it does; what was acknowledged is on the disk."""
        check_owner(self._path.parent, self._owner)
        self._process.kill()

    def close(self) -> None:
        if os.getpid() != self._owner:
            return
        gone = self._process.poll() is not None  # and has not brought its files to an end
        try:
            if not gone:
                self._call("close")
        finally:
            with suppress(OSError):  # what it did not take when it was killed
                self._calls.close()
            self._answers.close()
            self._process.wait()
            self._watch.ended.set()
        if gone:
            raise self._is_gone()

    def _call(self, name: str, *values: object) -> Any:
        check_owner(self._path.parent, self._owner)
        with self._turns:
            try:
                self._watch.deadline = monotonic() + LONG.get(name, PATIENCE)
                send(self._calls, [name, values])
                answer = receive(self._answers)
                self._watch.deadline = inf
            except (EOFError, OSError, ValueError):  # ValueError: the pipe is closed already
                raise self._is_gone() from None
            except BaseException:  # Ctrl-C: what is half-read cannot be read on
                self._process.kill()
                self._process.wait()
                raise
        return _result(answer)

    def _is_gone(self) -> ArtifactError:
        if self._watch.late:
            return ArtifactError(
                f"{self._path}: the engine's process {self.pid} did not answer for {PATIENCE:g} s, stopped or waiting "
                "for its disk, and was ended: open the index again, it has what was acknowledged"
            )
        return ArtifactError(
            f"{self._path}: the engine's process {self.pid} is gone: open the index again, it has what was acknowledged"
        )


class _Watch:
    """Ends a process that is late with an answer, so that nobody waits for it without end.

    Attributes:
        deadline: when the answer is late; infinity while none is waited for.
        late: whether it came to that.
        ended: set when there is nothing to watch any more.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.deadline, self.late, self.ended = inf, False, Event()
        self._process = weakref.ref(process)  # an index that nobody closed is let go of
        Thread(target=self._run, name="engine's watch", daemon=True).start()

    def _run(self) -> None:
        while not self.ended.wait(_LOOK_AGAIN):
            process = self._process()
            if process is None:
                return
            if monotonic() > self.deadline:
                self.late = True
                process.kill()
                return


def _start(path: Path, *arguments: str) -> RemoteBackend:
    # The engine's process finds the package where this one found it, however it was put on the path.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", "lightretriever.index.worker", *arguments]
    try:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
    except OSError as error:
        raise ArtifactError(f"{path}: the engine's process cannot be started ({error.strerror})") from None
    backend = RemoteBackend(process, path)
    try:
        backend._watch.deadline = monotonic() + START
        answer = receive(backend._answers)
        backend._watch.deadline = inf
        _result(answer)
    except EOFError:
        code = process.wait()
        if backend._watch.late:
            raise ArtifactError(
                f"{path}: the engine's process {process.pid} was not ready within {START:g} s, stopped or waiting for "
                "its disk, and was ended: open the index again"
            ) from None
        raise ArtifactError(f"{path}: the engine's process ended as it began (exit {code})") from None
    except errors.LightRetrieverError:
        process.wait()
        raise
    return backend


def _result(answer: list[Any]) -> Any:
    if answer[0] == "ok":
        return answer[1]
    raise getattr(errors, answer[1])(answer[2])


def _steps(count: int, step: int = STEP) -> list[range]:
    return [range(start, min(start + step, count)) for start in range(0, count, step)]
