"""What the sparse side counts: the model's tokens against words, alone and in the hybrid, collection by collection.

Documents, vectors and tables are those of fusion.py; each collection has two indexes, one that counts the tokens of
`minilm` and one with the analyser that its documents get: `python benchmarks/analysers.py DIR/scifact DIR/cisi …`. With
`--parameters` instead the k1 and b of BM25, on at most 400 queries of the train splits. Needs the `all` extra.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from fusion import open_index, real_queries
from fusion_ways import DEPTH, OURS, WAYS, Scores
from results import SAVED, Result, report

from lightretriever import Index
from lightretriever.errors import InputError
from lightretriever.evaluation.collection import read_collection
from lightretriever.evaluation.compare import compare
from lightretriever.evaluation.lists import ndcg
from lightretriever.fusion import DEFAULT_FUSION, heard_weights, hearing_of
from lightretriever.index.bm25 import BM25
from lightretriever.index.engines.engine import ends_of, pages
from lightretriever.index.postings import Postings, best_places
from lightretriever.text.analysers.analyser import PIECES, Analyser
from lightretriever.types import concatenate_sparse

MEASURE = "nDCG@10"
TOKENS = Analyser(PIECES)
MOST = 400
PARAMETERS = [(0.6, 0.4), (0.9, 0.4), (0.9, 0.6), (0.9, 0.75), (1.2, 0.4), (1.2, 0.75), (1.5, 0.75)]


def compare_analysers(path: Path, kept: Path) -> list[str]:
    """The collection's line: its test queries under tokens and under its own analyser."""
    found: list[dict[str, float]] = []
    for analyser in (TOKENS, None):
        with open_index(path, kept, analyser) as index:
            evaluations = compare(index, read_collection(path, "test"), None, [MEASURE]).evaluations
            found.append({system: 100 * result.means[MEASURE] for system, result in evaluations.items()})
            named = str(index.settings.analyser)
    tokens, words = found
    cells = [words["dense"], tokens["sparse"], words["sparse"], tokens["hybrid"], words["hybrid"]]
    return [path.name, named, *(f"{cell:.1f}" for cell in cells)]


def with_mean(lines: Sequence[Sequence[str]]) -> list[list[str]]:
    """The lines, and one of the means of all."""
    means = [f"{np.mean([float(line[column]) for line in lines]):.1f}" for column in range(2, len(lines[0]))]
    return [*map(list, lines), ["mean", "", *means]]


def try_parameters(
    index: Index, queries: Mapping[str, str], qrels: Mapping[str, Mapping[str, int]]
) -> list[tuple[float, float]]:
    """nDCG@10 of the sparse side alone and of the hybrid, in points, under each pair of `PARAMETERS`."""
    read = list(pages(index.engine, 500, vectors=True))
    names = [document.id for page in read for document in page.documents]
    vectors = np.concatenate([page.dense for page in read])
    counts = concatenate_sparse([page.sparse for page in read if page.sparse is not None])
    encoded = index.encoder.encode(list(queries.values()))
    assert encoded.sparse is not None
    dense = encoded.dense @ vectors.T
    orders = np.argsort(-dense, axis=1, kind="stable")
    floors = ends_of(encoded.dense, vectors.sum(axis=0, dtype=np.float64), len(names))[:, 0]
    statistics, found = BM25.of([counts], counts.width), []
    for k1, b in PARAMETERS:
        postings = Postings.of(statistics.impacts(counts, k1, b))
        alone, both = [], []
        for row, query in enumerate(queries):
            sparse = postings.scores(*encoded.sparse.row(row))
            best = best_places(sparse, np.flatnonzero(sparse), DEPTH)
            order = orders[row]
            place_of = np.empty_like(order)
            place_of[order] = np.arange(len(order))
            scores = Scores(dense[row][order].astype(float), sparse[order], place_of[best], float(floors[row]))
            documents, one, two = WAYS[OURS](scores)
            (hearing,) = hearing_of(encoded.take([row]), [sparse[best[:1]].tolist()])
            first, second = heard_weights(DEFAULT_FUSION, DEFAULT_FUSION.dense, hearing)
            ranked = documents[np.argsort(-(first * one + second * two), kind="stable")][:10]
            alone.append(ndcg([names[place] for place in best[:10]], qrels.get(query, {})))
            both.append(ndcg([names[order[place]] for place in ranked], qrels.get(query, {})))
        found.append((100 * float(np.mean(alone)), 100 * float(np.mean(both))))
    return found


def parameters_of(paths: Sequence[Path], kept: Path, analyser: Analyser | None) -> list[str]:
    """Means over the collections that have a train split: sparse and hybrid, by pair of parameters."""
    tried = []
    for path in paths:
        try:
            queries, qrels = real_queries(path, "train")
        except InputError:
            continue
        with open_index(path, kept, analyser) as index:
            tried.append(try_parameters(index, dict(list(queries.items())[:MOST]), qrels))
    return [f"{sparse:.2f}, {hybrid:.2f}" for sparse, hybrid in np.mean(tried, axis=0)]


def of_parameters(paths: Sequence[Path], kept: Path) -> Result:
    """k1 and b."""
    header = ["counted", *(f"k1 {k1}, b {b}" for k1, b in PARAMETERS)]
    sides = (("tokens", TOKENS), ("words", None))
    rows = [[name, *parameters_of(paths, kept, analyser)] for name, analyser in sides]
    notes = (
        f"100 × nDCG@10 of BM25 alone and of the hybrid at {DEFAULT_FUSION.dense} dense, means over the train splits "
        "of the collections that have one, at most 400 queries each; tables fitted to the documents' vectors of "
        "all-MiniLM-L6-v2."
    )
    return Result("bm25_parameters", header, rows, notes)


def of_analysers(paths: Sequence[Path], kept: Path) -> Result:
    """Tokens and words."""
    header = ["collection", "analyser", "dense", "tokens alone", "words alone", "tokens hybrid", "words hybrid"]
    rows = with_mean([compare_analysers(path, kept) for path in paths])
    notes = (
        "100 × nDCG@10 on the test splits, as a new index searches: BM25 over the tokens of all-MiniLM-L6-v2 or over "
        "what its analyser makes of the text, alone and fused with the dense list; tables fitted to the documents' "
        "vectors."
    )
    return Result("analysers", header, rows, notes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("collections", nargs="+", type=Path, metavar="DIR", help="BEIR folders")
    parser.add_argument("--parameters", action="store_true", help="compare k1 and b")
    options = parser.parse_args()
    kept = SAVED / "fusion"
    kept.mkdir(parents=True, exist_ok=True)
    measure = of_parameters if options.parameters else of_analysers
    report(measure(options.collections, kept))


if __name__ == "__main__":
    main()
