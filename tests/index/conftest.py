"""A small tower of random numbers: documents, their vectors, and a table over a WordPiece vocabulary of 40 words."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from lightretriever import Encoded, Index, QueryEncoder, SparseVectors, TokenTable
from lightretriever.text.analysers.analyser import Analyser
from lightretriever.text.corpus import Document
from lightretriever.types import sparse_from_dense

WORDS = [f"w{i:02d}" for i in range(38)]
DIM = 16


def word_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(
        models.WordLevel({"[PAD]": 0, "[UNK]": 1, **{w: i + 2 for i, w in enumerate(WORDS)}}, "[UNK]")
    )
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def make_encoder(seed: int = 0, model: str = "tiny", revision: str = "r1", dim: int = DIM) -> QueryEncoder:
    rows = np.random.default_rng(seed).normal(size=(len(WORDS) + 2, dim)).astype(np.float32)
    return QueryEncoder(TokenTable.from_rows(rows, word_tokenizer(), model=model, revision=revision, skip_ids=[0]))


def unit_rows(rng: np.random.Generator, n: int, dim: int = DIM) -> np.ndarray:
    rows = rng.normal(size=(n, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@dataclass
class RandomTower:
    """Stands where a DocumentEncoder would: vectors that depend on a document's text alone."""

    name: str = "tiny"
    revision: str = "r1"
    dim: int = DIM
    vocab_size: int = len(WORDS) + 2
    has_sparse: bool = True
    max_length: int = 32
    top_k: int | None = None
    tokenizer: Tokenizer = field(default_factory=word_tokenizer)
    skip_ids: tuple[int, ...] = (0,)
    calls: int = 0

    def encode(self, documents: Sequence[Document], progress: Callable | None = None) -> Encoded:
        self.calls += 1
        documents = list(documents)
        dense = np.empty((len(documents), self.dim), dtype=np.float32)
        weights = np.zeros((len(documents), self.vocab_size), dtype=np.float32)
        for row, document in enumerate(documents):
            rng = np.random.default_rng(list(document.input.encode()))
            dense[row] = unit_rows(rng, 1, self.dim)[0]
            weights[row, rng.choice(self.vocab_size, 6, replace=False)] = rng.random(6) + 0.1
        if progress:
            progress(len(documents), None)
        return Encoded(dense, sparse_from_dense(weights) if self.has_sparse else None)


def make_documents(n: int, seed: int = 0) -> list[Document]:
    rng = np.random.default_rng(seed)
    return [
        Document(
            id=f"d{i}",
            title=f"title {i}" if i % 3 else "",
            text=" ".join(rng.choice(WORDS, int(rng.integers(3, 30)))),
            metadata={"group": i % 7, "even": i % 2 == 0, "tags": [f"t{i % 3}", f"u{i % 5}"], "ratio": i % 4 / 2},
        )
        for i in range(n)
    ]


def payload(document: Document) -> dict[str, object]:
    return {"title": document.title, "text": document.text, "metadata": dict(document.metadata)}


MEMORY = Path("/dev/shm")


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one with room: an index waits for the disk a hundred times as it is made."""
    if not MEMORY.is_dir() or not os.access(MEMORY, os.W_OK) or shutil.disk_usage(MEMORY).free < 4 << 30:
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        yield Path(folder)


Filled = tuple[Index, list[Document], Encoded]


def fill(path: Path, n: int, sparse: str = "lm", analyser: Analyser | None = None) -> Filled:
    """An open index of n documents, with the documents and their vectors."""
    documents = make_documents(n)
    encoded = RandomTower().encode(documents)
    index = Index.create(path, make_encoder(), sparse=sparse, analyser=analyser)
    index.add([d.id for d in documents], encoded, [payload(d) for d in documents])
    return index, documents, encoded


@pytest.fixture(scope="session")
def searchable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    """One index of 300 documents for all tests that only search; making one costs a second of disk."""
    index, documents, encoded = fill(tmp_path_factory.mktemp("searchable") / "i", 300)
    with index:
        yield index, documents, encoded


@pytest.fixture
def filled(tmp_path: Path) -> Callable[..., Filled]:
    """Makes an index that a test may change."""
    return lambda n=10, sparse="lm": fill(tmp_path / f"{sparse}.index", n, sparse)


def sparse_scores(counts: SparseVectors, weights: SparseVectors) -> np.ndarray:
    """Inner products, [queries, documents]."""
    return counts.to_dense() @ weights.to_dense().T
