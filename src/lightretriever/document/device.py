"""Where a tower computes, and in what numbers."""

from __future__ import annotations

from collections.abc import Mapping

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


def cpu_has_bfloat16(flags: Mapping[str, object]) -> bool:
    """Whether a processor multiplies bfloat16 matrices itself, twice as fast as float32 or more.

    Without such instructions bfloat16 is converted on the way, and slower than float32.

    Args:
        flags: what `torch.cpu.get_capabilities` says of the processor.
    """
    return bool(flags.get("avx512_bf16") or flags.get("amx_bf16")) and torch.backends.mkldnn.is_available()


def rounds_matrices(dtype: str, device: str) -> bool:
    """Whether a tower is to compute in bfloat16 as a processor does, see `rounding`. Raises as the two above."""
    place = pick_device(device)
    return place.type == "cpu" and pick_dtype(dtype, place) == torch.bfloat16


def fastest(dtype: str, device: str) -> str:
    """In place of ``auto`` bfloat16 on a processor with instructions for it: what many documents are encoded in, whose
    vectors are stored in less than float32 anyway. Another dtype is left as it is.

    Raises:
        UsageError: there is no such device.
    """
    if dtype != "auto" or pick_device(device).type != "cpu":
        return dtype
    return "bfloat16" if cpu_has_bfloat16(torch.cpu.get_capabilities()) else dtype
