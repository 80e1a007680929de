"""What training claims to save is saved: bfloat16 computes, weights stay float32, activations are computed again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from made_towers import batch_of, step, tower_of
from torch import Tensor, nn

from lightretriever.training.config import read_config
from lightretriever.training.run import train
from lightretriever.training.tower import TrainableTower, represent


@contextmanager
def forward_calls(kind: type[nn.Module]) -> Iterator[list[tuple[torch.dtype, torch.dtype | None]]]:
    """Notes what every module of a kind gives, and the dtype of its weight, while gradients are asked for."""
    seen: list[tuple[torch.dtype, torch.dtype | None]] = []

    def note(module: nn.Module, _: object, output: object) -> None:
        found = output[0] if isinstance(output, tuple) else output
        if isinstance(module, kind) and isinstance(found, Tensor) and torch.is_grad_enabled():
            weight = getattr(module, "weight", None)
            seen.append((found.dtype, None if weight is None else weight.dtype))

    handle = nn.modules.module.register_module_forward_hook(note)
    try:
        yield seen
    finally:
        handle.remove()


@pytest.mark.parametrize(("bf16", "wanted"), [(True, torch.bfloat16), (False, torch.float32)])
def test_bf16_computes_in_bfloat16_with_float32_weights(
    bf16: bool, wanted: torch.dtype, settings: Callable[..., Path]
) -> None:
    overrides = ["trainer.max_steps=1", "validation.every=0", f"trainer.bf16={str(bf16).lower()}"]
    with forward_calls(nn.Linear) as seen:
        train(read_config(settings(), overrides))
    assert Counter(seen).most_common(1)[0][0] == (wanted, torch.float32)
    assert {weight for _, weight in seen} == {torch.float32}


@pytest.mark.parametrize("checkpointing", [True, False])
def test_checkpointed_layers_are_computed_again_for_the_gradients(checkpointing: bool, tmp_path: Path) -> None:
    tower: TrainableTower = tower_of("causal", tmp_path, gradient_checkpointing=checkpointing).train()
    norm = type(tower.backbone.model.layers[0].input_layernorm)
    batch = batch_of(tower)
    with forward_calls(norm) as once:
        represent(tower, batch)
    with forward_calls(norm) as with_backward:
        step(tower, batch)
    assert once
    assert (len(with_backward) > len(once)) == checkpointing
