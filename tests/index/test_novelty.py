"""Documents that come after the fit: how much of them is new to the table, in `add`'s result, the manifest, `info`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from index.conftest import WORDS, RandomTower, word_tokenizer
from made_tokenizers import wordpiece

from lightretriever import Index, QueryEncoder, TokenTable, fit_table
from lightretriever.index.novelty import Novelty, measure_novelty
from lightretriever.text.corpus import Document

KNOWN, NEW = WORDS[:20], WORDS[20:]


def table_of(texts: list[str], seed: int = 0) -> TokenTable:
    tower = RandomTower()
    vectors = tower.encode([Document(str(i), text) for i, text in enumerate(texts)]).dense
    table = fit_table(vectors=(texts, vectors), tokenizer=word_tokenizer(), l2=1.0 + seed)
    return replace(table, model=tower.name, revision=tower.revision)


def texts_of(words: list[str], count: int = 60) -> list[str]:
    random = np.random.default_rng(3)
    return [" ".join(random.choice(words, 4)) for _ in range(count)] + [" ".join(words)]


pytestmark = pytest.mark.filterwarnings("ignore")


def test_words_are_counted_that_no_text_of_the_fit_held() -> None:
    table = table_of(texts_of(KNOWN))
    assert measure_novelty(table, [" ".join(KNOWN)]) == Novelty(20, 0)
    assert measure_novelty(table, [" ".join(NEW[:3]), "", f"{KNOWN[0]} {NEW[4]}"]) == Novelty(5, 4)
    assert measure_novelty(table, []) == Novelty()
    assert measure_novelty(replace(table, evidence=None), [NEW[0]]) == Novelty()
    assert Novelty(5, 4).share == 0.8
    assert Novelty().share == 0


def test_a_new_word_of_known_pieces_is_new() -> None:
    known = ["mountains of the world", "read one file with lights"]
    vectors = np.eye(2, 8, dtype=np.float32)
    table = fit_table(vectors=(known, vectors), tokenizer=wordpiece(), l2=0.1)
    assert measure_novelty(table, known) == Novelty(11, 0)
    assert wordpiece().encode("files", add_special_tokens=False).tokens == ["file", "##s"]
    assert measure_novelty(table, ["the files", "the mountains"]) == Novelty(6, 1)


def test_an_index_keeps_count_until_it_gets_a_table_that_knows(tmp_path: Path) -> None:
    path = tmp_path / "index"
    tower = RandomTower()
    with Index.create(path, QueryEncoder(table_of(texts_of(KNOWN))), sparse="bm25", model=tower) as index:  # type: ignore[arg-type]
        assert index.info()["added"] == {"tokens": 0, "unknown_to_table": 0.0}
        first = index.add_documents([{"id": "1", "text": " ".join(KNOWN[:6])}])
        assert first.novelty == Novelty(6, 0)
        second = index.add_documents([{"id": "2", "title": NEW[0], "text": f"{KNOWN[0]} {NEW[1]}"}])
        assert second.novelty == Novelty(3, 2)
    with Index.open(path, tower) as index:  # type: ignore[arg-type]
        assert index.info()["added"] == {"tokens": 9, "unknown_to_table": round(2 / 9, 4)}
        index.set_table(table_of(texts_of(WORDS), seed=1))
        assert index.info()["added"] == {"tokens": 0, "unknown_to_table": 0.0}
        assert index.add_documents([{"id": "3", "text": " ".join(NEW)}]).novelty == Novelty(len(NEW), 0)
