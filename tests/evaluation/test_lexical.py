"""BM25 beside an index, by hand, and the tokens of an index counted."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from made_tokenizers import wordpiece

from lightretriever import Encoded, Index, QueryEncoder, TokenTable
from lightretriever.evaluation.lexical import count_index, search_bm25
from lightretriever.text.tokenizer import id_count

ENCODER = QueryEncoder(TokenTable.from_rows(np.ones((id_count(wordpiece()), 4), np.float32), wordpiece(), model="made"))
TEXTS = {"a": "tall tall mountain", "b": "tall bulb", "c": "read"}


def open_index(path: Path, texts: dict[str, str]) -> Index:
    index = Index.create(path, ENCODER, sparse="none")
    if texts:
        dense = np.tile(np.array([[1, 0, 0, 0]], np.float32), (len(texts), 1))
        index.add(list(texts), Encoded(dense), [{"text": text} for text in texts.values()])
    return index


def test_bm25_by_hand(tmp_path: Path) -> None:
    with open_index(tmp_path / "i", TEXTS) as index:
        run = search_bm25(index, {"q": "tall mountain", "none": "who", "": ""}, k=10)
        assert search_bm25(index, {"q": "tall mountain"}, k=1).scores["q"].keys() == {"a"}
    idf = {df: math.log(1 + (3 - df + 0.5) / (df + 0.5)) for df in (1, 2)}
    norm = {length: 0.9 * (1 - 0.75 + 0.75 * length / 2) for length in (2, 3)}
    by_hand = {"a": idf[2] * 2 / (2 + norm[3]) + idf[1] / (1 + norm[3]), "b": idf[2] / (1 + norm[2])}
    assert run.scores["q"] == pytest.approx(by_hand, rel=1e-6)
    assert list(run.scores["q"]) == ["a", "b"]
    assert run.scores["none"] == run.scores[""] == {}


def test_tokens_of_an_index_are_counted(tmp_path: Path) -> None:
    with open_index(tmp_path / "i", TEXTS) as index:
        totals = count_index(index)
    tall = wordpiece().token_to_id("tall")
    assert totals.documents == 3
    assert (totals.frequency[tall], totals.occurrences[tall]) == (2, 3)
    assert totals.occurrences.sum() == 6


def test_an_empty_index_finds_nothing(tmp_path: Path) -> None:
    with open_index(tmp_path / "i", {}) as index:
        assert search_bm25(index, {"q": "tall"}, k=5).scores == {"q": {}}
        assert count_index(index).documents == 0
