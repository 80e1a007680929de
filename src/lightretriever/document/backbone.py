"""What a model folder is, and how it becomes hidden states: causal LMs, their LoRA releases, encoders with or
without an MLM head, sentence-transformers folders. Only safetensors are read, and no code from a folder runs.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from lightretriever.document.device import pick_device, pick_dtype
from lightretriever.document.folder import ModelFolder, check_weights, find_folder, folder_revision
from lightretriever.document.pooling import Pooling
from lightretriever.document.prefix import Sharing, try_sharing
from lightretriever.document.release import (
    ADAPTER_CONFIG,
    SWITCHES,
    Switches,
    adapter_rows,
    find_base,
    merge_adapter,
    read_switches,
)
from lightretriever.document.sentence import MODULES, read_max_length, read_prompt, read_sentence_folder
from lightretriever.document.sparse import Head, find_head
from lightretriever.document.specials import (
    Specials,
    causal_specials,
    declared_specials,
    open_tokenizer,
    own_specials,
)
from lightretriever.document.tied import TIED_HEAD, TiedHead, read_tied_head
from lightretriever.document.transformer import grow, kind_of, load_model, position_limit, read_config, width_of
from lightretriever.errors import ModelError, UsageError
from lightretriever.text.prompt import DEFAULT_PROMPT
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

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.model.parameters()).dtype

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
    folder = find_folder(model)
    base_folder = None
    inner = folder.path  # where the transformer's configuration and tokenizer are
    sentence = switches = None
    if folder.has(ADAPTER_CONFIG):
        base_folder = find_base(folder, base)
        inner = base_folder.path
        if base_folder.has(MODULES):
            sentence = read_sentence_folder(inner)
            inner = sentence.transformer
            base_folder = replace(base_folder, parts=sentence.parts)
    elif folder.has(MODULES):
        sentence = read_sentence_folder(folder.path)
        inner = sentence.transformer
        folder = replace(folder, parts=sentence.parts)
    if base_folder is not None or folder.has(SWITCHES):
        switches = read_switches(folder.path)
    elif base is not None:
        raise UsageError(f"{folder.name} is no LoRA release: it takes no base model")

    config = read_config(inner)
    is_lm, causal = kind_of(config)
    # The tokenizer beside LoRA weights is the edited one; without it the base's is edited in the same way.
    tokens = folder.path if base_folder is not None and folder.has("tokenizer.json") else inner
    tokenizer = open_tokenizer(tokens)
    declared = declared_specials(tokens, config.to_dict(), tokenizer)
    said = switches or sentence or Switches(pooling="lasttoken" if causal else "mean", lowercase=causal)
    lower = said.lowercase if lowercase is None else lowercase
    if causal and (switches.edit_specials if switches else sentence is None):
        add_bos = (switches or Switches()).add_bos
        specials = causal_specials(tokenizer, declared, lowercase=lower, add_bos=add_bos, where=str(tokens))
    else:
        specials = own_specials(tokenizer, declared, lowercase=lower)

    check_weights(inner)
    whole = load_model(inner, config, is_lm, causal, kind)
    width = id_count(specials.tokenizer)
    grow(whole, max(width, adapter_rows(folder.path)))
    if base_folder is not None:
        merge_adapter(whole, folder.path)
    whole = whole.eval().requires_grad_(False).to(place)
    transformer: nn.Module = whole.base_model if is_lm else whole  # type: ignore[assignment]

    head: Head | None = None
    tied = None
    if sparse != "none":
        if folder.has(TIED_HEAD):
            tied = read_tied_head(folder.path).to(place)
            head = tied.over(whole.get_input_embeddings().weight, width, folder.path)  # type: ignore[operator]
        elif is_lm and (sparse == "lm" or switches is None or switches.has_sparse):
            head = find_head(whole, width)
        elif sparse == "lm":
            raise ModelError(f"{folder.name} has no LM head for a sparse vector: use sparse='none' (--sparse bm25)")
    dim = width_of(transformer)
    limits = [position_limit(transformer), sentence.max_length if sentence else read_max_length(folder.path)]
    query_prompt, document_prompt = (read_prompt(folder.path, name) for name in ("query", "document"))
    own_prompt = sentence.query_prompt if sentence else DEFAULT_PROMPT if causal or switches else ""
    return Backbone(
        folder=folder,
        base=base_folder,
        whole=whole,
        model=transformer,
        head=head,
        tied=tied,
        specials=specials,
        causal=causal,
        pooling=said.pooling,
        normalize=said.normalize,
        dim=min(dim, (switches.dim if switches else None) or dim),
        max_length=min((limit for limit in limits if limit), default=None),
        top_k=switches.top_k if switches else None,
        query_prompt=own_prompt if query_prompt is None else query_prompt,
        document_prompt=sentence.document_prompt if sentence else document_prompt or "",
    )
