"""The share of a model's ranking that a table keeps."""

from __future__ import annotations

import numpy as np
import pytest

from lightretriever.tables import ranking
from lightretriever.tables.ranking import Kept, compare_ranking, rank_by_model


def unit(random: np.random.Generator, rows: int, dim: int = 8) -> np.ndarray:
    vectors = random.normal(size=(rows, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def compare_rankings(looked_up: np.ndarray, wanted: np.ndarray, candidates: np.ndarray) -> Kept | None:
    reference = rank_by_model(wanted, candidates)
    return None if reference is None else compare_ranking(looked_up, reference)


def test_the_same_vectors_keep_all_and_opposite_ones_nothing() -> None:
    random = np.random.default_rng(0)
    queries, candidates = unit(random, 300), unit(random, 500)
    assert compare_rankings(queries, queries, candidates) == Kept(1.0, 1.0)
    assert compare_rankings(-queries, queries, candidates) == Kept(0.0, 0.0)


def test_it_is_what_sorting_gives() -> None:
    random = np.random.default_rng(1)
    wanted, candidates = unit(random, 40), unit(random, 60)
    looked_up = wanted + 0.3 * unit(random, 40)
    looked_up /= np.linalg.norm(looked_up, axis=1, keepdims=True)
    overlaps, ndcgs = [], []
    ideal = sum(1 / np.log2(place + 2) for place in range(10))
    for one, other in zip(looked_up, wanted, strict=True):
        best = set(np.argsort(-(candidates @ other))[:10].tolist())
        found = np.argsort(-(candidates @ one))[:10].tolist()
        overlaps.append(len(best & set(found)) / 10)
        ndcgs.append(sum(1 / np.log2(place + 2) for place, row in enumerate(found) if row in best) / ideal)
    kept = compare_rankings(looked_up, wanted, candidates)
    assert kept is not None
    assert kept.overlap == pytest.approx(np.mean(overlaps), abs=1e-4)
    assert kept.ndcg == pytest.approx(np.mean(ndcgs), abs=1e-4)
    assert 0.2 < kept.overlap < 1


def test_too_little_to_rank() -> None:
    random = np.random.default_rng(2)
    assert compare_rankings(unit(random, 5), unit(random, 5), unit(random, 19)) is None
    assert compare_rankings(unit(random, 0), unit(random, 0), unit(random, 50)) is None
    assert compare_rankings(unit(random, 5), unit(random, 5), unit(random, 20)) is not None


def test_of_many_candidates_an_even_sample_is_ranked(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(3)
    wanted, candidates = unit(random, 10), unit(random, 100)
    looked_up = unit(random, 10)
    monkeypatch.setattr(ranking, "_MOST", 40)
    assert compare_rankings(looked_up, wanted, candidates) == compare_rankings(looked_up, wanted, candidates[::3])
