"""Look-up query vectors while the table does not exist yet (METHOD "Queries"): table rows, with gradient.

A batch's queries share most of their tokens, and a row depends on its prompt and token alone. So rows are made for the
distinct tokens of a batch, and a query is the mean of its tokens' rows, outside of the model.

Under causal attention the rows stand behind one prompt, in one sequence

    [bos?; prompt; t1; eos; t2; eos; …]

where a block (t, eos) sees the prompt and itself, at the positions p and p + 1 that follow a prompt of length p. A
sequence holds a bounded number of blocks, because attention over it grows with the square; a batch with more tokens is
several such sequences in one pass, the prompt being a few per cent of each. A key/value cache of the prompt would be
run once for all, but gradient checkpointing cannot have one. In an encoder the prompt sees the token too, and every
token is its own short sequence.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from lightretriever.document.backbone import Backbone
from lightretriever.document.pooling import pool
from lightretriever.document.prefix import Sharing

BLOCKS = 192
"""Tokens in one sequence; measured by benchmarks/training_step.py."""
_PROBES = 48  # blocks far enough from the prompt that a model which counts places by itself is found out


def prefix_rows(backbone: Backbone, prompt: Tensor, tokens: Tensor, blocks: int = BLOCKS) -> Tensor:
    """Table rows of tokens that share one prompt; only for a model that `shares_prefix`.

    Args:
        backbone: under causal attention, pooled at the last position.
        prompt: int64 [p], without specials.
        tokens: int64 [U], at least one.
        blocks: tokens in one sequence.

    Returns:
        float32 [U, H].
    """
    specials = backbone.specials
    prefix = torch.cat([tokens.new_tensor(specials.before), prompt])
    after = tokens.new_tensor(specials.after)
    rows = -(-len(tokens) // blocks)
    each = -(-len(tokens) // rows)
    padded = torch.cat([tokens, tokens[-1:].expand(rows * each - len(tokens))])
    own = torch.cat([padded[:, None], after.expand(len(padded), -1)], dim=1)  # [rows * each, block]
    ids = torch.cat([prefix.expand(rows, -1), own.view(rows, -1)], dim=1)
    block = own.shape[1]
    steps = torch.arange(each * block, device=tokens.device)
    positions = torch.cat([torch.arange(len(prefix), device=tokens.device), len(prefix) + steps % block])
    hidden = backbone.model(
        input_ids=ids,
        attention_mask=_mask(backbone, len(prefix), steps // block).expand(rows, -1, -1, -1),
        position_ids=positions.expand(rows, -1),
        use_cache=False,
    ).last_hidden_state
    ends = hidden[:, len(prefix) :].reshape(rows * each, block, -1)[: len(tokens), -1]
    return ends.float()


def _mask(backbone: Backbone, prefix: int, block_of: Tensor) -> Tensor:
    """[1, 1, L, L]: the prompt is causal, a block sees the prompt and, causally, itself. No row sees nothing."""
    owner = torch.cat([block_of.new_full((prefix,), -1), block_of])
    allowed = (owner[None, :] == owner[:, None]) | (owner[None, :] == -1)
    allowed = allowed.tril()[None, None]
    if backbone.model.config._attn_implementation == "sdpa":  # type: ignore[union-attr]
        return allowed
    # Eager attention adds its mask. The lowest finite number, so that no arithmetic on it gives NaN.
    kind = backbone.dtype
    return torch.zeros(allowed.shape, dtype=kind, device=allowed.device).masked_fill(~allowed, torch.finfo(kind).min)


def own_rows(backbone: Backbone, prompt: Tensor, tokens: Tensor) -> Tensor:
    """Table rows, each token its own sequence ``[before; prompt; v; after]``; as `prefix_rows`, for any model."""
    specials = backbone.specials
    before = torch.cat([tokens.new_tensor(specials.before), prompt]).expand(len(tokens), -1)
    ids = torch.cat([before, tokens[:, None], tokens.new_tensor(specials.after).expand(len(tokens), -1)], dim=1)
    lengths = torch.full_like(tokens, ids.shape[1])
    return pool(backbone.hidden(ids, lengths), lengths, backbone.pooling)


@torch.no_grad()
def shares_prefix(backbone: Backbone, prompt: Tensor) -> Sharing:
    """Whether `prefix_rows` gives what `own_rows` gives, under this prompt, or why not: found out on a few tokens.

    Not so for encoders, for a prompt longer than a layer's window, nor for models whose position is not in
    position ids or whose layers remember in another way than by attention.
    """
    specials = backbone.specials
    window = getattr(backbone.model.config, "sliding_window", None)
    needed = len(specials.before) + len(prompt) + 1 + len(specials.after)
    if not backbone.causal:
        return Sharing("its attention looks both ways")
    if backbone.pooling != "lasttoken":
        return Sharing(f"its vectors are pooled ({backbone.pooling}) over the prompt's positions too")
    if isinstance(window, int) and window < needed:
        return Sharing(f"rows of {needed} tokens are longer than its attention's window of {window}")
    tokens = torch.arange(_PROBES, device=prompt.device) % 3
    training = backbone.model.training
    backbone.model.eval()
    try:
        with torch.autocast(prompt.device.type, enabled=False):
            ours, plain = prefix_rows(backbone, prompt, tokens), own_rows(backbone, prompt, tokens)
    except torch.OutOfMemoryError:  # a RuntimeError that says nothing about the model
        raise
    except (TypeError, ValueError, RuntimeError) as error:  # a forward pass that takes no such mask or positions
        said = " ".join(str(error).split())[:120]
        return Sharing(f"{type(backbone.model).__name__} takes no mask of its own ({said})")
    finally:
        backbone.model.train(training)
    # An accelerator may compute float32 in less, and what shards weights may cast them.
    tolerance = 1e-4 if backbone.dtype == torch.float32 and prompt.device.type == "cpu" else 5e-2
    if bool((ours - plain).abs().max() <= tolerance * plain.abs().max()):
        return Sharing()
    return Sharing(f"{type(backbone.model).__name__} gives other vectors for tokens that stand side by side")


def bag_means(rows: Tensor, places: Tensor, offsets: Tensor) -> Tensor:
    """The mean of each query's rows; the zero vector for a query of no tokens.

    Args:
        rows: float32 [U, d].
        places: int64 [sum of lengths], each query's tokens as row numbers.
        offsets: int64 [B + 1].

    Returns:
        float32 [B, d], not normalised.
    """
    return embedding_bag(places, rows, offsets[:-1], mode="mean")


def bag_counts(tokens: Tensor, offsets: Tensor, width: int) -> Tensor:
    """How often each token id stands in each query: float32 [B, V]."""
    queries = len(offsets) - 1
    row = torch.repeat_interleave(torch.arange(queries, device=tokens.device), offsets.diff())
    counts = torch.zeros(queries, width, device=tokens.device)
    return counts.index_put_((row, tokens), torch.ones(len(tokens), device=tokens.device), accumulate=True)


def distinct_tokens(
    tokens: Tensor, offsets: Tensor, prompt_of: Tensor, prompts: int
) -> tuple[Sequence[Tensor], Tensor]:
    """The distinct tokens behind each prompt, and where each query's tokens are among all of them.

    Args:
        tokens: int64 [sum of lengths].
        offsets: int64 [B + 1].
        prompt_of: int64 [B].
        prompts: how many there are.

    Returns:
        ``prompts`` tensors int64 [U_i], ascending; int64 [sum of lengths] into their concatenation.
    """
    owner = prompt_of.repeat_interleave(offsets.diff())
    places = torch.zeros_like(tokens)
    found, start = [], 0
    for prompt in range(prompts):
        mine = owner == prompt
        distinct, inverse = tokens[mine].unique(return_inverse=True)
        places[mine] = inverse + start
        found.append(distinct)
        start += len(distinct)
    return found, places
