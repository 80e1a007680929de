"""Low-rank adapters on a loaded backbone, through peft (Hu et al. 2021, arXiv 2106.09685)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import nn
from transformers.pytorch_utils import Conv1D

from lightretriever.document.backbone import Backbone
from lightretriever.errors import UsageError


def add_adapters(
    backbone: Backbone, rank: int, alpha: float, dropout: float, targets: Sequence[str], base: str
) -> None:
    """Put adapters beside the linear layers of the transformer, in place; they alone are trained, in float32.

    Args:
        backbone: frozen.
        rank, alpha, dropout: of every adapter.
        targets: endings of layer names ("q_proj"); () for every linear layer but the head.
        base: how the model is called, for `adapter_config.json`.

    Raises:
        UsageError: no layer has such a name.
    """
    within = {id(module) for module in backbone.model.modules()}
    linear = [
        (name, module)
        for name, module in backbone.whole.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and id(module) in within and "pooler" not in name
    ]
    chosen = [
        (name, module)
        for name, module in linear
        if not targets or any(f".{name}".endswith(f".{target}") for target in targets)
    ]
    missing = [target for target in targets if not any(f".{name}".endswith(f".{target}") for name, _ in linear)]
    if missing or not chosen:
        ends = sorted({name.rpartition(".")[2] for name, _ in linear})
        raise UsageError(f"model.targets: no linear layer is called {missing}: this model has {', '.join(ends)}")
    config = LoraConfig(
        base_model_name_or_path=base,
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=[name for name, _ in chosen],
        fan_in_fan_out=isinstance(chosen[0][1], Conv1D),
        task_type="FEATURE_EXTRACTION",
    )
    inject_adapter_in_model(config, backbone.whole)
    for name, parameter in backbone.whole.named_parameters():
        parameter.requires_grad_(".lora_" in name)
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.float32)
