"""An index that may not be written to can be searched, and says of writes that it cannot in one line."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from index.conftest import RandomTower, make_encoder
from index.forked import await_file, ended, fork, forks, kill
from index.ledger import check_searches, put, remove

from lightretriever import Index
from lightretriever.errors import ArtifactError
from lightretriever.fusion import Fusion
from lightretriever.index.engines.local.check import check_index

pytestmark = [*forks, pytest.mark.skipif(os.name == "nt", reason="Windows has other rights")]
NOBODY = 65_534
HELD = dict.fromkeys(range(30), 0)


def write(path: Path) -> None:
    with Index.create(path, make_encoder()) as index:
        put(index, list(HELD.items())[:20])
        index.optimise()
        put(index, list(HELD.items())[20:])


@contextmanager
def read_only(path: Path) -> Iterator[None]:
    """Nobody but root may write to the folder or what is in it."""
    entries = [path, *path.rglob("*")]
    modes = [entry.stat().st_mode for entry in entries]
    for entry in entries:
        entry.chmod(0o555 if entry.is_dir() else 0o444)
    yield
    for entry, mode in zip(entries, modes, strict=True):
        if entry.exists():
            entry.chmod(mode)


def as_nobody(action: Callable[[], None]) -> int:
    """Do it as a user who owns nothing; root may write whatever the modes say."""

    def dropped() -> None:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        action()

    return ended(fork(dropped))


def use(path: Path, held: dict[int, int] = HELD) -> None:
    with Index.open(path) as index:
        check_searches(index, held)
        assert index.count == len(held)
        assert index.info()["damaged"] == {}
        calls: list[Callable[[], object]] = [
            lambda: put(index, [(1, 1)]),
            lambda: remove(index, [(1, 1)]),
            lambda: index.set_fusion(Fusion(dense=0.5, sparse=0.5)),
            lambda: index.set_table(make_encoder(1).table),
            lambda: index.optimise(),
            lambda: index.reindex(make_encoder(0, "huge", "r9"), RandomTower(name="huge", revision="r9")),
            lambda: index.flush(),
        ]
        for call in calls:
            with pytest.raises(ArtifactError, match=r"read-only|cannot be written") as caught:
                call()
            assert "\n" not in str(caught.value)
            assert str(path) in str(caught.value)
        check_searches(index, held)
    assert not list(check_index(path))


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Path]:
    """A folder that anybody may enter."""
    tmp_path.chmod(0o755)
    yield tmp_path
    shutil.rmtree(tmp_path / "i", ignore_errors=True)


def test_an_index_of_another_user(shared: Path) -> None:
    write(shared / "i")
    before = {entry.name for entry in (shared / "i").iterdir()}
    with read_only(shared / "i"):
        assert as_nobody(lambda: use(shared / "i")) == 0
    assert {entry.name for entry in (shared / "i").iterdir()} == before, "something was left beside it"


def test_a_log_that_a_killed_writer_left(shared: Path) -> None:
    write(shared / "i")

    def writer() -> None:
        with Index.open(shared / "i") as index:
            put(index, [(100, 1)])
            (shared / "ready").touch()
            time.sleep(60)

    child = fork(writer)
    await_file(shared / "ready", child)
    kill(child)
    assert (shared / "i" / "index.db-wal").stat().st_size
    with read_only(shared / "i"):
        assert as_nobody(lambda: use(shared / "i", {**HELD, 100: 1})) == 0
    (shared / "i" / "index.db-shm").unlink()

    def refused() -> None:
        with pytest.raises(
            ArtifactError, match=r"is read-only, and index.db-wal holds .*: open it once where it may be"
        ):
            Index.open(shared / "i")

    with read_only(shared / "i"):
        assert as_nobody(refused) == 0
    with Index.open(shared / "i") as index:
        check_searches(index, {**HELD, 100: 1})


def test_while_its_owner_writes(shared: Path) -> None:
    write(shared / "i")
    with Index.open(shared / "i") as index:
        put(index, [(200, 1)])
        os.chmod(shared / "i", 0o755)  # noqa: PTH101

        def follow() -> None:
            with Index.open(shared / "i") as reader:
                check_searches(reader, {**HELD, 200: 1})
                (shared / "i.seen").touch()

        if os.geteuid() == 0:
            os.chmod(shared, 0o777)  # noqa: PTH101
        child = fork(lambda: as_nobody(follow) and os._exit(1))
        assert ended(child) == 0
        put(index, [(201, 1)])
        check_searches(index, {**HELD, 200: 1, 201: 1})
