"""What was written to an index, told line by line, so that any process knows what the index must hold.

Documents have numbers and versions, and their text follows from these. A writer tells what it begins and what was
acknowledged; what was begun and not acknowledged may be there or not, but all of it or nothing.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from index.conftest import RandomTower, payload

from lightretriever import Index
from lightretriever.index.engines.engine import Engine, pages
from lightretriever.text.corpus import Document

TOWER = RandomTower()
GONE = -1
"""The version of a document that there is not."""
Write = Sequence[tuple[int, int]]
"""Numbers and versions of one transaction."""


def document(number: int, version: int) -> Document:
    """One of a fixed set."""
    rng = random.Random(number * 1_000_003 + version)
    text = " ".join(f"w{rng.randrange(38):02d}" for _ in range(12))
    return Document(f"d{number}", f"{text} {number} {version}", metadata={"version": version})


def put(index: Index, write: Write, flush: bool | None = None) -> None:
    """Store in one transaction."""
    documents = [document(*one) for one in write]
    index.add([d.id for d in documents], TOWER.encode(documents), [payload(d) for d in documents], flush=flush)


def remove(index: Index, write: Write, flush: bool | None = None) -> None:
    """Delete in one transaction."""
    index.delete([f"d{number}" for number, _ in write], flush=flush)


def number_of(found: Document) -> tuple[int, int]:
    """Number and version of a document, which must be exactly that one."""
    number, version = int(found.id[1:]), int(str(found.metadata["version"]))
    assert found == document(number, version)
    return number, version


def holdings(engine: Engine) -> dict[int, int]:
    """All versions that an engine has by number; each must be whole: text, metadata and vectors."""
    held: dict[int, int] = {}
    for rows in pages(engine, 128, vectors=True):
        these = [number_of(found) for found in rows.documents]
        assert not held.keys() & dict(these).keys(), "a document is there twice"
        held |= these
        wanted = TOWER.encode(rows.documents)
        assert np.allclose(rows.dense, wanted.dense, atol=1e-6)
        assert (rows.sparse is None) == (engine_sparse(engine) == "none")
        if rows.sparse is not None and engine_sparse(engine) == "lm":
            assert wanted.sparse is not None
            assert np.array_equal(rows.sparse.indptr, wanted.sparse.indptr)
            assert np.array_equal(rows.sparse.indices, wanted.sparse.indices)
            assert np.allclose(rows.sparse.values, wanted.sparse.values, atol=1e-6)
    assert engine.count() == len(held)
    return held


def engine_sparse(engine: Engine) -> str:
    """The kind of sparse side."""
    return str(engine.follower.view().settings.sparse)  # type: ignore[attr-defined]


def found_by_vector(index: Index, write: Write, k: int = 1) -> list[list[tuple[int, int]]]:
    """What is found by the vectors of documents, best first: a document that is there finds itself."""
    documents = [document(*one) for one in write]
    hits = index.search_encoded(TOWER.encode(documents), k, "dense")
    return [[number_of(Document(hit.id, hit.text, hit.title, hit.metadata)) for hit in some] for some in hits]


def check_searches(index: Index, held: Mapping[int, int], other: Index | None = None) -> None:
    """Every document is found by its vector, and no other is found; all answers are those of another index."""
    write = list(held.items())
    for one, found in zip(write, found_by_vector(index, write), strict=True):
        assert found == [one]
    everything = index.search_encoded(TOWER.encode([document(0, 0)]), len(held) + 10, "dense", texts=False)[0]
    assert {hit.id for hit in everything} == {f"d{number}" for number in held}
    if other is not None:
        same_answers(index, other)


def same_answers(index: Index, other: Index) -> None:
    """Two indexes answer alike."""
    queries = ["w01 w02", "w03", "w10 w11 w12", "w30 w05"]
    for mode in ("dense", "sparse"):
        for left, right in zip(index.search_many(queries, 20, mode), other.search_many(queries, 20, mode), strict=True):
            assert [hit.score for hit in left] == [approximately(hit.score) for hit in right]
            of_right = {hit.id for hit in right}
            assert all(hit.id in of_right for hit in left if hit.score > left[-1].score + 1e-4)


def approximately(score: float) -> object:
    """Equal but for rounding."""
    import pytest

    return pytest.approx(score, abs=2e-5)


@dataclass
class Ledger:
    """A file of what was begun and acknowledged.

    Attributes:
        file: appended to by one writer at a time.
    """

    file: Path

    def begin(self, write: Write) -> None:
        """Told before it is written."""
        self._tell("begin", write)

    def done(self, durable: bool = True) -> None:
        """What was begun last was acknowledged; ``durable``: and survives a power cut."""
        self._tell("done", durable)

    def lost(self) -> None:
        """What was begun last was not stored, and never will be."""
        self._tell("lost", None)

    def read(self) -> Told:
        """All of it."""
        told = Told()
        for line in self.file.read_bytes().split(b"\n")[:-1] if self.file.exists() else []:
            what, value = json.loads(line)
            if what == "begin":
                told.begun = [(number, version) for number, version in value]
                told.writes += 1
            else:
                if what == "done":
                    told.commits.append(list(told.begun or []))
                    told.durable = len(told.commits) if value else told.durable
                told.begun = None
        return told

    def _tell(self, what: str, value: object) -> None:
        descriptor = os.open(self.file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(descriptor, (json.dumps([what, value]) + "\n").encode())
        os.close(descriptor)


@dataclass
class Told:
    """What a ledger says.

    Attributes:
        commits: what was acknowledged, in order.
        durable: how many of these survive a power cut.
        begun: what was begun and not ended yet.
        writes: how many were begun.
    """

    commits: list[list[tuple[int, int]]] = field(default_factory=list)
    durable: int = 0
    begun: list[tuple[int, int]] | None = None
    writes: int = 0

    def held(self, commits: int | None = None) -> dict[int, int]:
        """What there is after so many commits; all if None."""
        held: dict[int, int] = {}
        for write in self.commits[:commits]:
            apply(held, write)
        return held


def apply(held: dict[int, int], write: Write) -> None:
    """Change what is held as a write does."""
    for number, version in write:
        if version == GONE:
            held.pop(number, None)
        else:
            held[number] = version
