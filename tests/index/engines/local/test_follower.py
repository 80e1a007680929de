"""What a process knows of an index, kept up to date: the same as if it were read anew, whatever was done to it."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from index.conftest import RandomTower, fill, make_documents, make_encoder, payload
from index.forked import fork, forks

from lightretriever import Encoded, Index
from lightretriever.errors import ArtifactError
from lightretriever.index.engines.engine import Asked
from lightretriever.index.engines.local import build
from lightretriever.index.engines.local.engine import LocalEngine
from lightretriever.index.filter.language import parse_filter
from lightretriever.index.segment.segment import read_descriptions
from lightretriever.index.store.database import Database
from lightretriever.text.corpus import Document

TOWER = RandomTower()
QUERIES = ["w01 w02", "w03", "w10 w11 w12", "w30 w05"]
FILTERS = [
    None,
    {"even": True},
    {"group": {"$in": [1, 2, 3]}},
    {"tags": "t1", "even": False},
    {"new": {"$exists": True}},
]
ALIKE = 5e-5  # of scores that segments and fresh rows give: both are codes


def put(index: Index, documents: list[Document]) -> None:
    index.add([d.id for d in documents], TOWER.encode(documents), [payload(d) for d in documents])


def descriptions(index: Index) -> list[tuple[int, int, int]]:
    with index._state.database.reading() as connection:
        found = read_descriptions(connection, index._state.database.file).values()
    return [(one.after, one.until, one.documents) for one in found]


def answers(engine: LocalEngine, encoded: Encoded) -> list[list[tuple[str, float]]]:
    """Every document with its score, of each query, arm and filter."""
    found = []
    for where in FILTERS:
        asked = Asked(encoded.dense, encoded.sparse, 1_000, parse_filter(where))
        result = engine.search(asked)
        rankings = (*result.dense, *result.sparse)
        found += [list(zip(result.ids(one.keys), one.scores.tolist(), strict=True)) for one in rankings]
    return found


def assert_as_read_anew(index: Index) -> None:
    """What this process knows by and by is what one that begins now finds; and what the documents themselves say."""
    database = Database(index.path / "index.db")
    try:
        encoded = index.encoder.encode(QUERIES)
        anew = answers(LocalEngine(index.path, database), encoded)
    finally:
        database.close()
    assert isinstance(index.engine, LocalEngine)
    for known, read in zip(answers(index.engine, encoded), anew, strict=True):
        assert known == read
    stored = list(index.documents())
    vectors, queries = TOWER.encode(stored), make_encoder().encode(QUERIES)
    dense = queries.dense @ vectors.dense.T if stored else np.zeros((len(QUERIES), 0))
    for row, ranking in enumerate(anew[: len(QUERIES)]):  # without a filter, the dense ones come first
        expected = {document.id: score for document, score in zip(stored, dense[row].tolist(), strict=True)}
        assert dict(ranking) == pytest.approx(expected, abs=ALIKE)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    with fill(tmp_path / "i", 120)[0] as index:
        yield index


steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 30), st.integers(1, 12)),
        st.tuples(st.just("delete"), st.integers(0, 30), st.integers(1, 12)),
        st.tuples(st.just("optimise"), st.just(0), st.just(0)),
        st.tuples(st.just("build"), st.just(0), st.just(0)),
        st.tuples(st.just("search"), st.just(0), st.just(0)),
    ),
    max_size=10,
)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(steps=steps, sparse=st.sampled_from(["lm", "bm25"]))
def test_kept_up_to_date_it_is_as_read_anew(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, int]], sparse: str
) -> None:
    folder = tmp_path_factory.mktemp("follow")
    documents = make_documents(43)
    expected: set[str] = set()
    with pytest.MonkeyPatch.context() as patch, Index.create(folder / "i", make_encoder(), sparse=sparse) as index:
        patch.setattr(build, "DUE", 8)
        patch.setattr("lightretriever.index.upkeep.start_building", lambda _: None)
        for what, first, count in steps:
            some = documents[first : first + count]
            if what == "add":
                put(index, some)
                expected |= {document.id for document in some}
            elif what == "delete":
                index.delete([document.id for document in some])
                expected -= {document.id for document in some}
            elif what == "optimise":
                index.optimise()
            elif what == "build":
                build.build_due(index.path, index._state.database)
            else:
                index.search("w01")
        assert {document.id for document in index.documents()} == expected
        assert_as_read_anew(index)
        assert index.info()["damaged"] in ({}, [])
    shutil.rmtree(folder)


def test_small_segments_are_taken_into_the_next(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "DUE", 20)
    monkeypatch.setattr("lightretriever.index.upkeep.start_building", lambda _: None)
    database = index._state.database
    build.build_due(index.path, database)
    assert descriptions(index) == [(0, 120, 120)]
    put(index, [Document(f"a{i}", "w01") for i in range(30)])
    build.build_due(index.path, database)  # the first is four times larger: it stays
    assert descriptions(index) == [(0, 120, 120), (120, 150, 30)]
    put(index, [Document(f"b{i}", "w02") for i in range(10)])
    build.build_due(index.path, database)  # too few
    assert descriptions(index) == [(0, 120, 120), (120, 150, 30)]
    put(index, [Document(f"c{i}", "w03") for i in range(10)])
    build.build_due(index.path, database)  # with the second, and then the first is not so much larger
    assert descriptions(index) == [(0, 170, 170)]
    assert len(list((index.path / "segments").glob("*/"))) == 1
    assert_as_read_anew(index)


def test_what_is_gone_is_not_found_and_not_built_again(index: Index) -> None:
    index.optimise()
    index.delete([f"d{i}" for i in range(0, 120, 2)])
    assert_as_read_anew(index)
    put(index, make_documents(120)[:10])  # five anew, five replaced
    assert_as_read_anew(index)
    index.delete(["d0", "d1"])
    assert_as_read_anew(index)
    index.optimise()
    assert_as_read_anew(index)
    assert descriptions(index)[0][2] == index.count == 63
    with index._state.database.reading() as connection:
        assert connection.execute("SELECT count(*) FROM gone").fetchone() == (0,)  # no segment holds one of them


def test_what_is_whole_is_not_built_again(index: Index) -> None:
    def names() -> set[str]:
        return {folder.name for folder in (index.path / "segments").glob("*/")}

    index.optimise()
    first = names()
    index.optimise()
    assert names() == first
    for change in (lambda: put(index, [Document("x", "w01")]), lambda: index.delete(["d3"])):
        change()
        before = names()
        index.optimise()
        assert names() != before
        assert descriptions(index)[0][2] == index.count
        assert_as_read_anew(index)
    (file,) = (index.path / "segments").glob("*/dense.lo.bin")
    file.write_bytes(file.read_bytes()[:-1])
    before = names()
    index.optimise()
    assert names() != before


def test_filters_are_found_once_and_extended(index: Index) -> None:
    assert isinstance(index.engine, LocalEngine)
    follower, where = index.engine.follower, parse_filter({"even": True})
    view = follower.view()
    _, masks = follower.masks(view, where)
    assert follower.masks(view, parse_filter({"even": True}))[1] is masks
    assert follower.masks(view, parse_filter({"even": 1}))[1] is not masks  # which Python takes for the same
    put(index, [Document("new", "w01", metadata={"even": True}), Document("other", "w01", metadata={"even": False})])
    found = {hit.id for hit in index.search("w01", 500, "dense", {"even": True})}
    assert "new" in found and "other" not in found
    index.optimise()
    assert {hit.id for hit in index.search("w01", 500, "dense", {"even": True})} == found
    index.delete(["new", "d0"])
    assert {hit.id for hit in index.search("w01", 500, "dense", {"even": True})} == found - {"new", "d0"}
    ratios = [document.metadata["ratio"] for document in index.documents() if "ratio" in document.metadata]
    for number in range(200):  # more than are kept
        wanted = sum(ratio >= number / 100 for ratio in ratios)
        assert len(index.search("w01", 500, "dense", {"ratio": {"$gte": number / 100}})) == wanted
    assert_as_read_anew(index)


def remove(folder: Path) -> None:
    shutil.rmtree(folder)


def flip(folder: Path) -> None:
    for file in sorted(folder.iterdir()):
        data = bytearray(file.read_bytes())
        if data:
            data[len(data) // 2] ^= 16
            file.write_bytes(bytes(data))


def cut(folder: Path) -> None:
    file = max(folder.iterdir(), key=lambda file: file.stat().st_size)
    os.truncate(file, file.stat().st_size // 2)


def remove_one(folder: Path) -> None:
    min(folder.iterdir()).unlink()


@pytest.mark.parametrize("damage", [remove, flip, cut, remove_one])
def test_a_damaged_segment_is_left_out_and_said_so(index: Index, damage: Callable[[Path], None]) -> None:
    index.optimise()
    index.delete(["d3"])
    put(index, [Document("new", "w01 w02")])
    expected = index.search_many(QUERIES, 200)
    (folder,) = (entry for entry in (index.path / "segments").iterdir() if entry.is_dir())
    damage(folder)
    with Index.open(index.path) as opened:
        found = opened.search_many(QUERIES, 200)
        for one, other in zip(found, expected, strict=True):
            assert {hit.id for hit in one} == {hit.id for hit in other}
            assert [hit.score for hit in one] == pytest.approx([hit.score for hit in other], abs=2e-4)
        assert folder.name in str(opened.info()["damaged"])
        assert_as_read_anew(opened)
        opened.optimise()
        assert not opened.info()["damaged"]
        assert_as_read_anew(opened)
        assert not folder.exists()


class TestTwoProcesses:
    pytestmark = forks

    def test_each_sees_what_the_other_did(self, index: Index) -> None:
        index.search("w01")
        for turn in range(3):

            def write(turn: int = turn) -> None:
                put(index, [Document(f"t{turn}-{i}", "w01 w02") for i in range(5)])
                index.delete([f"d{turn}"])
                if turn == 1:
                    index.optimise()
                assert index.count == 120 + (turn + 1) * 4

            assert os.waitpid(fork(write), 0)[1] == 0
            assert index.count == 120 + (turn + 1) * 4
            assert_as_read_anew(index)


def test_an_id_that_leads_nowhere_is_damage(index: Index) -> None:
    """SQLite does not compare its tables with their indexes before it is asked to."""
    index.close()
    where = "WHERE name = 'documents_by_id'"
    with closing(sqlite3.connect(index.path / "index.db")) as connection:
        row = connection.execute(f"SELECT * FROM sqlite_schema {where}").fetchone()
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(f"DELETE FROM sqlite_schema {where}")
        connection.commit()
    with closing(sqlite3.connect(index.path / "index.db")) as connection:
        connection.execute("DELETE FROM documents WHERE id = 'd5'")
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("INSERT INTO sqlite_schema VALUES (?, ?, ?, ?, ?)", row)
        connection.commit()
    with Index.open(index.path) as opened:
        assert set(opened.engine.documents(["d4", "d6"])) == {"d4", "d6"}
        for read in (opened.engine.documents, opened.engine.rows):
            with pytest.raises(ArtifactError, match=r"index\.db is damaged"):
                read(["d4", "d5"])
