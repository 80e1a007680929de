"""Ways to make one score of two, compared query by query: min-max over lists, what scores can be, z-scores, ranks.

Every document's two scores are exact. Of each way the best of nine dense weights is taken, on at most 1,500 queries of
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
from lightretriever.fusion import DEFAULT_FUSION, Fusion, contributions, heard_weights, hearing_of

TOGETHER = 16  # queries whose scores of all documents are in memory at once
WEIGHTS = [round(0.1 * step, 1) for step in range(1, 10)]
DEPTH, DEEP, CUTOFF = 100, 1_000, 10
OURS = "cosine over its mean, to 1; share of the best"
Floats = NDArray[np.float64]
Places = NDArray[np.intp]


@dataclass(frozen=True)
class Scores:
    """One query's scores of all documents, by falling dense score.

    Attributes:
        dense, sparse: float64 [n].
        best: places of the best sparse scores, best first; those that have one of the tokens.
        floor: what the query's cosine is with documents in general.
    """

    dense: Floats
    sparse: Floats
    best: Places
    floor: float

    def listed(self, depth: int) -> tuple[Places, Places]:
        """Each arm's best, best first."""
        return np.arange(min(depth, len(self.dense))), self.best[:depth]


Way = Callable[[Scores], tuple[Places, Floats, Floats]]
"""Documents, and what the dense and the sparse arm give each, before weights."""


def in_lists(depth: int, contribution: Callable[[Floats], Floats]) -> Way:
    """Of lists of so many alone: a document that a list lacks gets nothing of it."""

    def parts(scores: Scores) -> tuple[Places, Floats, Floats]:
        given = np.zeros((2, len(scores.dense)))
        one, two = scores.listed(depth)
        given[0, one] = contribution(scores.dense[one])
        given[1, two] = contribution(scores.sparse[two])
        either = np.union1d(one, two)
        return either, given[0, either], given[1, either]

    return parts


def exact(dense_part: Callable[[Scores], Floats], sparse_part: Callable[[Scores], Floats]) -> Way:
    """By both scores of every document that either list of a hundred has."""

    def parts(scores: Scores) -> tuple[Places, Floats, Floats]:
        either = np.union1d(*scores.listed(DEPTH))
        return either, dense_part(scores)[either], sparse_part(scores)[either]

    return parts


def by_list(method: str) -> Callable[[Floats], Floats]:
    """What each place of a list alone is worth by a method of the fusion."""
    return lambda scores: np.array(contributions(scores.tolist(), 1.0, Fusion(method=method)))


def above(floor: Callable[[Scores], float], top: Callable[[Scores], float]) -> Callable[[Scores], Floats]:
    """The cosine between two."""
    return lambda scores: (scores.dense - floor(scores)) / max(top(scores) - floor(scores), 1e-9)


def share(scores: Scores) -> Floats:
    """Of the best sparse score."""
    return scores.sparse / max(float(scores.sparse.max()), 1e-9)


def standard(values: Floats) -> Floats:
    """z-scores over all documents."""
    return (values - values.mean()) / (values.std() + 1e-9)


def over_lists(scores: Scores) -> Floats:
    """The sparse score between the last and the best of the list."""
    listed = scores.sparse[scores.best[:DEPTH]]
    return (scores.sparse - listed[-1]) / (listed[0] - listed[-1] + 1e-8) if len(listed) else 0 * scores.sparse


def _best(scores: Scores) -> float:
    return float(scores.dense[0])


BEFORE = "min-max, lists of 100"
WAYS: dict[str, Way] = {
    OURS: exact(above(lambda scores: scores.floor, lambda _: 1.0), share),
    "cosine over its mean, to the best; share of the best": exact(above(lambda scores: scores.floor, _best), share),
    "cosine over 0, to the best; share of the best": exact(above(lambda _: 0.0, _best), share),
    "cosine over −1, to the best; share of the best": exact(above(lambda _: -1.0, _best), share),
    "z-scores over all documents": exact(lambda s: standard(s.dense), lambda s: standard(s.sparse)),
    "min-max of 100, what a list lacks looked up": exact(
        above(lambda scores: float(scores.dense[min(DEPTH, len(scores.dense)) - 1]), _best), over_lists
    ),
    "min-max, lists of 1,000": in_lists(DEEP, by_list("linear")),
    BEFORE: in_lists(DEPTH, by_list("linear")),
    "ranks, lists of 100": in_lists(DEPTH, by_list("rrf")),
}


def gains(index: Index, queries: Mapping[str, str], qrels: Mapping[str, Mapping[str, int]]) -> dict[str, Floats]:
    """nDCG@10 of each query under each weight, float64 [q, weights], by way."""
    found: dict[str, list[list[float]]] = {way: [] for way in WAYS}
    ids = list(queries)
    for start in range(0, len(ids), TOGETHER):
        batch = ids[start : start + TOGETHER]
        encoded = index.encoder.encode([queries[query] for query in batch])
        lists = index.find(encoded, index.count)
        assert lists.ends is not None
        hearings = hearing_of(encoded, [ranking.scores[:1].tolist() for ranking in lists.sparse])
        for row, query in enumerate(batch):
            count = int(lists.dense.counts[row])
            names = lists.ids(lists.dense.keys[row, :count])
            dense, sparse = (scores[row, :count].astype(np.float64) for scores in lists.dense.arrays[2:])
            best = np.argsort(-sparse, kind="stable")[:DEEP]
            scores = Scores(dense, sparse, best[sparse[best] > 0], float(lists.ends[row, 0]))
            for way, parts in WAYS.items():
                documents, one, two = parts(scores)
                worth = []
                for weight in WEIGHTS:
                    first, second = heard_weights(index.fusion, weight, hearings[row])
                    order = np.lexsort((-dense[documents], -(first * one + second * two)))[:CUTOFF]
                    ranked = [str(names[place]) for place in documents[order].tolist()]
                    worth.append(ndcg(ranked, qrels.get(query, {})))
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
    lines += [(f"{way}, {DEFAULT_FUSION.dense}", way, WEIGHTS.index(DEFAULT_FUSION.dense)) for way in (OURS, BEFORE)]
    rows = []
    for title, way, place in lines:
        cells = [f"{100 * values[way][:, place].mean():.1f}" for values in test.values()]
        mean = np.mean([values[way][:, place].mean() for values in test.values()])
        gain, error = lead(test, way, place, chosen[OURS])
        ahead = "" if (way, place) == (OURS, chosen[OURS]) else f"{gain:+.2f} ± {error:.2f}"
        rows.append([title, *cells, f"{100 * mean:.2f}", ahead])
    return rows


def lead(test: Mapping[str, dict[str, Floats]], way: str, place: int, ours: int) -> tuple[float, float]:
    """Points that ours is ahead of a way, in the mean over collections, and the standard error over queries."""
    differences = [values[OURS][:, ours] - values[way][:, place] for values in test.values()]
    variances = [each.var(ddof=1) / len(each) for each in differences]
    ahead, error = np.mean([each.mean() for each in differences]), np.sqrt(np.sum(variances)) / len(test)
    return 100 * float(ahead), 100 * float(error)


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
        "100 × nDCG@10 on the test splits, BM25 over words and tables fitted to the documents' vectors of "
        "all-MiniLM-L6-v2; one dense weight for all collections, the best of nine on the train splits of "
        f"{', '.join(train)}. Ahead: points in the mean over collections, and the standard error over queries. The "
        f"first is what an index does; its weight is {DEFAULT_FUSION.dense}, the last line but one, until another is "
        "chosen."
    )
    report(Result("fusion_ways", header, rows_of(train, test), notes))


if __name__ == "__main__":
    main()
