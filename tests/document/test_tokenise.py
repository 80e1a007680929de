"""Long texts cut before they are tokenised: the ids are those of the whole text."""

from __future__ import annotations

import time

import made_tokenizers as made
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer

from lightretriever.document.tokenise import make_text_tokenizer

TOKENIZERS = [made.wordpiece, made.qwen, made.llama, made.gpt2, made.unigram, made.whole_text_bpe]
WORDS = st.sampled_from(
    "everest x the 8,848 don't naïve 世界最高峰 ΣΟΦΟΣ İ ſ ½ e\u0301 (a+b)^2 ... ▁ Ġ <|im_end|> [MASK]".split(" ")
    + list("\n\t \u0301\u200b\u3000\u00a0\ufffd")
)
LONG = st.builds(
    lambda words, joins: "".join(word + join for word, join in zip(words * 40, joins * 40, strict=False)),
    st.lists(WORDS, min_size=8, max_size=16),
    st.lists(st.sampled_from([" ", " ", " ", "", "  ", "\n"]), min_size=8, max_size=16),
)


@pytest.mark.parametrize("make", TOKENIZERS, ids=lambda make: make.__name__)
@settings(max_examples=60)
@given(text=LONG)
def test_ids_of_a_cut_text_are_those_of_the_whole(make: object, text: str) -> None:
    tokenizer = make()  # type: ignore[operator]
    texts = make_text_tokenizer(tokenizer)
    whole = tokenizer.encode(text, add_special_tokens=False).ids
    for limit in (1, 3, 17):
        assert texts.ids([text, "a"], limit)[0] == whole[:limit]
    for characters in (1, 5, 40, 200):
        piece = texts._cut(text, characters)
        ids = tokenizer.encode(piece, add_special_tokens=False).ids
        assert ids == whole[: len(ids)]


# whole_text_bpe has tokens like "t▁is", which no split kept apart: it is never cut.
@pytest.mark.parametrize("make", TOKENIZERS[:-1], ids=lambda make: make.__name__)
def test_ten_megabytes_take_no_time(make: object) -> None:
    texts = make_text_tokenizer(make())  # type: ignore[operator]
    text = "mount everest is high. " * 450_000
    start = time.perf_counter()
    assert len(texts.ids([text], 510)[0]) == 510
    assert time.perf_counter() - start < 0.5


def test_a_vocabulary_whose_tokens_reach_into_spaces_is_not_cut() -> None:
    tokenizer = Tokenizer.from_str(made.gpt2().to_str())
    assert make_text_tokenizer(tokenizer).can_cut
    tokenizer.add_tokens([AddedToken("mount everest", normalized=True)])
    texts = make_text_tokenizer(tokenizer)
    assert not texts.can_cut
    text = "mount everest " * 5000
    assert texts.ids([text], 7) == [tokenizer.encode(text, add_special_tokens=False).ids[:7]]


def test_a_long_text_of_few_tokens_is_read_on() -> None:
    tokenizer = made.gpt2()
    texts = make_text_tokenizer(tokenizer)
    text = "a " + " " * 50_000 + "b c"
    assert texts.ids([text], 40) == [tokenizer.encode(text, add_special_tokens=False).ids[:40]]
