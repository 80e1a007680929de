"""What the look-up keeps of the full model's quality: nDCG@10 on collections in BEIR's format.

For each collection the documents are encoded once by `minilm` (kept in `.bench/vectors`); tables are fitted to that
model on the collection's own text, never on a query, and every query side searches the same vectors, alone and fused
with BM25 over words. Needs the `all` extra: `python benchmarks/quality.py DIR/scifact [DIR/…] [--split test]`.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from results import SAVED, Result, report

from lightretriever import DocumentEncoder, Encoded, Index, QueryEncoder, TokenTable, cache_table, fit_table
from lightretriever.evaluation.collection import Collection, read_collection
from lightretriever.evaluation.compare import compare
from lightretriever.text.corpus import Document
from lightretriever.vectors.encode import encode_corpus
from lightretriever.vectors.folder import VectorsFolder

MEASURE = "nDCG@10"
COLUMNS = ("dense", "hybrid")


def tables(
    tower: DocumentEncoder, documents: Sequence[Document], encoded: Encoded, cache: Path
) -> dict[str, TokenTable]:
    """Token tables by how they are made; the tower's vectors of sentences are kept in ``cache``."""
    texts = [document.input for document in documents]
    return {
        "raw table": cache_table(tower),
        "fitted to the documents' vectors, no model call": fit_table(
            vectors=(texts, encoded.dense), tokenizer=tower.tokenizer
        ),
        "fitted to sentences and documents' vectors": fit_table(
            tower, documents, vectors=(texts, encoded.dense), cache=cache
        ),
    }


def measure(index: Index, collection: Collection, tower: DocumentEncoder | None) -> dict[str, float]:
    """Mean of the measure for every system, fused as a new index does."""
    evaluations = compare(index, collection, tower, [MEASURE]).evaluations
    return {system: result.means[MEASURE] for system, result in evaluations.items()}


def measure_collection(
    path: Path, split: str, tower: DocumentEncoder, vectors: Path = SAVED / "vectors"
) -> dict[str, dict[str, float]]:
    """Query side to (system to the measure's mean); the full model's under "symmetric"."""
    collection = read_collection(path, split)
    encode_corpus(collection.documents(), tower, vectors / path.name, dtype="float32")
    parts = list(VectorsFolder.open(vectors / path.name).parts())
    documents = [document for part, _ in parts for document in part]
    encoded = Encoded(np.concatenate([part.dense for _, part in parts]))
    payloads = [{"title": document.title, "text": document.text} for document in documents]
    results: dict[str, dict[str, float]] = {}
    for number, (name, table) in enumerate(
        tables(tower, documents, encoded, vectors / f"{path.name}.sentences").items()
    ):
        with (
            tempfile.TemporaryDirectory() as folder,
            Index.create(Path(folder) / "index", QueryEncoder(table), sparse="bm25") as index,
        ):
            index.add([document.id for document in documents], encoded, payloads)
            results[name] = measure(index, collection, None if number else tower)
    return results


def lines(name: str, results: dict[str, dict[str, float]]) -> list[list[str]]:
    """The collection's rows of the table."""
    first = next(iter(results.values()))
    full = {column: first[f"symmetric {column}"] for column in COLUMNS}
    rows = [
        [name, "BM25 alone", f"{first['sparse']:.3f}", ""],
        [name, "full model (symmetric)", *(f"{full[column]:.3f}" for column in COLUMNS)],
    ]
    for side, found in results.items():
        rows.append([name, side, *(f"{found[c]:.3f} ({found[c] / full[c]:.0%})" for c in COLUMNS)])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("collections", nargs="+", type=Path, metavar="DIR", help="BEIR folders")
    parser.add_argument("--split", default="test")
    options = parser.parse_args()
    tower = DocumentEncoder.load("minilm", sparse="none")
    found = {path.name: measure_collection(path, options.split, tower) for path in options.collections}
    header = ["collection", "query side", *COLUMNS]
    rows = [line for name, results in found.items() for line in lines(name, results)]
    notes = (
        f"{MEASURE} on the {options.split} split, in brackets the share of the full model's. Document tower "
        "all-MiniLM-L6-v2, frozen; tables are fitted on the collection's own documents, never on queries; hybrid with "
        "BM25 over words (k1 0.9, b 0.75), as a new index fuses them; a query without hits counts zero."
    )
    report(Result("quality", header, rows, notes, found))


if __name__ == "__main__":
    main()
