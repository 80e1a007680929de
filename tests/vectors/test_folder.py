"""The vectors folder: what is written is read, and a kill loses no finished part."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from lightretriever import Encoded
from lightretriever.artifact import load_tensors, save_tensors, sha256_bytes, sha256_file
from lightretriever.errors import (
    ArtifactError,
    InputError,
    LightRetrieverError,
    LockedError,
    MismatchError,
    ModelError,
    UsageError,
)
from lightretriever.text.corpus import Document
from lightretriever.types import concatenate_sparse, sparse_from_dense
from lightretriever.vectors.folder import VectorsFolder, VectorsWriter, take_shard
from lightretriever.vectors.manifest import DTYPES

DIM, WIDTH = 8, 20
SETTINGS = {"max_length": 32, "top_k": None}


def make(n: int, seed: int = 0) -> tuple[list[Document], Encoded]:
    rng = np.random.default_rng(seed)
    dense = rng.normal(size=(n, DIM)).astype(np.float32)
    weights = np.where(rng.random((n, WIDTH)) < 0.3, rng.random((n, WIDTH)) + 0.01, 0).astype(np.float32)
    documents = [Document(f"é{i}", f"text {i}\n\u2028\"'", f"title {i}" if i % 2 else "", {"n": i}) for i in range(n)]
    return documents, Encoded(dense / np.linalg.norm(dense, axis=1, keepdims=True), sparse_from_dense(weights))


def part(documents: list[Document], encoded: Encoded, rows: slice) -> tuple[list[Document], Encoded]:
    weights = encoded.sparse.to_dense()[rows]
    return documents[rows], Encoded(encoded.dense[rows], sparse_from_dense(weights))


def open_writer(path: Path, **changes: object) -> VectorsWriter:
    options: dict = {
        "model": "m",
        "revision": "r",
        "dim": DIM,
        "settings": SETTINGS,
        "width": WIDTH,
        "dtype": "float32",
    }
    return VectorsWriter.open(path, **(options | changes))


def read_all(path: Path) -> tuple[list[Document], np.ndarray, np.ndarray]:
    parts = list(VectorsFolder.open(path).parts())
    documents = [document for some, _ in parts for document in some]
    dense = np.concatenate([encoded.dense for _, encoded in parts])
    return documents, dense, concatenate_sparse([encoded.sparse for _, encoded in parts]).to_dense()


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-7), ("float16", 1e-3)])
def test_what_is_written_is_read(tmp_path: Path, dtype: str, tolerance: float) -> None:
    documents, encoded = make(25)
    writer = open_writer(tmp_path / "v", dtype=dtype)
    for start in range(0, 25, 10):
        writer.append(*part(documents, encoded, slice(start, start + 10)))
    with pytest.raises(ArtifactError, match="shard 1 of 1 is not finished"):
        VectorsFolder.open(tmp_path / "v")
    writer.finish()
    folder = VectorsFolder.open(tmp_path / "v")
    assert (folder.model, folder.revision, folder.dim, folder.sparse_width) == ("m", "r", DIM, WIDTH)
    assert (folder.count, len(folder), folder.settings) == (25, 25, SETTINGS)
    assert [document for some in folder.documents() for document in some] == documents
    found, dense, weights = read_all(tmp_path / "v")
    assert found == documents
    assert np.abs(dense - encoded.dense).max() < tolerance
    assert np.abs(np.linalg.norm(dense, axis=1) - 1).max() < 1e-6
    assert np.abs(weights - encoded.sparse.to_dense()).max() < tolerance
    assert ((weights != 0) == (encoded.sparse.to_dense() != 0)).all()


def test_no_weight_vanishes_in_float16(tmp_path: Path) -> None:
    weights = np.zeros((1, WIDTH), np.float32)
    weights[0, 3] = 1e-12
    writer = open_writer(tmp_path / "v", dtype="float16")
    writer.append([Document("a", "x")], Encoded(np.eye(1, DIM, dtype=np.float32), sparse_from_dense(weights)))
    writer.finish()
    assert read_all(tmp_path / "v")[2][0, 3] > 0


def test_workers_share_a_folder(tmp_path: Path) -> None:
    documents, encoded = make(23)
    for i in (3, 1, 2):
        writer = open_writer(tmp_path / "v", shard=(i, 3))
        own = list(take_shard(documents, (i, 3)))
        assert own == documents[i - 1 :: 3]
        rows = slice(i - 1, None, 3)
        writer.append(*part(documents, encoded, rows))
        if i != 2:
            writer.finish()
        writer.close()
    with pytest.raises(ArtifactError, match="shard 2 of 3"):
        VectorsFolder.open(tmp_path / "v")
    open_writer(tmp_path / "v", shard=(2, 3)).finish()
    found, dense, _ = read_all(tmp_path / "v")
    assert sorted(document.id for document in found) == sorted(document.id for document in documents)
    order = [documents.index(document) for document in found]
    assert np.allclose(dense, encoded.dense[order], atol=1e-6)
    with pytest.raises(MismatchError, match="shards 3, now it is 2"):
        open_writer(tmp_path / "v", shard=(1, 2))


@pytest.mark.parametrize("shard", [(0, 2), (3, 2), (1, 0)])
def test_impossible_shards_are_refused(tmp_path: Path, shard: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match=f"{shard[0]}/{shard[1]}"):
        open_writer(tmp_path / "v", shard=shard)


def test_a_killed_worker_resumes(tmp_path: Path) -> None:
    """Killed after so many bytes were written, wherever that is; run until it is through."""
    script = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_folder import *
from lightretriever import artifact
from lightretriever.vectors import parts as vector_parts
budget = int(sys.argv[1])
real = os.fsync
def fsync(descriptor):
    global budget
    budget -= 1
    if budget < 0:
        os.kill(os.getpid(), 9)
    real(descriptor)
os.fsync = fsync
documents, encoded = make(20)
writer = open_writer(Path({str(tmp_path / "v")!r}))
start = writer.done
rest = list(writer.resume(iter(documents)))
assert rest == documents[start:]
for row in range(start, 20, 4):
    writer.append(*part(documents, encoded, slice(row, row + 4)))
    print(writer.done, flush=True)
writer.finish()
"""
    acknowledged, runs = 0, 0
    for budget in (0, 1, 3, 4, 5, 9, 2, 13, 100):
        run = subprocess.run([sys.executable, "-c", script, str(budget)], capture_output=True, text=True, check=False)
        runs += 1
        assert run.returncode in (0, -9), run.stderr
        if (tmp_path / "v/manifest.json").exists():
            done = open_writer(tmp_path / "v").done
            printed = [int(line) for line in run.stdout.split()]
            assert done >= max([acknowledged, *printed])
            acknowledged = done
        if run.returncode == 0:
            break
    documents, encoded = make(20)
    found, dense, weights = read_all(tmp_path / "v")
    assert runs > 3
    assert found == documents
    assert np.allclose(dense, encoded.dense, atol=1e-6)
    assert np.array_equal(weights, encoded.sparse.to_dense())


def test_a_torn_line_is_written_anew(tmp_path: Path) -> None:
    documents, encoded = make(8)
    writer = open_writer(tmp_path / "v")
    writer.append(*part(documents, encoded, slice(4)))
    writer.close()
    with (tmp_path / "v/shard-00001-of-00001/done.jsonl").open("a") as file:
        file.write('{"documents": 4, "vec')
    writer = open_writer(tmp_path / "v")
    assert writer.done == 4
    writer.append(*part(documents, encoded, slice(4, 8)))
    writer.finish()
    assert read_all(tmp_path / "v")[0] == documents


def test_another_corpus_or_model_is_not_resumed(tmp_path: Path) -> None:
    documents, encoded = make(8)
    open_writer(tmp_path / "v").append(*part(documents, encoded, slice(4)))
    for change, message in [
        ({"model": "other"}, "model 'm', now it is 'other'"),
        ({"revision": "s"}, "revision"),
        ({"settings": {"max_length": 64}}, "settings"),
        ({"dim": 4}, "dim 8"),
        ({"width": None}, "sparse_width 20"),
        ({"dtype": "float16"}, "dtype"),
    ]:
        with pytest.raises(MismatchError, match=message):
            open_writer(tmp_path / "v", **change)
    writer = open_writer(tmp_path / "v")
    with pytest.raises(MismatchError, match="part 0 was encoded from other documents"):
        list(writer.resume([Document("new", "text"), *documents]))
    with pytest.raises(UsageError, match="'float8'"):
        open_writer(tmp_path / "w", dtype="float8")
    (tmp_path / "x").mkdir()
    (tmp_path / "x/mine.txt").write_text("mine")
    with pytest.raises(ArtifactError, match="no vectors folder"):
        open_writer(tmp_path / "x")


def test_vectors_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    documents, encoded = make(3)
    writer = open_writer(tmp_path / "v")
    nan = encoded.dense.copy()
    nan[1] = np.nan
    for wrong, error, message in [
        (Encoded(nan, encoded.sparse), InputError, "'é1'"),
        (Encoded(encoded.dense * 2, encoded.sparse), InputError, "'é0'.*unit"),
        (Encoded(encoded.dense), MismatchError, "width None, 20"),
        (Encoded(encoded.dense[:2], encoded.sparse), MismatchError, "3 documents"),
    ]:
        with pytest.raises(error, match=message):
            writer.append(documents, wrong)
    assert writer.done == 0
    writer.finish()
    with pytest.raises(UsageError, match="finished"):
        writer.append(documents, encoded)


def test_damage_is_named(tmp_path: Path) -> None:
    documents, encoded = make(4)
    writer = open_writer(tmp_path / "v")
    writer.append(documents, encoded)
    writer.finish()
    shard = tmp_path / "v/shard-00001-of-00001"
    for file in (shard / "part-000000.safetensors", shard / "part-000000.jsonl.zst"):
        good = file.read_bytes()
        file.write_bytes(good[:-3] + bytes([good[-3] ^ 1]) + good[-2:])
        with pytest.raises(ArtifactError, match=f"{file.name} is damaged"):
            list(VectorsFolder.open(tmp_path / "v").parts())
        file.unlink()
        with pytest.raises(ArtifactError, match=f"{file.name} is missing"):
            list(VectorsFolder.open(tmp_path / "v").parts())
        file.write_bytes(good)
    done = shard / "done.jsonl"
    good = done.read_bytes()
    done.write_bytes(b"")
    with pytest.raises(ArtifactError, match=r"lists 0 parts, 1 were written .0 and 4 documents."):
        VectorsFolder.open(tmp_path / "v")
    done.write_bytes(b"{}\n")
    with pytest.raises(ArtifactError, match="damaged"):
        VectorsFolder.open(tmp_path / "v")
    done.write_bytes(good)
    manifest = tmp_path / "v/manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "format_version": 2}))
    with pytest.raises(ArtifactError, match="version 2"):
        VectorsFolder.open(tmp_path / "v")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"id": "kettle", "metadata": {"litres": float("inf")}}, "id kettle: the field 'litres' is infinite"),
        ({"id": "kettle", "metadata": {"serial": 1 << 63}}, "id kettle: the field 'serial' is an integer beyond"),
        ({"id": "kettle\0", "metadata": {}}, "holds NUL or a lone surrogate"),
        ({"id": "", "metadata": {}}, "has no id"),
    ],
)
def test_documents_in_a_folder_are_no_better_for_their_checksum(tmp_path: Path, row: dict, message: str) -> None:
    documents, encoded = make(1)
    writer = open_writer(tmp_path / "v")
    writer.append(documents, encoded)
    writer.finish()
    shard = tmp_path / "v/shard-00001-of-00001"
    content = (json.dumps({"title": "", "text": "tin", **row}) + "\n").encode()
    (shard / "part-000000.jsonl.zst").write_bytes(zstandard.compress(content))
    line = json.loads((shard / "done.jsonl").read_text())
    line |= {"packed": sha256_file(shard / "part-000000.jsonl.zst"), "content": sha256_bytes(content)}
    (shard / "done.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(ArtifactError, match=rf"part-000000\.jsonl\.zst holds a document that cannot be: .*{message}"):
        list(VectorsFolder.open(tmp_path / "v").documents())


@settings(max_examples=10)  # each example waits for the disk some five times
@given(npst.arrays(np.float32, (5, DIM), elements=st.floats(-10, 10, width=32)), st.sampled_from(DTYPES))
def test_any_direction_survives(tmp_path_factory: pytest.TempPathFactory, rows: np.ndarray, dtype: str) -> None:
    rows = rows + np.where(np.abs(rows).max(axis=1, keepdims=True) < 1e-3, 1, 0).astype(np.float32)
    dense = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    path = tmp_path_factory.mktemp("v") / "v"
    writer = open_writer(path, width=None, dtype=dtype)
    writer.append([Document(str(i), "x") for i in range(5)], Encoded(dense))
    writer.finish()
    ((_, encoded),) = VectorsFolder.open(path).parts()
    assert encoded.sparse is None
    assert np.abs(encoded.dense - dense).max() < (1e-6 if dtype == "float32" else 1e-3)


def test_one_writer_at_a_time_is_at_a_shard(tmp_path: Path) -> None:
    documents, encoded = make(4)
    script = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_folder import *
open_writer(Path({str(tmp_path / "v")!r}), shard=(1, 2))
"""
    with open_writer(tmp_path / "v", shard=(1, 2)) as writer:
        run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        assert "LockedError" in run.stderr
        with pytest.raises(LockedError, match="shard-00001-of-00002 is being written to already"):
            open_writer(tmp_path / "v", shard=(1, 2))
        open_writer(tmp_path / "v", shard=(2, 2)).close()
        writer.append(*part(documents, encoded, slice(2)))
    with pytest.raises(UsageError, match="closed"):
        writer.append(*part(documents, encoded, slice(2, 4)))
    again = open_writer(tmp_path / "v", shard=(1, 2))
    assert again.done == 2
    again.finish()
    open_writer(tmp_path / "v", shard=(1, 2)).close()


def test_positions_are_those_in_the_corpus(tmp_path: Path) -> None:
    documents, encoded = make(23)
    for i in (2, 3, 1):
        with open_writer(tmp_path / "v", shard=(i, 3)) as writer:
            own = part(documents, encoded, slice(i - 1, None, 3))
            weights = own[1].sparse.to_dense()
            for rows in (slice(5), slice(5, None)):
                writer.append(own[0][rows], Encoded(own[1].dense[rows], sparse_from_dense(weights[rows])))
            writer.finish()
    folder = VectorsFolder.open(tmp_path / "v")
    assert [documents[j] for j in folder.positions] == [d for some in folder.documents() for d in some]


def test_where_the_tower_came_from_is_noted_and_not_compared(tmp_path: Path) -> None:
    open_writer(tmp_path / "v", origin={"source": "here/model", "base": None}).close()
    open_writer(tmp_path / "v", origin={"source": "there/model", "base": None}).finish()
    assert VectorsFolder.open(tmp_path / "v").origin == {"source": "here/model", "base": None}
    manifest = json.loads((tmp_path / "v/manifest.json").read_text())
    del manifest["origin"]
    (tmp_path / "v/manifest.json").write_text(json.dumps(manifest))
    assert VectorsFolder.open(tmp_path / "v").origin == {}


def test_a_folder_is_found_after_a_change_of_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    documents, encoded = make(8)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with open_writer(Path("v")) as writer:
        writer.append(*part(documents, encoded, slice(4)))
        monkeypatch.chdir(tmp_path / "elsewhere")
        writer.append(*part(documents, encoded, slice(4, 8)))
        writer.finish()
    assert list((tmp_path / "elsewhere").iterdir()) == []
    monkeypatch.chdir(tmp_path)
    folder = VectorsFolder.open("v")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert [document for some in folder.documents() for document in some] == documents


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("../../etc")
ANY = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three parts."""
    path = tmp_path_factory.mktemp("finished") / "v"
    documents, encoded = make(9)
    with open_writer(path) as writer:
        for start in (0, 3, 6):
            writer.append(*part(documents, encoded, slice(start, start + 3)))
        writer.finish()
    return path


@settings(max_examples=150)
@given(st.sampled_from(["manifest.json", "shard", "done"]), st.integers(0, 30), ANY, st.booleans(), st.data())
def test_nothing_but_our_own_errors_comes_of_a_changed_manifest(
    finished: Path, which: str, field: int, value: object, drop: bool, data: st.DataObject
) -> None:
    """One field of one file has any value, is missing, or the bytes are cut and changed anywhere."""
    shard = finished / "shard-00001-of-00001"
    file = {"manifest.json": finished / "manifest.json", "shard": shard / "manifest.json", "done": shard / "done.jsonl"}
    path = file[which]
    good = path.read_bytes()
    if data.draw(st.booleans()):
        start = data.draw(st.integers(0, len(good) - 1))
        bad = good[:start] + data.draw(st.binary(max_size=3)) + good[start + data.draw(st.integers(0, 3)) :]
    else:
        first, *rest = good.split(b"\n") if which == "done" else [good]
        row = json.loads(first)
        name = sorted(row)[field % len(row)]
        row = {key: held for key, held in row.items() if key != name} if drop else {**row, name: value}
        bad = b"\n".join([json.dumps(row).encode(), *rest])
    try:
        path.write_bytes(bad)
        for attempt in (read_all, lambda place: open_writer(place).close()):
            try:
                attempt(finished)
            except LightRetrieverError as error:
                assert "\n" not in str(error)
    finally:
        path.write_bytes(good)
        for left in shard.glob(".done*"):
            left.unlink()
    assert len(read_all(finished)[0]) == 9


@pytest.mark.parametrize(
    ("where", "field", "value", "message"),
    [
        ("manifest.json", "dim", "8", r"manifest.json is damaged: 'dim' is '8', not a whole number"),
        ("manifest.json", "shards", 10**30, "'shards' is a number beyond 64 bits"),
        ("manifest.json", "shards", -1, "'shards' is -1"),
        ("manifest.json", "sparse_width", [1], "'sparse_width' is a list"),
        ("manifest.json", "settings", {"skip_ids": ["../x"]}, "'settings': 'skip_ids': 0 is '../x'"),
        ("manifest.json", "shard", "../x", "'shard' is no field"),
        ("shard/manifest.json", "parts", None, "'parts' is None"),
        ("shard/done.jsonl", "documents", 10**9, "too small for 1000000000 documents"),
        ("shard/done.jsonl", "documents", -3, "done.jsonl, line 1 is damaged: 'documents' is -3"),
        ("shard/done.jsonl", "packed", "../../x", "'packed': is no SHA-256"),
    ],
)
def test_a_field_that_cannot_be_is_named(
    finished: Path, tmp_path: Path, where: str, field: str, value: object, message: str
) -> None:
    path = shutil.copytree(finished, tmp_path / "v")
    file = path / where.replace("shard/", "shard-00001-of-00001/")
    first, *rest = file.read_text().split("\n") if file.suffix == ".jsonl" else [file.read_text()]
    if field == "documents" and value == 10**9:  # with all else to match
        manifest = file.with_name("manifest.json")
        manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "documents": 10**9 + 6}))
    file.write_text("\n".join([json.dumps({**json.loads(first), field: value}), *rest]))
    with pytest.raises(ArtifactError, match=message):
        VectorsFolder.open(path)


def test_files_with_the_right_checksums_and_wrong_contents_are_refused(finished: Path, tmp_path: Path) -> None:
    for number, (tensors, lines) in enumerate(
        [
            ({"dense": np.ones((3, 2), np.float32)}, None),
            ({"dense": np.full((3, DIM), np.nan, np.float32)}, None),
            ({"dense": np.ones((3, DIM), np.float32)}, None),  # no sparse
            ({"sparse.indptr": np.array([0, 5, 2, 1])}, None),
            ({"sparse.indptr": np.array([0, 0, 0, 0])}, None),
            ({}, b'{"id": "a"}\n' * 3),
            ({}, b'{"id": "a", "title": "", "text": "", "metadata": {}}\n' * 2),
            ({}, b"[" * 100_000 + b"\n"),
        ]
    ):
        path = shutil.copytree(finished, tmp_path / str(number))
        shard = path / "shard-00001-of-00001"
        vectors, packed = shard / "part-000000.safetensors", shard / "part-000000.jsonl.zst"
        if lines is not None:
            packed.write_bytes(zstandard.ZstdCompressor().compress(lines))
        elif number < 3:
            save_tensors(vectors, tensors)
        else:
            save_tensors(vectors, {**load_tensors(vectors), **tensors})
        first, *rest = (shard / "done.jsonl").read_text().split("\n")
        row = {**json.loads(first), "vectors": sha256_file(vectors), "packed": sha256_file(packed)}
        (shard / "done.jsonl").write_text("\n".join([json.dumps(row), *rest]))
        with pytest.raises(ArtifactError, match=r"part-000000\.(safetensors|jsonl\.zst)"):
            read_all(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes and links are not Windows's")
@pytest.mark.parametrize("name", ["done.jsonl", "part-000000.jsonl.zst", "part-000000.safetensors", "manifest.json"])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "loop"])
def test_what_is_no_file_is_never_waited_for(finished: Path, tmp_path: Path, name: str, kind: str) -> None:
    shutil.copytree(finished, tmp_path / "vectors")
    file = next((tmp_path / "vectors").glob(f"shard-*/{name}"))
    file.unlink()
    match kind:
        case "pipe":
            os.mkfifo(file)
        case "device":
            file.symlink_to("/dev/zero")
        case "folder":
            file.mkdir()
        case "loop":
            file.symlink_to(file)
    with pytest.raises(ArtifactError, match=name if (name, kind) != ("manifest.json", "loop") else "not finished"):
        list(VectorsFolder.open(tmp_path / "vectors").parts())


@pytest.mark.skipif(os.name == "nt", reason="links are another thing on Windows")
def test_a_tokenizer_that_cannot_be_read_is_not_absent(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "vectors")
    file = tmp_path / "vectors/tokenizer.json"
    file.unlink(missing_ok=True)
    assert VectorsFolder.open(tmp_path / "vectors").tokenizer is None
    file.symlink_to(file)
    with pytest.raises(ModelError, match="cannot be read"):
        VectorsFolder.open(tmp_path / "vectors").tokenizer  # noqa: B018
