"""``lightretriever`` with FSDP on CPUs, which accelerate leaves out without a word; fails where it was not FSDP.

Run under torchrun. Only what accelerate thinks the devices are is changed: what shards and trains is the real thing.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from lightretriever.cli.main import execute
from lightretriever.training.trainer import LookupTrainer

_init, _compute_loss = AcceleratorState.__init__, LookupTrainer.compute_loss
_steps = 0


def _as_on_gpus(self: AcceleratorState, *args: Any, **named: Any) -> None:
    if not AcceleratorState._shared_state:
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
    _init(self, *args, **named)


def _sharded_loss(self: LookupTrainer, model: torch.nn.Module, *args: Any, **named: Any) -> Any:
    global _steps
    assert self.accelerator.distributed_type is DistributedType.FSDP
    assert isinstance(model, FSDPModule)
    assert sum(isinstance(module, FSDPModule) for module in model.modules()) > 2  # each layer is one too
    kept = [parameter for parameter in model.parameters() if isinstance(parameter, DTensor)]
    assert kept  # not all: the outermost weights stay gathered after a measurement
    assert all(parameter.dtype == torch.float32 for parameter in kept)
    loss = _compute_loss(self, model, *args, **named)
    assert loss.dtype == torch.float32
    _steps += 1
    return loss


if __name__ == "__main__":
    AcceleratorState.__init__ = _as_on_gpus  # type: ignore[method-assign]
    LookupTrainer.compute_loss = _sharded_loss  # type: ignore[method-assign]
    status = execute(sys.argv[1:])
    assert _steps, "no step was taken"
    sys.exit(status)
