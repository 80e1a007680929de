"""A document tower of a known model's shape with random weights: what the model would cost, without downloading it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tokenizers import Tokenizer

from lightretriever.errors import UsageError
from lightretriever.text.prompt import DEFAULT_PROMPT
from lightretriever.text.tokenizer import id_count

if TYPE_CHECKING:
    from lightretriever.document.encoder import DocumentEncoder

_EOS = "<|endoftext|>"


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a Qwen2 model, as its configuration names them."""

    num_hidden_layers: int
    hidden_size: int
    num_attention_heads: int
    num_key_value_heads: int
    intermediate_size: int
    vocab_size: int


SHAPES = {
    "qwen2-0.5b": Shape(24, 896, 14, 2, 4864, 151_936),
    "qwen2-1.5b": Shape(28, 1536, 12, 2, 8960, 151_936),
}
"""Hugging Face's Qwen2-0.5B and Qwen2-1.5B, from their config.json."""


def random_tower(
    shape: Shape, name: str, tokenizer: Tokenizer, device: str = "auto", dtype: str = "auto", seed: int = 0
) -> DocumentEncoder:
    """A causal tower with seeded random weights, which pools the last token as the authors' releases do.

    Args:
        shape: its sizes; the head is tied to the embedding, so it has no weights of its own.
        name: what it is called.
        tokenizer: any with fewer ids than the shape; an end token is added to a copy of it.
        device, dtype: as for `DocumentEncoder.load`.
        seed: of the weights.

    Raises:
        UsageError: the tokenizer has more ids than the shape, or the device or dtype makes no sense.
    """
    import torch
    from transformers import Qwen2Config, Qwen2Model

    from lightretriever.document.backbone import Backbone
    from lightretriever.document.device import pick_device, pick_dtype, rounds_matrices
    from lightretriever.document.encoder import DocumentEncoder
    from lightretriever.document.folder import ModelFolder
    from lightretriever.document.rounding import round_matrices
    from lightretriever.document.specials import causal_specials

    own = Tokenizer.from_str(tokenizer.to_str())
    own.add_special_tokens([_EOS])
    if id_count(own) > shape.vocab_size:
        raise UsageError(f"the tokenizer has {id_count(own):,} ids, {name} {shape.vocab_size:,}: choose a larger shape")
    specials = causal_specials(own, {"bos": None, "eos": _EOS, "pad": None}, where=name)
    place, rounded = pick_device(device), rounds_matrices(dtype, device)
    config = Qwen2Config(
        vocab_size=shape.vocab_size,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.num_hidden_layers,
        num_attention_heads=shape.num_attention_heads,
        num_key_value_heads=shape.num_key_value_heads,
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng(), torch.device(place):
        torch.manual_seed(seed)
        kind = torch.float32 if rounded else pick_dtype(dtype, place)
        model = Qwen2Model(config).to(kind).eval().requires_grad_(False)
    backbone = Backbone(
        folder=ModelFolder(Path(), name),
        base=None,
        whole=model,
        model=model,
        head=None,
        tied=None,
        specials=specials,
        causal=True,
        pooling="lasttoken",
        normalize=True,
        dim=shape.hidden_size,
        max_length=None,
        top_k=None,
        query_prompt=DEFAULT_PROMPT,
        document_prompt="",
    )
    return DocumentEncoder(round_matrices(backbone) if rounded else backbone)
