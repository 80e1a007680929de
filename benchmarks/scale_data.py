"""The folder that the benchmark of scale works in: documents, queries and the exact answers, made once and kept.

FOLDER/
  made.json           how many documents, how many of them real, neighbourhoods and spectra of both
  texts.json          the beginnings of the real passages' texts
  parents.npy         which text each document has
  indices.npy, values.npy   sparse vectors, see made_sparse
  table/              a token table fitted to the real passages, which queries are looked up in
  dense-D.npy, queries-D.npy   for each dimension
  D-N/                for each dimension and number of documents: truth.npz, the index, what was measured
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from made_sparse import TERMS, WIDTH, Scanner, draw_queries, invert, sparse_rows, write_sparse
from made_vectors import TEXT, faiss_neighbours, widen, write_dense, write_widened
from numpy.typing import NDArray

from lightretriever import Encoded, QueryEncoder, TokenTable, fit_table
from lightretriever.bench.made import fit_maker, neighbour_similarities, read_real, spectrum

DEPTH = 1000  # of the exact answers
FITTED = 10_000  # passages that the table is fitted to
STRENGTH = 2.0  # of that fit
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Truth:
    """The queries at one size, and their exact answers, best first.

    Attributes:
        queries: dense float32 [q, d]; sparse [q, WIDTH], counts of 1.
        dense, sparse: documents int64 [q, DEPTH], −1 where a list ends before.
        dense_scores, sparse_scores: float32 [q, DEPTH].
    """

    queries: Encoded
    dense: NDArray[np.int64]
    dense_scores: Floats
    sparse: NDArray[np.int64]
    sparse_scores: Floats


@dataclass(frozen=True)
class Size:
    """One row of the benchmark: so many documents of such a dimension, in a folder of a benchmark's folder."""

    root: Path
    dim: int
    documents: int

    @property
    def folder(self) -> Path:
        return self.root / f"{self.dim}-{self.documents}"

    def dense(self) -> Floats:
        return np.load(self.root / f"dense-{self.dim}.npy", mmap_mode="r")[: self.documents]

    def sparse(self) -> tuple[NDArray[np.int32], Floats]:
        """Tokens and weights [documents, NON_ZEROS]."""
        indices, values = (np.load(self.root / f"{name}.npy", mmap_mode="r") for name in ("indices", "values"))
        return indices[: self.documents], values[: self.documents]

    def encoded(self, rows: slice) -> Encoded:
        indices, values = self.sparse()
        return Encoded(np.array(self.dense()[rows]), sparse_rows(np.array(indices[rows]), np.array(values[rows])))

    def truth(self) -> Truth:
        """Computed at the first call."""
        file = self.folder / "truth.npz"
        if not file.exists():
            self.folder.mkdir(exist_ok=True)
            np.savez(file, **_exact(self))
        with np.load(file) as found:
            tokens = found["tokens"]
            sparse = sparse_rows(tokens, np.ones(tokens.shape, np.float32))
            return Truth(
                Encoded(found["queries"], sparse),
                found["dense"],
                found["dense_scores"],
                found["sparse"],
                found["sparse_scores"],
            )


def prepare(root: Path, vectors: Sequence[Path], texts: Sequence[Path], documents: int, queries: int) -> dict:
    """Make documents and queries of the real passages' own dimension, unless as many are there; returns made.json."""
    file = root / "made.json"
    if file.exists():
        made = json.loads(file.read_text())
        if made["documents"] >= documents:
            return made
        raise SystemExit(f"{root} has {made['documents']} documents, {documents} are wanted: remove it first")
    real = read_real(vectors, documents, TEXT)
    maker = fit_maker(real.dense, faiss_neighbours) if len(real.dense) < documents else None
    dim = real.dense.shape[1]
    parents = write_dense(root / f"dense-{dim}.npy", real.dense, maker, documents)
    dense = np.load(root / f"dense-{dim}.npy", mmap_mode="r")
    write_sparse(root, dense)
    np.save(root / "parents.npy", parents)
    (root / "texts.json").write_text(json.dumps(real.texts))
    table = fit_table(vectors=(real.texts[:FITTED], real.dense[:FITTED]), tokenizer=real.tokenizer, l2=STRENGTH)
    table.save(root / "table")
    looked_up = QueryEncoder(table).encode_dense(_query_texts(texts or vectors, real.texts, queries))
    np.save(root / f"queries-{dim}.npy", looked_up[looked_up.any(axis=1)])
    beyond = dense[len(real.dense) :][: len(real.dense)]
    made = {
        "documents": documents,
        "real": len(real.dense),
        "dim": dim,
        "model": real.model,
        "mixed": maker.mixed if maker else 0,
        "noise": maker.noise if maker else 0.0,
        "neighbours": {"real": neighbour_similarities(real.dense)},
        "spectrum": {"real": spectrum(real.dense)},
    }
    if maker is not None:  # among as many, or the larger crowd would have nearer neighbours
        few = min(len(beyond), len(real.dense))
        made["neighbours"] = {
            "real": neighbour_similarities(real.dense[:few]),
            "made": neighbour_similarities(np.array(beyond[:few])),
        }
        made["spectrum"]["made"] = spectrum(np.array(beyond))
    file.write_text(json.dumps(made, indent=1))
    return made


def prepare_dim(root: Path, made: dict, dim: int, documents: int) -> None:
    """So many documents, and the queries, of another dimension, out of those of the real passages' own."""
    file = root / f"dense-{dim}.npy"
    if not file.exists() or len(np.load(file, mmap_mode="r")) < documents:
        write_widened(file, np.load(root / f"dense-{made['dim']}.npy", mmap_mode="r")[:documents], dim)
        np.save(root / f"queries-{dim}.npy", widen(np.load(root / f"queries-{made['dim']}.npy"), dim))


def index_table(root: Path, dim: int) -> TokenTable:
    """The table of an index over these documents: as many rows as there are sparse tokens; queries never read it."""
    own = TokenTable.load(root / "table")
    rows = np.zeros((WIDTH, dim), np.float32)
    rows[: len(own), : own.dim] = own[np.arange(len(own))]
    return TokenTable.from_rows(rows, own.tokenizer, model=own.model, revision=own.revision, dtype="int8")


def _query_texts(sources: Sequence[Path], texts: Sequence[str], queries: int, seed: int = 0) -> list[str]:
    """An even draw from the query files; where there are none, the first eight words of passages."""
    found = [json.loads(line)["text"] for file in sources if file.is_file() for line in file.open(encoding="utf-8")]
    found = found or [" ".join(text.split()[:8]) for text in texts]
    chosen = np.random.default_rng(seed).choice(len(found), min(queries, len(found)), replace=False)
    return [found[i] for i in chosen]


def _exact(size: Size) -> dict[str, NDArray]:
    queries = np.load(size.root / f"queries-{size.dim}.npy")
    dense, dense_scores = exact_dense(size.dense(), queries, DEPTH)
    indices, values = size.sparse()
    postings = invert(indices, values)
    rng = np.random.default_rng(1)
    about = dense[np.arange(len(queries)), rng.integers(0, 10, len(queries))]  # a document near each query
    tokens = draw_queries(indices[about], values[about], np.diff(postings.starts))
    sparse = np.full((len(queries), DEPTH), -1, np.int64)
    sparse_scores = np.zeros((len(queries), DEPTH), np.float32)
    scanner = Scanner(postings, size.documents)
    for i, row in enumerate(tokens):
        scores, documents = scanner.search(row, np.ones(TERMS, np.float32), DEPTH)
        sparse[i, : len(documents)], sparse_scores[i, : len(scores)] = documents, scores
    return {
        "queries": queries,
        "tokens": tokens,
        "dense": dense,
        "dense_scores": dense_scores,
        "sparse": sparse,
        "sparse_scores": sparse_scores,
    }


def exact_dense(vectors: Floats, queries: Floats, k: int, block: int = 20_000) -> tuple[NDArray[np.int64], Floats]:
    """Documents int64 [q, k] of greatest inner product and the products, best first, block by block."""
    best, best_scores = np.empty((len(queries), 0), np.int64), np.empty((len(queries), 0), np.float32)
    for start in range(0, len(vectors), block):
        scores = queries @ vectors[start : start + block].T
        rows = np.broadcast_to(np.arange(start, start + scores.shape[1]), scores.shape)
        best, best_scores = np.concatenate([best, rows], axis=1), np.concatenate([best_scores, scores], axis=1)
        if best.shape[1] > k:
            kept = np.argpartition(-best_scores, k - 1, axis=1)[:, :k]
            best, best_scores = np.take_along_axis(best, kept, 1), np.take_along_axis(best_scores, kept, 1)
    order = np.argsort(-best_scores, axis=1, kind="stable")
    return np.take_along_axis(best, order, 1), np.take_along_axis(best_scores, order, 1)
