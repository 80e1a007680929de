"""The batch of all devices, with gradient: more negatives for everyone (METHOD "Training losses").

Every device computes the loss of the joined batch from everyone's vectors, of which only its own have a graph. What
that gives, summed over devices, is the gradient of the joined batch. Data-parallel training takes the mean instead,
so the backward pass multiplies by the number of devices.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed
from torch.autograd import Function

from lightretriever.errors import UsageError
from lightretriever.training.losses import Representations


def gather(found: Representations) -> Representations:
    """Every device's vectors, one device after another; what one has by itself alone. The same on all of them.

    All devices must hold batches of one data set and of the same number of rows: negatives of another data set teach
    the model to tell data sets apart.
    """
    if not (distributed.is_available() and distributed.is_initialized()) or distributed.get_world_size() == 1:
        return found
    _check(found)
    return Representations(*(None if value is None else _gathered(value) for value in found))


def _check(found: Representations) -> None:
    """Raises the same error on every device where their batches differ in kind: gathering them would hang."""
    shapes = [[-1, -1] if value is None else [len(value), value[0].numel()] for value in found]
    place = next(value.device for value in found if value is not None)
    mine = torch.tensor(shapes, device=place)
    parts = [torch.empty_like(mine) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, mine)
    for rank, part in enumerate(parts):
        wrong = (part != parts[0]).any(1).nonzero().flatten().tolist()
        if wrong:
            raise UsageError(
                f"devices 0 and {rank} hold batches that differ in {Representations._fields[wrong[0]]} "
                f"({parts[0][wrong[0]].tolist()} and {part[wrong[0]].tolist()} rows and columns): every device needs "
                "as many queries and passages, and cross-encoder scores for all passages or none of a data set"
            )


def _gathered(value: Tensor) -> Tensor:
    if value.dtype == torch.bool:  # some back ends move no booleans
        return _gathered(value.to(torch.uint8)).bool()
    return _AllGather.apply(value.contiguous())


class _AllGather(Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        world = distributed.get_world_size()
        ctx.rows = len(value)
        parts = [torch.empty_like(value) for _ in range(world)]
        distributed.all_gather(parts, value)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        start = distributed.get_rank() * ctx.rows
        return gradient[start : start + ctx.rows] * distributed.get_world_size()
