"""The token table by running the vocabulary through the tower (METHOD "Queries", token table)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from lightretriever.document.encoder import DocumentEncoder, pad_ids
from lightretriever.document.pooling import pool
from lightretriever.document.prefix import run_after, run_prefix
from lightretriever.errors import UsageError
from lightretriever.query.table import TokenTable, check_options
from lightretriever.text.values import safe_text

CACHE_BYTES = 128 << 20
"""Of expanded key/value cache at a time."""
CPU_BATCH_TOKENS, GPU_BATCH_TOKENS = 768, 32768
"""Of rows run at a time. A CPU is half as fast again while all of a layer stays in its caches."""


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
    follows it. In an encoder the prompt sees the token too, and every row is its own full sequence; so it is, with
    a warning, where trying shows that a causal model cannot share its prefix (``tower.backbone.sharing``).

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
        counts=tower.counts,
    )


@torch.inference_mode()
def token_rows(
    tower: DocumentEncoder,
    prompt: str,
    progress: Callable[[int, int | None], None] | None = None,
    limit: int | None = None,
) -> NDArray[np.float32]:
    """The rows of `cache_table` as an array, float32 [V, d], or the first ``limit`` of them."""
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

    shared = run_prefix(backbone, prefix)
    batch_tokens = CPU_BATCH_TOKENS if backbone.device.type == "cpu" else GPU_BATCH_TOKENS
    if shared is None:
        size = max(1, batch_tokens // needed)
    else:
        each = 4 * shared.numbers * (1 + (1 + len(after)) / len(prefix))
        size = int(max(1, min(batch_tokens // (1 + len(after)), CACHE_BYTES // max(1, each))))
    rows = np.empty((min(tower.vocab_size, limit or tower.vocab_size), tower.dim), dtype=np.float32)
    for start in range(0, len(rows), size):
        tokens = range(start, min(start + size, len(rows)))
        if shared is None:
            ids, lengths = pad_ids([[*prefix, v, *after] for v in tokens], tower.pad_id, backbone.device)
            found = pool(backbone.hidden(ids, lengths), lengths, backbone.pooling)
        else:
            ids, _ = pad_ids([[v, *after] for v in tokens], tower.pad_id, backbone.device)
            found = run_after(backbone, shared, ids)[:, -1]
        rows[start : start + len(tokens)] = found[:, : tower.dim].cpu().numpy()
        if progress is not None:
            progress(start + len(tokens), len(rows))
    return rows
