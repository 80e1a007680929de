"""The token table by running the vocabulary through the tower (METHOD "Queries", token table)."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from lightretriever.document.backbone import Backbone
from lightretriever.document.encoder import DocumentEncoder, pad_ids
from lightretriever.document.pooling import pool
from lightretriever.errors import UsageError
from lightretriever.query.table import TokenTable, check_options
from lightretriever.text.corpus import safe_text

CACHE_BYTES = 128 << 20
"""Of expanded key/value cache at a time."""
BATCH_TOKENS = 4096


def cache_table(
    tower: DocumentEncoder,
    prompt: str | None = None,
    dtype: str = "float32",
    dim: int | None = None,
    max_length: int = 512,
    progress: Callable[[int, int | None], None] | None = None,
) -> TokenTable:
    """The token table of a tower: what it makes of ``[bos?; prompt; v; eos]`` for every token id v.

    Rows are computed in float32; a tower in another precision is loaded a second time for that. Under causal
    attention the prefix is run once and its key/value cache shared, so that a row costs the token and what
    follows it. In an encoder the prompt sees the token too, and every row is its own full sequence.

    Args:
        tower: the document tower.
        prompt: the instruction in every row, "" for none. None for the tower's ``default_prompt``: `DEFAULT_PROMPT`
            for causal LMs and LoRA releases, a sentence-transformers folder's own query prompt, "" for encoders,
            which were not trained with any.
        dtype: how the rows are stored: "float32", "float16" or "int8".
        dim: first dimensions kept, None for all.
        max_length: of a query, in tokens.
        progress: called with rows done and V.

    Returns:
        V rows, un-normalised.

    Raises:
        UsageError: a prompt longer than the model reads, or a dtype or dim that makes no sense.
    """
    check_options(dtype, dim, max_length, tower.dim)
    instruction = tower.default_prompt if prompt is None else prompt
    revision = tower.revision  # of a folder that cannot say it, nothing need be computed
    rows = token_rows(tower, instruction, progress)
    return TokenTable.from_rows(
        rows,
        tower.tokenizer,
        model=tower.name,
        revision=revision,
        prompt=instruction,
        dtype=dtype,
        dim=dim,
        skip_ids=tower.skip_ids,
        max_length=max_length,
    )


@torch.inference_mode()
def token_rows(
    tower: DocumentEncoder, prompt: str, progress: Callable[[int, int | None], None] | None = None
) -> NDArray[np.float32]:
    """The rows of `cache_table` as an array, float32 [V, d]."""
    if tower.backbone.dtype != torch.float32:
        device = str(tower.backbone.device)
        tower = DocumentEncoder.load(tower.source, tower.base, device, "float32", sparse="none")
    backbone = tower.backbone
    # By itself, without specials: the last token of the prompt must not merge with the row's own.
    instruction = tower.tokenizer.encode(safe_text(prompt), add_special_tokens=False).ids
    prefix, after = [*backbone.specials.before, *instruction], [*backbone.specials.after]
    needed = len(prefix) + 1 + len(after)
    if backbone.max_length is not None and needed > backbone.max_length:
        raise UsageError(f"the prompt makes rows of {needed} tokens: the model reads {backbone.max_length}")

    shared = _run_prefix(backbone, prefix)
    if shared is None:
        size = max(1, BATCH_TOKENS // needed)
    else:
        each = sum(2 * layer.keys[0].numel() * 4 * (1 + (1 + len(after)) / len(prefix)) for layer in shared.layers)
        size = int(max(1, min(BATCH_TOKENS // (1 + len(after)), CACHE_BYTES // max(1, each))))
    rows = np.empty((tower.vocab_size, tower.dim), dtype=np.float32)
    for start in range(0, len(rows), size):
        tokens = range(start, min(start + size, len(rows)))
        if shared is None:
            ids, lengths = pad_ids([[*prefix, v, *after] for v in tokens], tower.pad_id, backbone.device)
            found = pool(backbone.hidden(ids, lengths), lengths, backbone.pooling)
        else:
            ids, _ = pad_ids([[v, *after] for v in tokens], tower.pad_id, backbone.device)
            found = _run_rows(backbone, shared, len(prefix), ids)
        rows[start : start + len(tokens)] = found[:, : tower.dim].cpu().numpy()
        if progress is not None:
            progress(start + len(tokens), len(rows))
    return rows


def _run_prefix(backbone: Backbone, prefix: list[int]) -> DynamicCache | None:
    """The keys and values of the prefix; None where they cannot be shared and every row is run whole.

    Shared they can be when a row is its last position alone, attention is causal, and every layer's memory of
    the prefix is keys and values (not the state of a recurrence).
    """
    if not prefix or not backbone.causal or backbone.pooling != "lasttoken":
        return None
    cache = DynamicCache(config=backbone.model.config)
    ids = torch.tensor([prefix], device=backbone.device)
    backbone.model(input_ids=ids, past_key_values=cache, use_cache=True)
    plain = all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in cache.layers)
    return cache if plain and all(layer.is_initialized for layer in cache.layers) else None


def _run_rows(backbone: Backbone, shared: DynamicCache, length: int, ids: Tensor) -> Tensor:
    """Last hidden state at the last position of each row [n, H], after the shared prefix."""
    cache = copy.deepcopy(shared)  # one row's worth; the model appends to what it is given
    for layer in cache.layers:
        layer.keys = layer.keys.expand(len(ids), -1, -1, -1)  # views: nothing is copied until the append
        layer.values = layer.values.expand(len(ids), -1, -1, -1)
    mask = torch.ones(len(ids), length + ids.shape[1], dtype=torch.int64, device=ids.device)
    positions = torch.arange(length, length + ids.shape[1], device=ids.device).expand(len(ids), -1)
    output = backbone.model(
        input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
    )
    return output.last_hidden_state[:, -1].float()
