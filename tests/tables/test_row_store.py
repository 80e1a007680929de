"""A model's token rows, kept once for the machine: found again, never trusted, never needed, never too many."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import pytest

from lightretriever.artifact import read_json, save_tensors, write_json
from lightretriever.tables import row_store
from lightretriever.tables.row_store import ModelRows, RowsKey, rows_kept, stored_rows

KEY = RowsKey("sha256:feed", "tokenizer", None)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIGHTRETRIEVER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "token-rows"


def made(seed: int = 0, prompt: str = "find: ", shape: tuple[int, int] = (50, 8)) -> ModelRows:
    return ModelRows(np.random.default_rng(seed).normal(size=shape).astype(np.float32), "tiny", prompt)


def never() -> ModelRows:
    raise AssertionError("made again")


@pytest.mark.usefixtures("store")
def test_rows_are_made_once() -> None:
    assert stored_rows(KEY) is None
    first = rows_kept(KEY, made)
    again = rows_kept(KEY, never)
    np.testing.assert_array_equal(again.rows, first.rows)
    assert (again.model, again.prompt) == ("tiny", "find: ")


@pytest.mark.parametrize(
    "other",
    [
        RowsKey("sha256:beef", "tokenizer", None),
        RowsKey("sha256:feed", "another", None),
        RowsKey("sha256:feed", "tokenizer", ""),
        RowsKey("sha256:feed", "tokenizer", "find: "),
    ],
)
@pytest.mark.usefixtures("store")
def test_other_models_tokenizers_and_prompts_have_their_own(other: RowsKey) -> None:
    rows_kept(KEY, made)
    prompt = "find: " if other.prompt is None else other.prompt
    own = rows_kept(other, lambda: made(1, prompt))
    np.testing.assert_array_equal(own.rows, made(1).rows)
    np.testing.assert_array_equal(rows_kept(KEY, never).rows, made().rows)


def damage_a_byte(folder: Path) -> None:
    data = bytearray((folder / "rows.safetensors").read_bytes())
    data[-3] ^= 4
    (folder / "rows.safetensors").write_bytes(data)


def damage_the_length(folder: Path) -> None:
    (folder / "rows.safetensors").write_bytes((folder / "rows.safetensors").read_bytes()[:200])


def damage_the_rows(folder: Path) -> None:
    save_tensors(folder / "rows.safetensors", {"rows": made(7).rows})


def damage_the_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text('{"kind": "token rows", "format_version": 1, "shape": "wide"}')


def damage_the_kind(folder: Path) -> None:
    (folder / "manifest.json").write_text("[" * 5000)


def damage_by_removal(folder: Path) -> None:
    (folder / "rows.safetensors").unlink()


def damage_the_owner(folder: Path) -> None:
    write_json(folder / "manifest.json", {**read_json(folder / "manifest.json"), "revision": "sha256:beef"})


@pytest.mark.parametrize(
    "damage",
    [
        damage_a_byte,
        damage_the_length,
        damage_the_rows,
        damage_the_manifest,
        damage_the_kind,
        damage_by_removal,
        damage_the_owner,
    ],
)
def test_what_is_damaged_is_made_again_and_said(damage, store: Path) -> None:
    rows_kept(KEY, made)
    (folder,) = store.iterdir()
    damage(folder)
    with pytest.warns(UserWarning, match="damaged.*made again"):
        found = rows_kept(KEY, made)
    np.testing.assert_array_equal(found.rows, made().rows)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(rows_kept(KEY, never).rows, found.rows)


def test_where_nothing_can_be_written_fits_go_on_and_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")  # permissions would not stop a test that runs as root
    monkeypatch.setenv("LIGHTRETRIEVER_CACHE", str(tmp_path / "file" / "cache"))
    for _ in range(2):
        with pytest.warns(UserWarning, match="cannot be kept.*LIGHTRETRIEVER_CACHE") as said:
            # It is said before the model runs, which may take hours, and not again after it.
            found = rows_kept(KEY, lambda: made(len(said)))
        np.testing.assert_array_equal(found.rows, made(1).rows)
        assert len(said) == 1


def test_what_was_used_longest_ago_goes_first(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [RowsKey(f"sha256:{number}", "tokenizer", None) for number in range(3)]
    monkeypatch.setattr(row_store, "LIMIT", 5000)  # two of 1,600 bytes and their manifests
    for number, key in enumerate(keys[:2]):
        rows_kept(key, made)
        os.utime(store / key.name / "manifest.json", (number, number))
    (store / keys[1].name / ".rows.safetensors.killed").write_bytes(b"half")
    (store / "not ours").mkdir()
    assert stored_rows(keys[0]) is not None  # and so used last
    rows_kept(keys[2], made)
    assert stored_rows(keys[1]) is None
    assert stored_rows(keys[0]) is not None
    assert stored_rows(keys[2]) is not None
    assert {path.name for path in store.iterdir()} == {keys[0].name, keys[2].name, "not ours"}
    rows_kept(keys[1], lambda: made(shape=(5000, 8)))  # more than there may be in all
    assert stored_rows(keys[1]) is None


@pytest.mark.usefixtures("store")
def test_a_model_that_cannot_be_told_from_others_is_not_kept() -> None:
    key = RowsKey("", "tokenizer", None)
    rows_kept(key, made)
    assert stored_rows(key) is None
