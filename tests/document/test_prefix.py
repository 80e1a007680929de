"""Prompts run once for a batch of queries: the vectors are those of the plain way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_models import CAUSAL, TEXTS, causal_folder

from lightretriever import DocumentEncoder
from lightretriever.document.prefix import common_prefix

PROMPT = "Instruct: find what answers the query\nQuery: "


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6), min_size=1, max_size=6))
def test_a_common_prefix_is_common_and_leaves_something(tokens: list[list[int]]) -> None:
    found = common_prefix(tokens)
    assert all(own[: len(found)] == found and len(own) > len(found) for own in tokens)
    longer = len(found) + 1
    assert len({tuple(own[:longer]) for own in tokens}) > 1 or min(map(len, tokens)) == longer


@pytest.mark.parametrize("kind", CAUSAL)
def test_queries_under_a_prompt_are_those_of_the_plain_way(kind: str, tmp_path: Path) -> None:
    tower = DocumentEncoder.load(causal_folder(tmp_path, kind), device="cpu", sparse="none", max_length=100)
    found = tower.encode_queries(TEXTS, PROMPT)
    for text, vector in zip(TEXTS, found, strict=True):  # one text by itself shares nothing
        assert np.abs(tower.encode_queries([text], PROMPT)[0] - vector).max() < 1e-4


def test_the_prompt_is_run_once_a_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tower = DocumentEncoder.load(causal_folder(tmp_path, "llama"), device="cpu", sparse="none")
    shapes: list[tuple[int, ...]] = []
    run = tower.backbone.model.forward
    monkeypatch.setattr(
        tower.backbone.model,
        "forward",
        lambda *args, **kwargs: shapes.append(tuple(kwargs["input_ids"].shape)) or run(*args, **kwargs),
    )
    texts = ["tall", "high", "wide"]
    tower.encode_queries(texts, PROMPT)
    tokens = tower.tokenize([PROMPT + text for text in texts])
    shared = len(common_prefix(tokens))
    assert shared > 10
    assert shapes == [(1, shared), (3, max(map(len, tokens)) - shared)]
    shapes.clear()
    tower.encode(texts)  # without a prompt only the first special token is shared: not worth it
    assert [shape[0] for shape in shapes] == [3]
    unshared = DocumentEncoder(replace(tower.backbone, causal=False))
    assert np.abs(unshared.encode_queries(texts, PROMPT) - tower.encode_queries(texts, PROMPT)).max() < 1e-5
