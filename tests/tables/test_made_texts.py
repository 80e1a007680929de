"""Texts made of a vocabulary, and the rows that are fitted to them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from made_tokenizers import llama, qwen, unigram, wordpiece
from tokenizers import Tokenizer

from lightretriever.tables.made_texts import TEXTS, made_texts
from lightretriever.text.tokenizer import id_count, packaged_tokenizer, token_texts

KINDS = {"wordpiece": wordpiece, "byte-level": qwen, "metaspace": llama, "unigram": unigram}


def rows_of(tokenizer: Tokenizer) -> np.ndarray:
    return np.random.default_rng(3).normal(size=(id_count(tokenizer), 16)).astype(np.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_texts_of_every_kind_of_tokenizer_use_its_own_tokens(kind: str) -> None:
    tokenizer = KINDS[kind]()
    texts = made_texts(tokenizer, rows_of(tokenizer))
    assert texts and len(set(texts)) == len(texts)
    assert texts == made_texts(tokenizer, rows_of(tokenizer))
    used = {i for encoding in tokenizer.encode_batch(texts, add_special_tokens=False) for i in encoding.ids}
    begin = {i for i, (text, begins) in enumerate(token_texts(tokenizer)) if begins and text.isalpha()}
    assert len(begin & used) > 0.5 * len(begin)


def test_common_words_are_in_most_texts_and_every_word_in_some() -> None:
    tokenizer = packaged_tokenizer()
    texts = made_texts(tokenizer, rows_of(tokenizer))
    assert TEXTS <= len(texts) < TEXTS + 100
    words = Counter(word for text in texts for word in set(text.split()))
    assert words["the"] > 0.05 * len(texts) > 100 * np.median(list(words.values()))
    begin = [text for text, begins in token_texts(tokenizer) if begins and text.isalpha() and text.isascii()]
    assert sum(word in words for word in begin) > 0.95 * len(begin)


def test_a_text_has_one_script() -> None:
    tokenizer = packaged_tokenizer()
    texts = made_texts(tokenizer, rows_of(tokenizer))
    han = [text for text in texts if any("\u4e00" <= character <= "\u9fff" for character in text)]
    assert han and not any(character.isascii() for text in han for character in text)


def test_words_stand_beside_words_like_them() -> None:
    tokenizer = wordpiece()
    rows = np.zeros((id_count(tokenizer), 2), np.float32)
    rows[:, 0] = 1
    half = np.arange(len(rows)) % 2 == 0
    rows[half] = [0, 1]
    place = {text: bool(half[i]) for i, (text, begins) in enumerate(token_texts(tokenizer)) if begins}
    shares = []
    for text in made_texts(tokenizer, rows):
        kinds = [place[word] for word in text.split() if word in place]
        if len(kinds) > 3:
            shares.append(np.mean([kind == kinds[0] for kind in kinds[1:]]))
    assert np.mean(shares) > 0.55


def test_tokens_to_skip_and_specials_are_in_no_text() -> None:
    tokenizer = wordpiece()
    skipped = tokenizer.token_to_id("the")
    texts = made_texts(tokenizer, rows_of(tokenizer), [skipped])
    assert not any("the" in text.split() or "[" in text for text in texts)
