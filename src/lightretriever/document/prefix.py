"""What all sequences of a batch begin with, run through the model once: its keys and values are shared."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from lightretriever.document.backbone import Backbone


def common_prefix(tokens: Sequence[list[int]]) -> list[int]:
    """The ids that every sequence begins with, at least one of each sequence's own being left."""
    first, last = min(tokens), max(tokens)  # what these two share, all between them share
    limit = min(map(len, tokens)) - 1
    length = next((i for i, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), len(first))
    return list(first[: max(0, min(length, limit))])


def run_prefix(backbone: Backbone, prefix: Sequence[int]) -> DynamicCache | None:
    """The keys and values of a prefix; None where they cannot be shared and every row is run whole.

    Shared they can be when a row is its last position alone, attention is causal, and every layer's memory of
    the prefix is keys and values (not the state of a recurrence).
    """
    if not prefix or not backbone.causal or backbone.pooling != "lasttoken":
        return None
    if "past_key_values" not in inspect.signature(type(backbone.model).forward).parameters:
        return None
    cache = DynamicCache(config=backbone.model.config)
    ids = torch.tensor([list(prefix)], device=backbone.device)
    backbone.model(input_ids=ids, past_key_values=cache, use_cache=True)
    plain = all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in cache.layers)
    return cache if plain and all(layer.is_initialized for layer in cache.layers) else None


def run_after(backbone: Backbone, shared: DynamicCache, length: int, ids: Tensor, lengths: Tensor) -> Tensor:
    """Hidden states of what follows the shared prefix.

    Args:
        shared: what `run_prefix` gave for a prefix of ``length`` ids; it stays as it is.
        ids: int64 [n, T], right-padded.
        lengths: int64 [n], how many of a row's ids count.

    Returns:
        float32 [n, T, H]; at padding, anything.
    """
    cache = copy.deepcopy(shared)  # one row's worth; the model appends to what it is given
    for layer in cache.layers:
        layer.keys = layer.keys.expand(len(ids), -1, -1, -1)  # views: nothing is copied until the append
        layer.values = layer.values.expand(len(ids), -1, -1, -1)
    steps = torch.arange(ids.shape[1], device=ids.device)
    own = steps[None, :] < lengths[:, None]
    mask = torch.cat([own.new_ones(len(ids), length), own], dim=1).to(torch.int64)
    positions = (steps + length).expand(len(ids), -1)
    output = backbone.model(
        input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
    )
    return output.last_hidden_state.float()
