"""A writer is killed at random moments, again and again; nothing that it acknowledged may be lost or torn.

The writer is another process. It tells what it is about to do and what is done, one line each; what was told as done
must be there when the index is opened next, what was begun and not done may be there or not, document by document,
and nothing else may be.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from index.conftest import RandomTower, make_encoder, payload

from lightretriever import Index
from lightretriever.errors import MismatchError
from lightretriever.fusion import Fusion
from lightretriever.index.backend import pages
from lightretriever.index.sparse import stored_documents
from lightretriever.text.corpus import Document

TOWER = RandomTower()
QUERIES = ["w01 w02", "w03", "w10 w11 w12", "w30 w05"]
WORK = ("bulk", "add", "replace", "delete", "optimise", "table", "tune", "reindex")
MODELS = {"tiny": "r1", "huge": "r9"}  # with their revisions; both make the same vectors
WRITER = """
import sys
sys.path[:0] = {path!r}
from index.test_kills import write
write({index!r}, {seed}, {live}, {work!r})
"""


def document(number: int, version: int) -> Document:
    """One of a fixed set of texts, so that both sides know what version of it says."""
    rng = random.Random(number * 1_000 + version)
    text = " ".join(f"w{rng.randrange(38):02d}" for _ in range(12))
    return Document(f"d{number}", f"{text} {number} {version}", metadata={"version": version})


def put(index: Index, some: list[tuple[int, int]]) -> None:
    documents = [document(*one) for one in some]
    index.add([d.id for d in documents], TOWER.encode(documents), [payload(d) for d in documents])


def say(*words: object) -> None:
    os.write(1, (json.dumps(words) + "\n").encode())


def write(path: str, seed: int, live: bool, work: list[str]) -> None:
    """What the other process does: one random thing after the other, until it is killed."""
    rng = random.Random(seed)
    with Index.open(path, live=live) as index:
        say("ready", [])
        while True:
            kind = rng.choice(work)
            if kind in ("bulk", "add", "replace"):
                numbers = rng.sample(range(400), 200 if kind == "bulk" else 1 if kind == "add" else 8)
                some = [(number, rng.randrange(1_000)) for number in numbers]
                say("begin", some)
                put(index, some)
            elif kind == "delete":
                some = [(number, -1) for number in rng.sample(range(400), 10)]
                say("begin", some)
                index.delete([f"d{number}" for number, _ in some])
            else:
                some = []
                if kind == "optimise":
                    if live and not index.info().get("background"):
                        index.optimise(wait=False)
                    elif not live:
                        index.optimise()
                elif kind == "table":
                    model = str(index.info()["model"])
                    with suppress(MismatchError):  # it went over to the other one just now
                        index.set_table(make_encoder(rng.randrange(3), model, MODELS[model]).table)
                elif kind == "reindex" and not index.info().get("background"):
                    model = next(name for name in MODELS if name != index.info()["model"])
                    tower = RandomTower(name=model, revision=MODELS[model])
                    index.reindex(make_encoder(0, model, MODELS[model]), tower, wait=not live)
                elif kind == "tune":
                    dense = rng.random()
                    index.set_fusion(Fusion(dense=dense, sparse=1 - dense))
            say("done", some)


Known = dict[int, int]  # number to version, -1 where it was deleted


def check(path: Path, known: Known, doubtful: Known, fresh: Path | None) -> None:
    """Every acknowledged document with the right vectors, every acknowledged deletion gone, nothing torn."""
    with Index.open(path) as index:
        held: dict[int, int] = {}
        for page in pages(index.backend, 128, vectors=True):
            stored = stored_documents(page.payloads)
            documents = [document(int(d.id[1:]), int(str(d.metadata["version"]))) for d in stored]
            assert documents == stored
            wanted = TOWER.encode(documents)
            assert np.allclose(page.dense, wanted.dense, atol=1e-6)
            assert page.sparse is not None
            assert wanted.sparse is not None
            assert np.array_equal(page.sparse.indptr, wanted.sparse.indptr)
            assert np.array_equal(page.sparse.indices, wanted.sparse.indices)
            assert np.allclose(page.sparse.values, wanted.sparse.values, atol=1e-6)
            held |= {int(d.id[1:]): int(str(d.metadata["version"])) for d in documents}
        assert index.count == len(held)
        for number in range(400):
            allowed = {known.get(number, -1), doubtful.get(number, known.get(number, -1))}
            assert held.get(number, -1) in allowed, number
        known.clear()
        known.update(held)
        if fresh is not None:
            with Index.create(fresh, index.encoder) as other:
                put(other, sorted(held.items()))
                same_answers(index, other)


def same_answers(index: Index, other: Index) -> None:
    for mode in ("dense", "sparse"):
        for left, right in zip(index.search_many(QUERIES, 20, mode), other.search_many(QUERIES, 20, mode), strict=True):
            assert [hit.score for hit in left] == pytest.approx([hit.score for hit in right], abs=1e-5)
            of_right = {hit.id: hit.score for hit in right}
            assert all(hit.id in of_right for hit in left if hit.score > left[-1].score + 1e-4)


def kill_again_and_again(folder: Path, kills: int, live: bool, seed: int, work: tuple[str, ...] = WORK) -> int:
    """Returns how many writes were acknowledged in all."""
    path = folder / "index"
    Index.create(path, make_encoder()).close()
    known: Known = {}
    rng = random.Random(seed)
    acknowledged = 0
    writers = []
    for turn in range(kills):
        script = WRITER.format(path=sys.path, index=str(path), seed=seed * 10_000 + turn, live=live, work=list(work))
        with subprocess.Popen(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, start_new_session=True
        ) as writer:
            assert writer.stdout is not None
            assert json.loads(writer.stdout.readline())[0] == "ready"
            time.sleep(rng.random() ** 2 * 0.8)
            writer.kill()
            assert writer.wait() == -9  # nothing else ended it
            writers.append(writer.pid)
            lines = [json.loads(line) for line in writer.stdout.read().splitlines() if line.endswith("]")]
        doubtful: Known = {}
        for said, some in lines:
            if said == "begin":
                doubtful = dict(some)
            else:
                known.update(some)
                acknowledged += 1
                doubtful = {}
        check(path, known, doubtful, folder / f"fresh{turn}" if turn % 5 == 0 else None)
    for pid in writers:  # engines of theirs that have not noticed yet must not write into a folder that is removed
        with suppress(ProcessLookupError):
            os.killpg(pid, 9)
    return acknowledged


@pytest.mark.parametrize("live", [False, True])
def test_nothing_acknowledged_is_lost(tmp_path: Path, live: bool) -> None:
    assert kill_again_and_again(tmp_path, 6, live, seed=1) > 6


@pytest.mark.slow
@pytest.mark.parametrize("live", [False, True])
def test_nothing_acknowledged_is_lost_in_a_hundred_kills(tmp_path: Path, live: bool) -> None:
    assert kill_again_and_again(tmp_path, 100, live, seed=2) > 100


@pytest.mark.slow
@pytest.mark.parametrize("kind", WORK)
def test_nothing_is_lost_whatever_is_interrupted(tmp_path: Path, kind: str) -> None:
    work = (kind,) if kind in ("bulk", "add", "replace") else (kind, "add")
    kill_again_and_again(tmp_path, 10, True, seed=3, work=work)
