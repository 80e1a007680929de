"""Learned weights: on lists whose best weight is known, and through an index."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import made_tokenizers
import numpy as np
import pytest

from lightretriever import Encoded, Index, QueryEncoder, TokenTable
from lightretriever.errors import InputError, UsageError
from lightretriever.evaluation.collection import read_collection
from lightretriever.evaluation.compare import compare
from lightretriever.evaluation.learn import best_weight, fit_weigher
from lightretriever.evaluation.lists import GRID, Judged, judge_lists, ndcg
from lightretriever.evaluation.tune import choose, tune, unlearned
from lightretriever.fusion import Fusion
from lightretriever.weigher import FEATURES, Weigher


def made(n: int, by_query: bool, seed: int = 0) -> Judged:
    """Queries whose best weight is 0.2 for all, or 0.2 or 0.9 as their first feature says."""
    rng = np.random.default_rng(seed)
    found = rng.random((n, len(FEATURES)))
    best = np.where(found[:, 0] > 0.5, 0.9, 0.2) if by_query else np.full(n, 0.2)
    noisy = np.clip(best + rng.normal(scale=0.1, size=n), 0, 1)
    return Judged(found, np.maximum(0.0, 1 - 1.5 * np.abs(GRID - noisy[:, None])) + 1e-6)


def test_one_weight_where_one_fits() -> None:
    judged = made(200, by_query=False)
    assert best_weight(judged) == pytest.approx(0.2, abs=0.051)
    found = choose(judged, 3, 5, 0, "best", Path("x"))
    assert found.chosen == "one weight"
    assert found.fusion.weigher is None
    assert found.fusion.dense + found.fusion.sparse == 1
    assert (found.queries, found.unanswered, found.folds) == (200, 3, 5)


def test_a_weight_by_query_where_queries_differ() -> None:
    judged, unseen = made(300, by_query=True), made(300, by_query=True, seed=1)
    found = choose(judged, 0, 5, 0, "best", Path("x"))
    assert found.chosen == "by query"
    assert found.fusion.weigher is not None
    weights = found.fusion.weigher.weights(unseen.features)
    assert unseen.at(weights).mean() > unseen.gains.mean(axis=0).max() + 0.05
    assert choose(judged, 0, 5, 0, "best", Path("x")) == found


def test_fixed_weights_stay_where_nothing_is_to_be_learned() -> None:
    rng = np.random.default_rng(0)
    judged = Judged(rng.random((60, len(FEATURES))), np.ones((60, len(GRID))))
    found = choose(judged, 0, 5, 0, "best", Path("x"))
    assert found.chosen == "0.7/0.3"
    assert (found.fusion.dense, found.fusion.weigher) == (0.7, None)


def test_between_two_weights_in_proportion() -> None:
    judged = Judged(np.zeros((1, len(FEATURES))), np.arange(21.0)[None])
    assert judged.at(0.5)[0] == pytest.approx(10)
    assert judged.at(np.array([0.33]))[0] == pytest.approx(6.6)
    assert judged.at(1.0)[0] == pytest.approx(20)


def test_features_that_never_change_do_no_harm() -> None:
    judged = made(50, by_query=True)
    constant = Judged(np.zeros_like(judged.features), judged.gains)
    weigher = fit_weigher(constant)
    assert np.ptp(weigher.weights(judged.features)) == 0


def test_too_few() -> None:
    with pytest.raises(InputError, match="too few for 5 folds"):
        choose(made(9, by_query=False), 0, 5, 0, "best", Path("x"))
    with pytest.raises(InputError, match="no query has a judged document"):
        choose(made(0, by_query=False), 4, 5, 0, "best", Path("x"))


def write_collection(folder: Path, count: int) -> Path:
    """Documents of random words; each query is three words of its document."""
    rng = np.random.default_rng(0)
    words = [word for word in made_tokenizers.wordpiece().get_vocab() if word.isalpha() and len(word) > 2]
    texts = [" ".join(rng.choice(words, 12)) for _ in range(count)]
    (folder / "qrels").mkdir(parents=True)
    rows = [{"_id": f"d{i}", "text": text} for i, text in enumerate(texts)]
    asked = [{"_id": f"q{i}", "text": " ".join(rng.choice(text.split(), 3))} for i, text in enumerate(texts)]
    for name, lines in (("corpus", rows), ("queries", asked)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    judged = "".join(f"q{i}\td{i}\t1\n" for i in range(count))
    (folder / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\n" + judged)
    (folder / "qrels" / "none.tsv").write_text("query-id\tcorpus-id\tscore\nq0\telsewhere\t1\nq1\telsewhere\t1\n")
    return folder


def make_index(path: Path, data: Path, sparse: str = "bm25") -> Index:
    """Document vectors are noise, so that only the sparse side knows anything."""
    rng = np.random.default_rng(1)
    tokenizer = made_tokenizers.wordpiece()
    rows = rng.normal(size=(tokenizer.get_vocab_size(), 8)).astype(np.float32)
    documents = list(read_collection(data, "dev").documents())
    dense = rng.normal(size=(len(documents), 8)).astype(np.float32)
    dense /= np.linalg.norm(dense, axis=1, keepdims=True)
    encoder = QueryEncoder(TokenTable.from_rows(rows, tokenizer, model="noise", revision="1"))
    index = Index.create(path, encoder, sparse=sparse)
    index.add([d.id for d in documents], Encoded(dense), [{"text": d.text} for d in documents])
    return index


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_collection(tmp_path_factory.mktemp("data") / "made", 60)


@pytest.fixture(scope="module")
def made_index(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Iterator[Index]:
    with make_index(tmp_path_factory.mktemp("index") / "i", data) as opened:
        yield opened


@pytest.fixture
def index(made_index: Index) -> Index:
    """One for all: making one costs seconds of disk."""
    made_index.set_fusion(Fusion())
    return made_index


def test_an_index_learns_that_its_vectors_are_noise(index: Index, data: Path) -> None:
    pytest.importorskip("ir_measures")
    collection = read_collection(data, "dev")
    before = compare(index, collection, measures=["nDCG@10"], depth=100).evaluations["hybrid"].means["nDCG@10"]
    found = tune(index, collection)
    assert found.fusion.dense < 0.5
    index.set_fusion(found.fusion)
    after = compare(index, collection, measures=["nDCG@10"], depth=100).evaluations["hybrid"].means["nDCG@10"]
    assert after > before
    assert index.settings.fusion == found.fusion


def test_what_a_weight_is_worth_is_what_a_search_with_it_is_worth(index: Index, data: Path) -> None:
    pytest.importorskip("ir_measures")
    collection = read_collection(data, "dev")
    judged = judge_lists(index, collection.queries, collection.qrels)
    for place in (0, 10, 14, 20):
        weight = float(GRID[place])
        index.set_fusion(Fusion(dense=weight, sparse=1 - weight))
        found = compare(index, collection, measures=["nDCG@10"], depth=100).evaluations["hybrid"]
        assert judged.gains[:, place].mean() == pytest.approx(found.means["nDCG@10"], abs=0.01)  # ties by another id


def test_what_weights_are_worth_does_not_depend_on_the_fusion_in_force(index: Index, data: Path) -> None:
    collection = read_collection(data, "dev")
    by_default = judge_lists(index, collection.queries, collection.qrels)
    index.set_fusion(Fusion(method="rrf"))
    by_ranks = judge_lists(index, collection.queries, collection.qrels)
    assert np.array_equal(by_default.gains, by_ranks.gains)
    index.set_fusion(Fusion())


def test_a_stored_weigher_is_what_searches_use(index: Index, data: Path) -> None:
    collection = read_collection(data, "dev")
    judged = judge_lists(index, collection.queries, collection.qrels)
    weigher = fit_weigher(made(200, by_query=True))
    index.set_fusion(Fusion(weigher=weigher))
    weights = weigher.weights(judged.features)
    with Index.open(index.path) as again:
        assert again.fusion.weigher == weigher
    asked = list(collection.queries.values())
    together = index.search_many(asked)
    for hits, query in zip(together[:3], asked, strict=False):
        alone = {hit.id: hit.score for hit in index.search(query)}
        assert {hit.id: hit.score for hit in hits} == pytest.approx(alone, abs=1e-5)
    found = index.find(index.encoder.encode(asked), 100)
    assert found.ends is not None
    for hits, weight, floor, best in zip(together, weights, found.ends[:, 0], found.sparse.scores[:, 0], strict=True):
        for hit in hits:
            assert hit.dense_score is not None and hit.sparse_score is not None
            dense = (hit.dense_score - floor) / (1 - floor)
            assert hit.score == pytest.approx(weight * dense + (1 - weight) * hit.sparse_score / best, abs=1e-5)
    assert index.search("") == []
    assert index.info()["fusion"]["weights"] == "by query"


def test_nothing_to_tune(index: Index, data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no query has a judged document"):
        tune(index, read_collection(data, "none"))
    with pytest.raises(UsageError, match="1 folds"):
        tune(index, read_collection(data, "dev"), folds=1)
    with make_index(tmp_path / "dense", data, "none") as dense:
        with pytest.raises(UsageError, match="no sparse side"):
            tune(dense, read_collection(data, "dev"))
        with pytest.raises(UsageError, match="no sparse side"):
            unlearned(dense)


def test_without_judged_queries(index: Index) -> None:
    general = unlearned(index).weigher
    assert general == Weigher.general()
    weights = general.weights(made(100, by_query=False).features)
    assert (weights > 0.28).all()
    assert (weights < 0.88).all()
    assert (unlearned(index, 0.6).dense, unlearned(index, 0.6).sparse) == (0.6, 0.4)
    assert unlearned(index, 0.6).weigher is None


def test_what_is_not_to_be_used_is_not() -> None:
    judged = made(100, by_query=True)
    weigher = fit_weigher(judged, blind=[FEATURES[0]])
    assert all(row[0] == 0 for row in weigher.hidden)
    assert any(row[1] != 0 for row in weigher.hidden)


def test_ndcg_by_hand() -> None:
    assert ndcg(["a", "b"], {"b": 1}) == pytest.approx(1 / np.log2(3))
    assert ndcg(["b", "a"], {"b": 2, "a": 1, "c": 0}) == pytest.approx(1)
    assert ndcg([], {"b": 1}) == 0
    assert ndcg(["a"], {}) == 0
