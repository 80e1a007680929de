"""The document tower while it is trained: one forward pass gives all vectors of a batch that need the model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from torch import Tensor, nn

from lightretriever.document.pooling import Pooling


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """What is trained, and how texts become its input.

    Attributes:
        base: `minilm`, a folder or a hub name: a causal LM, an encoder, or a sentence-transformers folder.
        adapter: "lora" trains low-rank adapters, "full" all weights.
        rank, alpha, dropout: of the adapters.
        targets: endings of the names of the linear layers that get adapters; () for all but the head.
        pooling: None for the base's own: the last token of causal LMs, what a sentence-transformers folder says,
            the mean of other encoders.
        lowercase: whether texts are lower-cased first.
        sparse_head: "lm" is the base's own LM or MLM head, "tied" one that we give it, over its input embeddings;
            "auto" the first where there is one, else the second; "none".
        top_k: entries that a sparse vector keeps; None for all.
        prompt: goes before a query; None for the base's default.
        passage_max_length, query_max_length: in tokens, specials included for passages and symmetric queries.
        dtype: of the base's weights; "auto" is float32 (bf16 training keeps them so and computes in bfloat16).
        gradient_checkpointing: each layer's activations are computed again for the gradients.
        chunk: passages (or look-up tokens / 8) at a time whose activations are held, see `large_batch`; 0 for all.
    """

    base: str = ""
    adapter: Literal["lora", "full"] = "lora"
    rank: int = 16
    alpha: float = 32
    dropout: float = 0.1
    targets: tuple[str, ...] = ()
    pooling: Pooling | None = None
    lowercase: bool = True
    sparse_head: Literal["auto", "lm", "tied", "none"] = "auto"
    top_k: int | None = None
    prompt: str | None = None
    passage_max_length: int = 512
    query_max_length: int = 512
    dtype: str = "auto"
    gradient_checkpointing: bool = False
    chunk: int = 0


class Texts(NamedTuple):
    """Right-padded token ids int64 [n, T] with specials, and lengths int64 [n], at least 1."""

    ids: Tensor
    lengths: Tensor


class Lookup(NamedTuple):
    """Distinct token ids int64 [U] behind one prompt, ids int64 [p] without specials."""

    prompt: Tensor
    tokens: Tensor


class TowerInput(NamedTuple):
    """What goes through the model in one step; None or () for what is not wanted."""

    passages: Texts | None = None
    lookups: tuple[Lookup, ...] = ()
    full_queries: Texts | None = None


class TowerOutput(NamedTuple):
    """What comes out, float32.

    Attributes:
        passages: [N, d] pooled, not normalised.
        passages_sparse: [N, V], None without a sparse head.
        rows: [ΣU, d] token-table rows of the look-ups, one after another; None without any.
        full_queries: [B, d].
        full_queries_sparse: [B, V], where ``symmetric_sparse`` is asked for.
    """

    passages: Tensor | None = None
    passages_sparse: Tensor | None = None
    rows: Tensor | None = None
    full_queries: Tensor | None = None
    full_queries_sparse: Tensor | None = None


class TrainableTower(nn.Module):
    """A document tower with gradients; `load` makes one.

    Attributes:
        config: what it was made from.
        tokenizer, specials, vocab_size, dim, causal, max_length: as of a `DocumentEncoder`.
        prompt: what goes before a query.
    """

    @staticmethod
    def load(config: ModelConfig) -> TrainableTower:
        raise NotImplementedError

    def forward(self, inputs: TowerInput) -> TowerOutput:
        raise NotImplementedError

    def save(self, folder: Path, state: dict[str, Tensor] | None = None) -> None:
        raise NotImplementedError
