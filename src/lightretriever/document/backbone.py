"""What a model folder is, and how it becomes hidden states: causal LMs, their LoRA releases, encoders with or
without an MLM head, sentence-transformers folders. Only safetensors are read, and no code from a folder runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
import transformers
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from lightretriever.document.device import pick_device, pick_dtype
from lightretriever.document.folder import ModelFolder, check_weights, find_folder, folder_revision
from lightretriever.document.pooling import Pooling
from lightretriever.document.release import (
    ADAPTER_CONFIG,
    SWITCHES,
    Switches,
    adapter_rows,
    find_base,
    merge_adapter,
    read_switches,
)
from lightretriever.document.sentence import MODULES, read_sentence_folder
from lightretriever.document.sparse import Head, find_head
from lightretriever.document.specials import (
    Specials,
    causal_specials,
    declared_specials,
    open_tokenizer,
    own_specials,
)
from lightretriever.errors import ModelError, UsageError
from lightretriever.text.prompt import DEFAULT_PROMPT
from lightretriever.text.tokenizer import id_count

# Classes with an MLM head beside another one. (ELECTRA's class of that name has none: it tells tokens apart.)
_PRETRAINING = ("BertForPreTraining", "AlbertForPreTraining", "BigBirdForPreTraining", "MobileBertForPreTraining")


@dataclass(frozen=True)
class Backbone:
    """A loaded model with all that its folder says about it.

    Attributes:
        folder, base: the model's folder, and the base model's of a LoRA release.
        model: the transformer without its head.
        head: to logits over the tokenizer's ids; None where there is none or none was asked for.
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
    model: nn.Module
    head: Head | None
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


def load_backbone(model: str | Path, base: str | Path | None, device: str, dtype: str, sparse: str) -> Backbone:
    """Load a model folder; see `DocumentEncoder.load` for the arguments and errors."""
    place = pick_device(device)
    kind = pick_dtype(dtype, place)
    folder = find_folder(model)
    base_folder = None
    inner = folder.path  # where the transformer's configuration and tokenizer are
    sentence = switches = None
    if folder.has(ADAPTER_CONFIG):
        base_folder = find_base(folder, base)
        inner = base_folder.path
    elif folder.has(MODULES):
        sentence = read_sentence_folder(folder.path)
        inner = sentence.transformer
        folder = replace(folder, parts=sentence.parts)
    if base_folder is not None or folder.has(SWITCHES):
        switches = read_switches(folder.path)
    elif base is not None:
        raise UsageError(f"{folder.name} is no LoRA release: it takes no base model")

    config = _read_config(inner)
    is_lm, causal = _kind(config)
    # The tokenizer beside LoRA weights is the edited one; without it the base's is edited in the same way.
    tokens = folder.path if base_folder is not None and folder.has("tokenizer.json") else inner
    tokenizer = open_tokenizer(tokens)
    declared = declared_specials(tokens, config.to_dict(), tokenizer)
    if causal and (switches is not None or sentence is None):
        chosen = switches or Switches()
        specials = causal_specials(
            tokenizer, declared, lowercase=chosen.lowercase, add_bos=chosen.add_bos, where=str(tokens)
        )
    else:
        lowercase = (sentence or switches or Switches(lowercase=False)).lowercase
        specials = own_specials(tokenizer, declared, lowercase=lowercase)

    check_weights(inner)
    whole = _load_model(inner, config, is_lm, causal, kind)
    _grow(whole, max(id_count(specials.tokenizer), adapter_rows(folder.path)))
    if base_folder is not None:
        merge_adapter(whole, folder.path)
    whole = whole.eval().requires_grad_(False).to(place)

    can_sparse = is_lm and (sparse == "lm" or switches is None or switches.has_sparse)
    if sparse == "lm" and not can_sparse:
        raise ModelError(f"{folder.name} has no LM head for a sparse vector: use sparse='none' (--sparse bm25)")
    head = find_head(whole, id_count(specials.tokenizer)) if can_sparse and sparse != "none" else None
    transformer: nn.Module = whole.base_model if is_lm else whole  # type: ignore[assignment]
    width = _width(transformer)
    limits = [_position_limit(transformer), sentence.max_length if sentence else None]
    return Backbone(
        folder=folder,
        base=base_folder,
        model=transformer,
        head=head,
        specials=specials,
        causal=causal,
        pooling=(sentence or switches or Switches(pooling="lasttoken" if causal else "mean")).pooling,
        normalize=(sentence or switches or Switches()).normalize,
        dim=min(width, (switches.dim if switches else None) or width),
        max_length=min((limit for limit in limits if limit), default=None),
        top_k=switches.top_k if switches else None,
        query_prompt=sentence.query_prompt if sentence else DEFAULT_PROMPT if causal or switches else "",
        document_prompt=sentence.document_prompt if sentence else "",
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """transformers' progress bars and load reports held back: what matters in them is checked here."""
    logging = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _read_config(folder: Path) -> transformers.PretrainedConfig:
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} holds no config.json: it is no model folder, or not complete")
    try:
        with _quiet():
            config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ModelError(f"{folder} is of an architecture that transformers does not know ({reason})") from None
    if config.is_encoder_decoder:
        raise ModelError(f"{folder} is an encoder-decoder ({config.model_type}): not supported")
    if not isinstance(getattr(config, "hidden_size", None), int):
        raise ModelError(f"{folder} is no text model that is supported ({config.model_type})")
    return config


def _kind(config: transformers.PretrainedConfig) -> tuple[bool, bool]:
    """Whether the folder holds an LM or MLM head, and whether attention is causal."""
    names = config.architectures or []
    is_causal_lm = any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in names)
    is_masked_lm = any(name.endswith("ForMaskedLM") or name in _PRETRAINING for name in names)
    # BERT's family is listed under both; a family listed only as causal is causal whatever class was saved.
    family_is_causal = (
        config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
        and config.model_type not in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    )
    causal = family_is_causal or (is_causal_lm and not is_masked_lm)
    if getattr(config, "use_bidirectional_attention", False) or getattr(config, "is_causal", True) is False:
        causal = False
    return is_causal_lm or is_masked_lm, causal


def _load_model(
    folder: Path, config: transformers.PretrainedConfig, is_lm: bool, causal: bool, dtype: torch.dtype
) -> nn.Module:
    loader = transformers.AutoModel
    if is_lm:
        family_is_masked = config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES
        masked = family_is_masked and not causal
        loader = transformers.AutoModelForMaskedLM if masked else transformers.AutoModelForCausalLM
    problem: Exception | None = None
    for attention in ("sdpa", "eager"):  # a few old architectures have no sdpa
        try:
            with _quiet():
                model, report = loader.from_pretrained(
                    folder,
                    config=config,
                    dtype=dtype,
                    attn_implementation=attention,
                    local_files_only=True,
                    use_safetensors=True,
                    trust_remote_code=False,
                    output_loading_info=True,
                )
            break
        except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
            problem = problem or error
    else:
        reason = " ".join(str(problem).split())[:200]
        raise ModelError(f"{folder} cannot be loaded ({reason})") from None
    # A pooler is not used here. Any other absent weight would be random.
    missing = sorted(str(name) for name in report["missing_keys"] if "pooler" not in str(name))
    if missing or report["mismatched_keys"]:
        what = (missing or [str(report["mismatched_keys"])])[0]
        raise ModelError(f"{folder} lacks weights of its own architecture ({what}): it is damaged")
    return model


@torch.inference_mode()
def _grow(model: nn.Module, rows: int) -> None:
    """Give the embedding matrix rows for every token id, if it has fewer: new ones are the mean of the old.

    The mean, not a draw: loading the same folder twice gives the same vectors.
    """
    old = model.get_input_embeddings().weight.shape[0]  # type: ignore[operator]
    if rows <= old:
        return
    with _quiet():
        model.resize_token_embeddings(rows, mean_resizing=False)  # type: ignore[operator]
    for module in (model.get_input_embeddings(), model.get_output_embeddings()):  # type: ignore[operator]
        if module is not None:
            module.weight[old:] = module.weight[:old].float().mean(0).to(module.weight.dtype)
            if getattr(module, "bias", None) is not None:
                module.bias[old:] = 0.0


@torch.inference_mode()
def _width(model: nn.Module) -> int:
    """Dimensions of the hidden states, seen on one token: OPT's last layer may project to others."""
    ids = torch.zeros(1, 1, dtype=torch.int64, device=next(model.parameters()).device)
    hidden = getattr(model(input_ids=ids, attention_mask=torch.ones_like(ids)), "last_hidden_state", None)
    if hidden is None:
        raise ModelError(f"{type(model).__name__} gives no hidden states: it is no text model that is supported")
    return int(hidden.shape[-1])


def _position_limit(model: nn.Module) -> int | None:
    """Positions the model knows; RoBERTa's family spends the first few on its padding id."""
    limit = getattr(model.config, "max_position_embeddings", None)
    if not isinstance(limit, int) or limit <= 0:
        return None
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            return limit - (0 if module.padding_idx is None else module.padding_idx + 1)
    return limit
