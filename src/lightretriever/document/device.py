"""Where a tower computes, and in what numbers."""

from __future__ import annotations

import torch

from lightretriever.errors import ModelError, UsageError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def pick_device(device: str) -> torch.device:
    """``auto`` is the GPU where there is one, else the CPU.

    Raises:
        UsageError: not the name of a device.
        ModelError: that device is not here.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
    except RuntimeError:
        raise UsageError(f"unknown device {device!r}: choose auto, cpu, cuda, cuda:1, …") from None
    try:
        torch.zeros(1, device=place)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = " ".join(str(error).split())[:120]
        raise ModelError(f"device {device!r} is not available ({reason}): use 'cpu' or 'auto'") from None
    return place


def pick_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """``auto`` is bfloat16 on a GPU and float32 on the CPU. Raises UsageError for an unknown name."""
    if dtype == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if dtype not in DTYPES:
        raise UsageError(f"unknown dtype {dtype!r}: choose auto, {', '.join(DTYPES)}")
    return DTYPES[dtype]
