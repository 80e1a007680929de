"""Documents of words that no text of the fit held, added to an index: are they found, and what does that cost?

For each collection, tables are fitted to the documents' vectors, with no model and with the model's own token rows to
fall back to. Then the documents of `new_words.jsonl` are added, and queries made of their words are asked: with what
the table says of how much it understands of each query (its trust), and as if it understood all. The collection's own
queries are asked in both ways too, without the new documents. The queries of the part "dev", and train splits, were
for choosing how trust is computed; this reports the part "test". Needs the `all` extra:
`python benchmarks/new_words.py DIR/scifact [DIR/…] [--split test]`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from results import SAVED, Result, report

from lightretriever import DocumentEncoder, Encoded, Index, QueryEncoder, TokenTable, fit_table
from lightretriever.evaluation.collection import Collection, read_collection
from lightretriever.evaluation.measures import evaluate
from lightretriever.evaluation.runs import search_queries
from lightretriever.vectors.encode import encode_corpus
from lightretriever.vectors.folder import VectorsFolder

MEASURES = ("nDCG@10", "RR")
DEPTH = 100
SYSTEMS = ("sparse", "dense", "hybrid", "hybrid, all trusted")
NEW = Path(__file__).with_suffix(".jsonl")


def new_documents() -> list[dict[str, str]]:
    """Ids and texts."""
    rows = map(json.loads, NEW.read_text(encoding="utf-8").splitlines())
    return [{"id": f"new: {row['id']}", "text": row["text"]} for row in rows]


def new_queries(part: str) -> tuple[dict[str, str], dict[str, dict[str, int]]]:
    """Queries and judgements of one part: each query is made of one document's words."""
    queries: dict[str, str] = {}
    qrels: dict[str, dict[str, int]] = {}
    for row in map(json.loads, NEW.read_text(encoding="utf-8").splitlines()):
        for number, query in enumerate(row["queries"] if row["part"] == part else ()):
            name = f"{row['id']} {number}"
            queries[name], qrels[name] = query, {f"new: {row['id']}": 1}
    return queries, qrels


def measure(
    index: Index, queries: Mapping[str, str], qrels: Mapping[str, Mapping[str, int]]
) -> dict[str, dict[str, float]]:
    """Each system's means."""

    def trusting(batch: list[str]) -> Encoded:
        return replace(index.encoder.encode(batch), trust=None, unknown=None)

    means = {}
    for system in SYSTEMS:
        encode = trusting if system.endswith("trusted") else None
        run = search_queries(index, queries, DEPTH, system.split(",")[0], encode=encode)
        means[system] = dict(evaluate(run, qrels, MEASURES).means)
    return means


def measure_table(
    table: TokenTable, folder: VectorsFolder, collection: Collection, tower: DocumentEncoder, part: str
) -> dict[str, dict[str, dict[str, float]]]:
    """What an index is worth to the collection's queries, then with new documents to theirs."""
    with (
        tempfile.TemporaryDirectory() as temporary,
        Index.create(Path(temporary) / "index", QueryEncoder(table), sparse="bm25", model=tower) as index,
    ):
        for documents, encoded in folder.parts():
            payloads = [{"title": document.title, "text": document.text} for document in documents]
            index.add([document.id for document in documents], encoded, payloads)
        index.refresh_bm25()
        found = {"own": measure(index, collection.queries, collection.qrels)}
        index.add_documents(new_documents())
        found["new"] = measure(index, *new_queries(part))
    return found


def measure_collection(path: Path, split: str, part: str, tower: DocumentEncoder) -> dict[str, dict]:
    """Recipe to what its table is worth."""
    collection = read_collection(path, split)
    place = SAVED / "vectors" / path.name
    encode_corpus(collection.documents(), tower, place, dtype="float32")
    folder = VectorsFolder.open(place)
    recipes = {
        "vectors, no model": fit_table(vectors=folder, prior="zero"),
        "vectors, the model's token rows": fit_table(vectors=folder),
    }
    return {recipe: measure_table(table, folder, collection, tower, part) for recipe, table in recipes.items()}


def lines(name: str, results: dict[str, dict]) -> list[list[str]]:
    """The collection's rows of the table."""
    rows = []
    for recipe, found in results.items():
        own, new = found["own"], found["new"]
        gained = 100 * (own["hybrid"]["nDCG@10"] - own["hybrid, all trusted"]["nDCG@10"])
        rows.append(
            [
                name,
                recipe,
                *(f"{new[system]['RR']:.2f}" for system in SYSTEMS),
                f"{own['hybrid']['nDCG@10']:.4f}",
                f"{gained:+.2f}",
            ]
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("collections", nargs="+", type=Path, metavar="DIR", help="BEIR folders")
    parser.add_argument("--split", default="test")
    parser.add_argument("--part", default="test", choices=("dev", "test"), help="of new_words.jsonl")
    options = parser.parse_args()
    tower = DocumentEncoder.load("minilm", sparse="none")
    found = {path.name: measure_collection(path, options.split, options.part, tower) for path in options.collections}
    header = ["collection", "fitted to", *(f"new: {system}" for system in SYSTEMS), "own: hybrid", "by trust"]
    rows = [line for name, results in found.items() for line in lines(name, results)]
    count = len(new_queries(options.part)[0])
    losses = np.array([100 * (r["own"]["hybrid"]["nDCG@10"] - r["own"]["hybrid, all trusted"]["nDCG@10"])
                       for results in found.values() for r in results.values()])  # fmt: skip
    notes = (
        f"New: mean reciprocal rank of the right document for {count} queries made of the words of documents added "
        "later (an island, error codes, German, Chinese …); “all trusted” is the fusion without trust. Own: nDCG@10 of "
        f"the collection's {options.split} queries, and what trust changes in points (least {losses.min():+.2f}). "
        "Document tower all-MiniLM-L6-v2, sparse BM25 over words, default fusion."
    )
    report(Result("new_words", header, rows, notes, found))


if __name__ == "__main__":
    main()
