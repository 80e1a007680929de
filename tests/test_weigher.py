"""Features of two lists, and the network over them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from time import perf_counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightretriever.errors import UsageError
from lightretriever.fusion import Fusion, fuse_scores
from lightretriever.types import sparse_from_dense
from lightretriever.weigher import FEATURES, Weigher, features, places_in, token_numbers

lists = st.dictionaries(st.integers(0, 40), st.floats(-1e6, 1e6), max_size=30)


def of_seed(seed: int, hidden: int = 4) -> Weigher:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(hidden, len(FEATURES) + 1)).tolist()
    return Weigher(tuple(map(tuple, rows)), tuple(rng.normal(size=hidden + 1).tolist()))


def best_first(scores: dict[int, float]) -> tuple[list[int], list[float]]:
    ranked = sorted(scores.items(), key=lambda pair: -pair[1])
    return [key for key, _ in ranked], [score for _, score in ranked]


@given(lists, lists, st.integers(0, 50), st.integers(0, 3))
def test_any_lists_get_a_weight_between_0_and_1(dense: dict, sparse: dict, tokens: int, seed: int) -> None:
    found = of_lists(*best_first(dense), *best_first(sparse), tokens)
    assert len(found) == len(FEATURES)
    assert np.isfinite(found).all()
    weight = of_seed(seed).weights([found])
    assert weight.shape == (1,)
    assert 0 < weight[0] < 1


def of_lists(
    dense_keys: Sequence, dense: Sequence[float], sparse_keys: Sequence, sparse: Sequence[float], tokens: float
) -> list[float]:
    return features(dense, sparse, places_in(sparse_keys, dense_keys), tokens)


def plainly(dense: dict[int, float], sparse: dict[int, float], tokens: float) -> list[float]:
    """The features as their names say, with numpy, whatever it costs."""

    def scaled(scores: list[float], among: dict[int, float]) -> np.ndarray:
        low, high = min(among.values(), default=0.0), max(among.values(), default=0.0)
        return (np.array(scores) - low) / (high - low) if high > low else np.ones(len(scores))

    def shape(scores: dict[int, float], other: dict[int, float]) -> list[float]:
        values, first = np.array(list(scores.values())), list(scores)[:10]
        if not len(values):
            return [0.0] * 6
        top = scaled(list(values[:10]), scores)
        shares = top[top > 0] / top.sum()
        reach = min((values[0] - values[-1]) / values[0], 2.0) if values[0] > 0 else 2.0
        gap = 1 - top[1] if len(top) > 1 else 1.0
        entropy = -(shares * np.log(shares)).sum() / np.log(10)
        support = scaled([other[key] for key in first if key in other], other).sum() / 10
        return [reach, gap, 1 - top[-1], scaled([values.mean()], scores)[0], entropy, support]

    def first(scores: dict[int, float], other: dict[int, float]) -> float:
        return scaled([other[key] for key in list(scores)[:1] if key in other], other).sum()

    best = max(sparse.values(), default=0.0)
    return [
        *shape(dense, sparse),
        *shape(sparse, dense),
        first(dense, sparse),
        first(sparse, dense),
        len(set(list(dense)[:10]) & set(list(sparse)[:10])) / 10,
        len(dense.keys() & sparse.keys()) / 100,
        len(sparse) / 100,
        np.log1p(tokens),
        np.log1p(max(best, 0.0) / max(tokens, 1.0)),
    ]


steps = st.dictionaries(st.integers(0, 40), st.integers(-400, 400).map(lambda i: i / 8), max_size=30)


@given(steps, steps, st.integers(0, 50))
def test_features_are_what_their_names_say(dense: dict, sparse: dict, tokens: int) -> None:
    one, two = (dict(zip(*best_first(scores), strict=True)) for scores in (dense, sparse))
    found = of_lists(list(one), list(one.values()), list(two), list(two.values()), tokens)
    assert found == pytest.approx(plainly(one, two, tokens), abs=1e-6)


@given(st.lists(st.floats(-1e3, 1e3), min_size=len(FEATURES), max_size=len(FEATURES)), st.integers(0, 3))
def test_one_query_has_the_weight_that_it_has_among_others(found: list[float], seed: int) -> None:
    weigher = replace(of_seed(seed, 8), low=0.35, high=0.85)
    one, _ = weigher.weights([found, [0.5] * len(found)])
    assert weigher.weight(found) == pytest.approx(one, abs=1e-6)
    assert Weigher.general().weight(found) == pytest.approx(Weigher.general().weights([found])[0], abs=1e-6)


def test_by_hand() -> None:
    found = dict(zip(FEATURES, of_lists("abc", [0.8, 0.4, 0.2], "bx", [6.0, 3.0], 2), strict=True))
    assert found["dense range"] == pytest.approx(0.75)
    assert found["dense gap"] == pytest.approx(2 / 3)
    assert found["sparse range"] == pytest.approx(0.5)
    assert found["dense support"] == pytest.approx(0.1)  # only b of the dense list, the best of the sparse one
    assert found["sparse support"] == pytest.approx(1 / 30)
    assert found["dense first in sparse"] == 0
    assert found["sparse first in dense"] == pytest.approx(1 / 3)
    assert found["common of 10"] == pytest.approx(0.1)
    assert found["tokens"] == pytest.approx(np.log(3))
    assert found["sparse score a token"] == pytest.approx(np.log(4))


@given(lists, lists, st.floats(0.01, 100))
def test_the_dense_scale_does_not_matter(dense: dict, sparse: dict, factor: float) -> None:
    keys, scores = best_first({key: round(abs(score), 6) + 1 for key, score in dense.items()})
    one = of_lists(keys, scores, *best_first(sparse), 5)
    two = of_lists(keys, [score * factor for score in scores], *best_first(sparse), 5)
    assert one == pytest.approx(two, abs=1e-4)


def test_a_lone_hit_and_ties_are_the_best_there_is() -> None:
    lone = dict(zip(FEATURES, of_lists("abc", [0.9, 0.8, 0.1], "b", [7.0], 1), strict=True))
    assert lone["dense support"] == pytest.approx(0.1)
    assert lone["sparse gap"] == 1
    tied = dict(zip(FEATURES, of_lists("abc", [0.9, 0.8, 0.1], "bx", [7.0, 7.0], 1), strict=True))
    assert (tied["sparse gap"], tied["sparse mean"]) == (0, 1)
    for sparse in ({"b": 7.0}, {"b": 7.0, "x": 7.0}):  # such a list counts under a weight of the query's own too
        dense = {"a": 0.9, "b": 0.89, "c": 0.1}
        assert fuse_scores(dense, sparse, weight=0.6)[0][0] == "b"
        assert fuse_scores(dense, sparse, Fusion(tied="paper"), weight=0.6)[0][0] == "a"


def test_through_json_and_back() -> None:
    fusion = Fusion(weigher=of_seed(1))
    assert Fusion.of(json.loads(json.dumps(asdict(fusion)))) == fusion
    old = {"method": "linear", "dense": 0.7, "sparse": 0.3, "rrf_k": 60.0, "tied": "best"}
    assert Fusion.of(old) == Fusion()
    assert fusion.describe()["weights"] == "by query"


def test_wrong_numbers_are_refused() -> None:
    good = of_seed(0)
    with pytest.raises(UsageError, match="tune again"):
        Weigher(good.hidden, good.output[:-1])
    with pytest.raises(UsageError, match="tune again"):
        Weigher((good.hidden[0][:-1],), (0.0, 0.0))
    with pytest.raises(UsageError, match="tune again"):
        replace(good, output=(float("nan"), *good.output[1:]))
    with pytest.raises(UsageError, match="bounds"):
        replace(good, low=0.5, high=0.5)
    with pytest.raises(UsageError, match="rrf"):
        Fusion(method="rrf", weigher=good)


def test_token_numbers() -> None:
    counts = sparse_from_dense(np.array([[0, 2, 1], [0, 0, 0], [1, 0, 0]], dtype=np.float32))
    assert token_numbers(counts) == [3, 0, 1]


def test_cheap() -> None:
    rng = np.random.default_rng(0)
    lists = [(rng.permutation(300)[:100].tolist(), sorted(rng.random(100).tolist())[::-1]) for _ in range(64)]
    weigher, times = of_seed(0, 8), []
    for _ in range(5):
        start = perf_counter()
        weigher.weights([of_lists(*one, *two, 8) for one, two in zip(lists, lists[::-1], strict=True)])
        times.append((perf_counter() - start) / len(lists))
    assert min(times) < 200e-6  # some 40 µs on an idle machine; this only guards against another order of magnitude
