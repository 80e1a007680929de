"""The authors' release format: LoRA weights merged into their base (METHOD "Released checkpoints")."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml  # type: ignore[import-untyped]
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from lightretriever.document.folder import ModelFolder, check_weights, find_folder
from lightretriever.document.pooling import POOLINGS, Pooling
from lightretriever.errors import ModelError

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
SWITCHES = "model_args.yaml"

# Switches that change the vectors in ways that METHOD does not have; the values under which they do not.
_UNSUPPORTED: Mapping[str, tuple[object, ...]] = {
    "add_pooler": (False,),
    "add_pooling_token_num": (-1, 0),
    "cumulative_seq": (False,),
    "enable_bidirectional_attention": (False,),
    "projection_out_dim": (None,),
    "projection_out_dim_psg": (None,),
    "sparse_pool_from_original_input_ids_psg": (False,),
    "sparse_use_log_saturation": (True,),
    "sparse_use_max_aggregation": (True,),
    "sparse_use_relu": (True,),
    "use_icu_word_pretokenizer": (False,),
    "use_sparse_down_projector": (False,),
    "use_sparse_linear_projector": (False,),
}
# What plain LoRA leaves unset in adapter_config.json; the rest would need other arithmetic than B·A.
_OTHER_ADAPTERS = (
    "use_dora",
    "use_qalora",
    "use_bdlora",
    "lora_bias",
    "trainable_token_indices",
    "alora_invocation_tokens",
)


@dataclass(frozen=True, slots=True)
class Switches:
    """What `model_args.yaml` says about a document's vectors; the defaults are METHOD's.

    Attributes:
        pooling: of the dense vector.
        normalize: whether it is scaled to unit length.
        lowercase: of the tokenizer.
        edit_specials: whether it is edited to write ``bos? A eos``, or puts around a text what it always did.
        add_bos: whether there is a bos then.
        has_sparse: whether the model was trained for a sparse vector too.
        top_k: entries kept of it; None for all.
        dim: first dimensions kept of the dense vector; None for all.
    """

    pooling: Pooling = "lasttoken"
    normalize: bool = True
    lowercase: bool = True
    edit_specials: bool = True
    add_bos: bool = True
    has_sparse: bool = True
    top_k: int | None = None
    dim: int | None = None


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Whatever reading a damaged file raises, as one ModelError that names the file."""
    try:
        yield
    except (SafetensorError, yaml.YAMLError, OSError, ValueError, TypeError, LookupError, re.error) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:160]
        raise ModelError(f"{file} cannot be read, it is damaged or of another kind ({reason})") from None


def read_switches(folder: Path) -> Switches:
    """Read `model_args.yaml`; METHOD's defaults where there is none.

    Raises:
        ModelError: not a flat list, or a switch set to what METHOD does not have.
    """
    file = folder / SWITCHES
    if not file.is_file():
        return Switches()
    with _reading(file):
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise ModelError(f"{file} holds no list of switches")
    for name, allowed in _UNSUPPORTED.items():
        if name in found and found[name] not in allowed:
            raise ModelError(f"{file}: {name}: {found[name]} is not supported; load another release")
    pooling = found.get("pooling_strategy_psg") or found.get("pooling_strategy") or "lasttoken"
    if pooling not in POOLINGS:
        raise ModelError(f"{file}: pooling {pooling!r} is not supported, only {', '.join(POOLINGS)}")
    edit_specials = bool(found.get("edit_tokenizer_post_processor", True))  # without it the counts mean nothing
    if edit_specials and (found.get("add_bos_num", 1) not in (0, 1) or found.get("add_eos_num", 1) != 1):
        raise ModelError(f"{file}: only one begin token, or none, and one end token are supported")
    with _reading(file):
        return Switches(
            pooling=pooling,
            normalize=bool(found.get("normalize", True)),
            lowercase=bool(found.get("lowercase", True)),
            edit_specials=edit_specials,
            add_bos=found.get("add_bos_num", 1) == 1,
            has_sparse=bool(found.get("hybrid_use_token_id_vector", True) or found.get("hybrid_use_sparse_vector")),
            top_k=int(found.get("sparse_top_k_psg") or 0) or None,
            dim=int(found.get("dense_shrink_dim") or 0) or None,
        )


def find_base(release: ModelFolder, base: str | Path | None) -> ModelFolder:
    """The model that a release's LoRA weights are for: as told, beside the release, or by the name it gives.

    Raises:
        ModelError: none is found.
    """
    named = _adapter_config(release.path).get("base_model_name_or_path")
    hint = f": {release.path.name} is LoRA weights for the base model {named!r}; say where that is with --base (base=)"
    if base is not None:
        return find_folder(base, hint)
    if not isinstance(named, str) or not named:
        raise ModelError(f"{release.path / ADAPTER_CONFIG} names no base model{hint}")
    for place in (release.path.parent / named, Path(named)):
        if (place / "config.json").is_file():
            return find_folder(place)
    return find_folder(named, hint)


def _adapter_config(folder: Path) -> dict[str, object]:
    file = folder / ADAPTER_CONFIG
    with _reading(file):
        found = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise ModelError(f"{file} holds no JSON object")
    return found


@torch.inference_mode()
def merge_adapter(model: nn.Module, folder: Path) -> None:
    """Add a release's LoRA weights to the base model, in place: W += (alpha / r)·B·A, computed in float32.

    The names inside are those of the causal LM class whatever ``task_type`` says; names of the bare backbone are
    understood too. Whole ``embed_tokens`` or ``lm_head`` weights, there when the vocabulary grew, replace the
    base's. Merging ourselves keeps the sum in float32 when the model is bfloat16, and leaves no weight unused
    without a word.

    Raises:
        ModelError: an adapter of another kind, one that does not fit this base, or weights only as a pickle.
    """
    config = _adapter_config(folder)
    if config.get("peft_type") != "LORA" or any(config.get(name) for name in _OTHER_ADAPTERS):
        raise ModelError(f"{folder / ADAPTER_CONFIG}: only plain LoRA is supported")
    path = next(iter(check_weights(folder, (ADAPTER_WEIGHTS,))))
    with _reading(path), safe_open(path, framework="pt") as file:
        weights: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118

    parameters = dict(model.named_parameters(remove_duplicate=False))
    prefix = f"{model.base_model_prefix}."
    for name, weight in weights.items():
        place = name.removeprefix("base_model.model.")
        if place.endswith(".lora_B.weight"):
            continue  # taken with its A
        is_pair = place.endswith(".lora_A.weight")
        target = place.replace(".lora_A.weight", ".weight")
        # With or without the LM class's name for its backbone, whichever of the two was loaded.
        names = (target, prefix + target, target.removeprefix(prefix))
        owner = next((key for key in names if key in parameters), None)
        if owner is None:
            raise ModelError(f"{path}: {name} has no place in {type(model).__name__}: is the base model right?")
        parameter = parameters[owner]
        if is_pair:
            high = weights.get(name.replace(".lora_A.", ".lora_B."))
            if high is None or high.shape[1:] != weight.shape[:1]:
                raise ModelError(f"{path}: {name} has no lora_B of its rank beside it: the release is damaged")
            with _reading(folder / ADAPTER_CONFIG):
                scale = _scale(config, target.removesuffix(".weight"), len(weight))
            value = (high.float() @ weight.float()) * scale
            # GPT-2's Conv1D keeps its weight the other way round.
            value = value.T if config.get("fan_in_fan_out") else value
        else:
            value = weight.float()
        if value.shape != parameter.shape:
            raise ModelError(
                f"{path}: {name} does not fit the base model "
                f"({list(value.shape)} where it has {list(parameter.shape)}): is the base model right?"
            )
        parameter.copy_(parameter.float() + value if is_pair else value)


def _scale(config: Mapping[str, object], module: str, rank: int) -> float:
    """alpha / r (or alpha / √r), alpha being the module's own where the adapter has a pattern for it."""
    alpha = float(config["lora_alpha"])  # type: ignore[arg-type]
    patterns = config.get("alpha_pattern")
    for pattern, value in (patterns if isinstance(patterns, dict) else {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            alpha = float(value)
            break
    return alpha / (rank**0.5 if config.get("use_rslora") else rank)


def adapter_rows(folder: Path) -> int:
    """Rows of the embedding matrix that a release brings along, 0 where it brings none.

    Raises:
        ModelError: its weights cannot be read.
    """
    path = folder / ADAPTER_WEIGHTS
    if not path.is_file():
        return 0
    with _reading(path), safe_open(path, framework="np") as file:
        names = [name for name in file.keys() if name.endswith(("embed_tokens.weight", "lm_head.weight"))]  # noqa: SIM118
        return max((file.get_slice(name).get_shape()[0] for name in names), default=0)
