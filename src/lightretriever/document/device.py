"""Where a tower computes, in what numbers, and how these get there and back without waiting."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import TypeVar

import torch
from torch import Tensor

from lightretriever.errors import ModelError, UsageError

Result = TypeVar("Result")

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


def queues(device: torch.device) -> bool:
    """Whether a device does later, in order, what it is given: the next batch can be begun before one has ended."""
    return device.type == "cuda"


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """The same on another device, from the host; CUDA's queue is not waited for.

    Only from pinned memory does CUDA copy when its turn has come; torch keeps that memory until then.
    """
    if device.type != "cuda":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)


def to_host(values: Tensor) -> Callable[[], Tensor]:
    """Begin to copy to the host; gives what waits for the copy, and for nothing that was begun after it."""
    if not values.is_cuda:
        return values.cpu
    host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    host.copy_(values, non_blocking=True)
    copied = _mark(values.device)

    def wait() -> Tensor:
        copied.synchronize()
        return host

    return wait


def once_computed(values: Tensor, take: Callable[[Tensor], Result]) -> Callable[[], Result]:
    """What gives ``take(values)``, for a ``take`` whose result has a size that depends on them.

    The size must be known on the host. So on CUDA ``take`` is called when its result is wanted, on a stream beside the
    queue, and waits for nothing that was begun after the values; elsewhere at once, so that they are not held.

    Args:
        values: computed by what is in the queue now.
        take: what it gives is on the host, so that all it did on the device is done.
    """
    if not values.is_cuda:
        result = take(values)
        return lambda: result
    computed = _mark(values.device)

    def finish() -> Result:
        computed.synchronize()
        with torch.cuda.stream(_beside(values.device)):
            return take(values)

    return finish


def _mark(device: torch.device) -> torch.cuda.Event:
    """An event behind all that is in the queue; who waits for it leaves the processor to others."""
    event = torch.cuda.Event(blocking=True)
    event.record(torch.cuda.current_stream(device))
    return event


@cache
def _beside(device: torch.device) -> torch.cuda.Stream:
    """A stream whose few and small kernels go before those of the queue."""
    return torch.cuda.Stream(device, priority=-1)
