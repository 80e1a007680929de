"""What a sentence-transformers folder says: where its transformer is, how it pools, what it prompts.

What would change its vectors is obeyed or refused by name; `sentence_transformers` itself is never imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from lightretriever.document.pooling import POOLINGS, Pooling
from lightretriever.document.settings_file import read_json, read_object, shown, whole_number
from lightretriever.errors import ModelError

MODULES = "modules.json"
PROMPTS = "config_sentence_transformers.json"
# The names of its transformer's settings that sentence-transformers looks for, in its order.
SETTINGS = [
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
]
# Where each module's class has been, from the first versions on. A class of the same name from elsewhere is another.
_HOMES: Mapping[str, tuple[str, ...]] = {
    "Transformer": ("models", "models.Transformer", "base.modules", "base.modules.transformer"),
    "Pooling": ("models", "models.Pooling", "sentence_transformer.modules", "sentence_transformer.modules.pooling"),
    "Normalize": ("models", "models.Normalize", "base.modules", "base.modules.normalize"),
}
_CHAINS = (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"])
# Two generations of its file format: one switch for each way of pooling, then a name.
_POOLING_SWITCHES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_lasttoken": "lasttoken",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
}
_POOLING_SETTINGS = {*_POOLING_SWITCHES, "pooling_mode", "include_prompt", "word_embedding_dimension"}
_POOLING_SETTINGS.add("embedding_dimension")
# Of a transformer's settings, those that are obeyed, or leave a text's vector as it is.
_SETTINGS = {"max_seq_length", "do_lower_case", "transformer_task", "modality_config", "module_output_name"}
_SETTINGS |= {"unpad_inputs"}
_ARGUMENTS = ("model_args", "model_kwargs", "tokenizer_args", "processor_kwargs", "config_args", "config_kwargs")
# What may be handed on to transformers when it loads, without a vector being another.
_HARMLESS = {"torch_dtype", "dtype", "attn_implementation", "trust_remote_code", "use_safetensors", "low_cpu_mem_usage"}
_HARMLESS |= {"add_pooling_layer", "use_fast", "use_cache", "cache_dir", "local_files_only", "token", "padding_side"}
_TEXT = {"method": "forward", "method_output_name": "last_hidden_state"}


@dataclass(frozen=True, slots=True)
class SentenceFolder:
    """The settings of a sentence-transformers folder.

    Attributes:
        transformer: folder of the transformer itself.
        parts: the subfolders that decide its vectors, "" for itself, the transformer's first.
        pooling, normalize: from its modules.
        dim: first dimensions kept (``truncate_dim``), None for all.
        max_length: tokens it reads, specials included; None where it does not say.
        lowercase: whether it lower-cases before its tokenizer does.
        query_prompt, document_prompt: what it puts before a text; "" for nothing.
    """

    transformer: Path
    parts: tuple[str, ...]
    pooling: Pooling
    normalize: bool
    dim: int | None
    max_length: int | None
    lowercase: bool
    query_prompt: str
    document_prompt: str


def read_sentence_folder(folder: Path) -> SentenceFolder:
    """Read `modules.json` and what it points to.

    Raises:
        ModelError: modules other than the stock Transformer, Pooling, Normalize in this order, another pooling, or a
            setting that would change the vectors and is not obeyed here.
    """
    kinds, places = _modules(folder / MODULES)
    if kinds not in _CHAINS:
        raise ModelError(
            f"{folder / MODULES} chains {', '.join(kinds) or 'nothing'}: only Transformer, Pooling and Normalize "
            "of sentence_transformers are supported"
        )
    inner, pooling = places[:2]
    transformer = folder / inner
    settings = _settings(transformer)
    whole = read_object(folder / PROMPTS)
    normalize = kinds[-1] == "Normalize"
    _check_whole(whole, normalize, folder / PROMPTS)
    _check_truncation(transformer / "tokenizer_config.json")
    return SentenceFolder(
        transformer=transformer,
        parts=tuple(dict.fromkeys((inner, "", pooling))),
        pooling=_pooling(folder / pooling / "config.json"),
        normalize=normalize,
        dim=whole_number(whole, "truncate_dim", folder / PROMPTS),
        max_length=read_max_length(transformer),
        lowercase=bool(settings.get("do_lower_case")),
        query_prompt=read_prompt(folder, "query") or "",
        # Its encode_document would also look for "passage" and "corpus", but every loaded model has a "document".
        document_prompt=read_prompt(folder, "document") or "",
    )


def _modules(file: Path) -> tuple[list[str], list[str]]:
    """What each module is, by its own name where it is a stock one, and its folder's name."""
    modules = read_json(file)
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise ModelError(f"{file} holds no list of modules")
    kinds, places = [], []
    for module in modules:
        kind, place = module.get("type", ""), module.get("path", "")
        if not isinstance(kind, str) or not isinstance(place, str):
            raise ModelError(f"{file}: a module has {shown({'type': kind, 'path': place})}: two strings are needed")
        parts = PureWindowsPath(place)  # which knows the marks of both kinds of path
        if parts.anchor or ".." in parts.parts or "\0" in place:
            raise ModelError(f"{file}: the path {shown(place)} leads out of the folder")
        home, _, name = kind.rpartition(".")
        is_stock = home.removeprefix("sentence_transformers.") in _HOMES.get(name, ()) and home.count(".")
        # The first versions wrote the file that a class is in, which has the class's name.
        kinds.append(name if is_stock else kind)
        places.append(place)
    return kinds, places


def _check_whole(whole: Mapping[str, object], normalize: bool, file: Path) -> None:
    """Refuse, of `config_sentence_transformers.json`, what says that vectors are made or compared in another way."""
    model_type = whole.get("model_type") or "SentenceTransformer"
    if model_type != "SentenceTransformer":
        raise ModelError(f"{file}: model_type is {shown(model_type)}: it gives no dense vectors of texts")
    similarity = whole.get("similarity_fn_name") or "cosine"
    if similarity != "cosine" and not (normalize and similarity in ("dot", "euclidean")):  # of unit vectors, the same
        raise ModelError(
            f"{file}: similarity_fn_name is {shown(similarity)}: documents are compared by cosine here, which ranks "
            "them otherwise; use a model with cosine, or one that ends with Normalize"
        )
    name, prompts = whole.get("default_prompt_name"), whole.get("prompts")
    known = {"query", "document", *(prompts if isinstance(prompts, dict) else ())}
    if name is not None and (not isinstance(name, str) or name not in known):
        raise ModelError(f"{file}: default_prompt_name is {shown(name)}, which is none of its prompts")


def read_prompt(folder: Path, name: str) -> str | None:
    """What `config_sentence_transformers.json` puts before a text of this kind; None where it names no such prompt.

    Raises:
        ModelError: damaged, or a prompt that is no text.
    """
    prompts = read_object(folder / PROMPTS).get("prompts")
    if prompts is None:
        return None
    prompt = prompts.get(name) if isinstance(prompts, dict) else prompts
    if prompt is not None and not isinstance(prompt, str):
        raise ModelError(f"{folder / PROMPTS}: prompts has {shown(prompt)}: texts by name are needed")
    return prompt


def _check_truncation(file: Path) -> None:
    """Refuse a tokenizer that leaves out the beginning of a long text: here the end is left out."""
    side = read_object(file).get("truncation_side")
    if side not in (None, "right"):
        raise ModelError(f"{file}: truncation_side is {shown(side)}: only texts cut at their end are supported")


def read_max_length(folder: Path) -> int | None:
    """Tokens that a transformer's folder says are read, specials included; None where it does not say.

    Raises:
        ModelError: damaged, or no number.
    """
    file, settings = _settings_file(folder), _settings(folder)
    length = whole_number(settings, "max_seq_length", file)
    if length is not None:
        return length
    limit = read_object(folder / "tokenizer_config.json").get("model_max_length")
    return limit if isinstance(limit, int) and 0 < limit < 1 << 31 else None  # 10**30 stands for none


def _settings_file(transformer: Path) -> Path:
    named = [transformer / name for name in SETTINGS]
    return next((file for file in named if file.is_file()), named[0])


def _settings(transformer: Path) -> dict[str, object]:
    """The transformer's own settings, none of which would change a text's vector without being obeyed."""
    file = _settings_file(transformer)
    settings = read_object(file)
    for name in _ARGUMENTS:
        given = settings.get(name) or {}
        other = sorted(set(given) - _HARMLESS) if isinstance(given, dict) else [given]
        if other:
            raise ModelError(f"{file}: {name} sets {shown(other[0])}, which is not supported")
    for name, value in settings.items():
        if name not in _SETTINGS and name not in _ARGUMENTS and value:
            raise ModelError(f"{file}: {name} is {shown(value)}, which is not supported")
    task = settings.get("transformer_task")
    if task not in (None, "feature-extraction"):
        raise ModelError(f"{file}: a model for {shown(task)} gives no dense vectors")
    ways = settings.get("modality_config") or {"text": _TEXT}
    text = ways.get("text") if isinstance(ways, dict) else None
    if not isinstance(text, dict) or any(text.get(key) != value for key, value in _TEXT.items()):
        raise ModelError(f"{file}: modality_config is {shown(ways)}: only text through forward is supported")
    if (settings.get("module_output_name") or "token_embeddings") != "token_embeddings":
        raise ModelError(f"{file}: module_output_name is {shown(settings['module_output_name'])}: not supported")
    if not isinstance(settings.get("do_lower_case", False), bool | None):
        raise ModelError(f"{file}: do_lower_case is {shown(settings['do_lower_case'])}: true or false is needed")
    return settings


def _pooling(file: Path) -> Pooling:
    if not file.is_file():
        raise ModelError(f"{file} does not exist: it says how the model pools")
    settings = read_object(file)
    for name, value in settings.items():
        if name not in _POOLING_SETTINGS and value:
            raise ModelError(f"{file}: {name} is {shown(value)}, which is not supported")
    named = settings.get("pooling_mode")
    if named is None:
        named = [mode for key, mode in _POOLING_SWITCHES.items() if settings.get(key)] or ["mean"]
    modes = [named] if isinstance(named, str) else list(named) if isinstance(named, list) else [str(named)]
    mode = next((pooling for pooling in POOLINGS if modes == [pooling]), None)
    if mode is None:
        names = shown(" + ".join(map(str, modes)))
        raise ModelError(f"{file}: pooling {names} is not supported, only {', '.join(POOLINGS)}")
    if settings.get("include_prompt", True) is not True:
        raise ModelError(f"{file}: a model that leaves its prompt out of the pooling is not supported")
    return mode
