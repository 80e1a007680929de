"""The other side of `remote`: a process that holds one engine and does what it is asked, until it is asked no more.

    python -m lightretriever.index.worker open SHARD
    python -m lightretriever.index.worker create SHARD DIM SPARSE NICENESS

It reads calls from standard input and answers on standard output (see `wire`). When the asking process is gone, killed
or not, its input ends, and so does it.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Sequence
from io import BufferedReader
from pathlib import Path
from typing import cast

from lightretriever.errors import LightRetrieverError
from lightretriever.index.edge import EdgeBackend
from lightretriever.index.wire import receive, send


def main(arguments: Sequence[str]) -> None:
    """Hold an engine until it is told to close it.

    Raises:
        EOFError, BrokenPipeError: nobody is there any more to ask, or to be answered.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of the terminal: the asking one decides
    calls, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints must not break a frame
    if _is_alone():
        raise EOFError
    try:
        backend = _engine(arguments)
    except Exception as error:
        send(answers, _failure(error))
        return
    send(answers, ["ok", None])
    name = ""
    while name != "close":
        name, values = receive(calls)
        try:
            answer = ["ok", getattr(backend, name)(*values)]
        except Exception as error:
            answer = _failure(error)
        send(answers, answer)


def _is_alone() -> bool:
    """Whether the asking process was killed while this one started: opening an engine may take long, and the next
    owner would have to wait for it."""
    if sys.platform == "win32":  # where a pipe cannot be asked
        return False
    ready, _, _ = select.select([sys.stdin.buffer], [], [], 0)
    return bool(ready) and not cast(BufferedReader, sys.stdin.buffer).peek(1)


def _engine(arguments: Sequence[str]) -> EdgeBackend:
    if arguments[0] == "open":
        return EdgeBackend.open(Path(arguments[1]))
    path, dim, sparse, niceness = arguments[1:]
    if int(niceness) and sys.platform != "win32":
        os.nice(int(niceness))
    return EdgeBackend.create(Path(path), int(dim), sparse == "sparse")


def _failure(error: Exception) -> list[str]:
    if isinstance(error, LightRetrieverError):
        return ["error", type(error).__name__, str(error)]
    return ["error", "ArtifactError", f"the engine's process failed: {type(error).__name__}: {error}"]


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (EOFError, BrokenPipeError):
        os._exit(1)  # at once, as the asking process did: what was acknowledged is on the disk
