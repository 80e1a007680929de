"""A tower whose matrices are bfloat16 and all else float32: what a processor with instructions for it is fast at.

A model that is bfloat16 throughout is no faster there, since all but the products of matrices takes as long, and rounds
what goes from layer to layer: of a text of a few tokens its vector is further off than one ten-thousandth of cosine.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from lightretriever.document.backbone import Backbone


@torch.no_grad()
def round_matrices(backbone: Backbone) -> Backbone:
    """Round the linear layers of a float32 tower to bfloat16, in place; they take and give float32 as before.

    Inputs are rounded too, sums are not: the processor adds in float32. A layer that shares its weights with the
    embedding gets its own.
    """
    for module in backbone.whole.modules():
        if type(module) is nn.Linear:  # a subclass may be used in ways of its own
            module.weight = nn.Parameter(module.weight.bfloat16(), requires_grad=False)
            if module.bias is not None:
                module.bias = nn.Parameter(module.bias.bfloat16(), requires_grad=False)
            module.register_forward_pre_hook(_rounded)
            module.register_forward_hook(_widened)
    return replace(backbone, rounded=True)


def _rounded(_module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return (inputs[0].bfloat16(), *inputs[1:])


def _widened(_module: nn.Module, _inputs: tuple[Any, ...], output: Tensor) -> Tensor:
    return output.float()
