"""The folder of a trained tower: what it holds is what `DocumentEncoder.load` reads (METHOD "Released checkpoints").

Adapters lie in the authors' release format, under the names of the causal LM class where there is one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
import yaml  # type: ignore[import-untyped]
from peft import LoraConfig
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from lightretriever.artifact import as_any_new
from lightretriever.document.adapter import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from lightretriever.document.backbone import Backbone, load_backbone
from lightretriever.document.sentence import PROMPTS, SETTINGS
from lightretriever.document.specials import Specials
from lightretriever.document.switches import SWITCHES
from lightretriever.document.tied import FORMAT, TIED_HEAD, TiedHead, read_tied_head
from lightretriever.document.transformer import kind_of, load_model, read_config
from lightretriever.errors import ModelError

_PREFIX = "base_model.model."


def write_tower(
    folder: Path,
    backbone: Backbone,
    state: Mapping[str, Tensor],
    *,
    base: str | None,
    prompt: str,
    top_k: int | None,
    has_sparse: bool,
) -> None:
    """Write a tower's weights and settings into a folder.

    Args:
        folder: made if it is not there; files of these names are replaced.
        backbone: of the tower.
        state: its weights, ``whole.…`` the model's and ``tied.…`` the sparse head's.
        base: what the adapters are for; None to write the whole model.
        prompt: before a query.
        top_k: entries kept of a sparse vector.
        has_sparse: whether it gives sparse vectors.
    """
    folder.mkdir(parents=True, exist_ok=True)
    whole = {name.removeprefix("whole."): value for name, value in state.items() if name.startswith("whole.")}
    if base is None:
        backbone.whole.save_pretrained(folder, state_dict=whole)  # type: ignore[operator]
    else:
        adapters = {
            _PREFIX + name.replace(".default.", "."): value.contiguous()
            for name, value in whole.items()
            if ".lora_" in name
        }
        save_file(adapters, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
        configs: Mapping[str, LoraConfig] = backbone.whole.peft_config  # type: ignore[assignment]
        configs["default"].save_pretrained(folder)
    _write_tokenizer(folder, backbone.specials, backbone.causal)
    head = {name.removeprefix("tied."): value.contiguous() for name, value in state.items() if name.startswith("tied.")}
    if head:
        save_file(head, folder / TIED_HEAD, metadata={"lightretriever": json.dumps(FORMAT)})
    _write_settings(folder, backbone, base, prompt, top_k, has_sparse)
    for weights in folder.glob("*.safetensors"):
        as_any_new(weights)


def _write_tokenizer(folder: Path, specials: Specials, causal: bool) -> None:
    tokenizer = specials.tokenizer
    begin, end = ("bos_token", "eos_token") if causal else ("cls_token", "sep_token")
    named = {begin: specials.bos_id, end: specials.eos_id, "pad_token": specials.pad_id}
    tokens = {name: tokenizer.id_to_token(number) for name, number in named.items() if number is not None}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **tokens).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))  # as it is: what it was given may have been edited on the way


def _write_settings(
    folder: Path, backbone: Backbone, base: str | None, prompt: str, top_k: int | None, has_sparse: bool
) -> None:
    specials = backbone.specials
    switches = {
        "model_name_or_path": base,
        "model_type": "HybridModel",
        "pooling_strategy": backbone.pooling,
        "normalize": True,
        "score_function": "cos_sim",
        "lowercase": _lowers(specials),
        "edit_tokenizer_normalizers": True,
        "edit_tokenizer_post_processor": specials.edited,  # if not, the base's own stay, as -1 says too
        "add_bos_num": int(specials.bos_id in specials.before) if specials.edited else -1,
        "add_eos_num": 1 if specials.edited else -1,
        "pad_token": None if specials.pad_id is None else specials.tokenizer.id_to_token(specials.pad_id),
        "dense_shrink_dim": backbone.dim,
        "hybrid_use_dense_vector": True,
        "hybrid_use_emb_vector": True,
        "hybrid_use_sparse_vector": False,
        "hybrid_use_token_id_vector": has_sparse,
        "noncontextual_query_embedding": True,
        "token_id_vector_type": backbone.counts,
        "sparse_top_k_psg": top_k or 0,
        "sparse_min_tokens_to_keep": 8,
        "sparse_use_max_aggregation": True,
        "sparse_use_relu": True,
        "sparse_use_log_saturation": True,
    }
    (folder / SWITCHES).write_text(yaml.safe_dump(switches), encoding="utf-8")
    prompts = {"query": prompt, "document": backbone.document_prompt}
    (folder / PROMPTS).write_text(json.dumps({"prompts": prompts}, indent=2) + "\n", encoding="utf-8")
    if backbone.max_length is not None:
        limit = {"max_seq_length": backbone.max_length}
        (folder / SETTINGS[0]).write_text(json.dumps(limit, indent=2) + "\n", encoding="utf-8")


def _lowers(specials: Specials) -> bool:
    """Whether the tokenizer lower-cases texts first."""
    normalizer = specials.tokenizer.normalizer
    return normalizer is not None and "A" not in str(normalizer.normalize_str("A"))


def read_weights(folder: Path, whole: nn.Module, tied: TiedHead | None) -> None:
    """Put the weights of a folder that `write_tower` wrote back into a tower, in place.

    Raises:
        ModelError: it is of another tower, or damaged.
    """
    path = folder / ADAPTER_WEIGHTS
    if (folder / ADAPTER_CONFIG).is_file():
        try:
            stored = load_file(path)
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{path} cannot be read ({error}): resume from another checkpoint") from None
        adapters = {
            name.removeprefix(_PREFIX)
            .replace(".lora_A.", ".lora_A.default.")
            .replace(".lora_B.", ".lora_B.default."): value
            for name, value in stored.items()
        }
        mine = {name for name, _ in whole.named_parameters() if ".lora_" in name}
        if set(adapters) != mine:
            name = min(set(adapters) ^ mine)
            raise ModelError(f"{path} is of another tower ({name} is only on one side): is model.base the same?")
        weights: Mapping[str, Tensor] = adapters
    else:
        config = read_config(folder)
        weights = load_model(folder, config, *kind_of(config), torch.float32).state_dict()
    try:
        whole.load_state_dict(weights, strict=False)
        if tied is not None:
            tied.load_state_dict(read_tied_head(folder).state_dict())
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:160]
        raise ModelError(f"{folder} is of another tower ({reason}): is model.base the same?") from None


def write_merged(folder: Path, target: Path, base: str | Path | None = None) -> None:
    """Write a tower as an ordinary model folder, in float32: the sum of adapters and the base's weights.

    Args:
        folder: what `write_tower` wrote, or a release of the authors'.
        target: a folder to write into.
        base: where the base of adapters is, if `adapter_config.json` does not lead to it.

    Raises:
        ModelError: as `DocumentEncoder.load`.
    """
    backbone = load_backbone(folder, base, "cpu", "float32", "auto")
    state = {f"whole.{name}": value for name, value in backbone.whole.state_dict().items()}
    if backbone.tied is not None:
        state |= {f"tied.{name}": value for name, value in backbone.tied.state_dict().items()}
    write_tower(
        target,
        backbone,
        state,
        base=None,
        prompt=backbone.query_prompt,
        top_k=backbone.top_k,
        has_sparse=backbone.head is not None,
    )
