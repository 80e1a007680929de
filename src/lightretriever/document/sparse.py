"""Sparse document vectors: the maximum of the LM head over a document's positions (METHOD "Documents").

The logits of a text are [T, V], 150,000 wide: they are made for a few positions at a time, and only the running
maximum of a few documents is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from lightretriever.document.device import once_computed, to_device
from lightretriever.errors import ModelError
from lightretriever.types import SparseVectors, concatenate_sparse

Head = Callable[[Tensor], Tensor]
"""Hidden states [R, H] to logits [R, V]."""

MIN_TOP_K = 8
CHUNK_BYTES, GPU_CHUNK_BYTES = 64 << 20, 512 << 20
"""Of float32 logits at a time, and again of running maxima. At 150,000 columns the smaller is 110 positions: a GPU
would read the head's matrix longer than it multiplies with it."""

# What an MLM head does, in the families that have one: modules before its last layer, and that layer.
_MLM_HEADS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("cls.predictions.transform",), "cls.predictions.decoder"),  # BERT and its kin
    (("lm_head.dense", "gelu", "lm_head.layer_norm"), "lm_head.decoder"),  # RoBERTa, MPNet
    (("predictions.dense", "predictions.activation", "predictions.LayerNorm"), "predictions.decoder"),  # ALBERT
    (("vocab_transform", "activation", "vocab_layer_norm"), "vocab_projector"),  # DistilBERT
    (("head",), "decoder"),  # ModernBERT
    (("generator_predictions",), "generator_lm_head"),  # ELECTRA
)
# The same as whole modules: for those that do more than that (MobileBERT's last layer).
_MLM_CHAINS = (("cls",), ("lm_head",), ("predictions",))


@dataclass(frozen=True, slots=True, eq=False)
class LinearHead:
    """A head whose last step is one matrix; that, and what comes before it, apart.

    Attributes:
        output: the last layer; its weight [≥ V, H'] and bias are looked up at every call.
        width: V, rows of it that count.
        steps: hidden states to what the last layer takes.
        scale, cap: logits are multiplied by the one and squashed to ± the other (Cohere, Granite, Gemma 2); neither
            changes their order.
    """

    output: nn.Module
    width: int
    steps: tuple[Callable[[Tensor], Tensor], ...] = ()
    scale: float = 1.0
    cap: float | None = None

    def states(self, hidden: Tensor) -> Tensor:
        """What the last layer takes, of hidden states [..., H]."""
        for step in self.steps:
            hidden = step(hidden)
        return hidden

    def logits(self, states: Tensor) -> Tensor:
        """[..., V] of what `states` gave."""
        weight, bias = self.matrix()
        return self.finish(nn.functional.linear(states.to(weight.dtype), weight, bias))

    def matrix(self) -> tuple[Tensor, Tensor | None]:
        """Weight [V, H'] and bias [V] of the last layer."""
        bias: Tensor | None = self.output.bias  # type: ignore[assignment]
        return self.output.weight[: self.width], None if bias is None else bias[: self.width]  # type: ignore[index]

    def finish(self, products: Tensor) -> Tensor:
        """Scale and cap; increasing, and 0 stays 0."""
        if self.scale != 1.0:
            products = products * self.scale
        return self.cap * torch.tanh(products / self.cap) if self.cap else products

    def __call__(self, hidden: Tensor) -> Tensor:
        return self.logits(self.states(hidden[None]))[0]  # some steps were written for [batch, positions, H]


def find_head(model: nn.Module, width: int) -> Head:
    """The part of an LM or MLM that turns the backbone's hidden states into logits, checked against the model.

    Args:
        model: a transformers model with such a head.
        width: token ids of the tokenizer; rows of the head beyond them are dropped.

    Returns:
        A `LinearHead`, where its last step is one.

    Raises:
        ModelError: a head of a kind that is not known here.
    """
    for head in _candidates(model, width):
        if _agrees(model, head, width):
            return head
    raise ModelError(
        f"the LM head of {type(model).__name__} is of an unknown kind: encode with sparse='none' "
        "(--sparse none or bm25)"
    )


def _candidates(model: nn.Module, width: int) -> Iterator[Head]:
    for names, last in _MLM_HEADS:
        steps, output = [_part(model, name) for name in names], _part(model, last)
        if isinstance(output, nn.Linear) and all(callable(step) for step in steps):
            yield LinearHead(output, width, tuple(steps))  # type: ignore[arg-type]
    for names in _MLM_CHAINS:
        parts = [part for name in names if (part := _part(model, name)) and not isinstance(part, nn.Linear)]
        if len(parts) == len(names):
            yield partial(_apply, steps=parts, width=width)
    output = model.get_output_embeddings()  # type: ignore[operator]
    if isinstance(output, nn.Linear):
        config = model.config
        # Cohere multiplies the logits, Granite divides them, Gemma 2 squashes them.
        scale = float(getattr(config, "logit_scale", None) or 1.0)
        scale /= float(getattr(config, "logits_scaling", None) or 1.0)
        yield LinearHead(output, width, scale=scale, cap=getattr(config, "final_logit_softcapping", None))


def _part(model: nn.Module, name: str) -> Callable[[Tensor], Tensor] | None:
    if name == "gelu":
        return nn.functional.gelu
    part: object = model
    for step in name.split("."):
        part = getattr(part, step, None)
    return part if callable(part) else None


def _apply(hidden: Tensor, steps: list[Callable[[Tensor], Tensor]], width: int) -> Tensor:
    states = hidden[None]
    for step in steps:
        states = step(states)
    return states[0, :, :width]


@torch.no_grad()
def _agrees(model: nn.Module, head: Head, width: int) -> bool:
    """Whether the head gives what the whole model gives, on three tokens."""
    device = next(model.parameters()).device
    ids = torch.arange(min(3, width), device=device)[None]
    logits = model(input_ids=ids).logits[0, :, :width].float()
    hidden = model.base_model(input_ids=ids).last_hidden_state[0]  # type: ignore[operator]
    try:
        ours = head(hidden).float()
    except RuntimeError:  # shapes that do not fit: another kind
        return False
    tolerance = 1e-3 if hidden.dtype == torch.float32 else 5e-2
    return ours.shape == logits.shape and bool(
        (ours - logits).abs().max() <= tolerance * logits.abs().max().clamp(min=1.0)
    )


def valid_positions(lengths: Tensor, width: int) -> Tensor:
    """bool [n, width]: attended, and neither the first nor the last attended position of right-padded texts."""
    positions = torch.arange(width, device=lengths.device)
    return (positions >= 1) & (positions < lengths[:, None] - 1)


def sparse_vectors(
    hidden: Tensor, lengths: Tensor, head: Head, width: int, top_k: int | None, chunk_bytes: int | None = None
) -> SparseVectors:
    """``log1p(relu(max over valid positions of head(hidden)))``, optionally the largest k of each row.

    Args:
        hidden: [n, T, H] last hidden states of right-padded texts.
        lengths: int64 [n], attended positions of each.
        head: to logits of at least ``width`` columns.
        width: V, the token ids that count.
        top_k: k = max(top_k, 8) largest values and every tie with the last of them; None or 0 for all.
        chunk_bytes: bound on the float32 logits held at a time, and on the running maxima; None for what the device
            is best at.

    Returns:
        n rows; a text with no valid position has none.
    """
    return begin_sparse(hidden, lengths, head, width, top_k, chunk_bytes)()


def begin_sparse(
    hidden: Tensor, lengths: Tensor, head: Head, width: int, top_k: int | None, chunk_bytes: int | None = None
) -> Callable[[], SparseVectors]:
    """Begin `sparse_vectors`, which see for arguments; gives what waits for them.

    With ``lengths`` on the host a GPU is not waited for, where the batch has no more texts than running maxima are
    bounded to. Weights are computed and cut to the largest there; what is positive alone comes over.
    """
    lengths = lengths.cpu()
    valid = valid_positions(lengths, hidden.shape[1])
    counts = valid.sum(1).tolist()
    places = to_device(valid.flatten().nonzero().flatten(), hidden.device)
    states = hidden.flatten(0, 1).index_select(0, places)  # [positions of all texts, H], text after text
    rows = max(1, (chunk_bytes or (GPU_CHUNK_BYTES if hidden.is_cuda else CHUNK_BYTES)) // (4 * width))
    done: list[SparseVectors] = []
    ending: Callable[[], SparseVectors] | None = None
    for first, last, start, end in _groups(counts, rows):
        if ending is not None:  # no two groups' weights are held
            done.append(ending())
        maxima = _maxima(states[start:end], counts[first:last], head, width, rows)
        ending = once_computed(_weights(maxima, width, top_k), _positive)
    return partial(_joined, done, ending or partial(_rows, torch.zeros(0, width), width, None))


def _joined(done: list[SparseVectors], ending: Callable[[], SparseVectors]) -> SparseVectors:
    return concatenate_sparse([*done, ending()])


def _maxima(states: Tensor, counts: list[int], head: Head, width: int, rows: int) -> Tensor:
    """The largest logits of each text, or 0: float32 [texts, V] of states [their positions, H], ``rows`` at a time."""
    maxima = torch.zeros(len(counts), width, device=states.device)  # from 0: the relu
    owners = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts, dtype=torch.int64)).tolist()
    for low in range(0, len(states), rows):
        logits = head(states[low : low + rows])
        for owner, a, b in _runs(owners, low, min(low + rows, len(states))):
            best = logits[a - low : b - low].amax(0)
            torch.maximum(maxima[owner], best.float(), out=maxima[owner])
    return maxima


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
    return _positive(_weights(maxima, width, top_k))


def _weights(maxima: Tensor, width: int, top_k: int | None) -> Tensor:
    """[n, V] on the maxima's device; 0 for what is not among the largest."""
    weights = maxima.relu().log1p_()
    if top_k:  # of the weights, not the logits: log1p makes neighbouring floats equal, and ties are kept
        k = min(max(top_k, MIN_TOP_K), width)
        least = weights.topk(k, dim=1).values[:, -1:]
        weights = weights.masked_fill(weights < least, 0.0)
    return weights


def _positive(weights: Tensor) -> SparseVectors:
    """What is positive of weights [n, V]."""
    row, column = weights.nonzero(as_tuple=True)
    lengths = np.bincount(row.cpu().numpy(), minlength=len(weights))
    return SparseVectors(
        indptr=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        indices=column.to(torch.int32).cpu().numpy(),
        values=weights[row, column].cpu().numpy(),
        width=weights.shape[1],
    )
