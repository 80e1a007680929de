"""A chunk at a time: the plain step's gradients, in a chunk's memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from made_towers import PASSAGES, QUERIES, batch_of, gradients, step, tower_of
from torch.autograd.profiler import profile

from lightretriever.training import tower as tower_module
from lightretriever.training.large_batch import in_chunks
from lightretriever.training.tower import TrainableTower


def _with_graph(
    encode: Callable[..., tuple[torch.Tensor, ...]], inputs: tuple[torch.Tensor, ...], size: int
) -> tuple[torch.Tensor, ...]:
    """The same chunks, each with its graph kept: the plain step under the same random numbers."""
    starts = range(0, len(inputs[0]), size)
    parts = [encode(*(tensor[start : start + size] for tensor in inputs)) for start in starts]
    return tuple(torch.cat(column) for column in zip(*parts, strict=True))


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("kind", ["causal", "mlm", "tied"])
def test_gradients_equal_the_plain_steps_with_dropout(
    kind: str, checkpointing: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tower = tower_of(kind, tmp_path, chunk=3, dropout=0.2, gradient_checkpointing=checkpointing).train()
    batch = batch_of(tower)
    torch.manual_seed(11)
    loss, found = step(tower, batch), gradients(tower)
    monkeypatch.setattr(tower_module, "in_chunks", _with_graph)
    torch.manual_seed(11)
    assert step(tower, batch).item() == pytest.approx(loss.item(), rel=1e-6)
    plain = gradients(tower)
    assert set(plain) == set(found) and len(plain) > 10
    for name, value in plain.items():
        assert (found[name] - value).abs().max() < 1e-5 * max(1, value.abs().max()), name
    torch.manual_seed(12)
    assert step(tower, batch).item() != pytest.approx(loss.item(), rel=1e-3)  # dropout is at work


@pytest.mark.parametrize("kind", ["causal", "tied"])
def test_without_dropout_chunks_change_nothing(kind: str, tmp_path: Path) -> None:
    plain, chunked = tower_of(kind, tmp_path), tower_of(kind, tmp_path, chunk=2)  # BERT has dropout of its own
    batch = batch_of(plain)
    assert step(chunked, batch).item() == pytest.approx(step(plain, batch).item(), rel=1e-6)
    ours = gradients(chunked)
    for name, value in gradients(plain).items():
        assert (ours[name] - value).abs().max() < 1e-5 * max(1, value.abs().max()), name


def _peak(tower: TrainableTower, queries: int) -> int:
    """Most bytes that were allocated at a time during a step."""
    batch = batch_of(
        tower, QUERIES[:2] * (queries // 2), [PASSAGES[0] + " the world is about a mountain"] * queries * 2
    )
    step(tower, batch)
    with profile(profile_memory=True) as found:
        step(tower, batch)
    events = [event for event in found.kineto_results.events() if event.name() == "[memory]"]
    held = torch.tensor([event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]).cumsum(0)
    return int(held.max())


@pytest.mark.parametrize("kind", ["causal", "mlm"])
def test_memory_follows_the_chunk_not_the_batch(kind: str, tmp_path: Path) -> None:
    plain = tower_of(kind, tmp_path).train()
    chunked = tower_of(kind, tmp_path, chunk=4).train()
    small, large = _peak(plain, 4), _peak(plain, 32)
    assert large > 5 * small
    few, many = _peak(chunked, 4), _peak(chunked, 32)
    assert many < large / 4
    # What still grows with the batch is its vectors: 64 passages of at most 350 + 32 numbers, a few copies.
    assert many - few < 8 * 64 * (350 + 32) * 4


def test_chunks_without_gradients_and_of_everything() -> None:
    rows = torch.arange(5.0)
    for size in (0, 1, 2, 5, 9):
        with torch.no_grad():
            (double,) = in_chunks(lambda x: (2 * x,), (rows,), size)
        assert double.tolist() == [0, 2, 4, 6, 8]
