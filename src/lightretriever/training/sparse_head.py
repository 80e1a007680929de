"""Sparse passage vectors with gradient, in memory bounded by a chunk (METHOD "Documents", Sparse).

The logits of a batch are [positions, V]. They are made for a few positions at a time, and what is kept is the running
maximum of every passage and the position it stands at: through a maximum, only that position has a gradient. So the
gradient has an entry for a passage's token that is left, not for every position's: the backward pass sums the few rows
that it needs, where a product with the whole matrix would cost as much as the forward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn.functional import embedding_bag, linear

from lightretriever.document.sparse import MIN_TOP_K, valid_positions

CHUNK_BYTES = 64 << 20
"""Of float32 logits at a time."""
_ENTRY_BYTES = 48  # that the backward pass holds for a passage's token, all told


def passage_weights(
    states: Tensor,
    lengths: Tensor,
    matrix: tuple[Tensor, Tensor | None],
    finish: Callable[[Tensor], Tensor],
    top_k: int | None = None,
    exact: bool = False,
    chunk_bytes: int = CHUNK_BYTES,
) -> Tensor:
    """``log1p(relu(max over valid positions of the logits))``, optionally the largest k of each row.

    Args:
        states: [n, T, H] what the last layer of the head takes, of right-padded passages.
        lengths: int64 [n], attended positions of each.
        matrix: weight [V, H] and bias [V] of that layer.
        finish: increasing, 0 to 0: what is done to its products; see `LinearHead`.
        top_k: k = max(top_k, 8) largest weights and every tie with the last of them; None or 0 for all.
        exact: compute in the weight's own precision under autocast too: a tied head's products all but cancel
            against its bias.
        chunk_bytes: bound on the logits held at a time.

    Returns:
        float32 [n, V]; a passage with no valid position has the zero row.
    """
    weight, bias = matrix
    place = states.device.type
    kind = torch.get_autocast_dtype(place) if torch.is_autocast_enabled(place) and not exact else weight.dtype
    valid = valid_positions(lengths, states.shape[1])
    with torch.autocast(place, enabled=False):  # what follows is in one precision, forward and backward
        flat = states[valid].to(kind)
        bias = None if bias is None else bias.to(kind)
        largest: Tensor = _LargestProducts.apply(flat, weight.to(kind), bias, valid.sum(1).tolist(), chunk_bytes)
    weights = finish(largest).log1p()
    if top_k:
        k = min(max(top_k, MIN_TOP_K), weights.shape[1])
        least = weights.detach().topk(k, dim=1).values[:, -1:]
        weights = weights.masked_fill(weights < least, 0.0)
    return weights


class _LargestProducts(Function):
    """For runs of rows of ``states`` the largest of ``states @ weightᵀ + bias`` in each column, or 0: [runs, V]."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None, counts: list[int], chunk: int) -> Tensor:
        width = len(weight)
        rows = max(1, chunk // (4 * width))
        largest = states.new_zeros(len(counts), width, dtype=torch.float32)  # from 0: the relu
        at = torch.full((len(counts), width), -1, dtype=torch.int32, device=states.device)
        for low, high, runs in _chunks(counts, rows):
            products = linear(states[low:high], weight, bias)
            for run, start, end in runs:
                best, where = products[start - low : end - low].max(0)
                better = (best.float() > largest[run]) | best.isnan()  # which stays: nothing is larger
                largest[run] = torch.where(better, best.float(), largest[run])
                at[run] = torch.where(better, (where + start).to(torch.int32), at[run])
        ctx.save_for_backward(states, weight, bias, at)
        ctx.counts, ctx.runs = counts, max(1, chunk // (_ENTRY_BYTES * width))
        return largest

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        states, weight, bias, at = ctx.saved_tensors
        for_states, for_weight, for_bias = ctx.needs_input_grad[:3]
        to_states = torch.zeros_like(states) if for_states else None
        to_weight = torch.zeros_like(weight) if for_weight else None
        to_bias = (gradient * (at >= 0)).sum(0).to(bias.dtype) if for_bias else None
        low = 0
        for first in range(0, len(ctx.counts) if for_states or for_weight else 0, ctx.runs):
            last = first + ctx.runs
            here, slopes = at[first:last], gradient[first:last]
            high = low + sum(ctx.counts[first:last])
            run, column = ((here >= 0) & (slopes != 0)).nonzero(as_tuple=True)
            place, slope = here[run, column].long() - low, slopes[run, column]
            if to_states is not None:
                to_states[low:high] = _weighted_sums(high - low, place, slope, weight, column)
            if to_weight is not None:
                to_weight += _weighted_sums(len(weight), column, slope, states[low:high], place)
            low = high
        return to_states, to_weight, to_bias, None, None


def _weighted_sums(count: int, into: Tensor, weights: Tensor, rows: Tensor, of: Tensor) -> Tensor:
    """[count, H]: the i-th is the sum of ``weights[e] * rows[of[e]]`` over the entries e with ``into[e] == i``."""
    into, order = into.sort(stable=True)
    starts = torch.searchsorted(into, torch.arange(count, device=into.device))
    return embedding_bag(of[order], rows, starts, mode="sum", per_sample_weights=weights[order].to(rows.dtype))


def _chunks(counts: list[int], rows: int) -> Iterator[tuple[int, int, list[tuple[int, int, int]]]]:
    """Positions low … high − 1, at most ``rows``, and the parts of runs in them: (run, its first, its last + 1)."""
    parts: list[tuple[int, int, int]] = []
    low = place = 0
    for run, count in enumerate(counts):
        end = place + count
        while place < end:
            stop = min(end, low + rows)
            parts.append((run, place, stop))
            place = stop
            if place - low == rows:
                yield low, place, parts
                low, parts = place, []
    if parts:
        yield low, place, parts
