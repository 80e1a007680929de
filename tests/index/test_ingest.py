"""Building an index, from a corpus and from vectors, interrupted wherever it may be."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from index.conftest import DIM, WORDS, RandomTower, make_documents, make_encoder, sparse_scores

from lightretriever import Encoded, Index, QueryEncoder
from lightretriever.errors import ArtifactError, InputError, MismatchError, UsageError
from lightretriever.index import ingest
from lightretriever.index.folder import load_settings
from lightretriever.index.ingest import index_corpus, ingest_vectors
from lightretriever.index.store.database import Connection, Database
from lightretriever.text.corpus import Document
from lightretriever.vectors.encode import encode_corpus
from lightretriever.vectors.folder import VectorsFolder

ALIKE = 5e-5  # of scores that segments and fresh rows give alike: impacts are stored in steps
QUERIES = ["w01 w05", "w07 w07 w30", "w12"]


def assert_alike(one: Index, other: Index) -> None:
    """The same hits with the same scores; of hits that tie with the last, any may have been left out."""
    modes = ("dense",) if one.settings.sparse == "none" else ("dense", "sparse", "hybrid")
    for mode in modes:
        pairs = zip(one.search_many(QUERIES, 40, mode), other.search_many(QUERIES, 40, mode), strict=True)
        for left, right in pairs:
            assert [hit.score for hit in left] == pytest.approx([hit.score for hit in right], abs=ALIKE)
            last = left[-1].score + 1e-4
            assert {hit.id for hit in left if hit.score > last} == {hit.id for hit in right if hit.score > last}


@pytest.mark.parametrize("sparse", ["lm", "bm25", "none"])
def test_from_a_corpus_and_from_vectors_alike(tmp_path: Path, sparse: str) -> None:
    documents = make_documents(150)
    report = index_corpus(tmp_path / "a", documents, RandomTower(), make_encoder(), sparse)
    assert (report.documents, report.read, report.duplicates, report.without_dense) == (150, 150, 0, 0)
    assert (report.resumed, report.complete_before) == (False, False)
    assert set(report.seconds) == {"encoding", "optimising"}
    encode_corpus(documents, RandomTower(), tmp_path / "v", dtype="float32")
    report = ingest_vectors(tmp_path / "b", VectorsFolder.open(tmp_path / "v"), make_encoder(), sparse)
    assert set(report.seconds) == {"storing", "optimising"}
    with Index.open(tmp_path / "a") as a, Index.open(tmp_path / "b") as b:
        assert_alike(a, b)
        assert sorted(a.documents(), key=lambda d: d.id) == sorted(documents, key=lambda d: d.id)
        for one in (a, b):
            assert (one.info()["segments"], one.info()["unoptimised"]) == ([150], 0)
        encoded = RandomTower().encode(documents)
        queries = a.encoder.encode(QUERIES)
        top = [hits[0] for hits in a.search_many(QUERIES, 1, "dense")]
        assert [hit.score for hit in top] == pytest.approx((queries.dense @ encoded.dense.T).max(axis=1), abs=5e-5)
        if sparse == "lm":
            top = [hits[0] for hits in a.search_many(QUERIES, 1, "sparse")]
            best = sparse_scores(queries.sparse, encoded.sparse).max(axis=1)
            assert [hit.score for hit in top] == pytest.approx(best, abs=1e-4)


@pytest.mark.parametrize("sparse", ["lm", "bm25"])
def test_of_documents_with_one_id_the_last_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sparse: str) -> None:
    monkeypatch.setattr("lightretriever.vectors.encode._PART", 7)
    documents = make_documents(40)
    again = [replace(documents[i], text=f"w0{i} again") for i in (3, 3, 5)]
    report = index_corpus(tmp_path / "i", [*documents, *again], RandomTower(), make_encoder(), sparse)
    assert (report.documents, report.read, report.duplicates) == (40, 43, 3)
    index_corpus(
        tmp_path / "j",
        [d for d in documents if d.id not in ("d3", "d5")] + again[1:],
        RandomTower(),
        make_encoder(),
        sparse,
    )
    with Index.open(tmp_path / "i") as i, Index.open(tmp_path / "j") as j:
        assert_alike(i, j)
        assert {d.text for d in i.documents() if d.id in ("d3", "d5")} == {"w03 again", "w05 again"}


def test_running_again_does_nothing_twice(tmp_path: Path) -> None:
    documents, tower = make_documents(30), RandomTower()
    index_corpus(tmp_path / "i", documents, tower, make_encoder(), "bm25")
    calls = tower.calls
    report = index_corpus(tmp_path / "i", documents, tower, make_encoder(), "bm25")
    assert (report.complete_before, report.documents, report.read) == (True, 30, 30)
    assert tower.calls == calls
    with pytest.raises(MismatchError, match="made of other documents"):
        index_corpus(tmp_path / "i", documents[1:], tower, make_encoder(), "bm25")


KILLED = """
import os, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from index.conftest import *
import lightretriever.vectors.encode as encoding
import lightretriever.index.ingest as ingest
from lightretriever.index.engines.local import build, engine
from lightretriever.index.store.database import Connection
encoding._PART = 16
steps = int(sys.argv[1])
def counted(function):
    def step(*args, **kwargs):
        global steps
        steps -= 1
        if steps < 0:
            os.kill(os.getpid(), 9)
        return function(*args, **kwargs)
    return step
os.fsync = counted(os.fsync)
Connection.execute = counted(Connection.execute)
Connection.executemany = counted(Connection.executemany)
build.write_arrays = counted(build.write_arrays)
tower = RandomTower()
documents = make_documents(100)
report = ingest.index_corpus({path!r}, [*documents, documents[4]], tower, make_encoder(), {sparse!r})
assert report.documents == 100 and (report.complete_before or report.duplicates == 1), report
"""


@pytest.mark.parametrize("sparse", ["lm", "bm25"])
def test_killed_anywhere_it_resumes(tmp_path: Path, sparse: str) -> None:
    script = KILLED.format(tests=str(Path(__file__).parents[1]), path=str(tmp_path / "i"), sparse=sparse)
    killed, stored = 0, 0
    for steps in (3, 25, 70, 120, 31, 90, 55, 140, 17, 100, 61, 40_000):
        if (tmp_path / "i").exists() and load_settings(tmp_path / "i").state == "building":
            with pytest.raises(ArtifactError, match="half-built"):
                Index.open(tmp_path / "i")
        run = subprocess.run([sys.executable, "-c", script, str(steps)], capture_output=True, text=True, check=False)
        assert run.returncode in (0, -9), run.stderr
        if (tmp_path / "i").exists():
            before, stored = stored, load_settings(tmp_path / "i").ingested
            assert stored >= before
        if run.returncode == 0:
            break
        killed += 1
    assert killed > 3
    documents = make_documents(100)
    index_corpus(tmp_path / "whole", documents, RandomTower(), make_encoder(), sparse)
    with Index.open(tmp_path / "i") as resumed, Index.open(tmp_path / "whole") as whole:
        assert_alike(resumed, whole)
        assert resumed.count == 100
        assert len(list((resumed.path / "segments").glob("*/"))) == 1


class Failing(RandomTower):
    """Ends as a user's interruption does, in the fourth part."""

    def encode(self, documents: list[Document], progress: Any = None) -> Encoded:
        if self.calls == 3:
            raise KeyboardInterrupt
        return super().encode(documents, progress)


def test_what_was_encoded_is_kept_and_not_encoded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightretriever.vectors.encode._PART", 10)
    documents = make_documents(50)
    with pytest.raises(KeyboardInterrupt):
        index_corpus(tmp_path / "i", documents, Failing(), make_encoder())
    settings = load_settings(tmp_path / "i")
    assert (settings.state, settings.ingested, settings.built_from) == ("building", 1 + 8 + 10, "corpus")
    tower, phases = RandomTower(), []

    def report(phase: str) -> Callable[[int, int | None], None]:
        phases.append((phase, []))
        return lambda done, total: phases[-1][1].append((done, total))

    found = index_corpus(tmp_path / "i", documents, tower, make_encoder(), report=report)
    # Of parts of 1, 8 and 10 documents nothing is done again; 31 are left: 1, 8, 10, 10 and 2.
    assert (found.resumed, found.documents, tower.calls) == (True, 50, 5)
    assert [phase for phase, _ in phases] == ["encoding", "optimising"]
    assert phases[0][1][-1] == (50, None)


def test_a_corpus_that_grew_while_it_was_begun_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightretriever.vectors.encode._PART", 10)
    documents = make_documents(50)
    with pytest.raises(KeyboardInterrupt):
        index_corpus(tmp_path / "i", documents[:30], Failing(), make_encoder(), "bm25")
    assert index_corpus(tmp_path / "i", documents, RandomTower(), make_encoder(), "bm25").documents == 50
    with pytest.raises(MismatchError, match=r"is complete, and was made of other documents: `add` these to it"):
        index_corpus(tmp_path / "i", make_documents(51), RandomTower(), make_encoder(), "bm25")
    with pytest.raises(MismatchError, match="made of other documents"):
        index_corpus(tmp_path / "i", documents[:-1], RandomTower(), make_encoder(), "bm25")


def test_another_build_is_not_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightretriever.vectors.encode._PART", 4)
    documents = make_documents(20)
    with pytest.raises(KeyboardInterrupt):
        index_corpus(tmp_path / "i", documents, Failing(), make_encoder(), "bm25")
    with pytest.raises(MismatchError, match="sparse 'bm25', now it is 'lm'"):
        index_corpus(tmp_path / "i", documents, RandomTower(), make_encoder())
    with pytest.raises(MismatchError, match="table_hash"):
        index_corpus(tmp_path / "i", documents, RandomTower(), make_encoder(1), "bm25")
    for others in (documents[1:], [*documents[:5], replace(documents[5], text="other"), *documents[6:]], documents[:5]):
        with pytest.raises(MismatchError, match=r"begun with other documents: restore them, or choose another output"):
            index_corpus(tmp_path / "i", others, RandomTower(), make_encoder(), "bm25")
    with pytest.raises(MismatchError, match="max_length"):
        index_corpus(tmp_path / "i", documents, RandomTower(max_length=99), make_encoder(), "bm25")
    assert index_corpus(tmp_path / "i", documents, RandomTower(), make_encoder(), "bm25").documents == 20


def test_things_of_two_models_are_refused_by_name(tmp_path: Path) -> None:
    documents = make_documents(3)
    encode_corpus(documents, RandomTower(has_sparse=False), tmp_path / "v")
    vectors = VectorsFolder.open(tmp_path / "v")
    other = make_encoder(model="other", revision="r2")
    with pytest.raises(MismatchError, match=r"'other'.*r2.*'tiny'"):
        index_corpus(tmp_path / "i", documents, RandomTower(), other)
    with pytest.raises(MismatchError, match=r"'other'.*r2.*'tiny'"):
        ingest_vectors(tmp_path / "i", vectors, other)
    with pytest.raises(UsageError, match="no sparse vectors"):
        ingest_vectors(tmp_path / "i", vectors, make_encoder())
    with pytest.raises(UsageError, match="no language-model head"):
        index_corpus(tmp_path / "i", documents, RandomTower(has_sparse=False), make_encoder())
    with pytest.raises(MismatchError, match="16 dimensions, the token table 32"):
        index_corpus(tmp_path / "i", documents, RandomTower(), make_encoder(dim=32))
    with pytest.raises(MismatchError, match="width 39"):
        index_corpus(tmp_path / "i", documents, RandomTower(vocab_size=39), make_encoder())
    with pytest.raises(UsageError, match="'splade'"):
        index_corpus(tmp_path / "i", documents, RandomTower(), make_encoder(), "splade")
    assert not (tmp_path / "i").exists()


def test_documents_that_the_tower_cannot_encode_are_kept_and_counted(tmp_path: Path) -> None:
    class Odd(RandomTower):
        def encode(self, documents, progress=None) -> Encoded:
            encoded = super().encode(documents, progress)
            for row, document in enumerate(documents):
                encoded.dense[row] *= {"d2": np.nan, "d5": 0, "d7": 3}.get(document.id, 1)
            encoded.sparse.values[0] = np.inf
            return encoded

    report = index_corpus(tmp_path / "i", make_documents(10), Odd(), make_encoder())
    assert (report.documents, report.without_dense) == (10, 2)
    with Index.open(tmp_path / "i") as index:
        scores = {hit.id: hit.score for hit in index.search("w01", 10, "dense")}
        assert len(scores) == 8 and not {"d2", "d5"} & set(scores)
        assert abs(scores["d7"]) <= 1
        assert {"d2", "d5"} < {hit.id for hit in index.search(" ".join(WORDS), 10)}
        assert len(index.search("w01 w02 w03 w04 w05 w06", 10, "sparse")) > 0


def test_a_corpus_that_cannot_be_read_leaves_nothing_behind(tmp_path: Path) -> None:
    def broken() -> Iterator[Document]:
        raise InputError("line 1")
        yield

    for documents, message in (([], "no documents"), (broken(), "line 1")):
        with pytest.raises(InputError, match=message):
            index_corpus(tmp_path / "i", documents, RandomTower(), make_encoder())
        with pytest.raises(InputError, match=r"no documents|line 1"):
            encode_corpus(documents, RandomTower(), tmp_path / "v")
    assert list(tmp_path.iterdir()) == []


def test_a_build_in_another_process_is_refused(tmp_path: Path) -> None:
    documents = make_documents(5)

    class Waiting(RandomTower):
        def encode(self, documents, progress=None) -> Encoded:
            script = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from index.conftest import *
from lightretriever.index.ingest import index_corpus
index_corpus({str(tmp_path / "i")!r}, make_documents(5), RandomTower(), make_encoder())
"""
            run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
            assert "LockedError" in run.stderr and "is being written to already" in run.stderr
            return super().encode(documents, progress)

    assert index_corpus(tmp_path / "i", documents, Waiting(), make_encoder()).documents == 5


def test_a_full_disk_stops_with_one_line_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite itself says so, of a file that may have no more pages."""
    monkeypatch.setattr("lightretriever.vectors.encode._PART", 10)
    documents = make_documents(600)
    connect = Database._connect

    def small(self: Database, writing: bool) -> Connection:
        connection = connect(self, writing)
        connection.execute("PRAGMA max_page_count = 16")
        return connection

    with monkeypatch.context() as patch, pytest.raises(ArtifactError, match="the disk is full") as error:
        patch.setattr(Database, "_connect", small)
        index_corpus(tmp_path / "i", documents, RandomTower(), make_encoder(), "bm25")
    assert "\n" not in str(error.value)
    assert 0 < load_settings(tmp_path / "i").ingested < 600
    report = index_corpus(tmp_path / "i", documents, RandomTower(), make_encoder(), "bm25")
    assert (report.documents, report.resumed) == (600, True)


def test_later_additions_are_kept_apart_from_the_source(tmp_path: Path) -> None:
    documents = make_documents(20)
    index_corpus(tmp_path / "i", documents, RandomTower(), make_encoder())
    with Index.open(tmp_path / "i", RandomTower()) as index:
        index.add_documents([Document("new", "w01")])
        assert index.settings.encoding == {"source": "tiny", "base": None, "max_length": 32, "top_k": None}
    assert index_corpus(tmp_path / "i", documents, RandomTower(), make_encoder()).documents == 21
    assert DIM == 16


def test_a_build_goes_on_from_what_it_was_begun_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightretriever.vectors.encode._PART", 4)
    documents, others = make_documents(20), make_documents(20, seed=1)
    for name, some in (("v", documents), ("w", others)):
        encode_corpus(some, RandomTower(), tmp_path / name, dtype="float32")
    vectors = VectorsFolder.open(tmp_path / "v")
    usable, left = ingest.usable, iter([True, True])

    def interrupted(*given: object) -> Encoded:
        if not next(left, False):
            raise KeyboardInterrupt
        return usable(*given)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ingest, "usable", interrupted)
        ingest_vectors(tmp_path / "a", vectors, make_encoder())
    settings = load_settings(tmp_path / "a")
    assert (settings.ingested, settings.source, settings.built_from) == (2, vectors.digest, "vectors")
    with pytest.raises(KeyboardInterrupt):
        index_corpus(tmp_path / "b", documents, Failing(), make_encoder())
    with pytest.raises(MismatchError, match="begun from vectors, now it is corpus"):
        index_corpus(tmp_path / "a", documents, RandomTower(), make_encoder())
    with pytest.raises(MismatchError, match="begun from corpus, now it is vectors"):
        ingest_vectors(tmp_path / "b", vectors, make_encoder())
    with pytest.raises(MismatchError, match="begun with other documents"):
        index_corpus(tmp_path / "b", others, RandomTower(), make_encoder())
    with pytest.raises(MismatchError, match=f"begun with other vectors than {tmp_path / 'w'}"):
        ingest_vectors(tmp_path / "a", VectorsFolder.open(tmp_path / "w"), make_encoder())
    assert index_corpus(tmp_path / "b", documents, RandomTower(), make_encoder()).documents == 20
    report = ingest_vectors(tmp_path / "a", vectors, make_encoder())
    assert (report.documents, report.resumed) == (20, True)
    again = ingest_vectors(tmp_path / "a", vectors, make_encoder())
    assert (again.documents, again.complete_before) == (20, True)
    with pytest.raises(MismatchError, match="was made of other vectors than"):
        ingest_vectors(tmp_path / "a", VectorsFolder.open(tmp_path / "w"), make_encoder())
    with Index.open(tmp_path / "a") as a, Index.open(tmp_path / "b") as b:
        assert_alike(a, b)


def test_a_complete_index_of_other_lengths_is_not_taken_for_the_same(tmp_path: Path) -> None:
    documents = make_documents(5)
    index_corpus(tmp_path / "i", documents, RandomTower(), make_encoder())
    with pytest.raises(MismatchError, match="max_length 32, now it is 64"):
        index_corpus(tmp_path / "i", documents, RandomTower(max_length=64), make_encoder())
    with pytest.raises(MismatchError, match="without top_k, now it is 8"):
        index_corpus(tmp_path / "i", documents, RandomTower(top_k=8), make_encoder())


@pytest.mark.parametrize("sparse", ["lm", "bm25"])
def test_the_last_in_the_corpus_wins_whatever_shard_it_is_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sparse: str
) -> None:
    monkeypatch.setattr("lightretriever.vectors.encode._PART", 4)
    documents = make_documents(20)
    documents[7] = replace(documents[2], text="w07 newer")
    documents[16] = replace(documents[5], text="w16 last")  # the second worker's, the one before the third's
    documents[17] = replace(documents[2], text="w17 newer")
    documents[18] = replace(documents[2], text="w18 last")  # the first worker's, those before the others'
    for i in (1, 2, 3):
        encode_corpus(documents, RandomTower(), tmp_path / "v", dtype="float32", shard=(i, 3))
    report = ingest_vectors(tmp_path / "i", VectorsFolder.open(tmp_path / "v"), make_encoder(), sparse)
    assert (report.documents, report.duplicates) == (16, 4)
    with Index.open(tmp_path / "i") as index:
        texts = {document.id: document.text for document in index.documents()}
        assert index.settings.encoding["source"] == "tiny"
    assert (texts["d2"], texts["d5"]) == ("w18 last", "w16 last")


def test_a_turned_table_turns_what_is_built(tmp_path: Path) -> None:
    axes = np.linalg.qr(np.random.default_rng(2).normal(size=(DIM, 6)))[0].astype(np.float32)
    encoder = QueryEncoder(make_encoder().table.rotated(axes))
    documents = make_documents(60)
    turned = RandomTower().encode(documents).dense @ axes
    turned /= np.linalg.norm(turned, axis=1, keepdims=True)
    index_corpus(tmp_path / "a", documents, RandomTower(), encoder, "none")
    encode_corpus(documents, RandomTower(), tmp_path / "v", dtype="float32")
    ingest_vectors(tmp_path / "b", VectorsFolder.open(tmp_path / "v"), encoder, "none")
    expected = (encoder.encode(QUERIES).dense @ turned.T).max(axis=1)
    for name in ("a", "b"):
        with Index.open(tmp_path / name) as index:
            top = [hits[0].score for hits in index.search_many(QUERIES, 1, "dense")]
            assert top == pytest.approx(expected, abs=5e-5)
    with pytest.raises(MismatchError, match="16 dimensions, the token table turns 20"):
        other = make_encoder(dim=20).table.rotated(np.eye(20, 6, dtype=np.float32))
        index_corpus(tmp_path / "c", documents, RandomTower(), QueryEncoder(other), "none")
