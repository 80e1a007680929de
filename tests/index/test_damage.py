"""Files of an index that are not what was written: bits flipped, ends cut off, whole files gone.

What was damaged is found by `check`, unless it says nothing of the index; what a search gives is right, or an error
that names the damage. Segments are not the truth: without them, or with damaged ones, every answer is the same.
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from index.conftest import RandomTower, fill, make_documents, payload

from lightretriever import Index
from lightretriever.errors import ArtifactError, LightRetrieverError
from lightretriever.index import upkeep
from lightretriever.index.engines.engine import pages
from lightretriever.index.engines.local import build
from lightretriever.index.engines.local.check import check_index
from lightretriever.index.store.database import PAGE
from lightretriever.text.corpus import Document

N = 120
TABLES = ("documents", "documents_by_id", "vectors_1", "gone", "conditions", "fields", "segments", "settings", "state")
QUERIES = ["w01 w02", "w03", "w10 w11 w12", "w30 w05 w07"]
Answers = list[object]


@pytest.fixture(autouse=True)
def nobody_builds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search that finds damage has a process build it again, with new statistics, while a test still compares."""
    monkeypatch.setattr(upkeep, "start_building", lambda _: None)


@pytest.fixture(scope="module", params=["lm", "bm25"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Answers]:
    """An index with a segment, rows that are in none, and documents that are gone of both; and what it answers."""
    path = tmp_path_factory.mktemp("damage") / "i"
    index, documents, _ = fill(path, N, request.param)
    index.optimise()
    late = [Document(f"late{d.id}", d.text, d.title, d.metadata) for d in documents[:40]]
    index.add([d.id for d in late], RandomTower().encode(make_documents(40, 5)), [payload(d) for d in late])
    index.delete([*(f"d{i}" for i in range(0, 30, 3)), *(f"lated{i}" for i in range(5))])
    found = answers(index)
    index.close()
    assert not list(check_index(path))
    return path, found


def answers(index: Index) -> Answers:
    """All that an index says, texts and metadata included."""
    found: Answers = [index.count, index.settings, sorted(index.documents(), key=lambda d: d.id)]
    # Impacts are stored in steps, and what is fused is a share of the distance between a list's first and last score.
    for mode, steps in (("dense", 1e-4), ("sparse", 1e-4), ("hybrid", 2e-3)):
        for where in (None, {"group": 3}, {"$not": {"even": True}}, {"ratio": {"$gte": 1}}):
            for hits in index.search_many(QUERIES, 200, mode, where):
                found.append({hit.id: (pytest.approx(hit.score, abs=steps), hit.text, hit.metadata) for hit in hits})
    return found


def content(path: Path) -> list[object]:
    """All rows of a database, but for what may differ from time to time."""
    connection = sqlite3.connect(path / "index.db")
    try:
        names = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").fetchall()
        rows = [connection.execute(f"SELECT * FROM {name}").fetchall() for (name,) in names]
        rows.append(connection.execute("SELECT id, key FROM documents ORDER BY id").fetchall())  # by the index
        return [names, *rows]
    finally:
        connection.close()


def change(file: Path, what: bytes, at: int) -> None:
    """Flip a bit wherever these bytes are: pages keep copies of what was in them."""
    changed = bytearray(what)
    changed[at] ^= 1
    file.write_bytes(file.read_bytes().replace(what, bytes(changed)))


def flip(file: Path, at: int, bit: int) -> None:
    data = bytearray(file.read_bytes())
    data[at] ^= 1 << bit
    file.write_bytes(data)


def judge(path: Path, original: Path, wanted: Answers) -> bool:
    """Whether `check` found damage; if not, there must be none that matters. An answer is right, or an error."""
    said = list(check_index(path))
    assert all("\n" not in line for line in said)
    if not said:
        assert content(path) == content(original)
    try:
        with Index.open(path) as index:
            assert_right(index, wanted, bool(said))
    except LightRetrieverError as error:
        assert said, f"a search finds what check does not: {error}"
    return bool(said)


def assert_right(index: Index, wanted: Answers, damaged: bool) -> None:
    """Unfiltered answers are those of the whole index; filtered ones too, but where conditions are damaged."""
    found = answers(index)
    assert found[:3] == wanted[:3]
    for place, (one, other) in enumerate(zip(found[3:], wanted[3:], strict=True)):
        filtered = place // len(QUERIES) % 4
        assert one == other or (filtered and damaged)


def damage_table(path: Path, copy: Path, wanted: Answers, table: str, rng: random.Random, times: int) -> int:
    connection = sqlite3.connect(path / "index.db")
    (root,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchone()
    connection.close()
    found = 0
    for _ in range(times):
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(path, copy)
        page = (root - 1) * PAGE
        used = [at for at, byte in enumerate((path / "index.db").read_bytes()[page : page + PAGE]) if byte]
        flip(copy / "index.db", page + rng.choice(used), rng.randrange(8))
        found += judge(copy, path, wanted)
    return found


@pytest.mark.parametrize("table", TABLES)
def test_bits_flipped_in_the_database(whole: tuple[Path, Answers], tmp_path: Path, table: str) -> None:
    path, wanted = whole
    assert damage_table(path, tmp_path / "copy", wanted, table, random.Random(table), 4)


def test_bits_flipped_in_the_terms(tmp_path: Path) -> None:
    with fill(tmp_path / "i", 145, "bm25")[0] as index:
        assert list(index.term_pages())
        wanted = answers(index)
    assert damage_table(tmp_path / "i", tmp_path / "copy", wanted, "terms", random.Random("terms"), 20) > 5


def test_a_row_of_settings_under_another_name(whole: tuple[Path, Answers], tmp_path: Path) -> None:
    path, wanted = whole
    shutil.copytree(path, tmp_path / "copy")
    database = sqlite3.connect(tmp_path / "copy/index.db")
    changed = database.execute("UPDATE settings SET name = 'bm27' WHERE name = 'bm25'").rowcount
    database.commit()
    database.close()
    assert judge(tmp_path / "copy", path, wanted) == bool(changed)


@pytest.mark.slow
@pytest.mark.parametrize("table", TABLES)
def test_many_bits_flipped_in_the_database(whole: tuple[Path, Answers], tmp_path: Path, table: str) -> None:
    path, wanted = whole
    assert damage_table(path, tmp_path / "copy", wanted, table, random.Random(f"many{table}"), 80) > 40


@pytest.mark.parametrize("times", [15, pytest.param(300, marks=pytest.mark.slow)])
def test_bits_flipped_anywhere(whole: tuple[Path, Answers], tmp_path: Path, times: int) -> None:
    path, wanted = whole
    rng, found = random.Random(times), 0
    for _ in range(times):
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(path, copy)
        file = copy / rng.choice(["index.db", "table/model.safetensors", "table/tokenizer.json", "table/table.json"])
        flip(file, rng.randrange(file.stat().st_size), rng.randrange(8))
        found += judge(copy, path, wanted)
    assert found > times // 5


@pytest.mark.parametrize("times", [6, pytest.param(60, marks=pytest.mark.slow)])
def test_files_cut_short(whole: tuple[Path, Answers], tmp_path: Path, times: int) -> None:
    path, wanted = whole
    rng = random.Random(times)
    for turn in range(times):
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(path, copy)
        file = copy / ["index.db", "table/model.safetensors", "table/tokenizer.json", "table/table.json"][turn % 4]
        os.truncate(file, rng.randrange(file.stat().st_size))
        assert judge(copy, path, wanted)


def damage_file(file: Path, how: str, rng: random.Random) -> bool:
    """Returns whether there is anything to damage."""
    size = file.stat().st_size
    match how:
        case "flip" if size:
            flip(file, rng.randrange(size), rng.randrange(8))
        case "cut" if size:
            os.truncate(file, rng.randrange(size))
        case "longer":
            with file.open("ab") as stream:
                stream.write(b"\0")
        case "remove":
            file.unlink()
        case "folder":
            file.unlink()
            file.mkdir()
        case _:
            return False
    return True


@pytest.mark.parametrize("many", [2, pytest.param(99, marks=pytest.mark.slow)])
@pytest.mark.parametrize("how", ["flip", "cut", "longer", "remove", "folder"])
def test_a_damaged_segment_is_not_served_and_built_again(
    whole: tuple[Path, Answers], tmp_path: Path, how: str, many: int
) -> None:
    path, wanted = whole
    rng, copy = random.Random(how), tmp_path / "copy"
    names = sorted(file.name for file in (path / "segments").glob("*/*.bin"))
    for name in rng.sample(names, min(many, len(names))):
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(path, copy)
        (file,) = (copy / "segments").glob(f"*/{name}")
        if not damage_file(file, how, rng):
            continue
        said = list(check_index(copy))
        assert len(said) == 1
        assert str(file) in said[0]
        assert said[0].endswith("`lightretriever optimise` builds it again")
        with Index.open(copy) as index:
            assert index.info()["damaged"]
            assert answers(index) == wanted
            index.optimise()
            assert not index.info()["damaged"]
            assert index.settings.sparse == "bm25" or answers(index) == wanted  # optimise takes new statistics of BM25
        assert not list(check_index(copy))


def test_without_any_segment(whole: tuple[Path, Answers], tmp_path: Path) -> None:
    path, wanted = whole
    copy = Path(shutil.copytree(path, tmp_path / "copy"))
    shutil.rmtree(copy / "segments")
    assert len(list(check_index(copy))) == 1
    with Index.open(copy) as index:
        assert answers(index) == wanted
        index.optimise()
    assert not list(check_index(copy))


def test_a_damaged_description_of_a_segment(whole: tuple[Path, Answers], tmp_path: Path) -> None:
    path, wanted = whole
    copy = Path(shutil.copytree(path, tmp_path / "copy"))
    connection = sqlite3.connect(copy / "index.db")
    connection.execute("UPDATE segments SET description = replace(description, '\"documents\": ', '\"documents\": 1')")
    connection.commit()
    connection.close()
    assert len(list(check_index(copy))) == 1
    with Index.open(copy) as index:
        assert answers(index) == wanted
        index.optimise()
    assert not list(check_index(copy))


def test_a_search_that_finds_a_segment_damaged_has_it_built(
    whole: tuple[Path, Answers], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "start_building", build.start_building)
    copy = Path(shutil.copytree(whole[0], tmp_path / "copy"))
    (file,) = (copy / "segments").glob("*/dense.hi.bin")
    os.truncate(file, 5)
    with Index.open(copy) as index:
        assert index.search("w01")
        end = time.monotonic() + 60
        while index.info()["damaged"]:
            assert time.monotonic() < end
            time.sleep(0.05)
    assert not list(check_index(copy))


@pytest.mark.parametrize("where", ["middle", "header", "anywhere"])
def test_commits_behind_a_damaged_place_of_the_log(whole: tuple[Path, Answers], tmp_path: Path, where: str) -> None:
    copy, taken = Path(shutil.copytree(whole[0], tmp_path / "copy")), tmp_path / "taken"
    with Index.open(copy) as index:
        for number in range(6):
            index.add([f"n{number}"], RandomTower().encode(make_documents(1)), [{"text": f"w{number:02d}"}])
        shutil.copytree(copy, taken)
        assert not list(check_index(copy)), "it is in use, and all is well"
    (taken / "index.db-shm").unlink()
    log = taken / "index.db-wal"
    size, rng = log.stat().st_size, random.Random(where)
    intact = log.read_bytes()
    last = size - 2 * (PAGE + 24)
    places = {
        "middle": [size // 2],
        "header": [0, 9, 17, 20, 25],
        "anywhere": [rng.randrange(32, last) for _ in range(8)],
    }
    for at in places[where]:
        log.write_bytes(intact)
        flip(log, at, 3)
        said = list(check_index(taken))
        assert len(said) == 1
        assert str(log) in said[0]
        assert list(check_index(taken)) == said, "nothing was changed"
    log.write_bytes(intact)
    assert not list(check_index(taken))


@pytest.mark.parametrize("table", ["documents", "vectors_1"])
def test_keys_that_do_not_ascend_do_not_go_round_for_ever(tmp_path: Path, table: str) -> None:
    """Where the last row of a leaf should be a page points to an earlier one (https://www.sqlite.org/fileformat.html):
    what comes after it is what came before."""
    fill(tmp_path / "i", 8)[0].close()
    file = tmp_path / "i" / "index.db"
    connection = sqlite3.connect(file)
    (root,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchone()
    connection.close()
    data, first = bytearray(file.read_bytes()), (root - 1) * PAGE + 8  # where the pointers begin
    assert int.from_bytes(data[first - 5 : first - 3]) == 8
    data[first + 14 : first + 16] = data[first + 4 : first + 6]
    file.write_bytes(data)
    assert any("do not ascend" in line for line in check_index(tmp_path / "i"))
    with pytest.raises(ArtifactError, match="damaged"), Index.open(tmp_path / "i") as index:
        list(index.documents())
        list(pages(index.engine, 3, vectors=True))
        index.optimise()


@pytest.mark.parametrize("damage", ["text", "vector"])
def test_damage_is_named_where_it_is_met(tmp_path: Path, damage: str) -> None:
    fill(tmp_path / "i", 40)[0].close()
    file = tmp_path / "i" / "index.db"
    if damage == "text":
        change(file, b"title 7", 2)
    else:
        connection = sqlite3.connect(file)
        (dense,) = connection.execute("SELECT dense FROM vectors_1 WHERE key = 8").fetchone()
        connection.close()
        change(file, dense, 9)
    what = "document" if damage == "text" else "vectors"
    calls: list[Callable[[Index], object]] = [
        lambda index: index.search("w01", 40, "dense"),
        lambda index: [list(rows.documents) for rows in pages(index.engine, 10, vectors=True)],
        lambda index: (index.snapshot(tmp_path / "s"), Index.restore(tmp_path / "s", tmp_path / "r")),
    ]
    for call in calls:
        with (
            pytest.raises(ArtifactError, match=f"the {what} of key 8 cannot be read"),
            Index.open(tmp_path / "i") as index,
        ):
            call(index)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("UPDATE vectors_1 SET checksum = checksum + 1 WHERE key = 8", "the vectors of key 8"),
        ("DELETE FROM vectors_1 WHERE key = 8", "documents of the index lack their vectors"),
        ("DELETE FROM documents WHERE key = 8", "vectors of documents that it lacks"),
    ],
)
def test_building_from_damaged_truth_says_so(tmp_path: Path, damage: str, said: str) -> None:
    index, _, _ = fill(tmp_path / "i", 40)
    with index:
        connection = sqlite3.connect(tmp_path / "i" / "index.db")
        connection.execute(damage)
        connection.commit()
        connection.close()
        for _ in range(2):
            with pytest.raises(ArtifactError, match=said):
                build.optimise(index.path, index._state.database)
        assert not [entry for entry in (tmp_path / "i" / "segments").iterdir() if entry.is_dir()]
