"""Queries out of passages, and what a log says about caches and phrases."""

from __future__ import annotations

import numpy as np
import pytest
from made_tokenizers import wordpiece

from lightretriever import QueryEncoder, TokenTable
from lightretriever.bench.queries import WORDS, log_rates, passage_queries
from lightretriever.errors import InputError
from lightretriever.text.tokenizer import id_count

PASSAGES = ["one two three four five six seven eight nine, ten!", "too short", " ".join(f"w{i}" for i in range(30))]


def made_encoder(phrases: list[str], whole: list[str]) -> QueryEncoder:
    tokenizer = wordpiece()
    rows = np.random.default_rng(0).standard_normal((id_count(tokenizer), 8)).astype(np.float32)
    table = TokenTable.from_rows(rows, tokenizer, model="made")
    if phrases or whole:
        ids = [tokenizer.encode(text, add_special_tokens=False).ids for text in (*phrases, *whole)]
        own = np.ones((len(ids), 8), np.float32)
        table = table.with_phrases(ids[: len(phrases)], ids[len(phrases) :], own, np.ones(len(ids), np.float32))
    return QueryEncoder(table)


def test_queries_are_runs_of_eight_words_the_same_every_time() -> None:
    queries = passage_queries(PASSAGES, 50)
    assert queries == passage_queries(PASSAGES, 50)
    assert queries != passage_queries(PASSAGES, 50, seed=1)
    plain = [passage.replace(",", "").replace("!", "") for passage in PASSAGES]
    assert all(len(query.split()) == WORDS and any(query in passage for passage in plain) for query in queries)
    assert len(set(queries)) > 10
    with pytest.raises(InputError, match="8 words"):
        passage_queries(["too short"], 3)


def test_a_cache_of_the_latest_queries() -> None:
    log = ["a", "b", "a", "c", "b", "b", "a"]
    rates = log_rates(made_encoder([], []), log)
    assert (rates.queries, rates.distinct, rates.phrases, rates.whole, rates.tokens) == (7, 3, 0, 0, 0)
    assert rates.cached == {"3": 4 / 7}  # all three fit: whatever came before is there
    many = [str(i % 150) for i in range(300)]
    assert log_rates(made_encoder([], []), many).cached == {"100": 0, "150": 0.5}  # by turns: 100 never hold the next
    with pytest.raises(InputError):
        log_rates(made_encoder([], []), [])


def test_rows_of_phrases_and_of_whole_queries() -> None:
    encoder = made_encoder(["light bulb"], ["read a csv file"])
    rates = log_rates(encoder, ["read a csv file", "the light bulb", "how tall", "light bulb the light bulb"])
    assert (rates.phrases, rates.whole) == (0.5, 0.25)
    ids = [encoder.tokenize([text])[0].size for text in ("read a csv file", "light bulb", "the", "how tall")]
    assert rates.tokens == pytest.approx((ids[0] + 3 * ids[1]) / (ids[0] + 3 * ids[1] + 2 * ids[2] + ids[3]))
