"""Prompts run once: for every family that can, with the vectors of the plain way; and the reason where one cannot."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from made_models import ATTENDING, CAUSAL, RECURRENT, TEXTS, causal_folder, masked_folder
from torch import Tensor, nn
from transformers import Cache
from transformers.utils import ModelOutput

from lightretriever import DocumentEncoder
from lightretriever.document.backbone import Backbone, load_backbone
from lightretriever.document.prefix import common_prefix, run_after, run_prefix, try_sharing

PROMPT = "Instruct: find what answers the query\nQuery: "


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6), min_size=1, max_size=6))
def test_a_common_prefix_is_common_and_leaves_something(tokens: list[list[int]]) -> None:
    found = common_prefix(tokens)
    assert all(own[: len(found)] == found and len(own) > len(found) for own in tokens)
    longer = len(found) + 1
    assert len({tuple(own[:longer]) for own in tokens}) > 1 or min(map(len, tokens)) == longer


def whole_and_shared(backbone: Backbone, length: int) -> tuple[Tensor, Tensor]:
    """Hidden states of five rows of four ids behind a prefix, run whole and after the prefix alone."""
    prefix, own = torch.arange(length) * 3 % 300, torch.arange(20).view(5, 4) * 11 % 300
    with torch.inference_mode():
        shared = run_prefix(backbone, prefix.tolist())
        assert shared is not None
        ids = torch.cat([prefix.expand(5, -1), own], dim=1)
        whole = backbone.hidden(ids, torch.full((5,), ids.shape[1]))[:, length:]
        return whole, run_after(backbone, shared, own)


@pytest.mark.parametrize("kind", ATTENDING)
def test_every_family_that_attends_shares_its_prefix(kind: str, tmp_path: Path) -> None:
    backbone = load_backbone(causal_folder(tmp_path, kind), None, "cpu", "float32", "none")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert backbone.sharing, backbone.sharing.reason
    for length in (1, 4, 40):  # windows of 6 are left, and are not
        whole, shared = whole_and_shared(backbone, length)
        assert (shared - whole).abs().max() < 1e-5 * whole.abs().max()


@pytest.mark.parametrize("kind", RECURRENT)
def test_a_model_with_a_running_state_says_why_it_shares_nothing(kind: str, tmp_path: Path) -> None:
    tower = DocumentEncoder.load(causal_folder(tmp_path, kind), device="cpu", sparse="none", max_length=100)
    with pytest.warns(UserWarning, match="run again for every row") as caught:
        found = tower.encode_queries(TEXTS, PROMPT)
        tower.encode_queries(TEXTS[:3], PROMPT)
    assert len([entry for entry in caught if "every row" in str(entry.message)]) == 1  # once a tower
    assert type(tower.backbone.model).__name__ in tower.backbone.sharing.reason
    assert run_prefix(tower.backbone, [5, 6, 7]) is None
    for text, vector in zip(TEXTS, found, strict=True):
        assert np.abs(tower.encode_queries([text], PROMPT)[0] - vector).max() < 1e-4


def test_positions_that_change_with_the_length_are_not_shared(tmp_path: Path) -> None:
    rope = {"rope_type": "dynamic", "rope_theta": 10_000.0, "factor": 4.0}
    folder = causal_folder(tmp_path, "llama", max_position_embeddings=30, rope_parameters=rope)
    backbone = load_backbone(folder, None, "cpu", "float32", "none")
    with pytest.warns(UserWarning, match=r"rotary positions \(dynamic\)"):
        assert not backbone.sharing
    assert run_prefix(backbone, list(range(28))) is None


def test_what_cannot_share_by_its_nature_gives_its_reason_without_a_warning(tmp_path: Path) -> None:
    encoder = DocumentEncoder.load(masked_folder(tmp_path / "bert", "bert"), device="cpu", sparse="none")
    mean = replace(encoder.backbone, causal=True, pooling="mean")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "both ways" in encoder.backbone.sharing.reason
        assert "mean" in try_sharing(mean).reason


class Renamed(nn.Module):
    """A model that calls its memory what no version of transformers does."""

    def __init__(self, inner: nn.Module, forgets: bool = False) -> None:
        super().__init__()
        self.inner, self.config, self.forgets = inner, inner.config, forgets
        self.inner_name = ""

    def get_input_embeddings(self) -> nn.Module:
        return self.inner.get_input_embeddings()

    def forward(self, *, memories: Cache | None = None, **given: object) -> ModelOutput:
        named = {} if memories is None or self.forgets else {self.inner_name: memories}
        output = self.inner(**given, **named)
        for name, value in output.items():
            if isinstance(value, Cache):
                self.inner_name = name
        return ModelOutput(last_hidden_state=output.last_hidden_state, memories=output.get(self.inner_name))


def test_the_prefix_is_shared_whatever_the_model_calls_its_memory(tmp_path: Path) -> None:
    backbone = load_backbone(causal_folder(tmp_path, "llama"), None, "cpu", "float32", "none")
    renamed = replace(backbone, model=Renamed(backbone.model).eval())
    assert renamed.sharing.argument == "memories"
    whole, shared = whole_and_shared(renamed, 9)
    assert (shared - whole).abs().max() < 1e-5 * whole.abs().max()
    forgetful = try_sharing(replace(backbone, model=Renamed(backbone.model, forgets=True).eval()))
    assert not forgetful and "other vectors" in forgetful.reason


def test_dropout_and_autocast_do_not_hide_that_a_prefix_can_be_shared(tmp_path: Path) -> None:
    folder = causal_folder(tmp_path, "gpt2", embd_pdrop=0.5, resid_pdrop=0.5)
    backbone = load_backbone(folder, None, "cpu", "float32", "none")
    backbone.model.train()
    with torch.autocast("cpu", torch.bfloat16):
        assert try_sharing(backbone)
    assert backbone.model.training
    half = load_backbone(folder, None, "cpu", "bfloat16", "none")
    assert half.sharing, half.sharing.reason


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
    assert tower.backbone.sharing
    shapes.clear()  # what was tried
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
