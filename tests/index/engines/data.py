"""Documents with vectors for tests of engines, and what to hold against what comes back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from index.conftest import unit_rows

from lightretriever.index.engines.engine import Found, Ranking, Rows
from lightretriever.text.corpus import Document
from lightretriever.types import sparse_from_dense, take_sparse

DIM, WIDTH = 12, 40


def make_documents(n: int) -> list[Document]:
    return [
        Document(f"d{i}", f"text {i}", f"title {i}" if i % 3 else "", {"group": i % 7, "even": i % 2 == 0})
        for i in range(n)
    ]


def make_rows(n: int, seed: int = 0) -> Rows:
    rng = np.random.default_rng(seed)
    weights = np.where(rng.random((n, WIDTH)) < 0.2, rng.random((n, WIDTH)) + 0.1, 0).astype(np.float32)
    return Rows(make_documents(n), unit_rows(rng, n, DIM), sparse_from_dense(weights))


def part(rows: Rows, chosen: Sequence[int]) -> Rows:
    sparse = None if rows.sparse is None else take_sparse(rows.sparse, chosen)
    return Rows([rows.documents[i] for i in chosen], rows.dense[np.array(chosen, int)], sparse)


def names(found: Found, ranking: Ranking) -> list[str]:
    ids = [name for name in found.ids(ranking.keys) if name is not None]
    assert len(ids) == len(ranking)
    return ids


def assert_equal(stored: Rows, given: Rows) -> None:
    """The same documents with the same vectors, to the last bit, in any order."""
    assert sorted(document.id for document in stored.documents) == sorted(document.id for document in given.documents)
    places = {document.id: row for row, document in enumerate(stored.documents)}
    order = [places[document.id] for document in given.documents]
    for one, other in zip((stored.documents[row] for row in order), given.documents, strict=True):
        assert (one.title, one.text) == (other.title, other.text)
        assert repr(dict(one.metadata)) == repr(dict(other.metadata))  # to Python 1 equals 1.0, and −0.0 equals 0.0
    assert (stored.dense.dtype, stored.dense[order].tobytes()) == (np.float32, given.dense.tobytes())
    assert (stored.sparse is None) == (given.sparse is None)
    if stored.sparse is not None and given.sparse is not None:
        sparse = take_sparse(stored.sparse, order)
        assert sparse.width == given.sparse.width
        assert sparse.indptr.tobytes() == given.sparse.indptr.tobytes()
        assert (sparse.indices.dtype, sparse.indices.tolist()) == (np.int32, given.sparse.indices.tolist())
        assert (sparse.values.dtype, sparse.values.tobytes()) == (np.float32, given.sparse.values.tobytes())
