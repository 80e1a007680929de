"""Token tables: what is stored comes back, whatever the dtype; what is damaged is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_tokenizers import wordpiece

from lightretriever import QueryEncoder, TokenTable
from lightretriever.errors import ArtifactError, UsageError
from lightretriever.text.tokenizer import id_count

IDS = id_count(wordpiece())


def rows(dim: int = 6, scale: float = 1.0) -> np.ndarray:
    return (np.random.default_rng(1).standard_normal((IDS, dim)) * scale).astype(np.float32)


def make_table(**options: object) -> TokenTable:
    return TokenTable.from_rows(rows(), wordpiece(), model="made", revision="r1", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_a_saved_table_comes_back(tmp_path: Path, dtype: str) -> None:
    table = make_table(dtype=dtype, prompt="Query: ", skip_ids=[3, 0], max_length=32, fitted={"l2": 0.01})
    table.save(tmp_path / "table")
    loaded = TokenTable.load(tmp_path / "table")
    assert isinstance(loaded.rows, np.memmap)
    assert (loaded.dtype, loaded.dim, len(loaded)) == (dtype, 6, IDS)
    np.testing.assert_array_equal(loaded[:], table[:])
    for name in ("model", "revision", "prompt", "max_length", "skip_ids", "tokenizer_hash", "chunks", "fitted", "hash"):
        assert getattr(loaded, name) == getattr(table, name), name
    assert (tmp_path / "table" / "README.md").read_text().count(f"| {dtype} |") == 1


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 0), ("float16", 1e-3), ("int8", 1 / 254)])
def test_rows_survive_their_storage(dtype: str, tolerance: float) -> None:
    table = make_table(dtype=dtype)
    error = np.abs(table[:] - rows()).max(axis=1)
    assert (error <= tolerance * np.abs(rows()).max(axis=1) * 1.001).all()
    np.testing.assert_array_equal(table[5], table[:][5])
    np.testing.assert_array_equal(table[[2, 2, 9]], table[:][[2, 2, 9]])
    assert table[5].dtype == np.float32


def test_a_zero_row_stays_zero_in_int8() -> None:
    some = rows()
    some[4] = 0
    table = TokenTable.from_rows(some, wordpiece(), model="made", dtype="int8")
    assert not table[4].any()
    assert np.isfinite(table[:]).all()


@settings(max_examples=30)
@given(st.floats(1e-6, 1e4), st.integers(1, 6))
def test_int8_keeps_its_scale(scale: float, dim: int) -> None:
    table = TokenTable.from_rows(rows(scale=scale), wordpiece(), model="made", dtype="int8", dim=dim)
    wanted = rows(scale=scale)[:, :dim]
    assert (np.abs(table[:] - wanted) <= np.abs(wanted).max(axis=1, keepdims=True) / 250).all()
    np.testing.assert_array_equal(table.truncated(1)[:], table[:][:, :1])


def test_the_hash_tells_tables_apart() -> None:
    hashes = {
        make_table().hash,
        make_table(prompt="Query: ").hash,
        make_table(skip_ids=[0]).hash,
        make_table(dtype="float16").hash,
        make_table().truncated(5).hash,
        TokenTable.from_rows(rows(scale=2), wordpiece(), model="made", revision="r1").hash,
        TokenTable.from_rows(rows(), wordpiece(), model="made", revision="r2").hash,
    }
    assert len(hashes) == 7
    assert make_table().hash == make_table().hash
    assert make_table().converted("int8").hash == make_table(dtype="int8").hash


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "int4"}, "dtype is 'int4'"),
        ({"dim": 0}, "dim is 0"),
        ({"dim": 7}, "dim is 7"),
        ({"max_length": 0}, "max_length is 0"),
    ],
)
def test_impossible_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_table(**options)


def test_rows_that_cannot_be_a_table_are_refused() -> None:
    with pytest.raises(UsageError, match="a row for each is needed"):
        TokenTable.from_rows(rows()[:-1], wordpiece(), model="made")
    broken = rows()
    broken[7, 2] = np.nan
    with pytest.raises(UsageError, match="row 7 of the table is not finite"):
        TokenTable.from_rows(broken, wordpiece(), model="made")
    with pytest.raises(UsageError, match="row 0 of the table is not finite, or beyond 1e"):
        TokenTable.from_rows(rows().astype(np.float64) * 1e300, wordpiece(), model="made")
    with pytest.raises(UsageError, match="beyond float16's range"):
        TokenTable.from_rows(rows(scale=1e6), wordpiece(), model="made", dtype="float16")


def test_padding_and_truncation_of_the_tokenizer_are_cleared() -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(wordpiece().to_str())
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=128)
    table = TokenTable.from_rows(rows(), tokenizer, model="made")
    assert table.tokenizer.truncation is None
    assert table.tokenizer.padding is None
    assert tokenizer.truncation is not None, "the caller's own tokenizer is left alone"
    assert table.tokenizer_hash == make_table().tokenizer_hash


def test_an_existing_folder_is_not_overwritten(tmp_path: Path) -> None:
    make_table().save(tmp_path / "table")
    with pytest.raises(ArtifactError, match="exists already"):
        make_table(dtype="int8").save(tmp_path / "table")
    assert TokenTable.load(tmp_path / "table").dtype == "float32"
    assert [entry.name for entry in tmp_path.iterdir()] == ["table"]


def test_a_table_of_another_version_or_none_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="does not exist"):
        TokenTable.load(tmp_path / "nothing")
    make_table().save(tmp_path / "table")
    manifest = tmp_path / "table" / "table.json"
    stored = json.loads(manifest.read_text())
    for change, message in (
        ({"format_version": 99}, "upgrade"),
        ({"format_version": "1"}, "is damaged"),
        ({"kind": "index"}, "is not a token table folder"),
    ):
        manifest.write_text(json.dumps(stored | change))
        with pytest.raises(ArtifactError, match=message):
            TokenTable.load(tmp_path / "table")


@pytest.mark.parametrize("more_rows", [0, 5])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_other_libraries_load_the_folder_as_it_is(tmp_path: Path, dtype: str, more_rows: int) -> None:
    """Rows beyond the tokenizer's ids are common: models pad their vocabulary to a round number."""
    sentence_transformers = pytest.importorskip("sentence_transformers")
    model2vec = pytest.importorskip("model2vec")
    some = np.random.default_rng(2).standard_normal((IDS + more_rows, 6))
    table = TokenTable.from_rows(some, wordpiece(), model="made", dtype=dtype, max_length=9, prompt="Query: ")
    table.save(tmp_path / "table")
    texts = ["how tall is mount everest", "light bulb", "e-mail", "read a csv file"]
    wanted = QueryEncoder.load(tmp_path / "table").encode_dense(texts)
    sentence = sentence_transformers.SentenceTransformer(str(tmp_path / "table"), device="cpu")
    np.testing.assert_allclose(sentence.encode(texts), wanted, atol=2e-3)
    assert sentence.prompts.get("query", "") == "", "the rows hold the prompt already"
    static = model2vec.StaticModel.from_pretrained(tmp_path / "table")
    np.testing.assert_allclose(static.encode(texts), wanted, atol=2e-3)
    assert static.max_length == 9


def test_a_model_folder_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "kind": "token table"}))
    with pytest.raises(ArtifactError, match=r"is no token table: it has no table\.json"):
        TokenTable.load(tmp_path)


def test_a_rotation_is_kept_and_counts(tmp_path: Path) -> None:
    axes = np.linalg.qr(np.random.default_rng(4).normal(size=(6, 4)))[0].astype(np.float32)
    whole = make_table(dtype="int8")
    table = whole.rotated(axes)
    table.save(tmp_path / "table")
    loaded = TokenTable.load(tmp_path / "table")
    np.testing.assert_array_equal(loaded.rotation, axes)  # type: ignore[arg-type]
    assert loaded.hash == table.hash
    np.testing.assert_allclose(table[:], whole[:] @ axes, atol=0.03)
    assert (table.dim, table.dtype) == (4, "int8")
    assert replace(table, rotation=-axes).hash != table.hash
    short = loaded.truncated(3)
    np.testing.assert_array_equal(short.rotation, axes[:, :3])  # type: ignore[arg-type]
    np.testing.assert_array_equal(short[:], table[:][:, :3])
    assert "multiplied by `rotation.safetensors` [6, 4]" in (tmp_path / "table/README.md").read_text()
    whole.save(tmp_path / "whole")
    assert TokenTable.load(tmp_path / "whole").rotation is None
    for wrong in (table, make_table(dim=5)):
        with pytest.raises(UsageError, match="rotation"):
            wrong.rotated(axes)
    with pytest.raises(UsageError, match="rotation"):
        TokenTable.from_rows(rows(), wordpiece(), model="made", rotation=axes)
