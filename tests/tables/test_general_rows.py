"""Rows that know no corpus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from made_bags import made_bags
from made_query_towers import QueryTower
from made_tokenizers import wordpiece
from numpy.typing import NDArray

from lightretriever.tables.bags import unit_rows
from lightretriever.tables.general_rows import general_rows

WORDS = "highest mountain in the world mount everest tall light bulb read file".split()
WIDTH = wordpiece().get_vocab_size()
ROWS = np.random.default_rng(1).normal(size=(WIDTH, 24)).astype(np.float32)
WEIGHTS = np.random.default_rng(2).uniform(0.05, 2, size=(WIDTH, 1)).astype(np.float32)


@dataclass
class WeighingTower(QueryTower):
    """Weighs tokens within a text, which a token alone, of unit length, does not show."""

    def encode_queries(self, texts: Sequence[str], prompt: str | None = None) -> NDArray[np.float32]:
        assert prompt == "find: "
        return predicted(ROWS * WEIGHTS, texts)


def predicted(rows: NDArray[np.float32], texts: Sequence[str]) -> NDArray[np.float32]:
    return unit_rows(made_bags(texts, wordpiece(), WIDTH, 510).multiply(rows))


def test_rows_foretell_texts_better_than_tokens_alone_do() -> None:
    alone, seen = unit_rows(ROWS), []
    rows = general_rows(WeighingTower(), alone, "find: ", lambda done, total: seen.append((done, total)))  # type: ignore[arg-type]
    assert rows.shape == alone.shape and rows.dtype == np.float32
    assert seen and seen[-1][0] == seen[-1][1]
    random = np.random.default_rng(3)
    texts = [" ".join(random.choice(WORDS, 5)) for _ in range(100)]
    targets = predicted(ROWS * WEIGHTS, texts)
    before, after = ((predicted(found, texts) * targets).sum(axis=1).mean() for found in (alone, rows))
    assert 1 - after < 0.3 * (1 - before)


def test_a_vocabulary_without_words_has_its_tokens_alone() -> None:
    tower = WeighingTower(skip_ids=tuple(range(WIDTH)))
    np.testing.assert_array_equal(general_rows(tower, ROWS, "find: "), ROWS)  # type: ignore[arg-type]
