"""Pictures of an index's folder at one instant, as a power cut leaves it: they hold a prefix of what was committed.

The writer is stopped while the folder is copied. What it acknowledged as durable is in the copy, whatever is cut off
the end of the log behind it; of the rest, some commits in their order. So it is for copies without the shared memory
file, and with segments that were not all there.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import struct
import time
from contextlib import suppress
from pathlib import Path

import pytest
from index.conftest import make_encoder
from index.forked import await_file, fork, forks, kill
from index.ledger import GONE, Ledger, Told, apply, check_searches, holdings, put, remove
from index.test_kills import some_write

from lightretriever import Index
from lightretriever.errors import LockedError
from lightretriever.index.durability import FlushPolicy
from lightretriever.index.engines.local import build
from lightretriever.index.engines.local.check import check_index
from lightretriever.index.store.database import PAGE

pytestmark = forks
HEADER, FRAME = 32, 24 + PAGE


def work(path: Path, ledger: Ledger, ready: Path, seed: int) -> None:
    """Writes, some durable when they return, some later; builds now and then."""
    rng = random.Random(seed)
    build.DUE = 60  # in this process alone
    with Index.open(path, flush=FlushPolicy(documents=50)) as index:
        held = ledger.read().held()
        ready.touch()
        while True:
            verb = rng.choice(["add", "replace", "delete", "bulk", "build", "optimise"])
            if verb in ("build", "optimise"):
                with suppress(LockedError):  # a process that a write started is at it
                    build.build_due(index.path, index._state.database) if verb == "build" else index.optimise()
            else:
                if verb == "delete" and not held:
                    continue  # it would not be in the log
                write = some_write(rng, verb, held)
                flush = rng.choice([True, False, None])
                ledger.begin(write)
                (remove if verb == "delete" else put)(index, write, flush)
                apply(held, write)
                ledger.done(durable=not index._state.durability.pending)


def synced(copy: Path) -> int:
    """Bytes of a log that are on the disk for sure: what was taken over into the database, which is synced before."""
    memory = (copy / "index.db-shm").read_bytes()
    (filled,) = struct.unpack_from("=I", memory, 128)  # frames that were, or are just being, taken over
    return HEADER + filled * FRAME


def durable_size(log: Path) -> int:
    return log.stat().st_size if log.exists() else 0


def take(path: Path, copy: Path, ledger: Ledger, writer: int) -> Told:
    """Copy the folder at one instant; what was told by then."""
    os.kill(writer, signal.SIGSTOP)
    while "T (stopped)" not in Path(f"/proc/{writer}/status").read_text():
        assert os.waitpid(writer, os.WNOHANG) == (0, 0), "the writer ended"
        time.sleep(0.001)
    told = ledger.read()
    shutil.copytree(path, copy)
    os.kill(writer, signal.SIGCONT)
    return told


def damage(copy: Path, rng: random.Random, how: str, floor: int) -> None:
    """What a power cut leaves out: ends of the log that were not synced, files that were not."""
    log, memory = copy / "index.db-wal", copy / "index.db-shm"
    if how == "log cut" and log.exists() and memory.exists():
        least = min(max(floor, synced(copy)), log.stat().st_size)
        os.truncate(log, rng.randint(least, log.stat().st_size))
    if how != "whole":
        memory.unlink(missing_ok=True)
    if how == "segments cut":
        for array in (copy / "segments").glob("*/*.bin"):
            if rng.random() < 0.5:
                os.truncate(array, rng.randint(0, array.stat().st_size))


def check_copy(copy: Path, told: Told, how: str, deep: bool) -> None:
    damaged = list(check_index(copy))
    if how in ("segments cut", "log cut"):  # builds are durable too, and not told of: what they replaced is gone
        assert all("/segments/" in line for line in damaged)
    else:
        assert not damaged
    candidates = [told.held(count) for count in range(told.durable, len(told.commits) + 1)]
    if told.begun is not None:
        with_begun = told.held()
        apply(with_begun, told.begun)
        candidates.append(with_begun)
    with Index.open(copy) as index:
        there = holdings(index.engine)
        assert there in candidates
        if deep:
            check_searches(index, there)
            put(index, [(1_000, 1)])
            index.optimise()
            check_searches(index, {**there, 1_000: 1})
    assert not list(check_index(copy)) or not deep


def cut_again_and_again(folder: Path, times: int, seed: int) -> None:
    path, ledger = folder / "i", Ledger(folder / "ledger")
    Index.create(path, make_encoder()).close()
    rng = random.Random(seed)
    ready = folder / "ready"
    writer = fork(lambda: work(path, ledger, ready, seed), 900)
    try:
        await_file(ready, writer)
        for turn in range(times):
            time.sleep(rng.random() * 0.1)
            copy = folder / "copy"
            told = take(path, copy, ledger, writer)
            hows = ["whole", "no memory", "log cut", "segments cut"]
            for place, how in enumerate(hows):
                other = Path(shutil.copytree(copy, folder / f"copy{turn}-{place}"))
                damage(other, rng, how, durable_floor(other, told))
                check_copy(other, told, how, deep=(turn + place) % 4 == 0)
                shutil.rmtree(other, ignore_errors=True)  # a process may still be starting to build there
            shutil.rmtree(copy)
    finally:
        assert kill(writer) == -9, "the writer ended"
    told = ledger.read()
    assert len(told.commits) > times
    with Index.open(path) as index:
        assert GONE not in holdings(index.engine).values()


def durable_floor(copy: Path, told: Told) -> int:
    """Bytes of the log up to the last commit that was acknowledged as durable; all of them when the last was."""
    log = copy / "index.db-wal"
    if not log.exists() or not told.durable:
        return 0
    later = len(told.commits) - told.durable
    if not later:
        return log.stat().st_size
    ends = commit_ends(log)
    return ends[-min(later + 1, len(ends))] if ends else 0


def commit_ends(log: Path) -> list[int]:
    """Where the commits of a log end, of its own round."""
    data = log.read_bytes()
    salt = data[16:24]
    ends = []
    for at in range(HEADER, len(data) - FRAME + 1, FRAME):
        if data[at + 8 : at + 16] != salt:
            break
        if struct.unpack_from(">I", data, at + 4)[0]:
            ends.append(at + FRAME)
    return ends


@pytest.mark.parametrize("times", [3, pytest.param(40, marks=pytest.mark.slow)])
def test_a_picture_of_any_instant_holds_what_was_durable(tmp_path: Path, times: int) -> None:
    cut_again_and_again(tmp_path, times, seed=times)
