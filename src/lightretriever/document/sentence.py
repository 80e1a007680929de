"""What a sentence-transformers folder says: where its transformer is, how it pools, what it prompts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from lightretriever.document.pooling import POOLINGS, Pooling
from lightretriever.errors import ModelError

MODULES = "modules.json"
# Two generations of its file format: one switch for each way of pooling, then a name.
_POOLING_SWITCHES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_lasttoken": "lasttoken",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
}


@dataclass(frozen=True, slots=True)
class SentenceFolder:
    """The settings of a sentence-transformers folder.

    Attributes:
        transformer: folder of the transformer itself.
        pooling, normalize: from its modules.
        max_length: tokens it reads, specials included; None where it does not say.
        lowercase: whether it lower-cases before its tokenizer does.
        query_prompt, document_prompt: what it puts before a text; "" for nothing.
    """

    transformer: Path
    pooling: Pooling
    normalize: bool
    max_length: int | None
    lowercase: bool
    query_prompt: str
    document_prompt: str


def read_sentence_folder(folder: Path) -> SentenceFolder:
    """Read `modules.json` and what it points to.

    Raises:
        ModelError: modules other than Transformer, Pooling, Normalize in this order, or another pooling.
    """
    modules = _read(folder / MODULES)
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise ModelError(f"{folder / MODULES} holds no list of modules")
    kinds = [str(module.get("type", "")).rpartition(".")[2] for module in modules]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise ModelError(
            f"{folder / MODULES} chains {', '.join(kinds) or 'nothing'}: only Transformer, Pooling and Normalize "
            "are supported"
        )
    transformer = folder / str(modules[0].get("path", ""))
    settings = _object(transformer / "sentence_bert_config.json")
    if settings.get("transformer_task") not in (None, "feature-extraction"):
        raise ModelError(f"{folder}: a model for {settings['transformer_task']} gives no dense vectors")
    length = settings.get("max_seq_length")
    prompts = _object(folder / "config_sentence_transformers.json").get("prompts")
    prompts = prompts if isinstance(prompts, dict) else {}
    return SentenceFolder(
        transformer=transformer,
        pooling=_pooling(folder / str(modules[1].get("path", "")) / "config.json"),
        normalize=kinds[-1] == "Normalize",
        max_length=length if isinstance(length, int) else None,
        lowercase=bool(settings.get("do_lower_case")),
        query_prompt=str(prompts.get("query") or ""),
        # The names, and their order, that sentence-transformers' encode_document looks for.
        document_prompt=str(next((prompts[key] for key in ("document", "passage", "corpus") if prompts.get(key)), "")),
    )


def _pooling(file: Path) -> Pooling:
    settings = _object(file)
    named = settings.get("pooling_mode")
    if named is None:
        named = [mode for key, mode in _POOLING_SWITCHES.items() if settings.get(key)] or ["mean"]
    modes = [named] if isinstance(named, str) else list(named) if isinstance(named, list) else [str(named)]
    mode = next((pooling for pooling in POOLINGS if modes == [pooling]), None)
    if mode is None:
        raise ModelError(f"{file}: pooling {' + '.join(map(str, modes))} is not supported, only {', '.join(POOLINGS)}")
    if settings.get("include_prompt") is False:
        raise ModelError(f"{file}: a model that leaves its prompt out of the pooling is not supported")
    return mode


def _object(file: Path) -> dict[str, object]:
    if not file.is_file():
        return {}
    found = _read(file)
    if not isinstance(found, dict):
        raise ModelError(f"{file} holds no JSON object")
    return found


def _read(file: Path) -> object:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{file} cannot be read as JSON ({error})") from None
