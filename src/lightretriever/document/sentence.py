"""What a sentence-transformers folder says: where its transformer is, how it pools, what it prompts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from lightretriever.document.pooling import POOLINGS, Pooling
from lightretriever.errors import ModelError

MODULES = "modules.json"
PROMPTS = "config_sentence_transformers.json"
# The names of its transformer's settings that sentence-transformers looks for, in its order.
SETTINGS = [
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
]
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
        parts: the subfolders that decide its vectors, "" for itself, the transformer's first.
        pooling, normalize: from its modules.
        max_length: tokens it reads, specials included; None where it does not say.
        lowercase: whether it lower-cases before its tokenizer does.
        query_prompt, document_prompt: what it puts before a text; "" for nothing.
    """

    transformer: Path
    parts: tuple[str, ...]
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
    inner, pooling = (str(module.get("path", "")) for module in modules[:2])
    transformer = folder / inner
    settings = _settings(transformer)
    if settings.get("transformer_task") not in (None, "feature-extraction"):
        raise ModelError(f"{folder}: a model for {settings['transformer_task']} gives no dense vectors")
    prompts = _object(folder / PROMPTS).get("prompts")
    prompts = prompts if isinstance(prompts, dict) else {}
    return SentenceFolder(
        transformer=transformer,
        parts=tuple(dict.fromkeys((inner, "", pooling))),
        pooling=_pooling(folder / pooling / "config.json"),
        normalize=kinds[-1] == "Normalize",
        max_length=_max_length(settings),
        lowercase=bool(settings.get("do_lower_case")),
        query_prompt=str(prompts.get("query") or ""),
        # The names, and their order, that sentence-transformers' encode_document looks for.
        document_prompt=str(next((prompts[key] for key in ("document", "passage", "corpus") if prompts.get(key)), "")),
    )


def read_prompt(folder: Path, name: str) -> str | None:
    """What `config_sentence_transformers.json` puts before a text of this kind; None where it names no such prompt."""
    prompts = _object(folder / PROMPTS).get("prompts")
    prompt = prompts.get(name) if isinstance(prompts, dict) else None
    return prompt if isinstance(prompt, str) else None


def read_max_length(folder: Path) -> int | None:
    """Tokens that a transformer's folder says are read, specials included; None where it does not say."""
    return _max_length(_settings(folder))


def _settings(transformer: Path) -> dict[str, object]:
    named = [transformer / name for name in SETTINGS]
    return _object(next((file for file in named if file.is_file()), named[0]))


def _max_length(settings: dict[str, object]) -> int | None:
    length = settings.get("max_seq_length")
    return length if isinstance(length, int) else None


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
