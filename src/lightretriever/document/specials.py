"""The special tokens of a model folder, and its tokenizer as the tower uses it (METHOD "Tokenizer")."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from lightretriever.document.folder import VOCABULARIES
from lightretriever.document.settings_file import read_object, refuse_pointer
from lightretriever.errors import ModelError
from lightretriever.text.tokenizer import flat_steps, load_tokenizer, with_bos_eos, with_lowercase

# (pad, separator) pairs that a vocabulary reserves and no text holds: Llama 3's, Qwen's.
_RESERVED = (
    ("<|reserved_special_token_0|>", "<|reserved_special_token_1|>"),
    ("<|im_end|>", "<|im_start|>"),
)


# Classes of transformers that take a tokenizer.json as it is.
_GENERIC = ("TokenizersBackend", "PreTrainedTokenizerFast")


@dataclass(frozen=True, slots=True)
class Specials:
    """A tower's tokenizer with its special ids.

    Attributes:
        tokenizer: adds specials, cuts and pads nothing.
        bos_id, eos_id, pad_id: None where the tokenizer has no such token; pad may equal eos.
        before, after: what the tokenizer puts around a text's own ids.
        edited: whether that is METHOD's ``bos? A eos`` in place of the tokenizer's own.
    """

    tokenizer: Tokenizer
    bos_id: int | None
    eos_id: int | None
    pad_id: int | None
    before: tuple[int, ...]
    after: tuple[int, ...]
    edited: bool


def open_tokenizer(folder: Path) -> Tokenizer:
    """The folder's fast tokenizer; one that exists only in another format is converted by transformers.

    Raises:
        ModelError: none can be read.
    """
    if (folder / "tokenizer.json").is_file():
        refuse_pointer(folder / "tokenizer.json")
        return load_tokenizer(folder)
    if not any((folder / name).is_file() for name in VOCABULARIES):
        raise ModelError(f"{folder} holds no tokenizer: a tokenizer.json is needed beside the weights")
    from transformers import AutoTokenizer

    try:
        converted = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        tokenizer = Tokenizer.from_str(converted.backend_tokenizer.to_str())
    except Exception as error:  # each conversion fails in its own way; all mean the same to the user
        reason = " ".join(str(error).split())[:160]
        raise ModelError(
            f"{folder} has no tokenizer.json, and its tokenizer cannot be converted to one ({reason}): "
            "save the fast tokenizer there"
        ) from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def declared_specials(folder: Path, config: Mapping[str, object], tokenizer: Tokenizer) -> dict[str, str | None]:
    """Which tokens a folder names as ``bos``, ``eos``, ``pad``, ``cls`` and ``sep``; None for none.

    ``tokenizer_config.json`` and ``special_tokens_map.json`` decide. The ids in ``config.json`` count for what
    the model must have (eos, pad), and for bos only without those two files: Qwen's configuration names a bos
    that its tokenizer never uses.
    """
    files = [folder / "tokenizer_config.json", folder / "special_tokens_map.json"]
    named: dict[str, object] = {}
    for file in files:
        named = {**read_object(file), **{key: value for key, value in named.items() if value is not None}}
    _check_class(named, tokenizer, files[0])
    is_told = any(file.is_file() for file in files)
    specials: dict[str, str | None] = {}
    for kind in ("bos", "eos", "pad", "cls", "sep"):
        token = named.get(f"{kind}_token")
        if isinstance(token, Mapping):  # an AddedToken written out
            token = token.get("content")
        if token is None and (kind in ("eos", "pad") or not is_told):
            number = config.get(f"{kind}_token_id")
            if isinstance(number, list):  # several ends of a chat turn: the first is the model's own
                number = number[0] if number else None
            token = tokenizer.id_to_token(number) if isinstance(number, int) and 0 <= number < 1 << 31 else None
        known = isinstance(token, str) and tokenizer.token_to_id(token) is not None
        specials[kind] = str(token) if known else None
    return specials


def _check_class(told: Mapping[str, object], tokenizer: Tokenizer, file: Path) -> None:
    """Refuse what transformers' class would do to texts beyond what tokenizer.json says."""
    if told.get("auto_map"):
        raise ModelError(f"{file}: auto_map names a tokenizer's own code, which is never run: use another model")
    name, lower = told.get("tokenizer_class"), told.get("do_lower_case")
    if not isinstance(lower, bool) or not isinstance(name, str) or name in _GENERIC:
        return
    steps = flat_steps(json.loads(tokenizer.to_str())["normalizer"], "normalizers")
    own = next((bool(step["lowercase"]) for step in steps if step["type"] == "BertNormalizer"), lower)
    if own != lower:
        raise ModelError(
            f"{file}: do_lower_case is {lower}, tokenizer.json does the opposite: let both say what the model was "
            "trained with"
        )


def causal_specials(
    tokenizer: Tokenizer,
    declared: Mapping[str, str | None],
    *,
    lowercase: bool = True,
    add_bos: bool = True,
    where: str,
) -> Specials:
    """A causal LM's tokenizer edited to lower-case and to write ``bos? A eos``.

    A declared pad is kept (a release's is one of the reserved tokens); else a reserved token is taken, else pad
    is eos. Where a model has one token for everything (GPT-2's and GPT-NeoX's ``<|endoftext|>``), a document
    begins and ends with it, as its training texts did, and pad equals it: lengths, not ids, tell what is padding.

    Args:
        tokenizer: left as it is; editing what is edited already changes nothing.
        declared: see `declared_specials`.
        lowercase, add_bos: a release's own switches.
        where: the folder, for messages.

    Raises:
        ModelError: no eos.
    """
    eos = declared["eos"]
    if eos is None:
        raise ModelError(f"{where} names no end token: set eos_token in its tokenizer_config.json")
    bos = declared["bos"] if add_bos else None
    reserved = [
        pad
        for pad, separator in _RESERVED
        if tokenizer.token_to_id(pad) is not None and tokenizer.token_to_id(separator) is not None
    ]
    pad = declared["pad"] or next(iter(reserved), eos)
    edited = with_bos_eos(with_lowercase(tokenizer) if lowercase else tokenizer, bos, eos)
    return _specials(edited, bos, eos, pad, edited=True)


def own_specials(tokenizer: Tokenizer, declared: Mapping[str, str | None], *, lowercase: bool = False) -> Specials:
    """The tokenizer of an encoder or a sentence-transformers folder, its post-processor as it is."""
    return _specials(
        with_lowercase(tokenizer) if lowercase else tokenizer,
        declared["bos"] or declared["cls"],
        declared["eos"] or declared["sep"],
        declared["pad"],
        edited=False,
    )


def _specials(tokenizer: Tokenizer, bos: str | None, eos: str | None, pad: str | None, *, edited: bool) -> Specials:
    # What surrounds a text is read off one, rather than out of the many kinds of post-processor.
    probe = tokenizer.encode("a")
    own = [i for i, special in enumerate(probe.special_tokens_mask) if not special]
    first, last = (own[0], own[-1] + 1) if own else (len(probe.ids), len(probe.ids))
    bos_id, eos_id, pad_id = (None if token is None else tokenizer.token_to_id(token) for token in (bos, eos, pad))
    return Specials(tokenizer, bos_id, eos_id, pad_id, tuple(probe.ids[:first]), tuple(probe.ids[last:]), edited)
