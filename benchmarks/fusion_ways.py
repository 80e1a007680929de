"""Ways to make one score of two, compared query by query: min-max over lists, what scores can be, z-scores, ranks.

Every document's two scores are exact. Of each way the best of ten dense weights is taken, on at most 1,500 queries of
the train splits, one weight for all collections; the test splits are reported. Documents, vectors and indexes are those
of fusion.py: `python benchmarks/fusion_ways.py DIR/scifact DIR/cranfield …`. Needs the `all` extra.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from fusion import open_index, real_queries
from numpy.typing import NDArray
from results import SAVED, Result, report

from lightretriever import Index
from lightretriever.errors import InputError
from lightretriever.evaluation.lists import ndcg
from lightretriever.fusion import heard_weights, hearing_of

TOGETHER = 16  # queries whose scores of all documents are in memory at once
WEIGHTS = [round(0.1 * step, 1) for step in range(1, 10)]
DEPTH, DEEP, CUTOFF = 100, 1_000, 10
OURS = "cosine over its mean, to 1; share of the best"
DEFAULT = 0.7
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """One query's scores of all documents, by falling dense score.

    Attributes:
        dense, sparse: float64 [n].
        floor: what the query's cosine is with documents in general.
    """

    dense: Floats
    sparse: Floats
    floor: float

    def listed(self, depth: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Each arm's best, best first; of the sparse arm those that have one of the tokens."""
        best = np.argsort(-self.sparse, kind="stable")[:depth]
        return np.arange(min(depth, len(self.dense))), best[self.sparse[best] > 0]

    def either(self) -> NDArray[np.intp]:
        """What either arm lists."""
        return np.union1d(*self.listed(DEPTH))


Way = Callable[[Scores, float, float], tuple[NDArray[np.intp], Floats]]
"""Documents and their fused scores, of a query's scores and the two weights."""


def in_lists(depth: int, contribution: Callable[[Floats], Floats]) -> Way:
    """Of lists of so many alone: a document that a list lacks gets nothing of it."""

    def fused(scores: Scores, dense: float, sparse: float) -> tuple[NDArray[np.intp], Floats]:
        total = np.zeros(len(scores.dense))
        one, two = scores.listed(depth)
        total[one] += dense * contribution(scores.dense[one])
        total[two] += sparse * contribution(scores.sparse[two])
        either = np.union1d(one, two)
        return either, total[either]

    return fused


def exact(dense_part: Callable[[Scores], Floats], sparse_part: Callable[[Scores], Floats]) -> Way:
    """By both scores of every document that either list of a hundred has."""

    def fused(scores: Scores, dense: float, sparse: float) -> tuple[NDArray[np.intp], Floats]:
        either = scores.either()
        return either, (dense * dense_part(scores) + sparse * sparse_part(scores))[either]

    return fused


def minmax(scores: Floats) -> Floats:
    """Between the least and the best of a list."""
    if not len(scores) or scores[0] == scores[-1]:
        return np.ones(len(scores))
    return (scores - scores[-1]) / (scores[0] - scores[-1] + 1e-8)


def ranks(scores: Floats) -> Floats:
    """1 / (60 + rank)."""
    return 1.0 / (61.0 + np.arange(len(scores)))


def above(floor: Callable[[Scores], float], top: Callable[[Scores], float]) -> Callable[[Scores], Floats]:
    """The cosine between two."""
    return lambda scores: (scores.dense - floor(scores)) / max(top(scores) - floor(scores), 1e-9)


def share(scores: Scores) -> Floats:
    """Of the best sparse score."""
    return scores.sparse / max(float(scores.sparse.max()), 1e-9)


def standard(values: Floats) -> Floats:
    """z-scores over all documents."""
    return (values - values.mean()) / (values.std() + 1e-9)


def _best(scores: Scores) -> float:
    return float(scores.dense[0])


WAYS: dict[str, Way] = {
    OURS: exact(above(lambda scores: scores.floor, lambda _: 1.0), share),
    "cosine over its mean, to the best; share of the best": exact(above(lambda scores: scores.floor, _best), share),
    "cosine over 0, to the best; share of the best": exact(above(lambda _: 0.0, _best), share),
    "cosine over −1, to the best; share of the best": exact(above(lambda _: -1.0, _best), share),
    "z-scores over all documents": exact(lambda s: standard(s.dense), lambda s: standard(s.sparse)),
    "min-max, lists of 1,000": in_lists(DEEP, minmax),
    "min-max, lists of 100": in_lists(DEPTH, minmax),
    "ranks, lists of 100": in_lists(DEPTH, ranks),
}
BEFORE = "min-max, lists of 100, 0.7"


def gains(index: Index, queries: Mapping[str, str], qrels: Mapping[str, Mapping[str, int]]) -> dict[str, Floats]:
    """nDCG@10 of each query under each weight, float64 [q, weights], by way."""
    found: dict[str, list[list[float]]] = {way: [] for way in WAYS}
    ids = list(queries)
    for start in range(0, len(ids), TOGETHER):
        batch = ids[start : start + TOGETHER]
        encoded = index.encoder.encode([queries[query] for query in batch])
        lists = index.find(encoded, index.count)
        assert lists.floors is not None
        hearings = hearing_of(encoded, [ranking.scores[:1].tolist() for ranking in lists.sparse])
        for row, query in enumerate(batch):
            count = int(lists.dense.counts[row])
            names = lists.ids(lists.dense.keys[row, :count])
            scores = Scores(
                lists.dense.scores[row, :count].astype(np.float64),
                lists.dense.others[row, :count].astype(np.float64),
                float(lists.floors[row]),
            )
            for way, fused in WAYS.items():
                worth = []
                for weight in WEIGHTS:
                    documents, total = fused(scores, *heard_weights(index.fusion, weight, hearings[row]))
                    best = documents[np.lexsort((-scores.dense[documents], -total))[:CUTOFF]]
                    worth.append(ndcg([str(names[place]) for place in best.tolist()], qrels.get(query, {})))
                found[way].append(worth)
    return {way: np.array(worth).reshape(-1, len(WEIGHTS)) for way, worth in found.items()}


def measure(path: Path, kept: Path, split: str) -> dict[str, Floats] | None:
    """`gains` of a collection's split; None where it has none."""
    file = kept / f"{path.name}.{split}.ways.npz"
    if not file.is_file():
        try:
            queries, qrels = real_queries(path, split)
        except InputError:
            return None
        with open_index(path, kept) as index:
            np.savez(file, **gains(index, queries, qrels))
    with np.load(file) as stored:
        return {way: stored[way] for way in WAYS}


def rows_of(train: Mapping[str, dict[str, Floats]], test: Mapping[str, dict[str, Floats]]) -> list[list[str]]:
    """A line for each way."""
    means = {way: np.mean([values[way].mean(axis=0) for values in train.values()], axis=0) for way in WAYS}
    chosen = {way: int(mean.argmax()) for way, mean in means.items()}
    lines = [(f"{way}, {WEIGHTS[place]}", way, place) for way, place in chosen.items()]
    lines.append((BEFORE, BEFORE.rsplit(", ", 1)[0], WEIGHTS.index(DEFAULT)))
    rows = []
    for title, way, place in lines:
        cells = [f"{100 * values[way][:, place].mean():.1f}" for values in test.values()]
        mean = np.mean([values[way][:, place].mean() for values in test.values()])
        gain, error = lead(test, way, place, chosen[OURS])
        rows.append([title, *cells, f"{100 * mean:.2f}", "" if way == OURS else f"{gain:+.2f} ± {error:.2f}"])
    return rows


def lead(test: Mapping[str, dict[str, Floats]], way: str, place: int, ours: int) -> tuple[float, float]:
    """Points that ours is ahead of a way, in the mean over collections, and the standard error over queries."""
    differences = [values[OURS][:, ours] - values[way][:, place] for values in test.values()]
    variances = [each.var(ddof=1) / len(each) for each in differences]
    return 100 * float(np.mean([each.mean() for each in differences])), 100 * float(np.sqrt(np.sum(variances))) / len(
        test
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("collections", nargs="+", type=Path, metavar="DIR", help="BEIR folders")
    options = parser.parse_args()
    kept = SAVED / "fusion"
    kept.mkdir(parents=True, exist_ok=True)
    of_split: dict[str, dict[str, dict[str, Floats]]] = {"train": {}, "test": {}}
    for path in options.collections:
        for split, found in of_split.items():
            if (measured := measure(path, kept, split)) is not None:
                found[path.name] = measured
    train, test = of_split["train"], of_split["test"]
    header = ["way, dense weight", *test, "mean", "ours is ahead"]
    notes = (
        "100 × nDCG@10 on the test splits, BM25 over word pieces and tables fitted to the documents' vectors of "
        "all-MiniLM-L6-v2; one dense weight for all collections, the best of nine on the train splits of "
        f"{', '.join(train)}. Ahead: points in the mean over collections, and the standard error over queries. The "
        "first is what an index does."
    )
    report(Result("fusion_ways", header, rows_of(train, test), notes))


if __name__ == "__main__":
    main()
