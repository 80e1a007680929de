"""Sparse vectors with gradient: against the plain way, whatever the chunk, and in bounded memory."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from allocations import Largest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_models import CAUSAL, MASKED, TEXTS, causal_folder, masked_folder
from made_towers import batch_of

from lightretriever.document.backbone import load_backbone
from lightretriever.document.encoder import pad_ids
from lightretriever.document.sparse import LinearHead, sparse_vectors, valid_positions
from lightretriever.document.tied import TiedHead
from lightretriever.training.sparse_head import passage_weights
from lightretriever.training.tower import ModelConfig, Texts, TowerInput, TrainableTower


def _case(n: int, length: int, width: int, hidden: int = 6) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(n + length)
    states = torch.randn(n, length, hidden, generator=generator, requires_grad=True)
    lengths = torch.randint(1, length + 1, (n,), generator=generator)
    weight = torch.randn(width, hidden, generator=generator, requires_grad=True)
    bias = torch.randn(width, generator=generator, requires_grad=True)
    return states, lengths, weight, bias


def _plain(states: torch.Tensor, lengths: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    logits = states @ weight.T + bias
    outside = ~valid_positions(lengths, states.shape[1])
    return logits.masked_fill(outside[:, :, None], float("-inf")).amax(1).relu().log1p()


@settings(max_examples=40)
@given(st.integers(1, 5), st.integers(1, 9), st.integers(1, 12), st.integers(1, 30))
def test_any_chunk_gives_the_plain_vectors_and_gradients(n: int, length: int, width: int, rows: int) -> None:
    states, lengths, weight, bias = _case(n, length, width)
    upstream = torch.randn(n, width, generator=torch.Generator().manual_seed(1))
    found = passage_weights(states, lengths, (weight, bias), lambda x: x, chunk_bytes=4 * width * rows)
    plain = _plain(states, lengths, weight, bias)
    assert (found - plain).abs().max() < 1e-6
    ours = torch.autograd.grad(found, (states, weight, bias), upstream)
    theirs = torch.autograd.grad(plain, (states, weight, bias), upstream)
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine - other).abs().max() < 1e-5


def test_a_frozen_head_and_no_bias() -> None:
    states, lengths, weight, _ = _case(3, 6, 10)
    found = passage_weights(states, lengths, (weight.detach(), None), lambda x: 3 * torch.tanh(x / 3), chunk_bytes=120)
    logits = 3 * torch.tanh(states @ weight.detach().T / 3)
    outside = ~valid_positions(lengths, 6)
    plain = logits.masked_fill(outside[:, :, None], float("-inf")).amax(1).relu().log1p()
    assert (found - plain).abs().max() < 1e-6
    (ours,), (theirs,) = (torch.autograd.grad(x.sum(), states, retain_graph=True) for x in (found, plain))
    assert (ours - theirs).abs().max() < 1e-5


@pytest.mark.parametrize("rows", [1, 2, 30])
def test_a_state_that_is_not_a_number_is_not_hidden(rows: int) -> None:
    states, _, weight, bias = _case(2, 5, 7)
    states = states.detach()
    states[0, 2] = float("nan")  # finite ones stand before and after it, in its chunk or in others
    found = passage_weights(states, torch.tensor([5, 5]), (weight, bias), lambda x: x, chunk_bytes=4 * 7 * rows)
    assert found[0].isnan().all() and found[1].isfinite().all()


def test_top_k_is_what_the_encoder_keeps() -> None:
    states, lengths, weight, bias = _case(6, 9, 40)
    found = passage_weights(states, lengths, (weight, bias), lambda x: x, top_k=9)
    kept = sparse_vectors(states.detach(), lengths, lambda x: x @ weight.detach().T + bias.detach(), 40, 9)
    assert (found.detach() - torch.from_numpy(kept.to_dense())).abs().max() < 1e-6
    assert int((found > 0).sum(1).max()) == 9


@pytest.mark.parametrize("kind", [*CAUSAL, *MASKED])
def test_every_head_has_a_last_layer_of_its_own(kind: str, tmp_path: Path) -> None:
    folder = causal_folder(tmp_path, kind) if kind in CAUSAL else masked_folder(tmp_path, kind)
    backbone = load_backbone(folder, None, "cpu", "float32", "lm")
    head = backbone.head
    assert isinstance(head, LinearHead)
    ids, lengths = pad_ids([list(range(3, 9)), [4, 5, 6]], None, torch.device("cpu"))
    hidden = backbone.hidden(ids, lengths)
    found = passage_weights(head.states(hidden), lengths, head.matrix(), head.finish, chunk_bytes=4 * 350 * 3)
    logits = backbone.whole(input_ids=ids[:1]).logits[0, 1:-1, : found.shape[1]]
    assert (found[0] - logits.amax(0).relu().log1p()).abs().max() < 1e-5


@pytest.mark.parametrize(("n", "length"), [(2, 64), (16, 8), (2, 256)])
def test_memory_is_bounded_by_the_chunk_and_the_output(n: int, length: int) -> None:
    width, chunk = 50_000, 2 << 20
    states, _, weight, bias = _case(n, length, width, hidden=2)
    with Largest() as largest:
        found = passage_weights(states, torch.full((n,), length), (weight, bias), lambda x: x, chunk_bytes=chunk)
        found.sum().backward()
    # A batch's logits are 12 to 100 MB, of which autograd would keep several copies.
    assert largest.bytes <= max(chunk, 4 * n * width)
    assert weight.grad is not None and states.grad is not None


def test_a_tied_heads_gate_is_as_fine_under_autocast() -> None:
    generator = torch.Generator().manual_seed(0)
    head = TiedHead(6, 6, 20)
    torch.nn.init.normal_(head.gate.weight, std=0.02, generator=generator)
    hidden, unit = torch.randn(2, 5, 6, generator=generator), torch.randn(20, 6, generator=generator)
    ids = torch.randint(20, (2, 5), generator=generator)
    with torch.autocast("cpu", torch.bfloat16):
        found = head.states(hidden, ids, unit)
    assert torch.equal(found, head.states(hidden, ids, unit))
    exact = found
    rounded = head.bfloat16().states(hidden, ids, unit)  # what DeepSpeed does with bf16
    assert rounded.dtype == torch.float32
    assert (rounded - exact).abs().max() < 2e-3  # of 8, where bfloat16 goes by a sixteenth


def test_a_tied_head_starts_as_lexical_search_and_learns(tmp_path: Path) -> None:
    masked_folder(tmp_path, "bert", head=False, initializer_range=1.0)
    tower = TrainableTower.load(ModelConfig(base=str(tmp_path), rank=2))
    assert tower.tied is not None
    idf = torch.linspace(0.5, 3, tower.vocab_size)
    tower.tied.set_idf(idf)
    batch = batch_of(tower, ["a", "b"], TEXTS[:4])
    found = tower(TowerInput(Texts(batch.passage_ids, batch.passage_lengths))).passages_sparse
    for row, ids, length in zip(found, batch.passage_ids, batch.passage_lengths, strict=True):
        own = ids[1 : length - 1].unique()
        # Its own tokens have at least their weight: another token like one of them can only add.
        assert (row[own] >= 2 * idf[own] / 3 - 1e-4).all()
        assert len(own) == 0 or row[own].sum() > 0.5 * row.sum()
    before = found.detach().clone()
    optimizer = torch.optim.AdamW(tower.tied.parameters(), lr=1e-2)
    for _ in range(5):
        vectors = tower(TowerInput(Texts(batch.passage_ids, batch.passage_lengths))).passages_sparse
        optimizer.zero_grad()
        (vectors[0].sum() - vectors[2].sum()).neg().backward()
        optimizer.step()
    assert vectors[0].sum() - vectors[2].sum() > before[0].sum() - before[2].sum() + 1
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in tower.tied.parameters())
