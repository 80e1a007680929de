"""What a table fitted to a few documents is worth: nDCG@10 of collections of 10, 100 and 1,000 documents.

Each is a part of a judged collection: the documents that some of its questions are judged for, and others, drawn at
random; only these questions are asked. The table is fitted to the part by the defaults of `lightretriever index`
(documents' vectors and 8,000 sentences at most), to its vectors alone, or not at all: the prior, each token through the
model by itself. "Fitted to 25 others" is used for documents that it never saw. Needs vectors folders of the collections
(`lightretriever encode`): `python benchmarks/small_collections.py DIR/scifact DIR/cranfield --vectors DIR`.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from results import SAVED, Result, report

from lightretriever import DocumentEncoder, FitOptions, Index, QueryEncoder, TokenTable, evaluate, fit_table
from lightretriever.evaluation.collection import Collection, read_collection
from lightretriever.scratch import scratch_folder
from lightretriever.text.corpus import Document
from lightretriever.types import Encoded, Run
from lightretriever.vectors.folder import VectorsFolder

MEASURE = "nDCG@10"
SIZES = (10, 100, 1_000)
DRAWS = {10: 5, 100: 3, 1_000: 1}
OTHERS = 25
SENTENCES = 8_000
ALONE = 1e6  # λ under which nothing is left but the prior


@dataclass(frozen=True)
class Part:
    """Some documents with their vectors, and the questions that are judged for them."""

    documents: Sequence[Document]
    dense: NDArray[np.float32]
    queries: Mapping[str, str]
    qrels: Mapping[str, Mapping[str, int]]


def draw(collection: Collection, vectors: VectorsFolder, size: int, rng: np.random.Generator) -> tuple[Part, Part]:
    """A part of so many documents, and `OTHERS` documents that it does not have."""
    parts = list(vectors.parts())
    documents = [document for some, _ in parts for document in some]
    dense = np.concatenate([encoded.dense for _, encoded in parts]).astype(np.float32)
    row = {document.id: i for i, document in enumerate(documents)}
    chosen: dict[int, None] = {}
    asked = []
    for query in rng.permutation(list(collection.queries)).tolist():
        rows = [row[name] for name, grade in collection.qrels[query].items() if grade > 0 and name in row]
        if rows and len({*chosen, *rows}) <= max(size // 2, 1):
            chosen.update(dict.fromkeys(rows))
            asked.append(query)
    rest = [i for i in rng.permutation(len(documents)).tolist() if i not in chosen]
    left = size - len(chosen)
    own, others = [*chosen, *rest[:left]], rest[left : left + OTHERS]
    queries = {query: collection.queries[query] for query in asked}
    return (
        Part([documents[i] for i in own], dense[own], queries, {query: collection.qrels[query] for query in asked}),
        Part([documents[i] for i in others], dense[others], {}, {}),
    )


def fitted(part: Part, tower: DocumentEncoder | None, l2: float | None = None) -> TokenTable:
    """A table by the defaults of `lightretriever index`; without the tower its tokenizer is minilm's."""
    vectors = (part.documents, part.dense)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of few texts, which is what this is about
        if l2 is not None:
            return fit_table(tower, (), vectors, l2=l2)
        return fit_table(tower, part.documents, vectors, options=FitOptions(max_sentences=SENTENCES))


def dense_run(queries: NDArray[np.float32], part: Part) -> Run:
    """Every document by its cosine; a query without a vector finds nothing."""
    scores = queries @ part.dense.T
    ids = [document.id for document in part.documents]
    found = {
        query: dict(zip(ids, own.tolist(), strict=True)) if own.any() else {}
        for query, own in zip(part.queries, scores, strict=True)
    }
    return Run(found)


def hybrid_run(part: Part, table: TokenTable) -> Run:
    """What an index answers."""
    with (
        scratch_folder(SAVED / "small") as folder,
        Index.create(folder / "i", QueryEncoder(table), "bm25") as index,
    ):
        index.add([document.id for document in part.documents], Encoded(part.dense), list(part.documents))
        hits = index.search_many(list(part.queries.values()), 100, texts=False)
    return Run({query: {hit.id: hit.score for hit in own} for query, own in zip(part.queries, hits, strict=True)})


def measured(run: Run, part: Part) -> float:
    return evaluate(run, part.qrels, [MEASURE]).means[MEASURE]


def measure(part: Part, others: Part, tower: DocumentEncoder) -> dict[str, float]:
    """System to the measure's mean."""
    texts = list(part.queries.values())
    tables = {
        "look-up": fitted(part, tower),
        "prior alone": fitted(part, tower, ALONE),
        f"fitted to {OTHERS} others": fitted(others, tower),
    }
    found = {"full model": measured(dense_run(tower.encode_queries(texts), part), part)}
    for name, table in tables.items():
        found[name] = measured(dense_run(QueryEncoder(table).encode(texts).dense, part), part)
        found[f"{name}, hybrid"] = measured(hybrid_run(part, table), part)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collections", nargs="+", type=Path, metavar="DIR", help="BEIR folders")
    parser.add_argument("--vectors", type=Path, required=True, metavar="DIR", help="holds a vectors folder of each")
    parser.add_argument("--split", default="test")
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES))
    arguments = parser.parse_args()
    tower = DocumentEncoder.load("minilm", sparse="none")
    rows, data, names = [], {}, list[str]()
    for path in arguments.collections:
        collection = read_collection(path, arguments.split)
        vectors = VectorsFolder.open(arguments.vectors / path.name)
        for size in arguments.sizes:
            draws = [draw(collection, vectors, size, np.random.default_rng(i)) for i in range(DRAWS.get(size, 1))]
            every = [measure(part, others, tower) for part, others in draws]
            means = {name: float(np.mean([found[name] for found in every])) for name in every[0]}
            asked = sum(len(part.queries) for part, _ in draws)
            names = list(means)
            data[f"{path.name} {size}"] = means
            rows.append([path.name, f"{size:,}", str(asked), *(f"{value:.3f}" for value in means.values())])
    notes = (
        f"{MEASURE} of {arguments.split} questions, means over "
        f"{', '.join(f'{DRAWS.get(size, 1)} draws of {size:,}' for size in arguments.sizes)}."
    )
    report(Result("small_collections", ["collection", "documents", "questions", *names], rows, notes, data))


if __name__ == "__main__":
    main()
