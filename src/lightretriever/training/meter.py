"""What a run costs and how its losses go, gathered between two lines of the log."""

from __future__ import annotations

import time
from collections.abc import Mapping

import torch
from torch import Tensor

from lightretriever.memory import most_resident


class Meter:
    """Means of what is added between two `drain`s, tokens per second, and memory.

    Args:
        device: of this process.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._started: float | None = None
        self._reset()

    def _reset(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._tokens = 0

    def begin(self) -> None:
        """Call this as a step begins: the first call starts the clock."""
        if self._started is None:
            self._started = time.monotonic()

    def add(self, values: Mapping[str, Tensor], tokens: int = 0) -> None:
        """Values of one step, scalars that may still be on their way, and the tokens that a model read for it."""
        for name, value in values.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._counts[name] = self._counts.get(name, 0) + 1
        self._tokens += tokens

    def pause(self, seconds: float) -> None:
        """Leave time out that was not spent on training."""
        if self._started is not None:
            self._started += seconds

    def drain(self) -> dict[str, float]:
        """The means, ``tokens_per_second`` of all processes together, and ``peak_memory_gb`` of the device of each
        (``peak_memory_gb/0`` … where there are several); every process must call it."""
        found = {name: float(value) / self._counts[name] for name, value in self._sums.items()}
        now = time.monotonic()
        elapsed = now - (now - 1e-9 if self._started is None else self._started)
        self._started = now
        own = torch.tensor([self._tokens, peak_memory(self._device) / 1e9], dtype=torch.float64)
        rows = [own]
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            own = own.float().to(self._device)  # what every backend can carry
            rows = [torch.empty_like(own) for _ in range(torch.distributed.get_world_size())]
            torch.distributed.all_gather(rows, own)
        found["tokens_per_second"] = sum(float(row[0]) for row in rows) / elapsed
        for rank, row in enumerate(rows):
            found["peak_memory_gb" + (f"/{rank}" if len(rows) > 1 else "")] = float(row[1])
        self._reset()
        return found


def peak_memory(device: torch.device) -> int:
    """Bytes that this process held at most: of the accelerator's memory, or its resident memory on a CPU."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else most_resident()
