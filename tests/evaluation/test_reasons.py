"""Reasons for a look-up's losses: each is found where it is so, and only there."""

from __future__ import annotations

import numpy as np
import pytest
from made_tokenizers import wordpiece
from numpy.typing import NDArray

from lightretriever import QueryEncoder, TokenTable
from lightretriever.evaluation.reasons import Clues, count_texts, find_clues, find_reasons
from lightretriever.text.tokenizer import id_count

ROWS = np.random.default_rng(0).normal(size=(id_count(wordpiece()), 8)).astype(np.float32)
ENCODER = QueryEncoder(TokenTable.from_rows(ROWS, wordpiece(), model="made"))


def clues(order: float, near: float, spread: float = 0.1, count: int = 20) -> Clues:
    around = np.linspace(-spread, spread, count).astype(np.float32)
    return Clues([""] * count, order + around, near + around)


def test_texts_are_counted_once_each() -> None:
    seen = count_texts(ENCODER, ["tall tall mountain", "tall"])
    assert seen[wordpiece().token_to_id("tall")] == 2
    assert seen[wordpiece().token_to_id("mountain")] == 1
    assert seen.sum() == 3


def test_unseen_and_rare_tokens_and_negations_are_named() -> None:
    seen = count_texts(ENCODER, ["tall mountain", *["who invented the light bulb"] * 3])
    found = find_reasons("who never invented the tall csv", ENCODER, seen)
    assert found[0].startswith("token never in the fit's texts: ")
    assert "csv" in found[0]
    assert found[1].endswith("texts: tall")
    assert found[2] == "negation: never"
    assert find_reasons("who invented the light bulb", ENCODER, seen) == []
    assert find_reasons("who isn’t the light", ENCODER, np.full(len(seen), 9))[-1] == "negation: isn't"


def test_word_order_and_distance_are_told_against_what_is_usual() -> None:
    seen, usual = np.full(ENCODER.vocab_size, 9), clues(order=0.9, near=0.8)
    text = "who invented the light bulb"
    (ordered,) = find_reasons(text, ENCODER, seen, usual, clues(0.5, 0.75, 0, 1))
    assert ordered == "word order: 0.50 to its own words shuffled (usually 0.90)"
    (close,) = find_reasons(text, ENCODER, seen, usual, clues(0.9, 0.95, 0, 1))
    assert close.startswith("no far vector: 0.95")
    (far,) = find_reasons(text, ENCODER, seen, usual, clues(0.9, 0.3, 0, 1))
    assert far.startswith("meaning beyond its tokens: 0.30")
    assert find_reasons(text, ENCODER, seen, usual, clues(0.9, 0.78, 0, 1)) == []


def test_clues_of_a_tower_that_reads_no_order_and_of_one_that_does() -> None:
    texts = ["tall mount everest", "read a csv file", "bulb"]
    bag = find_clues(texts, ENCODER, lambda given: ENCODER.encode_dense(given))
    assert bag.order == pytest.approx(1, abs=1e-5)
    assert bag.near == pytest.approx(1, abs=1e-5)

    def ordered(given: list[str]) -> NDArray[np.float32]:
        return ENCODER.encode_dense([text.split()[0] for text in given])

    assert find_clues(texts, ENCODER, ordered).order[:2].max() < 0.9
    assert find_clues(texts, ENCODER, ordered).order[2] == 1
