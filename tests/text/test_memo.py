"""Remembered chunks give the ids of ``tokenizers`` on every input, one text at a time and in batches."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_tokenizers import LINES, SPECIALS, gpt2, llama, qwen, unigram, whole_text_bpe, wordpiece
from tokenizers import AddedToken, Tokenizer

from lightretriever.text.memo import BATCH, NONE, SPACED, WORDS_CJK, ChunkTokenizer, chunk_rule, without_surrogates

FAMILIES = {
    "wordpiece": (wordpiece, WORDS_CJK),
    "qwen": (qwen, SPACED),
    "llama": (llama, SPACED),
    "gpt2": (gpt2, SPACED),
    "unigram": (unigram, SPACED),
    "whole-text": (whole_text_bpe, NONE),
}
WORDS = [word for line in LINES for word in line.split()]
ODD = [
    *SPECIALS,
    *("<|im_end|>", "<|endoftext|>", "<|begin_of_text|>", "<|reserved_special_token_0|>", "<s>", "</s>", "<unk>"),
    *("EVEREST", "Everest", "e\u0301", "\u0301e", "\u037a", "\ufdfa", "\u00a0", "\u3000", "\u2028", "\u200b", "\u200d"),
    *(
        "\t",
        "\n",
        "\r\n",
        "\0",
        "\x7f",
        "\x85",
        " ",
        "  ",
        "\ufeff",
        "\ufffd",
        "\ud800",
        "中a国",
        "中\u0301",
        "\U00020000",
    ),
    *(
        "x" * 47,
        "x" * 48,
        "x" * 49,
        "é" * 40,
        "ΑΣ",
        "İ",
        "ǅ",
        "ﬁ",
        "½",
        "①",
        "👩‍👩‍👧",
        "🇫🇷",
        "ا",
        "หน้า",
        "'S",
        "''",
        "``",
    ),
]
texts = st.one_of(
    st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join),
    st.lists(st.sampled_from(WORDS + ODD), max_size=8).map(" ".join),
    st.lists(st.one_of(st.sampled_from(WORDS + ODD), st.text(max_size=6)), max_size=8).map("".join),
    st.lists(st.text(max_size=8), max_size=6).map(" ".join),
    st.text(st.characters(), max_size=30),
)


def plain(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode(without_surrogates(text), add_special_tokens=False).ids


@pytest.mark.parametrize("family", FAMILIES)
def test_the_rule_is_found(family: str) -> None:
    make, rule = FAMILIES[family]
    assert chunk_rule(make()) == rule


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=150)
@given(text=texts)
def test_one_text_equals_tokenizers(family: str, text: str) -> None:
    make, rule = FAMILIES[family]
    chunked = ChunkTokenizer(make(), rule)
    for _ in range(2):  # new chunks, then remembered ones
        assert chunked.ids(text) == plain(make(), text)
        assert chunked.ids(text, leading_space=True) == plain(make(), " " + text)


@pytest.mark.parametrize("family", FAMILIES)
def test_batches_equal_tokenizers(family: str) -> None:
    make, rule = FAMILIES[family]
    chunked = ChunkTokenizer(make(), rule)  # remembers across examples, as it does in use

    @settings(max_examples=40)
    @given(batch=st.lists(texts, min_size=1, max_size=40), leading_space=st.booleans())
    def check(batch: list[str], leading_space: bool) -> None:
        batch = (batch * BATCH)[: max(BATCH, len(batch))]
        ids, offsets = chunked.flat_ids(batch, leading_space)
        space = " " if leading_space else ""
        expected = {text: plain(make(), space + text) for text in set(batch)}
        assert ids.tolist() == [i for text in batch for i in expected[text]]
        assert [ids[a:b].tolist() for a, b in itertools.pairwise(offsets)] == [expected[t] for t in batch]

    check()


@pytest.mark.parametrize("content", [" ", "mount everest", " x"])
def test_an_added_token_with_a_space_disables_the_rule(content: str) -> None:
    tokenizer = Tokenizer.from_str(wordpiece().to_str())
    tokenizer.add_tokens([AddedToken(content, normalized=False)])
    assert chunk_rule(tokenizer) == NONE


def test_an_unknown_split_pattern_disables_the_rule() -> None:
    tokenizer = Tokenizer.from_str(qwen().to_str().replace("\\\\p{N}", "\\\\p{Nd}"))
    assert chunk_rule(tokenizer) == NONE


def test_more_new_chunks_than_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightretriever.text.memo.MEMO_LIMIT", 50)
    monkeypatch.setattr("lightretriever.text.scan.MEMO_LIMIT", 50)
    chunked = ChunkTokenizer(wordpiece(), WORDS_CJK)
    for turn in range(3):
        batch = [f"light bulb {turn} {i} c{i}" for i in range(BATCH)]
        ids, _ = chunked.flat_ids(batch)
        assert ids.tolist() == [i for text in batch for i in plain(wordpiece(), text)]
        assert chunked.ids(batch[-1]) == plain(wordpiece(), batch[-1])


def test_threads_share_one_tokenizer() -> None:
    from concurrent.futures import ThreadPoolExecutor

    chunked = ChunkTokenizer(qwen(), SPACED)
    batch = [f"{WORDS[i % len(WORDS)]} {WORDS[i * 7 % len(WORDS)]} {i}" for i in range(4 * BATCH)]
    expected = [plain(qwen(), text) for text in batch]
    encode: Callable[[str], list[int]] = chunked.ids
    with ThreadPoolExecutor(4) as pool:
        flat = [pool.submit(chunked.flat_ids, batch) for _ in range(4)]
        assert list(pool.map(encode, batch)) == expected
    for future in flat:
        assert future.result()[0].tolist() == [i for row in expected for i in row]
