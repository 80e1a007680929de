"""In what numbers a tower computes, and what bfloat16 costs."""

from __future__ import annotations

import pydoc_data.topics
from pathlib import Path

import numpy as np
import pytest
import torch
from made_models import CAUSAL, MASKED, TEXTS, causal_folder, masked_folder

from lightretriever import DocumentEncoder
from lightretriever.document.device import cpu_has_bfloat16, fastest, pick_dtype
from lightretriever.errors import UsageError

NOTE = "Note:"  # one of the shortest texts, whose vector a model that is bfloat16 throughout turns furthest
CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("flags", "found"),
    [
        ({"avx512_bf16": True}, True),  # AMD from Zen 4 on, Intel's Cooper Lake
        ({"avx512_bf16": True, "amx_bf16": True, "amx_tile": True}, True),  # Intel from Sapphire Rapids on
        ({"amx_bf16": True}, True),
        ({"avx2": True, "avx512_f": True, "avx512_vnni": True, "avx512_bf16": False, "amx_bf16": False}, False),
        ({"neon": True, "bf16": True, "architecture": "aarch64"}, False),  # nobody measured it
        ({}, False),
    ],
)
def test_which_processors_compute_in_bfloat16(flags: dict[str, object], found: bool) -> None:
    assert cpu_has_bfloat16(flags) == found


def test_without_the_library_that_multiplies_it_there_is_no_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not cpu_has_bfloat16({"avx512_bf16": True})


@pytest.mark.parametrize(("fast", "chosen"), [(True, "bfloat16"), (False, "auto")])
def test_the_fastest_follows_the_processor(fast: bool, chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightretriever.document.device.cpu_has_bfloat16", lambda _: fast)
    assert fastest("auto", "cpu") == chosen
    assert (fastest("float32", "cpu"), fastest("bfloat16", "cpu")) == ("float32", "bfloat16")
    assert pick_dtype("auto", CPU) == torch.float32  # who names nothing in Python gets what is exact
    assert pick_dtype("auto", torch.device("cuda")) == torch.bfloat16
    with pytest.raises(UsageError, match="unknown dtype 'int3'"):
        pick_dtype("int3", CPU)


@pytest.mark.skipif(not cpu_has_bfloat16(torch.cpu.get_capabilities()), reason="this processor has no bfloat16")
def test_bfloat16_turns_no_vector_of_minilm() -> None:
    paragraphs = [" ".join(part.split()) for text in pydoc_data.topics.topics.values() for part in text.split("\n\n")]
    texts = [*[paragraph for paragraph in paragraphs if paragraph][::60], NOTE]
    texts += [" ".join(paragraphs[start : start + 20]) for start in range(0, 200, 40)]  # up to the 512 tokens
    tower = DocumentEncoder.load("minilm", device="cpu", dtype="bfloat16")
    assert tower.dtype == "bfloat16"
    near = tower.encode(texts).dense
    exact = DocumentEncoder.load("minilm", device="cpu", dtype="float32").encode(texts)
    assert near.dtype == np.float32
    assert np.abs(np.linalg.norm(near, axis=1) - 1).max() < 1e-5
    assert (near * exact.dense).sum(1).min() > 0.9999


@pytest.mark.parametrize("kind", [*CAUSAL, *MASKED])
def test_every_kind_of_model_computes_in_bfloat16(kind: str, tmp_path: Path) -> None:
    folder = causal_folder(tmp_path, kind) if kind in CAUSAL else masked_folder(tmp_path, kind)
    exact = DocumentEncoder.load(folder, device="cpu", max_length=40)
    tower = DocumentEncoder.load(folder, device="cpu", dtype="bfloat16", max_length=40)
    assert (exact.dtype, tower.dtype) == ("float32", "bfloat16")
    embeddings = tower.backbone.model.get_input_embeddings().weight  # type: ignore[operator]
    assert embeddings.dtype == torch.float32  # though an LM head may have been the same matrix
    near, right = tower.encode(TEXTS), exact.encode(TEXTS)
    assert near.dense.dtype == np.float32
    assert (near.dense * right.dense).sum(1).min() > 0.98  # random weights, larger than any trained ones
    assert near.sparse is not None and right.sparse is not None
    assert np.abs(near.sparse.to_dense() - right.sparse.to_dense()).max() < 0.1
