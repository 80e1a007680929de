"""What a fit warns of before it is made of doubtful texts and vectors, and what it refuses."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import pytest
from made_tokenizers import qwen, wordpiece
from numpy.typing import NDArray
from tables.test_fit import WIDTH, MadeTower, made_texts, made_vectors

from lightretriever import TokenTable, fit_table
from lightretriever.errors import MismatchError
from lightretriever.tables.checks import check_texts

ENGLISH = ["who invented the light bulb", "how tall is the mountain"] * 20


def vectors(count: int, shared: float = 0.0) -> NDArray[np.float32]:
    rows = np.random.default_rng(0).normal(size=(count, 16)) + shared
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_an_unknown_language_is_said_with_its_share() -> None:
    with pytest.warns(UserWarning, match=r"\d+% of the tokens of the texts are unknown to the tokenizer"):
        check_texts(["ﬁ這是 一個 測試", "另外 一個 句子"], vectors(2), wordpiece())
    with pytest.warns(UserWarning, match=r"fall into \d+\.\d tokens a word"):
        check_texts(["Привет мир как дела", "это проверка языка"] * 5, vectors(10), qwen())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_texts(ENGLISH, vectors(40), wordpiece())


def test_vectors_that_tell_nothing_apart_are_said() -> None:
    with pytest.warns(UserWarning, match=r"vectors are nearly the same \(mean cosine 0\.9"):
        check_texts(ENGLISH, vectors(40, shared=9.0), wordpiece())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_texts(ENGLISH, vectors(40, shared=1.0), wordpiece())
        check_texts(ENGLISH[:1], vectors(1), wordpiece())


def test_a_fit_warns_and_goes_on() -> None:
    texts = made_texts(50)
    with pytest.warns(UserWarning, match="nearly the same"):
        table = fit_table(vectors=(texts, np.ones((50, 8), np.float32) / 8**0.5), tokenizer=wordpiece(), l2=0.1)
    assert np.isfinite(table[:]).all()


def test_the_first_vector_of_another_length_is_named() -> None:
    texts = made_texts(300)
    given = made_vectors(texts)
    given[[7, 9]] *= 3
    with pytest.warns(UserWarning, match=r"2 of 300 vectors .* first, vector 7 \(text 7\) has length 3"):
        fit_table(vectors=(texts, given), tokenizer=wordpiece(), l2=0.1)


class BrokenTower(MadeTower):
    """Gives NaN for texts that end in 3, as half precision does for some."""

    def encode_queries(self, texts: Sequence[str], prompt: str | None = None) -> NDArray[np.float32]:
        found = super().encode_queries(texts, prompt)
        found[[text.endswith("3") for text in texts]] = np.nan
        return found


def test_texts_without_a_finite_vector_are_left_out_and_counted() -> None:
    texts = made_texts(400)
    with pytest.warns(UserWarning, match=r"40 of 400 texts were left out: .* NaN or infinity \(first: '.*3'\)"):
        table = fit_table(BrokenTower(), texts, prior="zero", l2=0.1)  # type: ignore[arg-type]
    assert np.isfinite(table[:]).all()
    assert (table.fitted["sentences_without_vector"], table.fitted["sentences_used"]) == (40, 360)


def test_a_prior_of_another_tokenizer_is_refused() -> None:
    texts = made_texts(50)
    other = TokenTable.from_rows(np.ones((WIDTH + 5000, 24), np.float32), qwen(), model="")
    with pytest.raises(MismatchError, match="another tokenizer"):
        fit_table(vectors=(texts, made_vectors(texts)), tokenizer=wordpiece(), prior=other)


def test_vectors_that_are_not_the_texts_are_told() -> None:
    texts = made_texts(400)
    with pytest.warns(UserWarning, match=r"hardly foreseen .*in the same order"):
        fit_table(vectors=(texts, vectors(400)), tokenizer=wordpiece())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*are few for this vocabulary")
        fit_table(vectors=(texts, made_vectors(texts)), tokenizer=wordpiece())
