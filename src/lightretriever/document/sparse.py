"""Sparse document vectors: the maximum of the LM head over a document's positions (METHOD "Documents").

The logits of a text are [T, V], 150,000 wide: they are made for a few positions at a time, and only the running
maximum of a few documents is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from lightretriever.errors import ModelError
from lightretriever.types import SparseVectors, concatenate_sparse

Head = Callable[[Tensor], Tensor]
"""Hidden states [R, H] to logits [R, V]."""

MIN_TOP_K = 8
CHUNK_BYTES = 64 << 20
"""Of float32 logits at a time, and again of running maxima."""

# The modules an MLM head consists of, in order, in the families that have one.
_MLM_HEADS = (
    ("cls",),  # BERT and its kin
    ("lm_head",),  # RoBERTa, MPNet
    ("predictions",),  # ALBERT
    ("vocab_transform", "activation", "vocab_layer_norm", "vocab_projector"),  # DistilBERT
    ("head", "decoder"),  # ModernBERT
    ("generator_predictions", "generator_lm_head"),  # ELECTRA
)


def find_head(model: nn.Module, width: int) -> Head:
    """The part of an LM or MLM that turns the backbone's hidden states into logits, checked against the model.

    Args:
        model: a transformers model with such a head.
        width: token ids of the tokenizer; rows of the head beyond them are dropped.

    Raises:
        ModelError: a head of a kind that is not known here.
    """
    head = _causal_head(model, width) if _is_linear_head(model) else _mlm_head(model, width)
    if head is None or not _agrees(model, head, width):
        raise ModelError(
            f"the LM head of {type(model).__name__} is of an unknown kind: encode with sparse='none' "
            "(--sparse none or bm25)"
        )
    return head


def _is_linear_head(model: nn.Module) -> bool:
    return not any(_chain(model, names) for names in _MLM_HEADS)


def _causal_head(model: nn.Module, width: int) -> Head | None:
    output = model.get_output_embeddings()  # type: ignore[operator]
    if not isinstance(output, nn.Linear):
        return None
    config = model.config
    bias = None if output.bias is None else output.bias[:width]
    # Cohere multiplies the logits, Granite divides them, Gemma 2 squashes them.
    scale = float(getattr(config, "logit_scale", None) or 1.0)
    scale /= float(getattr(config, "logits_scaling", None) or 1.0)
    cap = getattr(config, "final_logit_softcapping", None)
    return partial(_linear, weight=output.weight[:width], bias=bias, scale=scale, cap=cap)


def _linear(hidden: Tensor, weight: Tensor, bias: Tensor | None, scale: float, cap: float | None) -> Tensor:
    logits = nn.functional.linear(hidden, weight, bias)
    if scale != 1.0:
        logits = logits * scale
    return cap * torch.tanh(logits / cap) if cap else logits


def _chain(model: nn.Module, names: tuple[str, ...]) -> list[Callable[[Tensor], Tensor]] | None:
    steps = [getattr(model, name, None) for name in names]
    if any(not callable(step) for step in steps):
        return None
    # A causal model's lm_head is one linear layer, which can be cut to the width before it is applied.
    return None if len(steps) == 1 and isinstance(steps[0], nn.Linear) else steps  # type: ignore[return-value]


def _mlm_head(model: nn.Module, width: int) -> Head | None:
    steps = next((steps for names in _MLM_HEADS if (steps := _chain(model, names))), None)
    return partial(_apply, steps=steps, width=width) if steps else None


def _apply(hidden: Tensor, steps: list[Callable[[Tensor], Tensor]], width: int) -> Tensor:
    states = hidden[None]  # these modules were written for [batch, positions, H]
    for step in steps:
        states = step(states)
    return states[0, :, :width]


@torch.inference_mode()
def _agrees(model: nn.Module, head: Head, width: int) -> bool:
    """Whether the head gives what the whole model gives, on three tokens."""
    device = next(model.parameters()).device
    ids = torch.arange(min(3, width), device=device)[None]
    logits = model(input_ids=ids).logits[0, :, :width].float()
    hidden = model.base_model(input_ids=ids).last_hidden_state[0]  # type: ignore[operator]
    ours = head(hidden).float()
    tolerance = 1e-3 if hidden.dtype == torch.float32 else 5e-2
    return ours.shape == logits.shape and bool(
        (ours - logits).abs().max() <= tolerance * logits.abs().max().clamp(min=1.0)
    )


def valid_positions(lengths: Tensor, width: int) -> Tensor:
    """bool [n, width]: attended, and neither the first nor the last attended position of right-padded texts."""
    positions = torch.arange(width, device=lengths.device)
    return (positions >= 1) & (positions < lengths[:, None] - 1)


def sparse_vectors(
    hidden: Tensor, lengths: Tensor, head: Head, width: int, top_k: int | None, chunk_bytes: int = CHUNK_BYTES
) -> SparseVectors:
    """``log1p(relu(max over valid positions of head(hidden)))``, optionally the largest k of each row.

    Args:
        hidden: [n, T, H] last hidden states of right-padded texts.
        lengths: int64 [n], attended positions of each.
        head: to logits of at least ``width`` columns.
        width: V, the token ids that count.
        top_k: k = max(top_k, 8) largest values and every tie with the last of them; None or 0 for all.
        chunk_bytes: bound on the float32 logits held at a time, and on the running maxima.

    Returns:
        n rows; a text with no valid position has none.
    """
    valid = valid_positions(lengths, hidden.shape[1])
    counts = valid.sum(1).tolist()
    states = hidden[valid]  # [positions of all texts, H], text after text
    rows = max(1, chunk_bytes // (4 * width))
    parts = []
    for first, last, start, end in _groups(counts, rows):
        maxima = torch.zeros(last - first, width, device=hidden.device)  # from 0: the relu
        owners = torch.repeat_interleave(
            torch.arange(last - first), torch.tensor(counts[first:last], dtype=torch.int64)
        ).tolist()
        for low in range(start, end, rows):
            high = min(low + rows, end)
            logits = head(states[low:high])
            for owner, a, b in _runs(owners, low - start, high - start):
                best = logits[a - (low - start) : b - (low - start)].amax(0)
                torch.maximum(maxima[owner], best.float(), out=maxima[owner])
        parts.append(_rows(maxima, width, top_k))
    return concatenate_sparse(parts) if parts else _rows(torch.zeros(0, width), width, None)


def _groups(counts: list[int], rows: int) -> Iterator[tuple[int, int, int, int]]:
    """Runs of at most ``rows`` texts: first and last + 1 text, first and last + 1 position."""
    start = 0
    for first in range(0, len(counts), rows):
        last = min(first + rows, len(counts))
        end = start + sum(counts[first:last])
        yield first, last, start, end
        start = end


def _runs(owners: list[int], low: int, high: int) -> Iterator[tuple[int, int, int]]:
    """Within positions low … high - 1: (text, its first position, its last position + 1)."""
    while low < high:
        end = low + 1
        while end < high and owners[end] == owners[low]:
            end += 1
        yield owners[low], low, end
        low = end


def _rows(maxima: Tensor, width: int, top_k: int | None) -> SparseVectors:
    weights = maxima.relu().log1p_()
    if top_k:  # of the weights, not the logits: log1p makes neighbouring floats equal, and ties are kept
        k = min(max(top_k, MIN_TOP_K), width)
        least = weights.topk(k, dim=1).values[:, -1:]
        weights = weights.masked_fill(weights < least, 0.0)
    row, column = weights.nonzero(as_tuple=True)
    lengths = np.bincount(row.cpu().numpy(), minlength=len(weights))
    return SparseVectors(
        indptr=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        indices=column.to(torch.int32).cpu().numpy(),
        values=weights[row, column].cpu().numpy(),
        width=width,
    )
