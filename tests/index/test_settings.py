"""Settings that nobody wrote as they are: refused in one line, and nothing outside the index's folder is touched."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from index.conftest import RandomTower, fill, make_encoder
from index.raw_settings import execute, read_raw, write_raw

from lightretriever import Index
from lightretriever.errors import ArtifactError, LightRetrieverError, MismatchError
from lightretriever.fusion import Fusion
from lightretriever.index import settings as of_indexes
from lightretriever.index.folder import load_settings
from lightretriever.index.settings import Settings
from lightretriever.index.store.seal import seal
from lightretriever.weigher import Weigher

SUCCESSOR = {
    "model": "next",
    "revision": "r2",
    "dim": 8,
    "width": 40,
    "sparse": "bm25",
    "table_hash": "a" * 64,
    "tokenizer_hash": "b" * 64,
    "encoding": {"max_length": 32, "top_k": None, "source": "next", "base": None, "skip_ids": [0, 3]},
    "table": "table-2",
    "vectors": 2,
    "collection": "",
}
Made = tuple[Path, dict[str, Any]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """A closed index and its settings; beside it stands a folder of somebody else's."""
    place = tmp_path_factory.mktemp("settings")
    index, _, _ = fill(place / "i", 12, "bm25")
    with index:
        index.set_fusion(Fusion(weigher=Weigher.general()))
        index.optimise()
    (place / "documents").mkdir()
    (place / "documents/thesis").write_text("years of work")
    yield place / "i", read_raw(place / "i")
    assert (place / "documents/thesis").read_text() == "years of work"
    assert sorted(entry.name for entry in place.iterdir()) == ["documents", "i"]


def parse(stored: object) -> Settings:
    return Settings.parse(json.dumps(stored), "here/index.db")


def test_every_field_has_a_check() -> None:
    assert set(of_indexes._CHECKS) == {each.name for each in fields(Settings)} - {"engine_named"}


def test_settings_are_read_as_they_were_written(made: Made) -> None:
    before = replace(load_settings(made[0]), successor=SUCCESSOR, tenant="owner", encoding={"max_length": 8})
    assert Settings.parse(before.dump(), "here") == before
    assert before.fusion.weigher == Weigher.general()


ELSEWHERE = [
    "../documents",
    "/tmp",
    "..",
    ".",
    "",
    "a/b",
    "..\\documents",
    "C:\\x",
    "nul",
    "table\0",
    7,
    None,
    ["table"],
]
TAKEN = ["index.db", "index.db-wal", "segments", "documents", "table-0", "table-x", "table-2/..", "TABLE", "table-2\n"]


@pytest.mark.parametrize("name", [*ELSEWHERE, *TAKEN])
def test_tables_are_inside_and_called_as_tables_are(made: Made, name: object) -> None:
    for stored in ({**made[1], "table": name}, {**made[1], "successor": {**SUCCESSOR, "table": name}}):
        with pytest.raises(ArtifactError, match=r"index\.db is damaged: .*'table'"):
            parse(stored)


def test_a_successor_has_parts_of_its_own(made: Made) -> None:
    with pytest.raises(ArtifactError, match="'successor' has the vectors of the index itself"):
        parse({**made[1], "successor": {**SUCCESSOR, "vectors": made[1]["vectors"]}})
    with pytest.raises(ArtifactError, match="'successor' has the table of the index itself"):
        parse({**made[1], "successor": {**SUCCESSOR, "table": made[1]["table"]}})


@pytest.mark.parametrize("number", ["1; DROP TABLE documents", "1", 1.5, 0, -1, 1 << 40, True, None, [1]])
def test_a_table_of_vectors_is_a_number(made: Made, number: object) -> None:
    for stored in ({**made[1], "vectors": number}, {**made[1], "successor": {**SUCCESSOR, "vectors": number}}):
        with pytest.raises(ArtifactError, match=r"index\.db is damaged: .*'vectors'"):
            parse(stored)


@pytest.mark.parametrize("collection", ["customers", "../aliases", "everest-2/x", "everest2", "everest-", "everest-01"])
def test_a_server_s_collection_is_the_index_s_own(made: Made, collection: str) -> None:
    stored = {**made[1], "engine": "http://localhost:6333/everest", "collection": "everest-7"}
    assert parse(stored).collection == "everest-7"
    with pytest.raises(ArtifactError, match="'collection' is"):
        parse({**stored, "collection": collection})
    with pytest.raises(ArtifactError, match="'collection' is"):
        parse({**stored, "successor": {**SUCCESSOR, "collection": collection}})
    with pytest.raises(ArtifactError, match="'collection' is"):
        parse({**made[1], "collection": "everest"})  # the documents are here


CANNOT_BE = [
    {"dim": True},
    {"dim": 1 << 40},
    {"dim": 0},
    {"width": -1},
    {"ingested": -1},
    {"ingested": 1e6},
    {"zeros": float("nan")},
    {"vectors": 10**30},
    {"sparse": "splade"},
    {"state": "done"},
    {"tenant": "$and"},
    {"tenant": ""},
    {"engine": "abacus"},
    {"engine": "edge"},
    {"engine": ""},
    {"engine": "http://me:secret@host/name"},
    {"engine": "HTTP://Host/name"},
    {"model": "m\ud800"},
    {"encoding": {"max_length": -5}},
    {"encoding": {"source": ["x"]}},
    {"encoding": {"deep": {"er": 1}}},
    {"fusion": {"dense": True}},
    {"fusion": {"rrf_k": float("inf")}},
    {"fusion": {"method": "linear", "surprise": 1}},
    {"fusion": {"weigher": {"hidden": [[1.0]], "output": [1.0], "low": 0, "high": 1}}},
    {"fusion": []},
    {"successor": {**SUCCESSOR, "counted": [1]}},
    {"successor": {}},
    {"surprise": 1},
]


@pytest.mark.parametrize("change", CANNOT_BE, ids=repr)
def test_values_that_cannot_be_are_named(made: Made, change: dict) -> None:
    path, good = made
    message = rf"index\.db is damaged: .*{next(iter(change))}|damaged: .*weigh|is spelled|secret"
    with pytest.raises(ArtifactError, match=message) as raised:
        parse({**good, **change})
    assert len(str(raised.value)) < 400
    assert "\n" not in str(raised.value)
    try:
        write_raw(path, {**good, **change})
        with pytest.raises(ArtifactError, match=message):
            Index.open(path)
    finally:
        write_raw(path, good)


@pytest.mark.parametrize(
    "stored",
    [b"bytes", "", "[]", "7", "{", '{"model": ' * 50_000, '{"model": "a", "model": "b"}', "x" * (9 << 20)],
    ids=lambda value: ascii(value)[:20],
)
def test_what_is_no_settings_at_all_is_refused(made: Made, stored: object) -> None:
    path, good = made
    statistics = read_raw(path, "bm25")
    try:
        write_raw(path, stored)
        with pytest.raises(ArtifactError, match=r"index\.db.* is damaged|index\.db is not"):
            Index.open(path)
        execute(path, "DELETE FROM settings")
        with pytest.raises(ArtifactError, match=r"index\.db.* is damaged"):
            Index.open(path)
    finally:
        with closing(sqlite3.connect(path / "index.db")) as connection:
            connection.execute("DELETE FROM settings")
            rows = [
                (name, value, seal(name, value)) for name, value in (("index", json.dumps(good)), ("bm25", statistics))
            ]
            connection.executemany("INSERT INTO settings VALUES (?, ?, ?)", rows)
            connection.commit()


def test_each_field_is_needed(made: Made) -> None:
    for name in made[1]:
        with pytest.raises(ArtifactError, match=rf"'{name}'"):
            parse({other: value for other, value in made[1].items() if other != name})


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from([*ELSEWHERE, *TAKEN, "table-3", "local"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "table", "dim"]), inner, max_size=3)
    ),
    max_leaves=6,
)


def paths_of(stored: object, start: tuple = ()) -> Iterator[tuple]:
    """Where every value of some JSON is; of long lists the first."""
    for key, value in stored.items() if isinstance(stored, dict) else enumerate(stored[:1]):
        yield (*start, key)
        if isinstance(value, dict | list):
            yield from paths_of(value, (*start, key))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(st.data())
def test_whatever_a_field_holds_nothing_but_our_errors_comes(made: Made, data: st.DataObject) -> None:
    stored = json.loads(json.dumps({**made[1], "successor": data.draw(st.sampled_from([None, SUCCESSOR]))}))
    *way, last = data.draw(st.sampled_from(list(paths_of(stored))))
    holder = stored
    for step in way:
        holder = holder[step]
    if isinstance(holder, dict) and data.draw(st.booleans()):
        del holder[last]
    else:
        holder[last] = data.draw(values)
    try:
        found = parse(stored)
    except LightRetrieverError as error:
        assert "\n" not in str(error)
        assert len(str(error)) < 500
        return
    place = Path("/somewhere/index")
    for name in (found.table, (found.successor or {}).get("table")):
        assert name is None or (place / str(name)).parent == place
    assert Settings.parse(found.dump(), "there") == replace(found, engine_named=False)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(st.data())
def test_an_index_of_such_settings_opens_or_is_refused_and_keeps_its_parts(made: Made, data: st.DataObject) -> None:
    path, good = made
    field = data.draw(st.sampled_from(sorted(good)))
    write_raw(path, {**good, field: data.draw(values)})
    try:
        with Index.open(path) as index:
            index.search_many(["w01", "w02 w03"])
            index.info()
    except LightRetrieverError as error:
        assert "\n" not in str(error)
    finally:
        write_raw(path, good)
    with Index.open(path) as index:
        assert index.count == 12
        assert index.info()["damaged"] == {}
        assert len(index.search("w01", 12)) == 12


def test_an_open_index_says_so_too_and_goes_on_when_they_are_right_again(made: Made) -> None:
    path, good = made
    with Index.open(path) as index:
        expected = index.search("w01")
        for change in ({"dim": 0}, {"table": "../documents"}, {"table": "table-7"}, {"width": 39}, {"vectors": 8}):
            write_raw(path, {**good, **change})
            for _ in range(2):
                with pytest.raises(LightRetrieverError) as raised:
                    index.search("w01")
                assert "\n" not in str(raised.value)
            write_raw(path, good)
            assert index.search("w01") == expected


def test_what_a_reindex_would_remove_is_the_index_s_own(filled, tmp_path: Path) -> None:
    index, _, _ = filled(6, "bm25")
    index.close()
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents/letter").write_text("dear")
    stored = read_raw(index.path)
    write_raw(index.path, {**stored, "table": "../documents"})
    with pytest.raises(ArtifactError, match=r"'table' is '\.\./documents', not a plain file name"):
        Index.open(index.path)
    write_raw(index.path, stored)
    (index.path / "table-notes").write_text("mine")
    with Index.open(index.path) as index:
        index.reindex(make_encoder(1, "next", "r2"), RandomTower("next", "r2"))
        assert index.count == 6
    assert (tmp_path / "documents/letter").read_text() == "dear"
    assert (index.path / "table-notes").read_text() == "mine"


def test_a_table_of_other_sizes_than_the_settings_say_is_refused(made: Made) -> None:
    path, good = made
    for change, message in (
        ({"dim": 15}, "has 16 dimensions, the index's settings say 15|vectors of key 1 cannot be read"),
        ({"width": 39}, "has 40 rows, the index's settings say 39|they count 40 tokens, the index has 39"),
        ({"table_hash": "0" * 64}, "is another table of 'tiny' than the index was made with"),
        ({"tokenizer_hash": "0" * 64}, "has another tokenizer than the index was made with"),
        ({"revision": "r9"}, r"belongs to the model 'tiny' \(revision r1\), the index to 'tiny' \(revision r9\)"),
    ):
        write_raw(path, {**good, **change})
        try:
            with pytest.raises((MismatchError, ArtifactError), match=message):
                Index.open(path)
        finally:
            write_raw(path, good)


Replace = Callable[[Path, Path], None]


def as_link(place: Path, elsewhere: Path) -> None:
    place.symlink_to(elsewhere)


def as_pipe(place: Path, elsewhere: Path) -> None:
    del elsewhere
    os.mkfifo(place)


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
@pytest.mark.parametrize(
    "name", ["index.db", "index.db-wal", "table", "table/model.safetensors", "segments", "segments/lock", "anything"]
)
@pytest.mark.parametrize("stand_in", [as_link, as_pipe])
def test_a_link_or_pipe_in_the_folder_is_refused(filled, tmp_path: Path, name: str, stand_in: Replace) -> None:
    index, _, _ = filled(3, "bm25")
    index.optimise()
    index.close()
    elsewhere, place = tmp_path / "elsewhere", index.path / name
    if place.exists():
        shutil.move(place, elsewhere)
    else:
        elsewhere.write_text("dear")
    before = sorted((file, file.stat().st_size, file.stat().st_mtime_ns) for file in tmp_path.rglob("elsewhere*"))
    stand_in(place, elsewhere)
    with pytest.raises(ArtifactError, match=r"is a link, or neither file nor folder|it is no file"):
        Index.open(index.path)
    after = sorted((file, file.stat().st_size, file.stat().st_mtime_ns) for file in tmp_path.rglob("elsewhere*"))
    assert after == before


def test_a_file_replaced_by_a_folder_is_named(filled) -> None:
    index, _, _ = filled(3)
    index.close()
    for name in ("table/model.safetensors", "index.db"):
        good = (index.path / name).read_bytes()
        (index.path / name).unlink()
        (index.path / name).mkdir()
        with pytest.raises(ArtifactError, match=name):
            Index.open(index.path)
        (index.path / name).rmdir()
        (index.path / name).write_bytes(good)
    Index.open(index.path).close()


def test_a_folder_of_the_kind_before_is_no_index(tmp_path: Path) -> None:
    (tmp_path / "old/shard").mkdir(parents=True)
    (tmp_path / "old/manifest.json").write_text(json.dumps({"kind": "index", "format_version": 4}))
    with pytest.raises(ArtifactError, match=r"old was made by a version before the first release"):
        Index.open(tmp_path / "old")
    with suppress(ArtifactError):
        Index.create(tmp_path / "old", make_encoder(), overwrite=True)
    assert (tmp_path / "old/shard").is_dir()
