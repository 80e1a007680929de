"""`model_args.yaml`, the switches of the authors' releases: what each means for the vectors, all of them listed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import yaml  # type: ignore[import-untyped]

from lightretriever.document.pooling import POOLINGS, Pooling
from lightretriever.document.settings_file import read_text, reading, shown
from lightretriever.document.sparse import MIN_TOP_K
from lightretriever.errors import ModelError

SWITCHES = "model_args.yaml"

# Change the vectors in ways that METHOD does not have; the values under which they do not.
_FIXED: Mapping[str, tuple[object, ...]] = {
    "add_pooler": (False,),
    "add_pooling_token_num": (-1, 0),
    "enable_bidirectional_attention": (False,),
    "hybrid_model_architecture": ("gpt", "bert"),
    "model_type": ("HybridModel", "EncoderModel"),
    "noncontextual_prompt_prefix": ("",),
    "projection_in_dim": (),
    "projection_in_dim_psg": (),
    "projection_in_dim_qry": (),
    "projection_out_dim": (),
    "projection_out_dim_psg": (),
    "projection_out_dim_qry": (),
    "score_function": ("cos_sim", "dot"),
    "sparse_pool_from_original_input_ids": (False,),
    "sparse_pool_from_original_input_ids_psg": (False,),
    "sparse_pool_from_unique_token_ids": (False,),
    "sparse_pooling_strategy": (),
    "sparse_remove_stopwords": (False,),
    "sparse_use_log_saturation": (True,),
    "sparse_use_max_aggregation": (True,),
    "sparse_use_relu": (True,),
    "sparsify_bias": (0,),
    "token_id_vector_type": ("sum", "bow"),
    "untie_encoder": (False,),
    "use_icu_word_pretokenizer": (False,),
    "use_sparse_down_projector": (False,),
    "use_sparse_linear_projector": (False,),
}
_YES_OR_NO = (
    "edit_tokenizer_normalizers",
    "edit_tokenizer_post_processor",
    "hybrid_use_dense_vector",
    "hybrid_use_emb_vector",
    "hybrid_use_sparse_vector",
    "hybrid_use_token_id_vector",
    "lowercase",
    "noncontextual_query_embedding",
    "normalize",
)
_NUMBERS = (
    "add_bos_num",
    "add_eos_num",
    "dense_shrink_dim",
    "sparse_min_tokens_to_keep",
    "sparse_top_k_psg",
    "sparse_top_p_psg",
)
_POOLINGS = ("pooling_strategy", "pooling_strategy_psg", "pooling_strategy_qry")
# Where a model came from, how it was run, what its tokenizer's file says as well, and what only a full model's sparse
# query has, which is not computed here. `cumulative_seq` packs sequences without padding: the vectors are the same.
_WITHOUT_EFFECT = (
    "add_pad_token",
    "add_sep_token",
    "cache_dir",
    "config_name",
    "cumulative_seq",
    "liger_kernel",
    "model_name_or_path",
    "model_name_or_path_psg",
    "model_name_or_path_qry",
    "pad_to_multiple_of",
    "pad_token",
    "sep_token",
    "sparse_pool_from_original_input_ids_qry",
    "sparse_top_k_qry",
    "sparse_top_p_qry",
    "tokenizer_name",
    "use_fast_tokenizer",
)
KNOWN = frozenset((*_FIXED, *_YES_OR_NO, *_NUMBERS, *_POOLINGS, *_WITHOUT_EFFECT))
"""Every switch that the authors' code has had."""


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
        counts: how the tokens of a sparse query count: "sum", or "bow" for each once.
        architecture: "gpt" or "bert", what kind of base model it is for; "" where it does not say.
    """

    pooling: Pooling = "lasttoken"
    normalize: bool = True
    lowercase: bool = True
    edit_specials: bool = True
    add_bos: bool = True
    has_sparse: bool = True
    top_k: int | None = None
    dim: int | None = None
    counts: str = "sum"
    architecture: str = ""


def read_switches(folder: Path) -> Switches:
    """Read `model_args.yaml`.

    Raises:
        ModelError: not a flat list, a switch that is not known, or one set to what METHOD does not have.
    """
    file = folder / SWITCHES
    found = _read_flat(file)
    for name in found:
        if name not in KNOWN:
            close = get_close_matches(name, KNOWN, 1)
            hint = f"did you mean {close[0]}?" if close else "remove it if it changes no vector"
            raise ModelError(f"{file}: {name} is no switch that is known: {hint}")
    given = {name: value for name, value in found.items() if value is not None}
    for name, allowed in _FIXED.items():
        if name in given and not _is_among(given[name], allowed):
            raise _unsupported(file, name, given[name])
    for names, kind, wanted in ((_YES_OR_NO, bool, "true or false"), (_NUMBERS, (int, float), "a number")):
        for name in names:
            value = given.get(name)
            if value is not None and (not isinstance(value, kind) or (kind is not bool and isinstance(value, bool))):
                raise ModelError(f"{file}: {name} is {shown(value)}: {wanted} is needed")
    return _switches(given, file)


def _switches(given: Mapping[str, object], file: Path) -> Switches:
    is_dense_only = given.get("model_type") == "EncoderModel"
    dense = ("hybrid_use_dense_vector", "hybrid_use_emb_vector")
    if not is_dense_only and not any(given.get(name, True) for name in dense):
        raise ModelError(f"{file}: neither {' nor '.join(dense)} is true: the model gives no dense vectors")
    has_lookup = not is_dense_only and given.get("hybrid_use_emb_vector", True)
    if has_lookup and given.get("noncontextual_query_embedding", True) is False:
        raise _unsupported(file, "noncontextual_query_embedding", False)
    top_p = given.get("sparse_top_p_psg", 1)
    if isinstance(top_p, int | float) and 0 < top_p < 1:
        raise _unsupported(file, "sparse_top_p_psg", top_p)
    normalize = given.get("normalize", given.get("score_function", "cos_sim") == "cos_sim")
    if "score_function" in given and normalize != (given["score_function"] == "cos_sim"):
        raise ModelError(f"{file}: normalize: {normalize} contradicts score_function: {given['score_function']}")
    edit_specials = bool(given.get("edit_tokenizer_post_processor", True))  # without it the counts mean nothing
    bos, eos = given.get("add_bos_num", 1), given.get("add_eos_num", 1)
    if edit_specials and (bos not in (0, 1) or eos != 1):
        raise ModelError(f"{file}: only one begin token, or none, and one end token are supported")
    return Switches(
        pooling=_pooling(given, file),
        normalize=bool(normalize),
        # Their code lower-cases only where it may edit the normalizers.
        lowercase=bool(given.get("lowercase", True) and given.get("edit_tokenizer_normalizers", True)),
        edit_specials=edit_specials,
        add_bos=bos == 1,
        has_sparse=not is_dense_only
        and bool(given.get("hybrid_use_token_id_vector", True) or given.get("hybrid_use_sparse_vector")),
        top_k=_top_k(given, file),
        dim=_count(given, "dense_shrink_dim", file) or None,
        counts=str(given.get("token_id_vector_type", "sum")),
        architecture=str(given.get("hybrid_model_architecture", "")) if not is_dense_only else "",
    )


def _pooling(given: Mapping[str, object], file: Path) -> Pooling:
    found = {given[name]: name for name in _POOLINGS if isinstance(given.get(name), str)} or {"lasttoken": ""}
    if len(found) > 1:
        raise ModelError(f"{file}: {', '.join(f'{name}: {value}' for value, name in found.items())}: they must agree")
    pooling = next((mode for mode in POOLINGS if mode in found), None)
    if pooling is None or any(name in given and not isinstance(given[name], str) for name in _POOLINGS):
        value = next(given[name] for name in _POOLINGS if name in given)
        raise ModelError(f"{file}: pooling {shown(value)} is not supported, only {', '.join(POOLINGS)}")
    return pooling


def _top_k(given: Mapping[str, object], file: Path) -> int | None:
    """Entries kept of a sparse vector: at least `MIN_TOP_K`, as many as their code keeps at least by default."""
    top_k, least = _count(given, "sparse_top_k_psg", file), _count(given, "sparse_min_tokens_to_keep", file, MIN_TOP_K)
    if not top_k:
        return None
    if max(top_k, least) < MIN_TOP_K:
        raise ModelError(
            f"{file}: sparse_top_k_psg: {top_k} with sparse_min_tokens_to_keep: {least} is not supported: at least "
            f"{MIN_TOP_K} entries of a sparse vector are kept"
        )
    return max(top_k, least)


def _count(given: Mapping[str, object], name: str, file: Path, default: int = 0) -> int:
    value = given.get(name, default)
    if not isinstance(value, int) or value >= 1 << 31:
        raise ModelError(f"{file}: {name} is {shown(value)}: a whole number is needed")
    return max(value, 0)


def _is_among(value: object, allowed: tuple[object, ...]) -> bool:
    """Whether a value is one of these, 0 and false told apart but 0 and 0.0 not."""
    return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in allowed)


def _unsupported(file: Path, name: str, value: object) -> ModelError:
    return ModelError(f"{file}: {name}: {shown(value)} is not supported: load another release")


def _read_flat(file: Path) -> dict[str, object]:
    """A YAML file of names and plain values; nothing nested, referred to or tagged, so nothing can grow."""
    text = read_text(file)
    with reading(file):
        depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            tagged = isinstance(event, yaml.NodeEvent) and (event.anchor or getattr(event, "tag", None))
            if depth > 2 or tagged or isinstance(event, yaml.AliasEvent):
                raise ModelError(f"{file} holds no list of switches: line {event.start_mark.line + 1} nests or refers")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        found = yaml.safe_load(text)
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise ModelError(f"{file} holds no list of switches")
    if len(node.value) > len(found):
        names = [key.value for key, _ in node.value]
        raise ModelError(f"{file} sets {next(name for name in names if names.count(name) > 1)} twice")
    return found
