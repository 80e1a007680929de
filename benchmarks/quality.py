"""What the look-up keeps of the full model's quality: nDCG@10 on collections in BEIR's format.

For each collection the documents are encoded once by `minilm` (kept in `.bench/vectors`); tables are fitted to that
model on the collection's own text, never on a query, and every query side searches the same vectors, alone and fused
with BM25 over words. Needs the `all` extra: `python benchmarks/quality.py DIR/scifact [DIR/…] [--split test]`.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from results import SAVED, Result, report

from lightretriever import DocumentEncoder, Encoded, Index, QueryEncoder, TokenTable, cache_table, fit_table
from lightretriever.evaluation.collection import Collection, read_collection
from lightretriever.evaluation.compare import compare
from lightretriever.text.analysers.analyser import PIECES, Analyser
from lightretriever.text.corpus import Document
from lightretriever.vectors.encode import encode_corpus
from lightretriever.vectors.folder import VectorsFolder

MEASURE = "nDCG@10"
COLUMNS = ("dense", "hybrid")
RAW, ALONE = "raw table", "fitted to the documents' vectors, no model call"
FITTED = "fitted to sentences and documents' vectors"
OF_TOKENS = "symmetric hybrid, tokens"
SYSTEMS = ("dense", "hybrid", "hybrid")
SHARES = ("dense", "hybrid", "of tokens")
FORETOLD = ("held_out_overlap", "held_out_ndcg", "held_out_cosine")


def tables(
    tower: DocumentEncoder, raw: TokenTable, documents: Sequence[Document], encoded: Encoded, cache: Path
) -> dict[str, TokenTable]:
    """Token tables by how they are made; the tower's vectors of sentences are kept in ``cache``."""
    vectors = (documents, encoded.dense)
    return {
        RAW: raw,
        ALONE: fit_table(vectors=vectors, tokenizer=tower.tokenizer),
        FITTED: fit_table(tower, documents, vectors=vectors, cache=cache),
    }


def measure(index: Index, collection: Collection, tower: DocumentEncoder | None) -> dict[str, float]:
    """Mean of the measure for every system, fused as a new index does."""
    evaluations = compare(index, collection, tower, [MEASURE]).evaluations
    return {system: result.means[MEASURE] for system, result in evaluations.items()}


def measure_collection(
    path: Path, split: str, tower: DocumentEncoder, raw: TokenTable, vectors: Path = SAVED / "vectors"
) -> dict[str, dict[str, float]]:
    """What each query side is worth, and what its fit said of itself.

    Args:
        raw: each token through the tower.
        vectors: where documents' vectors are kept.

    Returns:
        Query side to (system to the measure's mean). Under `RAW` there is the full model besides, as "symmetric dense",
        "symmetric hybrid" and `OF_TOKENS`: its hybrid with BM25 over its own tokens.
    """
    collection = read_collection(path, split)
    encode_corpus(collection.documents(), tower, vectors / path.name, dtype="float32")
    parts = list(VectorsFolder.open(vectors / path.name).parts())
    documents = [document for part, _ in parts for document in part]
    encoded = Encoded(np.concatenate([part.dense for _, part in parts]))
    made = tables(tower, raw, documents, encoded, vectors / f"{path.name}.sentences")
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        with new_index(Path(folder) / "words", raw, documents, encoded, None) as index:
            for name, table in made.items():
                index.set_table(table)
                results[name] = measure(index, collection, tower if name == RAW else None)
                results[name] |= {key: float(str(value)) for key, value in said_of(table).items()}
        with new_index(Path(folder) / "tokens", raw, documents, encoded, Analyser(PIECES)) as index:
            results[RAW][OF_TOKENS] = measure(index, collection, tower)["symmetric hybrid"]
    return results


def new_index(
    path: Path, table: TokenTable, documents: Sequence[Document], encoded: Encoded, analyser: Analyser | None
) -> Index:
    """An index of the documents, under an analyser of its own where none is given."""
    index = Index.create(path, QueryEncoder(table), sparse="bm25", analyser=analyser)
    payloads = [{"title": document.title, "text": document.text} for document in documents]
    index.add([document.id for document in documents], encoded, payloads)
    return index


def said_of(table: TokenTable) -> dict[str, object]:
    """What its fit measured on text held out of it."""
    return {name: value for name, value in (table.fitted or {}).items() if name in FORETOLD and value is not None}


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


def kept(results: Mapping[str, Mapping[str, float]]) -> list[float]:
    """The collection's numbers in the table of shares, in percent."""
    full = results[RAW]
    dense, words, tokens = (full[system] for system in ("symmetric dense", "symmetric hybrid", OF_TOKENS))
    found = [dense, tokens, words]
    for way in (ALONE, FITTED):
        found += [results[way][system] / of for system, of in zip(SYSTEMS, (dense, words, tokens), strict=True)]
    return [100 * value for value in (*found, *(results[FITTED][measure] for measure in FORETOLD))]


def alike(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's rank correlation."""
    ranks = [np.argsort(np.argsort(values)) for values in (first, second)]
    return float(np.corrcoef(*ranks)[0, 1])


def of_shares(found: Mapping[str, Mapping[str, Mapping[str, float]]], split: str) -> Result:
    """What look-up keeps, a collection a line."""
    values = np.array([kept(results) for results in found.values()])
    rows = [[name, *(f"{value:.1f}" for value in line)] for name, line in zip(found, values, strict=True)]
    for label, means in (("mean", values.mean(axis=0)), ("least", values.min(axis=0))):
        rows.append([label, *(f"{value:.1f}" for value in means)])
    told = [f"{name} {alike(values[:, 6], values[:, 9 + place]):.2f}" for place, name in enumerate(FORETOLD)]
    header = ["collection", "full dense", "full, tokens", "full, words"]
    header += [f"{way}: {share}" for way in ("vectors alone", "with the model") for share in SHARES]
    notes = (
        f"100 × {MEASURE} on the {split} split where all-MiniLM-L6-v2 encodes the queries: dense, and fused with BM25 "
        "over its tokens and over words. Then what look-up keeps of these, in percent: dense of dense, the hybrid over "
        "words of that over words, and of that over tokens; with a table fitted to the documents' vectors alone, as a "
        "provider gives them, and to these and sentences that the model encodes. Last what that fit itself measured on "
        f"text held out of it, × 100; Spearman's correlation with what is kept of dense: {', '.join(told)}."
    )
    return Result("kept", [*header, "overlap", "ndcg", "cosine"], rows, notes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("collections", nargs="+", type=Path, metavar="DIR", help="BEIR folders")
    parser.add_argument("--split", default="test")
    options = parser.parse_args()
    tower = DocumentEncoder.load("minilm", sparse="none")
    raw = cache_table(tower)
    found = {path.name: measure_collection(path, options.split, tower, raw) for path in options.collections}
    header = ["collection", "query side", *COLUMNS]
    rows = [line for name, results in found.items() for line in lines(name, results)]
    notes = (
        f"{MEASURE} on the {options.split} split, in brackets the share of the full model's. Document tower "
        "all-MiniLM-L6-v2, frozen; tables are fitted on the collection's own documents, never on queries; hybrid with "
        "BM25 over words (k1 0.9, b 0.75), as a new index fuses them; a query without hits counts zero."
    )
    report(Result("quality", header, rows, notes, found))
    report(of_shares(found, options.split))


if __name__ == "__main__":
    main()
