"""Tokenizers as the method wants them: nothing cut silently, lower-cased after special tokens, bos? A eos."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from made_tokenizers import gpt2, llama, qwen, unigram, whole_text_bpe, wordpiece
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from lightretriever.errors import ModelError
from lightretriever.text.tokenizer import (
    encode_batch,
    encode_one,
    id_count,
    is_byte_level,
    load_tokenizer,
    tokenizer_hash,
    with_bos_eos,
    with_lowercase,
)


def test_saved_truncation_and_padding_are_cleared(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_str(wordpiece().to_str())
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=9)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    loaded = load_tokenizer(tmp_path)
    assert loaded.encode("how tall is mount everest").ids == wordpiece().encode("how tall is mount everest").ids
    assert tokenizer_hash(loaded) == tokenizer_hash(tokenizer) == tokenizer_hash(wordpiece())
    assert tokenizer_hash(loaded) != tokenizer_hash(unigram())


def test_an_absent_or_broken_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"tokenizer\.json does not exist"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="cannot be read as a tokenizer"):
        load_tokenizer(tmp_path)


def test_byte_level_vocabularies_are_told_apart() -> None:
    assert [is_byte_level(make()) for make in (qwen, llama, gpt2)] == [True] * 3
    assert [is_byte_level(make()) for make in (wordpiece, unigram, whole_text_bpe)] == [False] * 3


def test_ids_are_counted_to_the_highest() -> None:
    state = json.loads(wordpiece().to_str())
    state["model"]["vocab"]["zzz"] = 999  # a hole before it
    assert id_count(Tokenizer.from_str(json.dumps(state))) == 1000


def test_text_is_lower_cased_after_special_tokens_are_matched() -> None:
    lowered = with_lowercase(qwen())
    assert lowered.encode("MOUNT Everest<|im_end|>").ids == qwen().encode("mount everest<|im_end|>").ids
    assert lowered.encode("<|IM_END|>").ids == qwen().encode("<|im_end|>".replace("im_end", "IM_END").lower()).ids or (
        qwen().token_to_id("<|im_end|>") not in lowered.encode("<|IM_END|>").ids
    )
    assert [step["type"] for step in json.loads(lowered.to_str())["normalizer"]["normalizers"]] == ["Lowercase", "NFC"]
    for make in (llama, wordpiece):  # they lower-case already
        assert with_lowercase(make()).to_str() == make().to_str()


def test_begin_and_end_tokens_frame_the_text() -> None:
    framed = with_bos_eos(llama(), "<|begin_of_text|>", "<|end_of_text|>")
    ids = llama().encode("mount everest", add_special_tokens=False).ids
    begin, end = (llama().token_to_id(token) for token in ("<|begin_of_text|>", "<|end_of_text|>"))
    assert framed.encode("mount everest").ids == [begin, *ids, end]
    assert framed.encode("").ids == [begin, end]
    assert framed.encode("mount everest", add_special_tokens=False).ids == ids
    assert with_bos_eos(framed, None, "<|end_of_text|>").encode("mount everest").ids == [*ids, end]
    with pytest.raises(ModelError, match="no token '<nope>'"):
        with_bos_eos(llama(), "<nope>", "<|end_of_text|>")


def test_a_former_template_does_not_add_its_own_specials() -> None:
    tokenizer = Tokenizer.from_str(llama().to_str())
    begin = tokenizer.token_to_id("<|begin_of_text|>")
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=True),
            processors.TemplateProcessing(single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", begin)]),
        ]
    )
    framed = with_bos_eos(tokenizer, "<|begin_of_text|>", "<|end_of_text|>")
    assert framed.encode("everest").ids.count(begin) == 1


def test_golden_ids(golden: Path) -> None:
    """A base tokenizer edited here gives the ids of one that an independent implementation edited."""
    expected = json.loads((golden / "llama-tiny" / "tokenization.json").read_text())
    base = load_tokenizer(golden / "models" / "llama-tiny")
    edited = with_bos_eos(with_lowercase(base), expected["bos_token"], expected["eos_token"])
    release = load_tokenizer(golden / "checkpoint_llama-tiny_golden" / "edited_tokenizer")
    for tokenizer in (edited, release):
        assert [tokenizer.encode(text).ids for text in expected["docs"]] == expected["doc_ids_full"]
    assert tokenizer_hash(edited) == tokenizer_hash(release)


def never_done(kind: str) -> Tokenizer:
    """Its pattern tries every way to cut a run of letters before it gives up."""
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "zz": 1}, "[UNK]"))
    if kind == "split":
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("(?:z|zz)+$"), "isolated")
    else:
        tokenizer.normalizer = normalizers.Replace(Regex("(?:z|zz)+$"), "x")
    return tokenizer


@pytest.mark.parametrize("kind", ["split", "replace"])
def test_a_pattern_that_would_try_for_ever_is_one_error(kind: str) -> None:
    tokenizer = never_done(kind)
    text = "z" * 60 + "!"
    for encode in (lambda: encode_one(tokenizer, text), lambda: encode_batch(tokenizer, ["zz", text, text])):
        with pytest.raises(ModelError, match="fails on a text") as raised:
            encode()
        assert "\n" not in str(raised.value)
    assert len(encode_one(tokenizer, "z!")) == 1, "it goes on"


def test_a_tokenizer_without_its_unknown_token_is_one_error() -> None:
    tokenizer = Tokenizer(models.WordLevel({"known": 0}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    assert encode_one(tokenizer, "known") == [0]
    with pytest.raises(ModelError, match="take another tokenizer"):
        encode_one(tokenizer, "stranger")


def test_an_id_far_beyond_the_tokens_is_refused() -> None:
    far = Tokenizer(models.WordLevel({"[UNK]": 0, "everest": 1 << 30}, unk_token="[UNK]"))
    with pytest.raises(ModelError, match="2 tokens and an id of 1,073,741,824"):
        id_count(far)
    assert id_count(Tokenizer(models.WordLevel({"[UNK]": 0, "everest": 60_000}, unk_token="[UNK]"))) == 60_001


def test_normalizers_that_blow_texts_up_are_refused(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_str(wordpiece().to_str())  # the other tests share that one
    tokenizer.normalizer = normalizers.Sequence([normalizers.Replace("o", "o" * 300), normalizers.Replace("o", "oo")])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    load_tokenizer(tmp_path)
    for growing in ([normalizers.Replace("o", "o" * 300)] * 2, [normalizers.Replace(Regex("(?=o)"), "o")] * 17):
        tokenizer.normalizer = normalizers.Sequence(growing)
        tokenizer.save(str(tmp_path / "tokenizer.json"))
        with pytest.raises(ModelError, match=r"65,536 times as long"):
            load_tokenizer(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes and links are not Windows's")
def test_a_tokenizer_that_is_no_file_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "loop.json").symlink_to(tmp_path / "loop.json")
    for name, reason in (("pipe.json", "it is no file"), ("loop.json", "Too many levels")):
        with pytest.raises(ModelError, match=rf"{name} cannot be read \({reason}"):
            load_tokenizer(tmp_path / name)
