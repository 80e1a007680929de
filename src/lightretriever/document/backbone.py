"""A model folder, loaded, and how it becomes hidden states: causal LMs, encoders with or without an MLM head, adapters
added to them. Only safetensors are read, and no code from a folder runs.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from lightretriever.document.adapter import adapter_rows, merge_adapter
from lightretriever.document.device import pick_device, pick_dtype
from lightretriever.document.folder import ModelFolder, check_weights, folder_revision
from lightretriever.document.layout import read_layout
from lightretriever.document.pooling import Pooling
from lightretriever.document.prefix import Sharing, moving_positions, try_sharing
from lightretriever.document.sparse import Head, find_head
from lightretriever.document.specials import (
    Specials,
    causal_specials,
    declared_specials,
    open_tokenizer,
    own_specials,
)
from lightretriever.document.switches import SWITCHES
from lightretriever.document.tied import TIED_HEAD, TiedHead, read_tied_head
from lightretriever.document.transformer import (
    grow,
    kind_of,
    leaves_nothing,
    load_model,
    position_limit,
    read_config,
    width_of,
)
from lightretriever.errors import ModelError
from lightretriever.text.tokenizer import id_count


@dataclass(frozen=True)
class Backbone:
    """A loaded model with all that its folder says about it.

    Attributes:
        folder, base: the model's folder, and the base model's of a LoRA release.
        whole: the transformer with its LM or MLM head, where it has one.
        model: the transformer without its head, a part of ``whole``.
        head: to logits over the tokenizer's ids; None where there is none or none was asked for.
        tied: what makes the states that ``head`` takes, in a tower with a head that we gave it.
        specials: the tokenizer and its special ids.
        causal: whether a position sees only those before it.
        pooling, normalize: how hidden states become the dense vector.
        dim: its dimensions.
        max_length: tokens the model can or should read, None for no bound.
        top_k: entries of a sparse vector that the release was trained to keep.
        query_prompt, document_prompt: what goes before a text; "" for nothing.
        counts: how the tokens of a sparse query count that it was trained for: "sum", or "bow" for each once.
        rounded: whether its matrices are bfloat16 and the rest float32, see `rounding`.
    """

    folder: ModelFolder
    base: ModelFolder | None
    whole: nn.Module
    model: nn.Module
    head: Head | None
    tied: TiedHead | None
    specials: Specials
    causal: bool
    pooling: Pooling
    normalize: bool
    dim: int
    max_length: int | None
    top_k: int | None
    query_prompt: str
    document_prompt: str
    counts: str = "sum"
    rounded: bool = False

    @cached_property
    def revision(self) -> str:
        """The hub's commit, or ``sha256:`` over weights and settings (read once: seconds for a large model)."""
        return folder_revision([self.folder] if self.base is None else [self.folder, self.base])

    @cached_property
    def sharing(self) -> Sharing:
        """Whether rows can share the run of their prompt: tried once, and warned of where a causal model's cannot."""
        found = try_sharing(self)
        if self.causal and not found:
            warnings.warn(
                f"{self.folder.name}: the prompt is run again for every row, which takes longer: {found.reason}",
                stacklevel=3,
            )
        return found

    @cached_property
    def keeps_nothing(self) -> bool:
        """Whether a run leaves nothing in the model's modules, so that two can go on side by side: by trying."""
        return not moving_positions(self.model) and leaves_nothing(self.model)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """What its matrices are multiplied in."""
        return torch.bfloat16 if self.rounded else next(self.model.parameters()).dtype

    def hidden(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Last hidden states [n, T, H] of right-padded ids int64 [n, T]; those of padding mean nothing.

        Under causal attention no position sees the padding after it, so no mask is needed, and the attention
        kernels run without one. (Nothing is ever masked everywhere, which would be NaN in eager attention.)
        """
        mask = None
        if not self.causal:
            mask = (torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]).long()
        options = {"use_cache": False} if self.causal else {}
        return self.model(input_ids=ids, attention_mask=mask, **options).last_hidden_state

    def head_states(self, ids: Tensor, hidden: Tensor) -> Tensor:
        """What ``head`` takes, [n, T, H]: hidden states of ids [n, T], to which a tied head adds the tokens."""
        if self.tied is None or self.head is None:
            return hidden
        return self.tied.states(hidden, ids, self.head.output.weight)  # type: ignore[attr-defined]


def load_backbone(
    model: str | Path,
    base: str | Path | None,
    device: str,
    dtype: str,
    sparse: str,
    lowercase: bool | None = None,
) -> Backbone:
    """Load a model folder; see `DocumentEncoder.load` for the arguments and errors.

    ``lowercase`` says whether texts are lower-cased first; None for what the folder says.
    """
    place = pick_device(device)
    kind = pick_dtype(dtype, place)
    plan = read_layout(model, base)
    config = read_config(plan.transformer)
    is_lm, causal = kind_of(config)
    switches = plan.switches_for(causal)
    if switches.architecture and (switches.architecture == "gpt") != causal:
        raise ModelError(
            f"{plan.folder.path / SWITCHES}: hybrid_model_architecture: {switches.architecture} does not fit the base "
            f"model, a {config.model_type}: is the base model right?"
        )
    tokenizer = open_tokenizer(plan.tokens)
    declared = declared_specials(plan.tokens, config.to_dict(), tokenizer)
    lower = switches.lowercase if lowercase is None else lowercase
    if causal and switches.edit_specials:
        specials = causal_specials(
            tokenizer, declared, lowercase=lower, add_bos=switches.add_bos, where=str(plan.tokens)
        )
    else:
        specials = own_specials(tokenizer, declared, lowercase=lower)

    check_weights(plan.transformer)
    whole = load_model(plan.transformer, config, is_lm, causal, kind)
    width = id_count(specials.tokenizer)
    grow(whole, max(width, adapter_rows(plan.adapter) if plan.adapter else 0))
    if plan.adapter is not None:
        merge_adapter(whole, plan.adapter)
    whole = whole.eval().requires_grad_(False).to(place)
    transformer: nn.Module = whole.base_model if is_lm else whole  # type: ignore[assignment]

    dim = width_of(transformer)
    head: Head | None = None
    tied = None
    if sparse != "none":
        if (plan.head / TIED_HEAD).is_file():
            tied = read_tied_head(plan.head).to(place)
            head = tied.over(whole.get_input_embeddings().weight, width, plan.head)  # type: ignore[operator]
        elif is_lm and (sparse == "lm" or switches.has_sparse):
            head = find_head(whole, width)
        elif sparse == "lm":
            raise ModelError(
                f"{plan.folder.name} has no LM head for a sparse vector: use sparse='none' (--sparse bm25)"
            )
    limits = (position_limit(transformer), plan.max_length)
    return Backbone(
        folder=plan.folder,
        base=plan.base,
        whole=whole,
        model=transformer,
        head=head,
        tied=tied,
        specials=specials,
        causal=causal,
        pooling=switches.pooling,
        normalize=switches.normalize,
        dim=min(dim, switches.dim or dim),
        max_length=min((limit for limit in limits if limit), default=None),
        top_k=switches.top_k,
        counts=switches.counts,
        query_prompt=plan.prompt_for(causal),
        document_prompt=plan.document_prompt,
    )
