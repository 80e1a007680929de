"""Manifests that nobody wrote as they are: refused in one line, and nothing outside the index's folder is touched."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from index.conftest import RandomTower, fill, make_encoder

from lightretriever import Index
from lightretriever.cli.main import execute
from lightretriever.errors import ArtifactError, LightRetrieverError, MismatchError
from lightretriever.fusion import Fusion
from lightretriever.index import manifest as manifests
from lightretriever.index.backend import stored_metadata
from lightretriever.index.checksums import FILE as CHECKSUMS
from lightretriever.index.manifest import IndexManifest
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
    "shard": "shard-2",
    "statistics": "bm25-2.safetensors",
    "counted": [3, 4],
}
Made = tuple[Path, dict[str, Any]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """A closed index that notes no checksums, so that its manifest may be changed, and what that holds; beside it
    stands a folder of somebody else's."""
    place = tmp_path_factory.mktemp("manifests")
    index, _, _ = fill(place / "i", 12, "bm25")
    with index:
        index.set_fusion(Fusion(weigher=Weigher.general()))
    (place / "i" / CHECKSUMS).unlink()
    (place / "documents").mkdir()
    (place / "documents/thesis").write_text("years of work")
    yield place / "i", json.loads((place / "i/manifest.json").read_text())
    assert (place / "documents/thesis").read_text() == "years of work"
    assert sorted(entry.name for entry in place.iterdir()) == ["documents", "i"]


def write(path: Path, stored: object) -> None:
    (path / "manifest.json").write_text(json.dumps(stored))


def test_every_field_has_a_check() -> None:
    assert set(manifests._CHECKS) == {each.name for each in fields(IndexManifest)} - {"engine_named"}


def test_a_manifest_is_read_as_it_was_written(made: Made, tmp_path: Path) -> None:
    manifest = replace(IndexManifest.load(made[0]), successor={**SUCCESSOR, "counted": (3, 4)}, tenant="owner")
    manifest.save(tmp_path)
    assert IndexManifest.load(tmp_path) == replace(manifest, successor=SUCCESSOR)


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
TAKEN = [
    "manifest.json",
    "owner",
    "checksums.json",
    "staging",
    "documents",
    "shard-0",
    "table-x",
    "shard-2/..",
    "TABLE",
]


@pytest.mark.parametrize("part", ["table", "shard", "statistics"])
@pytest.mark.parametrize("name", [*ELSEWHERE, *TAKEN])
def test_parts_are_inside_and_called_as_parts_are(made: Made, tmp_path: Path, part: str, name: object) -> None:
    for stored in ({**made[1], part: name}, {**made[1], "successor": {**SUCCESSOR, part: name}}):
        write(tmp_path, stored)
        with pytest.raises(ArtifactError, match=rf"manifest\.json is damaged: .*'{part}'"):
            IndexManifest.load(tmp_path)


def test_a_successor_has_parts_of_its_own(made: Made, tmp_path: Path) -> None:
    for part, name in (("table", "table"), ("shard", "shard"), ("statistics", "bm25.safetensors")):
        write(tmp_path, {**made[1], "successor": {**SUCCESSOR, part: name}})
        with pytest.raises(ArtifactError, match=f"'successor' has the '{part}' of the index itself"):
            IndexManifest.load(tmp_path)


@pytest.mark.parametrize("shard", ["customers", "../aliases", "everest-2/x", "everest2", "everest-"])
def test_a_server_s_collection_is_the_index_s_own(made: Made, tmp_path: Path, shard: str) -> None:
    write(tmp_path, {**made[1], "engine": "http://localhost:6333/everest", "shard": "everest-7"})
    assert IndexManifest.load(tmp_path).shard == "everest-7"
    write(tmp_path, {**made[1], "engine": "http://localhost:6333/everest", "shard": shard})
    with pytest.raises(ArtifactError, match="'shard' is"):
        IndexManifest.load(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"dim": True},
        {"dim": 1 << 40},
        {"dim": 0},
        {"width": -1},
        {"documents": -1},
        {"documents": 1e6},
        {"unoptimised": float("nan")},
        {"generation": 10**30},
        {"sparse": "splade"},
        {"state": "done"},
        {"tenant": "$and"},
        {"tenant": ""},
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
    ],
)
def test_values_that_cannot_be_are_named(made: Made, tmp_path: Path, change: dict) -> None:
    write(tmp_path, {**made[1], **change})
    if change == {"engine": ""}:
        assert IndexManifest.load(tmp_path).engine == ""  # an engine that this version does not know, said on opening
        return
    with pytest.raises(
        ArtifactError, match=rf"manifest\.json is damaged: .*{next(iter(change))}|damaged: .*weigh"
    ) as raised:
        IndexManifest.load(tmp_path)
    assert len(str(raised.value)) < 400
    assert "\n" not in str(raised.value)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from([*ELSEWHERE, *TAKEN, "shard-3", "edge"]),
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
def test_whatever_a_field_holds_nothing_but_our_errors_comes(made: Made, tmp_path: Path, data: st.DataObject) -> None:
    stored = json.loads(json.dumps({**made[1], "successor": data.draw(st.sampled_from([None, SUCCESSOR]))}))
    *way, last = data.draw(st.sampled_from(list(paths_of(stored))))
    holder = stored
    for step in way:
        holder = holder[step]
    if isinstance(holder, dict) and data.draw(st.booleans()):
        del holder[last]
    else:
        holder[last] = data.draw(values)
    write(tmp_path, stored)
    try:
        found = IndexManifest.load(tmp_path)
    except LightRetrieverError as error:
        assert "\n" not in str(error)
        assert len(str(error)) < 500
        return
    for name in (*found.parts, *((found.successor or {}).get(part) for part in ("table", "shard", "statistics"))):
        assert name is None or (tmp_path / name).parent == tmp_path
    found.save(tmp_path)
    assert IndexManifest.load(tmp_path) == replace(found, engine_named=False)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
@given(st.data())
def test_an_index_of_such_a_manifest_opens_or_is_refused_and_keeps_its_parts(made: Made, data: st.DataObject) -> None:
    path, good = made
    field = data.draw(st.sampled_from(sorted(set(good) - {"kind", "format_version"})))
    write(path, {**good, field: data.draw(values)})
    try:
        Index.open(path).close()
    except LightRetrieverError:
        pass
    finally:
        write(path, good)
        (path / CHECKSUMS).unlink(missing_ok=True)
    with Index.open(path) as index:
        assert index.count == 12
        assert index.sparse_side.statistics() is not None
    (path / CHECKSUMS).unlink()


@pytest.mark.parametrize("part", ["table", "shard", "statistics"])
def test_what_a_reindex_would_remove_is_the_index_s_own(filled, tmp_path: Path, part: str) -> None:
    index, _, _ = filled(6, "bm25")
    index.close()
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents/letter").write_text("dear")
    (index.path / CHECKSUMS).unlink()
    stored = json.loads((index.path / "manifest.json").read_text())
    write(index.path, {**stored, part: "../documents"})
    with pytest.raises(ArtifactError, match=rf"'{part}' is '\.\./documents', not a plain file name"):
        Index.open(index.path)
    assert (tmp_path / "documents/letter").read_text() == "dear"
    write(index.path, stored)
    with Index.open(index.path) as index:
        index.reindex(make_encoder(1, "next", "r2"), RandomTower("next", "r2"))  # type: ignore[arg-type]
        assert index.count == 6


Replace = Callable[[Path, Path], None]


def as_link(place: Path, elsewhere: Path) -> None:
    place.symlink_to(elsewhere)


def as_pipe(place: Path, elsewhere: Path) -> None:
    del elsewhere
    os.mkfifo(place)


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
@pytest.mark.parametrize(
    "name", ["owner", "table", "shard", "bm25.safetensors", "manifest.json", "shard/wal", "staging"]
)
@pytest.mark.parametrize("stand_in", [as_link, as_pipe])
def test_a_link_or_pipe_in_the_folder_is_refused(filled, tmp_path: Path, name: str, stand_in: Replace) -> None:
    index, _, _ = filled(3, "bm25")
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


def test_a_table_of_other_dimensions_than_the_manifest_says_is_refused(made: Made) -> None:
    path, good = made
    write(path, {**good, "dim": 15})
    try:
        with pytest.raises(MismatchError, match="has 16 dimensions, the index's manifest says 15"):
            Index.open(path)
    finally:
        write(path, good)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"files": {"../../etc/passwd": [1, 2, 3]}}, r"'\.\./\.\./etc/passwd' is"),
        ({"files": {"/etc/passwd": [1, 2, 3]}}, "'/etc/passwd' is"),
        ({"files": {"table": [1, 2]}}, "is damaged"),
        ({"files": {"table": [1, "2", 3]}}, "'table': 1 is '2'"),
        ({"files": []}, "'files' is"),
        ({"closed": 1}, "'closed' is 1"),
        ({"more": 1}, "'more' is no field"),
    ],
)
def test_checksums_are_of_files_inside(filled, change: dict, message: str) -> None:
    index, _, _ = filled(3)
    index.close()
    noted = json.loads((index.path / CHECKSUMS).read_text())
    (index.path / CHECKSUMS).write_text(json.dumps({**noted, **change}))
    with pytest.raises(ArtifactError, match=message):
        Index.open(index.path)


def test_a_file_replaced_by_a_folder_is_named(filled) -> None:
    index, _, _ = filled(3)
    index.close()
    for name in ("bm25.safetensors", "table/model.safetensors", "manifest.json"):
        if not (index.path / name).exists():
            continue
        good = (index.path / name).read_bytes()
        (index.path / name).unlink()
        (index.path / name).mkdir()
        with pytest.raises(ArtifactError, match=name):
            Index.open(index.path)
        (index.path / name).rmdir()
        (index.path / name).write_bytes(good)
    Index.open(index.path).close()


@pytest.mark.parametrize("said", ["-1", "0", "99999999999999999999", "words", "", "1\n2"])
def test_the_owner_s_file_may_say_anything(filled, said: str) -> None:
    index, _, _ = filled(3)
    index.close()
    (index.path / "owner").write_text(said)
    with Index.open(index.path) as index:
        assert (index.path / "owner").read_text() == f"{os.getpid()}\n"


@pytest.mark.parametrize("metadata", [None, 3, "{", "[]", "[" * 100_000, '{"a":' * 100_000])
def test_metadata_that_an_engine_gives_is_an_object_or_refused(metadata: object) -> None:
    payload = {"id": "d7", "text": "w01", "title": "", "metadata": metadata}
    for row in (payload, {"id": "d7"}):
        with pytest.raises(ArtifactError, match=r"whose metadata is damaged \('d7'\): add it again"):
            stored_metadata(row)
    assert stored_metadata({**payload, "metadata": '{"a": 1}'}) == {"a": 1}


def test_info_is_not_led_astray_by_what_is_no_manifest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for content in ('{"kind": ' + "[" * 100_000, '{"kind": "index"', '{"kind": "index", "kind": "vectors"}'):
        (tmp_path / "manifest.json").write_text(content)
        assert execute(["info", str(tmp_path)]) == 1
        assert "is no table, vectors, index or model folder" in capsys.readouterr().err
