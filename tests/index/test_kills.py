"""Processes are killed at random instants, again and again; nothing that was acknowledged may be lost or torn.

Readers in other processes check every answer meanwhile against a ledger of what was begun and acknowledged.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from index.conftest import RandomTower, make_encoder
from index.forked import await_file, ended, fork, forks, kill, kill_builders
from index.ledger import (
    GONE,
    Ledger,
    Told,
    Write,
    apply,
    check_searches,
    document,
    found_by_vector,
    holdings,
    put,
    remove,
)

from lightretriever import Index, scratch
from lightretriever.errors import LockedError, MismatchError, UsageError
from lightretriever.fusion import Fusion
from lightretriever.index.engines.local import build
from lightretriever.index.folder import load_settings
from lightretriever.index.ingest import index_corpus, ingest_vectors
from lightretriever.index.migrate import migrate_index
from lightretriever.vectors.encode import encode_corpus
from lightretriever.vectors.folder import VectorsFolder

pytestmark = forks

DOCUMENTS = 300
MODELS = {"tiny": "r1", "huge": "r9"}  # with their revisions; both make the same vectors
WRITES = ("add", "bulk", "replace", "delete")
UPKEEP = ("table", "fusion", "optimise", "build", "process", "reindex")


def work(path: Path, ledger: Ledger, ready: Path, seed: int, verbs: tuple[str, ...]) -> None:
    """One random thing after the other, until killed."""
    rng = random.Random(seed)
    build.DUE = 40  # in this process alone
    with Index.open(path) as index:
        held = ledger.read().held()
        ready.touch()
        while True:
            verb = rng.choice(verbs)
            if verb in WRITES:
                write = some_write(rng, verb, held)
                ledger.begin(write)
                (remove if verb == "delete" else put)(index, write)
                ledger.done()
                apply(held, write)
            else:
                upkeep(index, verb, rng)


def some_write(rng: random.Random, verb: str, held: dict[int, int]) -> Write:
    count = {"add": 1, "bulk": 60, "replace": 8, "delete": 5}[verb]
    chosen = sorted(held) if verb in ("replace", "delete") and held else range(DOCUMENTS)
    numbers = rng.sample(chosen, min(count, len(chosen)))
    return [(number, GONE if verb == "delete" else rng.randrange(1_000)) for number in numbers]


def upkeep(index: Index, verb: str, rng: random.Random) -> None:
    model = index.settings.model
    with suppress(LockedError, UsageError, MismatchError):  # it is being built, or went over to the other model
        match verb:
            case "table":
                index.set_table(make_encoder(rng.randrange(3), model, MODELS[model]).table)
            case "fusion":
                dense = rng.random()
                index.set_fusion(Fusion(dense=dense, sparse=1 - dense))
            case "optimise":
                index.optimise()
            case "build":
                build.build_due(index.path, index._state.database)
            case "process":
                build.start_building(index.path)
            case "reindex":
                other = next(name for name in MODELS if name != model)
                tower = RandomTower(name=other, revision=MODELS[other])
                index.reindex(make_encoder(0, other, MODELS[other]), tower)


def read(path: Path, ledger: Ledger, stop: Path, seed: int) -> None:
    """Search until told to stop, and check every answer."""
    rng = random.Random(seed)
    with Index.open(path) as index:
        while not stop.exists():
            before = ledger.read()
            held = before.held()
            numbers = rng.sample(range(DOCUMENTS), 12)
            asked = [(number, held.get(number, rng.randrange(1_000))) for number in numbers]
            mass = before.begun if before.begun and len(before.begun) > 1 and before.begun[0][1] != GONE else None
            found = found_by_vector(index, [*asked, *(mass or [])], 3)
            after = ledger.read()
            touched = during(before, after)
            check_answers(asked, found[: len(asked)], held, touched)
            if mass and after.writes == before.writes:  # all of a write is there, or nothing
                new = {
                    at in some for at, some in zip(mass, found[len(asked) :], strict=True) if held.get(at[0]) != at[1]
                }
                assert len(new) < 2, "half of a write is there"


def during(before: Told, after: Told) -> set[tuple[int, int]]:
    """What may have been written between two looks at the ledger."""
    writes = [*after.commits[len(before.commits) :], before.begun or [], after.begun or []]
    return {one for write in writes for one in write}


def check_answers(
    asked: Write, found: list[list[tuple[int, int]]], held: dict[int, int], touched: set[tuple[int, int]]
) -> None:
    uncertain = {number for number, _ in touched}
    for (number, version), some in zip(asked, found, strict=True):
        for one in some:
            assert held.get(one[0], GONE) == one[1] or one in touched, f"{one} was never stored, or is gone"
        if number in held and number not in uncertain:
            assert some[:1] == [(number, version)], f"{number} was acknowledged, and is not found"
        if held and not uncertain:
            assert len(some) == min(3, len(held))


def settle(path: Path, ledger: Ledger, deep: bool) -> None:
    """After a kill: what was begun is there as a whole, or not at all; say so."""
    told = ledger.read()
    held = told.held()
    with Index.open(path) as index:
        there = holdings(index.engine)
        with_begun = dict(held)
        apply(with_begun, told.begun or [])
        assert there in (held, with_begun)
        if told.begun is not None:
            (ledger.done if there == with_begun else ledger.lost)()
        if deep:
            check_searches(index, there)


def kill_again_and_again(folder: Path, kills: int, seed: int, verbs: tuple[str, ...] = (*WRITES, *UPKEEP)) -> int:
    """Returns how many writes were acknowledged."""
    path, ledger, stop = folder / "index", Ledger(folder / "ledger"), folder / "stop"
    Index.create(path, make_encoder()).close()
    rng = random.Random(seed)
    readers = [fork(lambda: read(path, ledger, stop, seed), 900) for _ in range(2)]
    try:
        for turn in range(kills):
            ready = folder / f"ready{turn}"
            writer = fork(lambda: work(path, ledger, ready, seed * 10_000 + turn, verbs))  # noqa: B023
            await_file(ready, writer)
            time.sleep(rng.random() ** 2 * 0.5)
            assert kill(writer) == -9, "it ended before"
            if rng.random() < 0.5:
                kill_builders(path)
            settle(path, ledger, deep=turn % 5 == 0)
            for reader in readers:
                assert os.waitpid(reader, os.WNOHANG) == (0, 0), "a reader found something wrong"
    finally:
        stop.touch()
        codes = [ended(reader) for reader in readers if alive(reader)]
        kill_builders(path)
    assert codes == [0, 0]
    check_folder(path)
    return len(ledger.read().commits)


def alive(child: int) -> bool:
    with suppress(ProcessLookupError, ChildProcessError):
        os.kill(child, 0)
        return True
    return False


def check_folder(path: Path) -> None:
    """The next use removes whatever killed processes left."""
    with Index.open(path) as index:
        index.set_table(index.encoder.table)
        index.optimise()
    settings = load_settings(path)
    wanted = {settings.table, *([] if settings.successor is None else [settings.successor["table"]])}
    assert {entry.name for entry in path.iterdir()} == {"index.db", "segments", *wanted}
    assert len([entry for entry in (path / "segments").iterdir() if entry.is_dir()]) == 1


def test_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    assert kill_again_and_again(tmp_path, 12, seed=1) > 1


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_in_many_kills(tmp_path: Path) -> None:
    assert kill_again_and_again(tmp_path, 120, seed=2) > 12  # 30 beside six other processes, hundreds alone


@pytest.mark.slow
@pytest.mark.parametrize("verb", [*WRITES, *UPKEEP])
def test_nothing_is_lost_whatever_is_interrupted(tmp_path: Path, verb: str) -> None:
    kill_again_and_again(tmp_path, 10, seed=3, verbs=(verb,) if verb in ("add", "bulk", "replace") else (verb, "bulk"))


CORPUS = [document(number, number % 5) for number in range(150)]


class Whole:
    """What makes a whole index or file, and what must be there when it was killed and called again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.out = folder / "out"
        self.source = folder / "source"
        with Index.create(self.source, make_encoder()) as index:
            put(index, [(int(d.id[1:]), int(str(d.metadata["version"]))) for d in CORPUS])
            index.optimise()
            put(index, [(0, 0), (1, 1)])
            index.snapshot(folder / "taken")
        encode_corpus(CORPUS, RandomTower(), folder / "vectors", dtype="float32")

    def create(self) -> None:
        if not self.out.exists():
            Index.create(self.out, make_encoder()).close()

    def overwrite(self) -> None:
        Index.create(self.out, make_encoder(), overwrite=True).close()

    def ingest_corpus(self) -> None:
        index_corpus(self.out, CORPUS, RandomTower(), make_encoder())

    def ingest_vectors(self) -> None:
        ingest_vectors(self.out, VectorsFolder.open(self.folder / "vectors"), make_encoder())

    def snapshot(self) -> None:
        if not self.out.exists():
            with Index.open(self.source) as index:
                index.snapshot(self.out)

    def restore(self) -> None:
        if not self.out.exists():
            Index.restore(self.folder / "taken", self.out)

    def migrate(self) -> None:
        migrate_index(self.source, "local", self.out)

    def clear(self, verb: str) -> None:
        """Remove what a verb made, unless it takes the place of that itself."""
        if verb == "snapshot":
            self.out.unlink(missing_ok=True)
        elif verb != "overwrite":
            remove_folder(self.out)


VERBS = ("create", "overwrite", "ingest_corpus", "ingest_vectors", "snapshot", "restore", "migrate")


def kill_a_verb(folder: Path, verb: str, kills: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Whole(folder)
    call: Callable[[], None] = getattr(whole, verb)
    if verb == "overwrite":
        whole.create()
    begun = time.monotonic()
    assert ended(fork(call)) == 0
    took = time.monotonic() - begun
    rng, killed, complete = random.Random(kills), 0, True
    for turn in range(kills * 10):
        if complete or turn % 3 == 0:  # else it goes on with what the last left
            whole.clear(verb)
        child = fork(call)
        time.sleep(rng.random() * took)
        complete = kill(child) != -9  # it was faster
        killed += not complete
        if killed == kills:
            break
    monkeypatch.setattr(scratch, "_YOUNG", 0.0)  # a folder that was made just before the kill is removed at once
    assert ended(fork(call)) == 0, "it does not go on with what was left"
    check_whole(whole, verb)
    whole.clear(verb)  # where all is there nothing is done, and what lies beside it stays
    assert ended(fork(call)) == 0
    check_whole(whole, verb)
    left = {entry.name for entry in folder.iterdir()} - {"out", "source", "taken", "vectors"}
    assert not left, left
    assert killed > kills // 3


def remove_folder(path: Path) -> None:
    import shutil

    if path.exists():
        shutil.rmtree(path)


def check_whole(whole: Whole, verb: str) -> None:
    path = whole.out
    if verb == "snapshot":
        path = whole.folder / "restored"
        Index.restore(whole.out, path)
    with Index.open(path) as index, Index.open(whole.source) as source:
        held = holdings(index.engine)
        if verb in ("create", "overwrite"):
            assert not held
        else:
            assert held == holdings(source.engine)
            check_searches(index, held, source)
    if verb == "snapshot":
        remove_folder(path)


@pytest.mark.parametrize("verb", VERBS)
def test_what_makes_an_index_is_killed_and_called_again(
    tmp_path: Path, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_a_verb(tmp_path, verb, 2, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_what_makes_an_index_is_killed_and_called_again_often(
    tmp_path: Path, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_a_verb(tmp_path, verb, 14, monkeypatch)
