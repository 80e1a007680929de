"""What a smaller table costs: megabytes on disk against nDCG@10, by storage dtype, dimensions and how they are chosen.

One table is fitted for each collection, as `benchmarks/quality.py` does it; it is then stored as float32, float16 and
int8, whole and cut: to its first dimensions, and to the principal axes of the documents. Documents are turned and cut
alike, and searched exactly. Needs the `all` extra: `python benchmarks/table_size.py DIR/scifact DIR/… [--split test]`.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from results import SAVED, Result, report

from lightretriever import DocumentEncoder, Encoded, QueryEncoder, TokenTable, fit_table
from lightretriever.axes import principal_axes
from lightretriever.evaluation.collection import Collection, read_collection
from lightretriever.evaluation.measures import evaluate
from lightretriever.fusion import Fusion, fuse_scores
from lightretriever.index.bm25 import BM25, count_tokens
from lightretriever.query.table import DTYPES, ROTATION, WEIGHTS
from lightretriever.types import Run, SparseVectors, take_sparse
from lightretriever.vectors.encode import encode_corpus
from lightretriever.vectors.folder import VectorsFolder
from lightretriever.vectors.parts import usable

MEASURE = "nDCG@10"
DIMS = (384, 256, 192, 128)
DEPTH = 100
EVEN = Fusion(dense=0.5, sparse=0.5)
Vectors = NDArray[np.float32]
Lists = list[dict[str, float]]


@dataclass(frozen=True)
class Search:
    """A collection ready to be searched: ids, dense vectors [n, d] and BM25's lists for its queries."""

    collection: Collection
    ids: Sequence[str]
    dense: Vectors
    sparse: Lists

    def measure(self, queries: Vectors, dim: int, rotation: Vectors | None) -> tuple[float, float]:
        """The measure's mean, dense and hybrid, for query vectors of ``dim`` dimensions."""
        lists = best(queries @ usable(Encoded(self.dense), dim, rotation).dense.T, self.ids)
        hybrid = [dict(fuse_scores(dense, sparse, EVEN)) for dense, sparse in zip(lists, self.sparse, strict=True)]
        return self._mean(lists), self._mean(hybrid)

    def _mean(self, lists: Lists) -> float:
        run = Run(dict(zip(self.collection.queries, lists, strict=True)))
        return evaluate(run, self.collection.qrels, [MEASURE]).means[MEASURE]


def best(scores: Vectors, ids: Sequence[str]) -> Lists:
    """Each query's documents of highest positive score, at most `DEPTH`, with their scores."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :DEPTH]
    return [{ids[j]: float(row[j]) for j in top if row[j] > 0} for row, top in zip(scores, order, strict=True)]


def bm25_scores(documents: Sequence[str], counts: SparseVectors, table: TokenTable) -> Vectors:
    """BM25 of every document for each query's token counts [q, V]: [q, documents]."""
    held = count_tokens(documents, table.tokenizer, table.leading_space, len(table))
    impacts = BM25.of([held], len(table)).impacts(held)
    used, asked = np.unique(counts.indices), np.zeros((len(counts), len(table)), np.float32)
    asked[np.repeat(np.arange(len(counts)), np.diff(counts.indptr)), counts.indices] = counts.values
    scores = []
    for first in range(0, len(documents), 512):
        part = take_sparse(impacts, np.arange(first, min(first + 512, len(documents))))
        scores.append(asked[:, used] @ part.to_dense()[:, used].T)
    return np.concatenate(scores, axis=1)


def size(table: TokenTable) -> tuple[float, float]:
    """Megabytes (10⁶) on disk: what queries read of the rows, and the whole folder."""
    with tempfile.TemporaryDirectory() as folder:
        table.save(Path(folder) / "table")
        files = {file.name: file.stat().st_size / 1e6 for file in (Path(folder) / "table").iterdir()}
        return files[WEIGHTS], sum(files.values())


def measure_collection(path: Path, split: str, tower: DocumentEncoder) -> list[dict[str, object]]:
    """One entry for each way to store the table, the full model's for each number of dimensions among them."""
    collection = read_collection(path, split)
    folder = SAVED / "vectors" / path.name
    encode_corpus(collection.documents(), tower, folder, dtype="float32")
    encoded = VectorsFolder.open(folder)
    parts = list(encoded.parts())
    documents = [document for part, _ in parts for document in part]
    dense = np.concatenate([part.dense for _, part in parts])
    ids, queries = [document.id for document in documents], list(collection.queries.values())
    table = fit_table(tower, documents, vectors=encoded, cache=folder.with_name(f"{path.name}.sentences"))
    counts = QueryEncoder(table).encode_sparse(queries)
    sparse = best(bm25_scores([document.input for document in documents], counts, table), ids)
    search, full = Search(collection, ids, dense, sparse), tower.encode_queries(queries)
    axes, _ = principal_axes(dense, dense.shape[1])
    found: list[dict[str, object]] = []
    for dim in DIMS:
        ways: dict[str, Vectors | None] = (
            {"whole": None} if dim == table.dim else {"first": None, "axes": axes[:, :dim]}
        )
        for way, rotation in ways.items():
            narrow = table.truncated(dim) if rotation is None else table.rotated(rotation)
            means = search.measure(usable(Encoded(full), dim, rotation).dense, dim, rotation)
            found.append({"dim": dim, "way": way, "stored": "full model", "dense": means[0], "hybrid": means[1]})
            for dtype in DTYPES:
                stored = narrow.converted(dtype)
                means = search.measure(QueryEncoder(stored).encode_dense(queries), dim, rotation)
                rows, whole = size(stored)
                sizes = {"rows_mb": rows, "folder_mb": whole}
                found.append({"dim": dim, "way": way, "stored": dtype, "dense": means[0], "hybrid": means[1], **sizes})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("collections", nargs="+", type=Path, metavar="DIR", help="BEIR folders")
    parser.add_argument("--split", default="test")
    options = parser.parse_args()
    tower = DocumentEncoder.load("minilm", sparse="none")
    found = {path.name: measure_collection(path, options.split, tower) for path in options.collections}
    whole = {name: entries[1] for name, entries in found.items()}
    rows = []
    for number, entry in enumerate(next(iter(found.values()))):
        cells = [str(entry["dim"]), str(entry["way"]), str(entry["stored"])]
        cells += [f"{entry[name]:.2f}" if name in entry else "" for name in ("rows_mb", "folder_mb")]
        for name, entries in found.items():
            for arm in ("dense", "hybrid"):
                value, base = float(str(entries[number][arm])), float(str(whole[name][arm]))
                cells.append(f"{value:.4f} ({value / base:.1%})")
        rows.append(cells)
    header = ["dimensions", "which", "stored as", "rows, MB", "folder, MB"]
    header += [f"{name} {arm}" for name in found for arm in ("dense", "hybrid")]
    notes = (
        f"{MEASURE} on the {options.split} split, in brackets the share of the whole float32 table's. *axes*: "
        "documents and table turned to the principal axes of the documents' vectors; *first*: the tower's first "
        "dimensions. *full model*: queries encoded by the tower and narrowed like the documents. MB are 10⁶ bytes: "
        f"`{WEIGHTS}` is what a query reads; the folder has the tokenizer besides, and `{ROTATION}`, which documents "
        "are turned by. Exact search; hybrid with BM25 over word pieces, 0.5/0.5 over the best 100 of each."
    )
    report(Result("table_size", header, rows, notes, found))


if __name__ == "__main__":
    main()
