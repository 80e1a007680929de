"""The document tower while it is trained: one forward pass gives all vectors of a batch that need the model."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from lightretriever.document.backbone import Backbone, load_backbone
from lightretriever.document.folder import find_folder
from lightretriever.document.pooling import Pooling, pool
from lightretriever.document.sparse import LinearHead
from lightretriever.document.specials import Specials
from lightretriever.document.tied import TIED_HEAD, TiedHead, unit_rows
from lightretriever.errors import ModelError, UsageError
from lightretriever.text.tokenizer import id_count
from lightretriever.training.adapters import add_adapters
from lightretriever.training.batch import Batch
from lightretriever.training.large_batch import in_chunks
from lightretriever.training.lookup import (
    bag_counts,
    bag_means,
    distinct_tokens,
    own_rows,
    prefix_rows,
    shares_prefix,
)
from lightretriever.training.losses import Representations
from lightretriever.training.sparse_head import passage_weights
from lightretriever.training.tower_folder import read_weights, write_tower


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
        chunk: passages at a time whose activations are held, see `large_batch` (as many full queries, and look-up
            tokens in as many parts as passages); 0 for all.
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
    """Right-padded token ids int64 [n, T] with specials, and lengths int64 [n]; one of 0 gives zero vectors."""

    ids: Tensor
    lengths: Tensor


class Lookup(NamedTuple):
    """Distinct token ids int64 [U] behind one prompt, ids int64 [p] without specials."""

    prompt: Tensor
    tokens: Tensor


class TowerInput(NamedTuple):
    """What goes through the model in one step; None or () for what is not wanted.

    Attributes:
        passages, lookups, full_queries: the texts.
        sparse: whether passages get sparse vectors too, where the tower has a head.
        sparse_queries: whether full queries do.
    """

    passages: Texts | None = None
    lookups: tuple[Lookup, ...] = ()
    full_queries: Texts | None = None
    sparse: bool = True
    sparse_queries: bool = False


class TowerOutput(NamedTuple):
    """What comes out, float32.

    Attributes:
        passages: [N, d] pooled, not normalised.
        passages_sparse: [N, V], None without a sparse head.
        rows: [ΣU, d] token-table rows of the look-ups, one after another; None without any.
        full_queries: [B, d].
        full_queries_sparse: [B, V], where it was asked for.
    """

    passages: Tensor | None = None
    passages_sparse: Tensor | None = None
    rows: Tensor | None = None
    full_queries: Tensor | None = None
    full_queries_sparse: Tensor | None = None


class TrainableTower(nn.Module):
    """A document tower with gradients; `load` makes one.

    Attributes:
        settings: what it was made from, lengths cut to what the model reads.
        config: the model's own, where transformers' Trainer looks for it.
        backbone: the model with its tokenizer, pooling and head, as `DocumentEncoder` uses it.
        whole: the model, adapters included.
        tied: the sparse head that we gave it, or None.
        new_head: whether that one is untrained, where the base brought none.
        prompt: what goes before a query.
    """

    def __init__(
        self, config: ModelConfig, backbone: Backbone, tied: TiedHead | None = None, new_head: bool = False
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.whole, self.tied, self.new_head = backbone.whole, tied, new_head
        self.config = backbone.whole.config
        self._no_split_modules = getattr(backbone.whole, "_no_split_modules", None)  # FSDP: what is a layer
        self.prompt = backbone.query_prompt if config.prompt is None else config.prompt
        limit = backbone.max_length
        self.settings = replace(
            config,
            passage_max_length=min(config.passage_max_length, limit or config.passage_max_length),
            query_max_length=min(config.query_max_length, limit or config.query_max_length),
        )
        self._unit: Tensor | None = None
        self._shares: dict[int, bool] = {}

    @staticmethod
    def load(config: ModelConfig, base_named: str | None = None) -> TrainableTower:
        """Load the base on the CPU and make it trainable, in evaluation mode.

        Args:
            config: what and how.
            base_named: what a folder that the tower is saved to calls the base; None: as ``config`` does.

        Raises:
            ModelError, MissingExtraError: as `DocumentEncoder.load`; also a base that is itself LoRA weights, or an
                LM head of a kind that cannot be trained through.
            UsageError: a setting that makes no sense.
        """
        _check(config)
        dtype = "float32" if config.dtype == "auto" else config.dtype
        head = config.sparse_head
        if head == "tied":  # the base's own, if it was trained with one
            head = "auto" if find_folder(config.base).has(TIED_HEAD) else "none"
        backbone = load_backbone(config.base, None, "cpu", dtype, head, lowercase=config.lowercase)
        if backbone.base is not None:
            raise ModelError(f"{config.base} is LoRA weights: merge them into their base first (train --merge)")
        if backbone.head is not None and not isinstance(backbone.head, LinearHead):
            raise ModelError(
                f"{config.base}: its LM head cannot be trained through: set sparse_head = 'none' or 'tied'"
            )
        config = replace(config, base=config.base if base_named is None else base_named)
        wants_tied = config.sparse_head == "tied" or (config.sparse_head == "auto" and backbone.head is None)
        new_head = wants_tied and backbone.tied is None
        tied = _new_tied_head(backbone) if new_head else backbone.tied
        backbone = replace(backbone, pooling=config.pooling or backbone.pooling)
        if config.adapter == "lora":
            add_adapters(backbone, config.rank, config.alpha, config.dropout, config.targets, config.base)
        else:
            _thaw(backbone)
        if config.gradient_checkpointing:
            whole = backbone.whole  # transformers 5.2x renamed it
            enable = getattr(whole, "activation_checkpointing_enable", None) or whole.gradient_checkpointing_enable
            enable({"use_reentrant": False})  # type: ignore[operator]
        tower = TrainableTower(config, backbone, None if tied is None else tied.requires_grad_(), new_head)
        return tower.eval()

    @property
    def specials(self) -> Specials:
        """The tokenizer and its special ids."""
        return self.backbone.specials

    @property
    def document_prompt(self) -> str:
        """What goes before a passage."""
        return self.backbone.document_prompt

    @property
    def vocab_size(self) -> int:
        """V."""
        return id_count(self.backbone.specials.tokenizer)

    @property
    def has_sparse(self) -> bool:
        """Whether passages get sparse vectors."""
        return self.tied is not None or self.backbone.head is not None

    def forward(self, inputs: TowerInput) -> TowerOutput:
        """All vectors of a step; one call, so that what wraps a module's forward pass sees everything."""
        found: dict[str, Tensor] = {}
        chunk = self.settings.chunk
        matrix, unit = self._matrix() if inputs.sparse or inputs.sparse_queries else (None, None)

        def encode(ids: Tensor, lengths: Tensor, sparse: bool) -> tuple[Tensor, ...]:
            # A chunk's longest may be shorter than the batch's. A text of no tokens, which a tokenizer without specials
            # leaves empty, is run as one of padding, and its vector put to 0.
            ids = ids[:, : int(lengths.max())] if lengths.any() else ids.new_zeros(len(ids), 1)
            read = lengths.clamp(min=1)
            hidden = self.backbone.hidden(ids, read)
            dense = self._cut(pool(hidden, read, self.backbone.pooling)) * (lengths > 0)[:, None]
            if not sparse or matrix is None:
                return (dense,)
            top_k = self.settings.top_k
            if self.tied is not None and unit is not None:
                states = self.tied.states(hidden, ids, unit)
                return dense, passage_weights(states, lengths, matrix, _as_it_is, top_k, exact=True)
            head: LinearHead = self.backbone.head  # type: ignore[assignment]
            return dense, passage_weights(head.states(hidden), lengths, matrix, head.finish, top_k)

        if inputs.lookups:
            count = 0 if inputs.passages is None else len(inputs.passages.lengths)
            found["rows"] = torch.cat([self._rows(lookup, count) for lookup in inputs.lookups])
        for name, texts, sparse in (
            ("full_queries", inputs.full_queries, inputs.sparse_queries),
            ("passages", inputs.passages, inputs.sparse),  # last: their graph holds every trained weight
        ):
            if texts is not None:
                vectors = in_chunks(lambda ids, lengths, wanted=sparse: encode(ids, lengths, wanted), texts, chunk)
                found |= dict(zip((name, f"{name}_sparse"), vectors, strict=False))
        return TowerOutput(**found)

    def _rows(self, lookup: Lookup, passages: int) -> Tensor:
        # Devices must run the model equally often, which sharded weights need: as many chunks as of passages, whatever
        # the number of tokens, and one where there is none.
        count = len(lookup.tokens)
        tokens = lookup.tokens if count else lookup.tokens.new_zeros(1)
        length, chunk = len(lookup.prompt), self.settings.chunk
        if length not in self._shares:  # what decides it is the length, not the words
            sharing = shares_prefix(self.backbone, lookup.prompt)
            self._shares[length] = bool(sharing)
            if self.backbone.causal and not sharing:
                name = self.backbone.folder.name
                warnings.warn(
                    f"{name}: the prompt is run again for every token of a query, which takes longer: {sharing.reason}",
                    stacklevel=2,
                )
        run = prefix_rows if self._shares[length] else own_rows
        parts = -(-passages // chunk) if passages and chunk else 0
        size = -(-len(tokens) // parts) if parts else 8 * chunk
        tokens = torch.cat([tokens, tokens[-1:].expand(parts * size - len(tokens))]) if parts else tokens
        (rows,) = in_chunks(lambda some: (run(self.backbone, lookup.prompt, some),), (tokens,), size)
        return self._cut(rows[:count])

    def _cut(self, vectors: Tensor) -> Tensor:
        # No view where there is nothing to cut: sharding wrappers mind views among the results.
        return vectors if vectors.shape[1] == self.backbone.dim else vectors[:, : self.backbone.dim]

    def _matrix(self) -> tuple[tuple[Tensor, Tensor | None] | None, Tensor | None]:
        """The last layer of the sparse head, and a tied head's unit embeddings."""
        if self.tied is None:
            head = self.backbone.head
            return (head.matrix() if isinstance(head, LinearHead) else None), None
        embeddings: Tensor = self.whole.get_input_embeddings().weight  # type: ignore[operator]
        if embeddings.requires_grad:
            unit = unit_rows(embeddings, self.vocab_size)
        else:
            if self._unit is None or self._unit.device != embeddings.device:
                self._unit = unit_rows(embeddings.detach(), self.vocab_size)
            unit = self._unit
        return (unit, self.tied.bias), unit

    def save(self, folder: Path, state: Mapping[str, Tensor] | None = None) -> None:
        """Write what `DocumentEncoder.load` needs into a folder that exists or can be made.

        Args:
            folder: gets the adapters beside their configuration (or the whole model), tokenizer, switches, prompt,
                and the sparse head where it is ours.
            state: all weights by name where this process does not hold them (FSDP, ZeRO); None for its own.
        """
        write_tower(
            folder,
            self.backbone,
            self.state_dict() if state is None else state,
            base=self.settings.base if self.settings.adapter == "lora" else None,
            prompt=self.prompt,
            top_k=self.settings.top_k,
            has_sparse=self.has_sparse,
        )

    def restore(self, folder: Path) -> None:
        """Take the weights of a folder that `save` wrote, in place.

        Raises:
            ModelError: it is not of this tower, or damaged.
        """
        read_weights(folder, self.whole, self.tied)


def represent(
    model: nn.Module, batch: Batch, *, lookups: bool = True, sparse: bool = True, sparse_queries: bool = False
) -> Representations:
    """The vectors of a batch, in one forward pass.

    Args:
        model: a `TrainableTower`, or what wraps one.
        batch: on the model's device.
        lookups: whether queries get look-up vectors.
        sparse: whether passages get sparse vectors, where the tower has a head.
        sparse_queries: whether full queries do.

    Returns:
        This device's alone; see `gather`.
    """
    distinct, places = distinct_tokens(batch.query_tokens, batch.query_offsets, batch.prompt_of, len(batch.prompts))
    wanted = tuple(Lookup(prompt, tokens) for prompt, tokens in zip(batch.prompts, distinct, strict=True))
    full = None
    if batch.full_query_ids is not None and batch.full_query_lengths is not None:
        full = Texts(batch.full_query_ids, batch.full_query_lengths)
    passages = Texts(batch.passage_ids, batch.passage_lengths)
    found: TowerOutput = model(TowerInput(passages, wanted if lookups else (), full, sparse, sparse_queries))
    counts = None
    if found.passages_sparse is not None:
        counts = bag_counts(batch.count_tokens, batch.count_offsets, found.passages_sparse.shape[1])
    return Representations(
        passages=found.passages,
        passages_sparse=found.passages_sparse,
        queries=None if found.rows is None else bag_means(found.rows, places, batch.query_offsets),
        full_queries=found.full_queries,
        full_queries_sparse=found.full_queries_sparse,
        counts=counts,
        ce_scores=batch.ce_scores,
        only_hard_negatives=batch.only_hard_negatives,
        passage_keys=batch.passage_keys,
    )


def _as_it_is(products: Tensor) -> Tensor:
    return products


def _new_tied_head(backbone: Backbone) -> TiedHead:
    embeddings = backbone.whole.get_input_embeddings().weight  # type: ignore[operator]
    width = int(backbone.model.config.hidden_size)  # type: ignore[union-attr, arg-type]
    return TiedHead(width, embeddings.shape[1], id_count(backbone.specials.tokenizer))


def _thaw(backbone: Backbone) -> None:
    """Train every weight that a vector depends on: wrappers want a gradient for all that are to have one."""
    for name, parameter in backbone.model.named_parameters():
        parameter.requires_grad_("pooler" not in name)
    if isinstance(backbone.head, LinearHead):
        for module in (backbone.head.output, *backbone.head.steps):
            if isinstance(module, nn.Module):
                module.requires_grad_()


def _check(config: ModelConfig) -> None:
    choices = {"adapter": ("lora", "full"), "sparse_head": ("auto", "lm", "tied", "none")}
    for name, allowed in choices.items():
        if getattr(config, name) not in allowed:
            raise UsageError(f"model.{name} is {getattr(config, name)!r}: choose {', '.join(allowed)}")
    if not config.base:
        raise UsageError("model.base is not set: name the model to train (a folder, a hub name or minilm)")
    if config.rank < 1 or config.chunk < 0 or not 0 <= config.dropout < 1:
        raise UsageError("model.rank must be positive, model.chunk not negative, and model.dropout from 0 to below 1")
