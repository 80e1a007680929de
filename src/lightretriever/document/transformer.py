"""A folder's transformer as transformers loads it, and what its configuration says. Only safetensors are read, and
no code from a folder runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import transformers
from torch import nn
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from lightretriever.document.settings_file import read_object, shown
from lightretriever.errors import ModelError

_MOST_LAYERS = 1000
_LAYER = re.compile(r"(?:^|\.)(?:layers?|h|blocks?|encoder\.layer)\.(\d{1,9})\.")  # where a layer's weights are
# Classes with an MLM head beside another one. (ELECTRA's class of that name has none: it tells tokens apart.)
_PRETRAINING = ("BertForPreTraining", "AlbertForPreTraining", "BigBirdForPreTraining", "MobileBertForPreTraining")


@contextmanager
def quiet(errors: bool = False) -> Iterator[None]:
    """transformers' progress bars, reports and remarks held back, all but its errors where ``errors`` says so: what
    matters in them is checked, or told, by us."""
    logging = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.ERROR if errors else logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def read_config(folder: Path) -> transformers.PretrainedConfig:
    """Its config.json; ModelError for what is no text model that transformers knows, or that would need code of its own
    or another arithmetic.
    """
    file = folder / "config.json"
    if not file.is_file():
        raise ModelError(f"{folder} holds no config.json: it is no model folder, or not complete")
    told = read_object(file)
    if told.get("auto_map"):
        raise ModelError(
            f"{file}: auto_map names code of the model's own, which is never run: use a model of transformers' own "
            "classes (remove auto_map where they are known to compute the same)"
        )
    if told.get("quantization_config"):
        raise ModelError(f"{file}: quantization_config: quantised weights are not supported: fetch whole ones")
    try:
        with quiet():
            config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # every configuration class fails in its own way on values that it does not expect
        raise ModelError(
            f"{folder} is of an architecture that transformers does not know ({one_line(error)})"
        ) from None
    if config.is_encoder_decoder:
        raise ModelError(f"{folder} is an encoder-decoder ({config.model_type}): not supported")
    if not isinstance(getattr(config, "hidden_size", None), int):
        raise ModelError(f"{folder} is no text model that is supported ({config.model_type})")
    names = config.architectures
    if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise ModelError(f"{file}: architectures is {shown(names)}: a list of names is needed")
    layers = getattr(config, "num_hidden_layers", None)
    if isinstance(layers, bool) or not isinstance(layers, int) or not 1 <= layers <= _MOST_LAYERS:
        raise ModelError(f"{file}: the model has {shown(layers)} layers: 1 to {_MOST_LAYERS} are supported")
    return config


def kind_of(config: transformers.PretrainedConfig) -> tuple[bool, bool]:
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


def load_model(
    folder: Path, config: transformers.PretrainedConfig, is_lm: bool, causal: bool, dtype: torch.dtype
) -> nn.Module:
    """The model, with its LM or MLM head where there is one; ModelError where weights are damaged or lacking."""
    loader = transformers.AutoModel
    if is_lm:
        family_is_masked = config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES
        masked = family_is_masked and not causal
        loader = transformers.AutoModelForMaskedLM if masked else transformers.AutoModelForCausalLM
    problem: Exception | None = None
    for attention in ("sdpa", "eager"):  # a few old architectures have no sdpa
        try:
            with quiet():
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
        except Exception as error:  # what a model's class makes of sizes that do not go together is its own affair
            problem = problem or error
    else:
        raise ModelError(f"{folder} cannot be loaded ({one_line(problem)})") from None
    # A pooler is not used here. Any other absent weight would be random.
    missing = sorted(str(name) for name in report["missing_keys"] if "pooler" not in str(name))
    if missing or report["mismatched_keys"]:
        what = (missing or [str(report["mismatched_keys"])])[0]
        raise ModelError(f"{folder} lacks weights of its own architecture ({what}): it is damaged")
    layers = config.num_hidden_layers
    for name in map(str, report["unexpected_keys"]):
        place = _LAYER.search(name)
        if place is not None and int(place[1]) >= layers:
            raise ModelError(f"{folder} holds weights of more layers ({name}) than the {layers} that config.json names")
    return model


def one_line(error: Exception | None) -> str:
    """What an exception says, in one line of bounded length; its kind where it says nothing."""
    return " ".join(str(error).split())[:200] or type(error).__name__


@torch.no_grad()  # not inference mode, whose tensors cannot be trained
def grow(model: nn.Module, rows: int) -> None:
    """Give the embedding matrix rows for every token id, if it has fewer: new ones are the mean of the old.

    The mean, not a draw: loading the same folder twice gives the same vectors.
    """
    old = model.get_input_embeddings().weight.shape[0]  # type: ignore[operator]
    if rows <= old:
        return
    with quiet():
        model.resize_token_embeddings(rows, mean_resizing=False)  # type: ignore[operator]
    for module in (model.get_input_embeddings(), model.get_output_embeddings()):  # type: ignore[operator]
        if module is not None:
            module.weight[old:] = module.weight[:old].float().mean(0).to(module.weight.dtype)
            if getattr(module, "bias", None) is not None:
                module.bias[old:] = 0.0


@torch.no_grad()
def width_of(model: nn.Module) -> int:
    """Dimensions of the hidden states, seen on three tokens and some padding: OPT's last layer may project to others.

    Raises:
        ModelError: it cannot be run, or gives no hidden states.
    """
    ids = torch.zeros(2, 2, dtype=torch.int64, device=next(model.parameters()).device)
    mask = torch.tensor([[1, 1], [1, 0]], device=ids.device)
    try:
        hidden = getattr(model(input_ids=ids, attention_mask=mask), "last_hidden_state", None)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # settings that a model takes and cannot compute with
        raise ModelError(
            f"{type(model).__name__} cannot be run as its config.json has it ({one_line(error)})"
        ) from None
    if hidden is None:
        raise ModelError(f"{type(model).__name__} gives no hidden states: it is no text model that is supported")
    return int(hidden.shape[-1])


@torch.inference_mode()
def leaves_nothing(model: nn.Module) -> bool:
    """Whether a run changes no attribute of any module: RecurrentGemma keeps its state there."""
    before = _attributes(model)
    for width in (3, 5):
        model(input_ids=torch.zeros(2, width, dtype=torch.int64, device=next(model.parameters()).device))
    after = _attributes(model)
    return before.keys() == after.keys() and all(before[place] is after[place] for place in before)


def _attributes(model: nn.Module) -> dict[tuple[str, str], object]:
    return {
        (name, key): value
        for name, module in model.named_modules()
        for held in (vars(module), module._buffers)
        for key, value in held.items()
    }


def position_limit(model: nn.Module) -> int | None:
    """Positions the model knows; RoBERTa's family spends the first few on its padding id."""
    limit = getattr(model.config, "max_position_embeddings", None)
    if not isinstance(limit, int) or limit <= 0:
        return None
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            return limit - (0 if module.padding_idx is None else module.padding_idx + 1)
    return limit
