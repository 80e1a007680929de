"""Batches larger than memory: a chunk's activations at a time (GradCache, Gao et al. 2021, arXiv 2101.06983).

The vectors of a chunk are computed without a graph; the loss sees the vectors of all; then each chunk is computed
again with one, under the random numbers of the first time, and takes its vectors' gradients. That is what activation
checkpointing does with a whole forward pass as its unit, so the step stays one forward and one backward pass: data
parallel wrappers, mixed precision and accumulation know nothing of it. The gradients are those of the plain step, at
the cost of a second forward pass; what is held is the vectors, and one chunk's activations.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def in_chunks(encode: Callable[..., tuple[Tensor, ...]], inputs: tuple[Tensor, ...], size: int) -> tuple[Tensor, ...]:
    """``encode(*inputs)``, some rows at a time.

    Args:
        encode: from tensors of n rows to tensors of n rows; a row's result depends on that row alone.
        inputs: tensors of n rows each.
        size: rows at a time; 0 for all at once, whose activations are then kept.

    Returns:
        What ``encode`` gives, of all rows.
    """
    count = len(inputs[0])
    if size <= 0:
        return encode(*inputs)
    parts = []
    for start in range(0, count, size):
        part = [tensor[start : start + size] for tensor in inputs]
        if torch.is_grad_enabled():
            parts.append(checkpoint(encode, *part, use_reentrant=False, preserve_rng_state=True))
        else:
            parts.append(encode(*part))
    return tuple(torch.cat(column) for column in zip(*parts, strict=True))
