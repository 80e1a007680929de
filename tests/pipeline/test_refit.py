"""A table fitted anew to what an index holds: like the one before, of the same model, and for new words too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pipeline.test_build import make_docs, options_of

from lightretriever import DocumentEncoder, Index, QueryEncoder
from lightretriever.errors import InputError, UsageError
from lightretriever.pipeline import refit
from lightretriever.pipeline.build import build_index
from lightretriever.pipeline.refit import needs_refit, refit_table
from lightretriever.pipeline.sync import sync_index


@pytest.fixture(scope="module")
def loaded(tower: Path) -> DocumentEncoder:
    return DocumentEncoder.load(tower, sparse="none")


@pytest.mark.parametrize("with_tower", [True, False])
def test_the_table_follows_the_documents(
    tower: Path, loaded: DocumentEncoder, tmp_path: Path, with_tower: bool
) -> None:
    docs = make_docs(tmp_path / "docs", 4)
    build_index(tmp_path / "i", [docs], options=options_of(tower, sparse="bm25"))
    for i in range(30):
        (docs / f"new{i}.md").write_text(f"who read the file in one thread {i}")
    with Index.open(tmp_path / "i", loaded) as index:
        assert not needs_refit(index)
        sync_index(index)
        assert needs_refit(index)
        before = index.encoder.table
        table = refit_table(index, loaded if with_tower else None, 100)
        names = ("model", "revision", "prompt", "skip_ids", "dtype", "tokenizer_hash", "dim")
        assert all(getattr(table, name) == getattr(before, name) for name in names)
        assert int(str(table.fitted["samples"])) > int(str(before.fitted["samples"])) - 200
        index.set_table(table)
        assert not needs_refit(index)
        assert index.search("read the file", 3)


def test_of_many_documents_an_even_sample_is_taken(
    tower: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docs = make_docs(tmp_path / "docs", 30)
    build_index(tmp_path / "i", [docs], options=options_of(tower, sparse="bm25"))
    monkeypatch.setattr(refit, "MOST", 20)
    with Index.open(tmp_path / "i") as index:
        documents, vectors = refit._sample(index, lambda _what, _unit: lambda _done, _total: None)
        step = -(-index.count // 20)
        assert len(documents) == len(vectors) == -(-index.count // step)
        assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-2)


def test_what_cannot_be_fitted(tower: Path, tmp_path: Path) -> None:
    docs = make_docs(tmp_path / "docs", 2)
    build_index(tmp_path / "i", [docs], options=options_of(tower, sparse="bm25"))
    with Index.open(tmp_path / "i") as index:
        table = index.encoder.table
    axes = np.linalg.qr(np.random.default_rng(0).normal(size=(table.dim, 16)))[0].astype(np.float32)
    with (
        Index.create(tmp_path / "turned", QueryEncoder(table.rotated(axes)), "bm25") as index,
        pytest.raises(UsageError, match="turned table"),
    ):
        refit_table(index)
    with (
        Index.create(tmp_path / "empty", QueryEncoder(table), "bm25") as index,
        pytest.raises(InputError, match="nothing to fit to"),
    ):
        refit_table(index)
