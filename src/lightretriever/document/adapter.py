"""LoRA adapters, whoever saved them: PEFT, sentence-transformers, the authors (METHOD "Released checkpoints")."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

from lightretriever.document.folder import MINILM, ModelFolder, check_weights, find_folder, find_named
from lightretriever.document.settings_file import read_json, reading, shown
from lightretriever.errors import ModelError

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"

# Fields of adapter_config.json that say how it was trained, or that its weights' own names and shapes say as well.
_WITHOUT_EFFECT = frozenset(
    "auto_mapping base_model_name_or_path bias exclude_modules inference_mode init_lora_weights layers_pattern "
    "layers_to_transform lora_dropout megatron_config megatron_core modules_to_save peft_type peft_version "
    "qalora_group_size r rank_pattern revision target_modules task_type ensure_weight_tying eva_config loftq_config "
    "lora_ga_config corda_config".split()
)
_OBEYED = frozenset(("alpha_pattern", "fan_in_fan_out", "lora_alpha", "use_rslora"))
# How A and B began where the base's own weights were left alone. The others take from these what A and B hold.
_INITIAL = (True, False, None, "gaussian", "eva", "orthogonal")
# What a pattern of module names may be made of, so that matching one takes no time to speak of.
_PLAIN_PATTERN = re.compile(r"(?:\.\*|\\d\+|\\[.d]|[\w.^$|-]|\[[\w-]+\]){1,200}")
_MOST_REPEATS = 3


@dataclass(frozen=True, slots=True)
class Adapter:
    """What `adapter_config.json` says.

    Attributes:
        folder: where it is.
        base: the name of the model that it is for; "" where it does not say.
        revision: which commit of that, where it is on the hub; None for any.
        alpha: of its scale, alpha / r.
        alphas: patterns of module names whose alpha is another.
        rank_stabilised: the scale is alpha / √r.
        transposed: the base's layers keep their weights the other way round (GPT-2's).
    """

    folder: Path
    base: str
    revision: str | None
    alpha: float
    alphas: tuple[tuple[re.Pattern[str], float], ...]
    rank_stabilised: bool
    transposed: bool

    def scale(self, module: str, rank: int) -> float:
        """alpha / r (or alpha / √r), alpha being the module's own where the adapter has a pattern for it."""
        alpha = next((alpha for pattern, alpha in self.alphas if pattern.match(module)), self.alpha)
        return alpha / (rank**0.5 if self.rank_stabilised else rank)


def read_adapter(folder: Path) -> Adapter:
    """Read `adapter_config.json`.

    Raises:
        ModelError: damaged, another kind than plain LoRA, or a field that is not known and set to something.
    """
    file = folder / ADAPTER_CONFIG
    found = read_json(file)
    if not isinstance(found, dict):
        raise ModelError(f"{file} holds no JSON object")
    if found.get("peft_type") != "LORA":
        raise ModelError(f"{file}: only plain LoRA is supported, this is {shown(found.get('peft_type'))}")
    for name, value in found.items():
        if value and name not in _WITHOUT_EFFECT and name not in _OBEYED:
            raise ModelError(f"{file}: only plain LoRA is supported, {name} is {shown(value)}: merge it with peft")
    initial = found.get("init_lora_weights", True)
    if not any(initial is one or initial == one for one in _INITIAL):
        raise ModelError(
            f"{file}: init_lora_weights is {shown(initial)}, which changes the base's weights too: merge it with peft"
        )
    base, revision = found.get("base_model_name_or_path"), found.get("revision")
    for name, value in (("base_model_name_or_path", base), ("revision", revision)):
        if value is not None and not isinstance(value, str):
            raise ModelError(f"{file}: {name} is {shown(value)}: a name is needed")
    with reading(file):
        return Adapter(
            folder=folder,
            base=base or "",
            revision=revision or None,
            alpha=_alpha(found["lora_alpha"], "lora_alpha", file),
            alphas=_alphas(found.get("alpha_pattern") or {}, file),
            rank_stabilised=bool(found.get("use_rslora")),
            transposed=bool(found.get("fan_in_fan_out")),
        )


def _alpha(value: object, name: str, file: Path) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e6:
        raise ModelError(f"{file}: {name} is {shown(value)}: a number is needed")
    return float(value)


def _alphas(found: object, file: Path) -> tuple[tuple[re.Pattern[str], float], ...]:
    if not isinstance(found, dict):
        raise ModelError(f"{file}: alpha_pattern is {shown(found)}: an object is needed")
    for pattern in found:
        if not _PLAIN_PATTERN.fullmatch(pattern) or pattern.count("*") + pattern.count("+") > _MOST_REPEATS:
            raise ModelError(f"{file}: alpha_pattern has {shown(pattern)}: only plain patterns of names are supported")
    return tuple(
        (re.compile(rf"(.*\.)?({pattern})$"), _alpha(value, "alpha_pattern", file)) for pattern, value in found.items()
    )


def find_base(adapter: Adapter, folder: ModelFolder, base: str | Path | None) -> ModelFolder:
    """The model that an adapter is for: as told, or by the name it gives.

    A name is a path from the adapter's folder, or from the one around it, where that leads to a model; an absolute
    path; or else a name on the hub. What the working directory holds does not matter.

    Raises:
        ModelError: none is found.
    """
    told = f"{folder.name} is LoRA weights for the base model {shown(adapter.base)}"
    way_out = "say where that is with --base (base=)"
    if base is not None:
        return find_folder(base, f": {told}; {way_out}")
    if not adapter.base:
        raise ModelError(f"{adapter.folder / ADAPTER_CONFIG} names no base model: {told}; {way_out}")
    if adapter.base == MINILM or adapter.base.startswith("~"):
        return find_folder(adapter.base, f": {told}; {way_out}")
    with reading(adapter.folder / ADAPTER_CONFIG):  # a name may be none that a file can have
        for start in (adapter.folder, adapter.folder.parent, folder.path, folder.path.parent):
            place = start / adapter.base  # an absolute path stays what it is
            if any((place / file).is_file() for file in ("config.json", "modules.json")):
                return find_folder(place)
    return find_named(adapter.base, f": {told}, which is neither in nor beside its folder; {way_out}", adapter.revision)


@torch.inference_mode()
def merge_adapter(model: nn.Module, adapter: Adapter) -> None:
    """Add LoRA weights to the base model, in place: W += (alpha / r)·B·A, computed in float32.

    The names inside are those of the class that was trained, with an LM head or without; both are understood. Whole
    ``embed_tokens`` or ``lm_head`` weights, there when the vocabulary grew, replace the base's. Merging ourselves
    keeps the sum in float32 when the model is bfloat16, and leaves no weight unused without a word.

    Raises:
        ModelError: an adapter that does not fit this base, or weights only as a pickle.
    """
    path = next(iter(check_weights(adapter.folder, (ADAPTER_WEIGHTS,))))
    weights = _load(path)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    prefix = f"{model.base_model_prefix}."
    for name, weight in weights.items():
        place = name.removeprefix("base_model.model.")
        if place.endswith(".lora_B.weight"):
            if name.replace(".lora_B.", ".lora_A.") not in weights:
                raise ModelError(f"{path}: {name} has no lora_A beside it: the adapter is damaged")
            continue  # taken with its A
        is_pair = place.endswith(".lora_A.weight")
        target = place.replace(".lora_A.weight", ".weight")
        # With or without the LM class's name for its backbone, whichever of the two was loaded.
        names = (target, prefix + target, target.removeprefix(prefix))
        owner = next((key for key in names if key in parameters), None)
        if owner is None and place.endswith(".bias"):  # of a layer that has an A and a B too
            raise ModelError(f"{path}: {name}: biases in adapters are not supported: merge it with peft")
        if owner is None:
            raise ModelError(f"{path}: {name} has no place in {type(model).__name__}: is the base model right?")
        parameter = parameters[owner]
        value = weight.float()
        if is_pair:
            high = weights.get(name.replace(".lora_A.", ".lora_B."))
            if high is None or weight.dim() != 2 or high.dim() != 2 or high.shape[1] != len(weight) or not len(weight):
                raise ModelError(f"{path}: {name} has no lora_B of its rank beside it: the adapter is damaged")
            value = (high.float() @ value) * adapter.scale(target.removesuffix(".weight"), len(weight))
            value = value.T if adapter.transposed else value
        if value.shape != parameter.shape:
            raise ModelError(
                f"{path}: {name} does not fit the base model "
                f"({list(value.shape)} where it has {list(parameter.shape)}): is the base model right?"
            )
        parameter.copy_(parameter.float() + value if is_pair else value)


def _load(path: Path) -> Mapping[str, Tensor]:
    with reading(path), safe_open(path, framework="pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for name, weight in weights.items():
        if not weight.is_floating_point():
            raise ModelError(f"{path}: {name} holds {weight.dtype}, no floating-point numbers: the adapter is damaged")
    if not weights:
        raise ModelError(f"{path} holds no weights: the adapter is damaged")
    return weights


def adapter_rows(adapter: Adapter) -> int:
    """Rows of the embedding matrix that an adapter brings along, 0 where it brings none.

    Raises:
        ModelError: its weights cannot be read.
    """
    path = adapter.folder / ADAPTER_WEIGHTS
    if not path.is_file():
        return 0
    with reading(path), safe_open(path, framework="np") as file:
        names = [name for name in file.keys() if name.endswith(("embed_tokens.weight", "lm_head.weight"))]  # noqa: SIM118
        return max((file.get_slice(name).get_shape()[0] for name in names), default=0)
