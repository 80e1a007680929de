"""The folder that the benchmark of scale works in: documents, queries and the exact answers, made once and kept.

FOLDER/
  made.json           how many documents, how many of them real, neighbourhoods and spectra of both
  texts.json          the real passages' texts
  parents.npy         of which of them each document's text is: its own, or made of several
  indptr.npy, indices.npy, counts.npy   BM25's counts of all texts
  queries.json        the queries
  table/              a token table fitted to the real passages, which queries are looked up in
  dense-D.npy, queries-D.npy   for each dimension
  D-N/                for each dimension and number of documents: truth.npz, the index, what was measured
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from made_vectors import faiss_neighbours, widen, write_dense, write_widened
from numpy.typing import NDArray
from term_scan import Postings, Scanner, invert

from lightretriever import Encoded, QueryEncoder, SparseVectors, TokenTable, fit_table
from lightretriever.bench.made import fit_maker, made_texts, neighbour_similarities, read_real, spectrum
from lightretriever.index.bm25 import BM25, count_tokens

BLOCK, TEXTS = 20_000, 5_000  # documents at once
DEPTH = 1000  # of the exact answers
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Truth:
    """The queries at one size, and their exact answers, best first.

    Attributes:
        queries: as the encoder gives them.
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

    def encoded(self, rows: slice) -> Encoded:
        """Vectors of some documents; BM25 counts their texts itself."""
        return Encoded(self.dense()[rows].astype(np.float16).astype(np.float32))  # as `encode` writes them

    def texts(self, rows: slice) -> list[str]:
        """Their texts."""
        return texts_of(self.root, rows)

    def postings(self) -> Postings:
        """BM25's, of all documents."""
        width = len(TokenTable.load(self.root / "table"))
        parts = list(_counts(self.root, self.documents, width))
        statistics = BM25.of(parts, width)
        return invert(map(statistics.impacts, parts), statistics.frequency)

    def truth(self) -> Truth:
        """Computed at the first call."""
        file = self.folder / "truth.npz"
        if not file.exists():
            self.folder.mkdir(exist_ok=True)
            np.savez(file, **_exact(self))
        with np.load(file) as found:
            queries = np.load(self.root / f"queries-{self.dim}.npy")
            sparse = QueryEncoder.load(self.root / "table").encode_sparse(read_queries(self.root))
            names = ("dense", "dense_scores", "sparse", "sparse_scores")
            return Truth(Encoded(queries, sparse), *(found[name] for name in names))


def read_queries(root: Path) -> list[str]:
    """The queries' texts."""
    found: list[str] = json.loads((root / "queries.json").read_text())
    return found


def texts_of(root: Path, rows: slice) -> list[str]:
    """Texts of documents; those of made ones are runs of words out of the passages that they were mixed from."""
    real: list[str] = json.loads((root / "texts.json").read_text())
    parents = np.load(root / "parents.npy", mmap_mode="r")
    found: list[str] = []
    begin = rows.start - rows.start % TEXTS
    for start in range(begin, rows.stop, TEXTS):  # so that a document's text is the same whichever are asked for
        part = np.array(parents[start : start + TEXTS])
        own = part[:, 1] < 0
        made = iter(made_texts(real, part[~own], seed=start))
        found += [real[parent] if is_own else next(made) for parent, is_own in zip(part[:, 0], own, strict=True)]
    return found[rows.start - begin : rows.stop - begin]


def prepare(root: Path, vectors: Sequence[Path], texts: Sequence[Path], documents: int, queries: int) -> dict:
    """Make documents and queries of the real passages' own dimension, unless as many are there; returns made.json."""
    file = root / "made.json"
    if file.exists():
        made = json.loads(file.read_text())
        if made["documents"] >= documents:
            return made
        raise SystemExit(f"{root} has {made['documents']} documents, {documents} are wanted: remove it first")
    real = read_real(vectors, documents)
    maker = fit_maker(real.dense, faiss_neighbours) if len(real.dense) < documents else None
    dim = real.dense.shape[1]
    parents = write_dense(root / f"dense-{dim}.npy", real.dense, maker, documents)
    dense = np.load(root / f"dense-{dim}.npy", mmap_mode="r")
    np.save(root / "parents.npy", parents)
    (root / "texts.json").write_text(json.dumps(real.texts))
    table = fit_table(vectors=(real.texts, real.dense), tokenizer=real.tokenizer)
    table.save(root / "table")
    asked = _query_texts(texts, real.texts, queries)
    looked_up = QueryEncoder(table).encode_dense(asked)
    known = looked_up.any(axis=1)
    np.save(root / f"queries-{dim}.npy", looked_up[known])
    (root / "queries.json").write_text(
        json.dumps([text for text, is_known in zip(asked, known, strict=True) if is_known])
    )
    _write_counts(root, documents, table)
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
    """The table of an index over these documents, of its dimension; queries never read it."""
    own = TokenTable.load(root / "table")
    rows = np.zeros((len(own), dim), np.float32)
    rows[: len(own), : own.dim] = own[np.arange(len(own))]
    return TokenTable.from_rows(rows, own.tokenizer, model=own.model, revision=own.revision, dtype="int8")


def _query_texts(sources: Sequence[Path], texts: Sequence[str], queries: int, seed: int = 0) -> list[str]:
    """An even draw from the query files; where there are none, the first eight words of passages."""
    found = [json.loads(line)["text"] for file in sources if file.is_file() for line in file.open(encoding="utf-8")]
    found = found or [" ".join(text.split()[:8]) for text in texts]
    chosen = np.random.default_rng(seed).choice(len(found), min(queries, len(found)), replace=False)
    return [found[i] for i in chosen]


def _write_counts(root: Path, documents: int, table: TokenTable) -> None:
    parts, chunks = [], QueryEncoder(table).chunks
    for start in range(0, documents, BLOCK):
        texts = texts_of(root, slice(start, min(start + BLOCK, documents)))
        parts.append(count_tokens(texts, chunks, table.leading_space, len(table)))
    np.save(root / "indptr.npy", np.cumsum(np.concatenate([[0], *(np.diff(part.indptr) for part in parts)])))
    np.save(root / "indices.npy", np.concatenate([part.indices for part in parts]))
    np.save(root / "counts.npy", np.concatenate([part.values for part in parts]))


def _counts(root: Path, documents: int, width: int) -> Iterator[SparseVectors]:
    indptr, indices, counts = (np.load(root / f"{name}.npy", mmap_mode="r") for name in ("indptr", "indices", "counts"))
    for start in range(0, documents, BLOCK):
        own = np.array(indptr[start : min(start + BLOCK, documents) + 1])
        entries = slice(int(own[0]), int(own[-1]))
        yield SparseVectors(own - own[0], np.array(indices[entries]), np.array(counts[entries]), width)


def _exact(size: Size) -> dict[str, NDArray]:
    queries = np.load(size.root / f"queries-{size.dim}.npy")
    dense, dense_scores = exact_dense(size.dense(), queries, DEPTH)
    asked = QueryEncoder.load(size.root / "table").encode_sparse(read_queries(size.root))
    sparse = np.full((len(queries), DEPTH), -1, np.int64)
    sparse_scores = np.zeros((len(queries), DEPTH), np.float32)
    scanner = Scanner(size.postings(), size.documents)
    for i in range(len(queries)):
        scores, documents = scanner.search(*asked.row(i), DEPTH)
        sparse[i, : len(documents)], sparse_scores[i, : len(scores)] = documents, scores
    return {"dense": dense, "dense_scores": dense_scores, "sparse": sparse, "sparse_scores": sparse_scores}


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
