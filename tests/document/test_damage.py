"""Whatever a model folder's files hold: a model, or one of our errors in one line."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_models import adapter_folder, causal_folder, masked_folder, sentence_files, sentence_folder

from lightretriever import DocumentEncoder
from lightretriever.errors import LightRetrieverError, ModelError

POOLING = {"embedding_dimension": 32, "pooling_mode": "mean", "include_prompt": True}
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from([10**9, 10**30, -(10**9), 0.5, float("nan"), 1e308])
    | st.sampled_from(["", "mean", "../..", "\0", "BertModel", "LORA", "ä" * 300, "auto"]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["text", "a", "path"]), inner, max_size=2)
    ),
    max_leaves=3,
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One folder of each layout, and a place to spoil copies in."""
    top = tmp_path_factory.mktemp("made")
    base = masked_folder(top / "base", "bert", head=False)
    return {
        "plain": base,
        "causal": causal_folder(top / "causal", "llama"),
        "sentence": sentence_folder(top / "sentence", dict(POOLING)),
        "adapter": adapter_folder(top / "adapter", base),
        "both": sentence_files(adapter_folder(top / "both", base), dict(POOLING)),
    }


FILES = [
    ("plain", "config.json"),
    ("plain", "tokenizer_config.json"),
    ("causal", "config.json"),
    ("causal", "tokenizer_config.json"),
    ("sentence", "config.json"),
    ("sentence", "modules.json"),
    ("sentence", "1_Pooling/config.json"),
    ("sentence", "sentence_bert_config.json"),
    ("sentence", "config_sentence_transformers.json"),
    ("adapter", "adapter_config.json"),
    ("both", "adapter_config.json"),
    ("both", "modules.json"),
]


def _load(folder: Path) -> None:
    """A model that loads is used, since some values are met only then."""
    try:
        DocumentEncoder.load(folder, device="cpu").encode(["an otter", ""])
    except LightRetrieverError as error:
        assert "\n" not in str(error)
        assert len(str(error)) < 900


def _spoil(value: object, draw: Callable) -> object:
    """The value with one thing in it replaced, left out or added."""
    if isinstance(value, dict) and value and draw(st.integers(0, 4)):
        key = draw(st.sampled_from(sorted(value)))
        if draw(st.integers(0, 5)) == 0:
            return {name: one for name, one in value.items() if name != key}
        return {**value, key: _spoil(value[key], draw)}
    if isinstance(value, list) and value and draw(st.integers(0, 4)):
        place = draw(st.integers(0, len(value) - 1))
        return [*value[:place], _spoil(value[place], draw), *value[place + 1 :]]
    return draw(VALUES)


@pytest.mark.parametrize(("layout", "file"), FILES)
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_spoiled_settings_are_refused_or_read(
    layout: str, file: str, data: st.DataObject, made: dict[str, Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(made[layout], tmp_path / "spoiled", dirs_exist_ok=True)
    told = json.loads((made[layout] / file).read_text())
    (folder / file).write_text(json.dumps(_spoil(told, data.draw)))
    _load(folder)


@pytest.mark.parametrize(("layout", "file"), FILES)
@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '"text"',
        "7",
        "[" * 100_000,
        '{"a":' * 50_000,
        "\ufeff{}",
        '{"a": ' + "9" * 5000 + "}",
        "\ud800",
    ],
    ids=["empty", "cut", "list", "null", "string", "number", "deep list", "deep object", "mark", "digits", "surrogate"],
)
def test_settings_that_are_something_else(
    layout: str, file: str, text: str, made: dict[str, Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(made[layout], tmp_path / "spoiled")
    (folder / file).write_bytes(text.encode("utf-8", "surrogatepass"))
    _load(folder)


def _header(tensors: dict[str, object], length: int | None = None, body: bytes = b"\0" * 64) -> bytes:
    told = json.dumps(tensors).encode()
    return struct.pack("<Q", len(told) if length is None else length) + told + body


@pytest.mark.parametrize(
    "data",
    [
        _header({}, 1 << 62),
        _header({"a": {"dtype": "F32", "shape": [1 << 40, 1 << 40], "data_offsets": [0, 64]}}),
        _header({"a": {"dtype": "F32", "shape": [16], "data_offsets": [0, 1 << 50]}}),
        _header({"a": {"dtype": "F99", "shape": [16], "data_offsets": [0, 64]}}),
        _header({"a": {"dtype": "F32", "shape": [-4], "data_offsets": [64, 0]}}),
        _header({"__metadata__": {"format": 7}}),
        _header({"a": {"dtype": "F32", "shape": [16], "data_offsets": [0, 64]}}),
        _header({}),
        b"\0" * 8,
        b"",
    ],
    ids=["length", "shape", "offset", "dtype", "negative", "metadata", "other", "none", "zero", "empty"],
)
@pytest.mark.parametrize(("layout", "file"), [("plain", "model.safetensors"), ("adapter", "adapter_model.safetensors")])
def test_weights_that_lie_are_named(layout: str, file: str, data: bytes, made: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(made[layout], tmp_path / "spoiled")
    (folder / file).write_bytes(data)
    with pytest.raises(ModelError, match="spoiled") as caught:
        DocumentEncoder.load(folder, device="cpu")
    assert "\n" not in str(caught.value)
