"""Kinds of queries, and how far their tokens are from the documents'."""

from __future__ import annotations

import numpy as np
import pytest
from made_tokenizers import wordpiece

from lightretriever import QueryEncoder, TokenTable
from lightretriever.evaluation.features import divergence, group_queries, script
from lightretriever.evaluation.lexical import TokenTotals
from lightretriever.text.tokenizer import id_count

ROWS = np.ones((id_count(wordpiece()), 4), dtype=np.float32)
ENCODER = QueryEncoder(TokenTable.from_rows(ROWS, wordpiece(), model="made"))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("how tall is it", "Latin"),
        ("世界最高峰是什么 a", "Han"),
        ("最高の山は富士山", "Kana"),
        ("привет мир ok", "Cyrillic"),
        ("ما هو", "Arabic"),
        ("1879?", "no letters"),
        ("", "no letters"),
    ],
)
def test_the_script_is_that_of_most_letters(text: str, name: str) -> None:
    assert script(text) == name


def test_every_query_is_in_one_group_of_each_property() -> None:
    queries = {"1": "who", "2": "who invented the light bulb", "3": "", "4": "who did not read a csv file", "5": "tall"}
    frequency = np.full(ENCODER.vocab_size, 500)
    token = wordpiece().token_to_id
    frequency[token("tall")] = 0
    frequency[token("bulb")] = 1
    totals = TokenTotals(1000, frequency, frequency)
    found = group_queries(queries, ENCODER.encode_sparse(list(queries.values())), totals)
    groups = {grouping.name: grouping.groups for grouping in found}
    for of_property in groups.values():
        assert sorted(query for members in of_property.values() for query in members) == list(queries)
    assert groups["length"]["no tokens"] == ["3"]
    assert groups["length"]["1–3 tokens"] == ["1", "5"]
    assert next(iter(groups["length"])) == "no tokens"
    assert groups["rarest token"]["a token in no document"] == ["5"]
    assert groups["rarest token"]["a token in at most 0.1% of the documents"] == ["2"]
    assert groups["negation"]["with negation"] == ["4"]
    assert groups["script"]["no letters"] == ["3"]


def test_divergence_is_between_equal_and_apart() -> None:
    documents = np.array([400, 300, 200, 100, 0, 0])
    assert divergence(documents, documents)[0] == pytest.approx(0, abs=1e-12)
    assert divergence(np.array([0, 0, 0, 0, 5, 5]), documents)[0] == pytest.approx(1)
    own, chance = divergence(np.array([4, 3, 2, 1, 0, 0]), documents)
    assert own == pytest.approx(0, abs=1e-12)
    assert 0 < chance < 0.5
    assert divergence(np.zeros(6, dtype=np.int64), documents) == (0.0, 0.0)
