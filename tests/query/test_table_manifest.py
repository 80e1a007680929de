"""What a table's folder says of itself: every change to any of its files is refused, and the file or field named."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_tokenizers import wordpiece

from lightretriever import QueryEncoder, TokenTable
from lightretriever.errors import ArtifactError
from lightretriever.query import table as table_module
from lightretriever.query.evidence import Evidence
from lightretriever.query.table_manifest import read_table_manifest
from lightretriever.text.tokenizer import id_count

READ = (
    "table.json",
    "model.safetensors",
    "tokenizer.json",
    "phrases.safetensors",
    "rotation.safetensors",
    "evidence.safetensors",
)
V = id_count(wordpiece())


def made_table() -> TokenTable:
    """Of everything that a table may have."""
    random = np.random.default_rng(8)
    rows = random.standard_normal((V, 8)).astype(np.float32)
    axes = np.linalg.qr(random.standard_normal((8, 5)))[0].astype(np.float32)
    counts = random.integers(0, 90, V).astype(np.uint32)
    evidence = Evidence(counts, counts > 40, np.array([V + 2, 3 * V + 1]), counts[:2], texts=100, prior=0.5)
    table = TokenTable.from_rows(rows, wordpiece(), model="made", prompt="Find: ", dtype="int8", fitted={"l2": 0.5})
    table = replace(table, evidence=evidence)
    return table.rotated(axes).with_phrases([[7, 8], [7, 8, 9]], [[12]], random.standard_normal((3, 5)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "table"
    made_table().save(folder)
    return folder


@settings(max_examples=120)
@given(st.sampled_from(READ), st.floats(0, 1, exclude_max=True), st.integers(0, 7))
def test_any_flipped_bit_is_refused(folder: Path, name: str, place: float, bit: int) -> None:
    good = (folder / name).read_bytes()
    bad = bytearray(good)
    bad[int(place * len(bad))] ^= 1 << bit
    try:
        (folder / name).write_bytes(bytes(bad))
        with pytest.raises(ArtifactError) as raised:
            TokenTable.load(folder)
    finally:
        (folder / name).write_bytes(good)
    message = str(raised.value)
    assert name in message and "\n" not in message
    TokenTable.load(folder)


@settings(max_examples=40)
@given(st.sampled_from(READ), st.floats(0, 1, exclude_max=True))
def test_a_file_that_was_cut_is_refused(folder: Path, name: str, place: float) -> None:
    good = (folder / name).read_bytes()
    try:
        (folder / name).write_bytes(good[: int(place * len(good.rstrip()))])
        with pytest.raises(ArtifactError, match=name):
            TokenTable.load(folder)
        (folder / name).unlink()
        with pytest.raises(ArtifactError, match=name):
            TokenTable.load(folder)
    finally:
        (folder / name).write_bytes(good)


@pytest.mark.parametrize("name", READ[1:])
def test_a_file_that_is_removed_meanwhile_is_refused(
    folder: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a process that puts another table in its place: whoever opens an index looks again then."""
    copy = shutil.copytree(folder, tmp_path / "table")

    def checked(path: Path) -> dict[str, object]:
        noted = read_table_manifest(path)
        (path / name).unlink()
        return noted

    monkeypatch.setattr(table_module, "read_table_manifest", checked)
    with pytest.raises(ArtifactError, match=name):
        TokenTable.load(copy)


@pytest.mark.parametrize("name", READ[1:])
def test_a_file_of_another_table_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(folder, tmp_path / "table")
    other = replace(made_table(), rows=np.zeros((V, 5), np.int8), rotation=np.eye(8, 5, dtype=np.float32))
    other = other.with_phrases([[5, 6], [7, 8, 9]], [[12]], np.ones((3, 5)))
    assert other.evidence is not None
    other = replace(other, evidence=replace(other.evidence, texts=99))
    other = replace(other, tokenizer=type(other.tokenizer).from_str(other.tokenizer.to_str().replace("mount", "moont")))
    other.save(tmp_path / "other")
    (tmp_path / "other" / name).replace(tmp_path / "table" / name)
    with pytest.raises(ArtifactError, match=name):
        TokenTable.load(tmp_path / "table")


def nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("dtype", "float64"),
        ("shape", [1 << 40, 384]),
        ("shape", [-1, 5]),
        ("shape", "large"),
        ("shape", [V, 5, 1]),
        ("shape", [V, 1 << 20]),
        ("rotation", [8]),
        ("rotation", True),
        ("phrases", {"count": 3, "whole": -1, "sha256": "x"}),
        ("phrases", [3]),
        ("weights_sha256", None),
        ("model", ["made"]),
        ("prompt", 7),
        ("max_length", 0),
        ("max_length", "512"),
        ("max_length", 512.0),
        ("max_length", True),
        ("skip_ids", None),
        ("skip_ids", [-1]),
        ("skip_ids", [0.5]),
        ("leading_space", "no"),
        ("chunks", "guess"),
        ("fitted", []),
        ("fitted", {"l2": nested(60)}),
        ("files", {"../elsewhere": {"bytes": 1, "crc32": [0]}}),
        ("files", {"/etc/hostname": {"bytes": 1, "crc32": [0]}}),
        ("files", {}),
        ("files", {"model.safetensors": {"bytes": 1 << 80, "crc32": []}}),
        ("added", 1),
    ],
)
def test_a_field_that_makes_no_sense_is_named(folder: Path, tmp_path: Path, field: str, value: object) -> None:
    shutil.copytree(folder, tmp_path / "table")
    stored = json.loads((folder / "table.json").read_text())
    (tmp_path / "table" / "table.json").write_text(json.dumps(stored | {field: value}))
    with pytest.raises(ArtifactError, match=rf"table\.json is damaged: '{field}'") as raised:
        TokenTable.load(tmp_path / "table")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("field", ["model", "files", "sha256", "phrases", "rotation", "chunks"])
def test_a_missing_field_is_named(folder: Path, tmp_path: Path, field: str) -> None:
    shutil.copytree(folder, tmp_path / "table")
    stored = json.loads((folder / "table.json").read_text())
    del stored[field]
    (tmp_path / "table" / "table.json").write_text(json.dumps(stored))
    with pytest.raises(ArtifactError, match=f"'{field}' is missing"):
        TokenTable.load(tmp_path / "table")


def test_deep_nesting_is_one_error(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "table")
    (tmp_path / "table" / "table.json").write_text('{"kind":' + "[" * 100_000 + "]" * 100_000 + "}")
    with pytest.raises(ArtifactError, match=r"table\.json"):
        TokenTable.load(tmp_path / "table")


def test_a_value_changed_by_hand_is_refused(folder: Path, tmp_path: Path) -> None:
    """It is a good value, and not the table's: rows belong to the prompt that they were made with."""
    shutil.copytree(folder, tmp_path / "table")
    text = (folder / "table.json").read_text()
    (tmp_path / "table" / "table.json").write_text(text.replace('"Find: "', '"Seek: "'))
    with pytest.raises(ArtifactError, match=r"table\.json is damaged \(it is not what was written\)"):
        TokenTable.load(tmp_path / "table")


def test_numbers_of_places_that_there_are_not_are_refused(tmp_path: Path) -> None:
    """Compiled code follows them without a check; the file's checksum is right, it was written so."""
    table = made_table()
    phrases = table.phrases
    assert phrases is not None
    step, whole = int(np.argmax(phrases.keys >= 0)), int(np.argmax(phrases.keys < -1))

    def with_one(name: str, place: int, value: int) -> dict[str, np.ndarray]:
        array = getattr(phrases, name).copy()
        array[place] = value
        return {name: array}

    changes = [
        with_one("roots", 7, 1 << 20),
        with_one("roots", 7, -3),
        with_one("ends", 0, 3),
        with_one("values", step, len(phrases.ends)),
        with_one("values", whole, 3),
        with_one("values", step, -1),
        with_one("indptr", 1, 1 << 40),
        {"keys": np.full_like(phrases.keys, 5)},
        {"ends": phrases.ends[:0]},
        {"roots": phrases.roots[:-1]},
        {"roots": phrases.roots.astype(np.int64)},
        {"rows": np.zeros((3, 4), np.int8)},
    ]
    for number, change in enumerate(changes):
        replace(table, phrases=replace(phrases, **change)).save(tmp_path / str(number))
        with pytest.raises(ArtifactError, match=r"phrases\.safetensors is damaged"):
            TokenTable.load(tmp_path / str(number))


def test_scales_and_rotations_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    table = made_table()
    assert table.scales is not None and table.rotation is not None
    for number, value in enumerate((np.nan, np.inf, 1e30)):
        for name in ("scales", "rotation"):
            bad = getattr(table, name).copy()
            bad[3] = value
            replace(table, **{name: bad}).save(tmp_path / f"{name}-{number}")
            with pytest.raises(ArtifactError, match="model" if name == "scales" else name):
                TokenTable.load(tmp_path / f"{name}-{number}")
    replace(table, rotation=np.eye(8, 4, dtype=np.float32)).save(tmp_path / "narrow")
    with pytest.raises(ArtifactError, match="no rotation of the table's rows"):
        TokenTable.load(tmp_path / "narrow")


def test_a_tokenizer_with_more_ids_than_rows_is_one_error() -> None:
    """Compiled code would read past the rows."""
    table = made_table()
    encoder = QueryEncoder(replace(table, rows=table.rows[:20], scales=table.scales[:20], phrases=None))  # type: ignore[index]
    words = ["how tall is mount everest", "a csv file"] * 400
    for texts in (words[:2], words):
        for encode in (encoder.encode, encoder.encode_dense, encoder.encode_sparse):
            with pytest.raises(ArtifactError, match="the table has 20 rows, its tokenizer more ids"):
                encode(texts)
