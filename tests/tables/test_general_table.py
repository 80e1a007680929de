"""A table for a model of which there is no text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_models import sentence_folder

from lightretriever import DocumentEncoder, FitOptions, QueryEncoder, fit_table, general_table
from lightretriever.errors import UsageError


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTRETRIEVER_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def tower(tmp_path: Path) -> DocumentEncoder:
    folder = sentence_folder(tmp_path / "tiny", {"pooling_mode_mean_tokens": True}, prompts={"query": "find: "})
    return DocumentEncoder.load(folder, device="cpu", sparse="none")


def test_it_is_what_a_fit_falls_back_to(tower: DocumentEncoder) -> None:
    table = general_table(tower)
    assert (len(table), table.dim, table.prompt, table.fitted["samples"]) == (tower.vocab_size, tower.dim, "find: ", 0)
    stiff = fit_table(tower, ["the highest mountain in the world"], l2=1e6)
    np.testing.assert_allclose(stiff[:], table[:], atol=1e-3)
    assert np.linalg.norm(QueryEncoder(table).encode_dense(["highest mountain"])) == pytest.approx(1, abs=1e-5)


def test_prompts_have_tables_of_their_own(tower: DocumentEncoder) -> None:
    assert general_table(tower, "seek: ").hash != general_table(tower).hash


def test_what_asks_for_text_is_refused(tower: DocumentEncoder) -> None:
    small = general_table(tower, options=FitOptions(dim=8, dtype="int8"))
    assert (small.dim, small.dtype) == (8, "int8")
    for options in (FitOptions(l2=0.1), FitOptions(dim=8, rotate=True), FitOptions(phrases=3)):
        with pytest.raises(UsageError, match="text"):
            general_table(tower, options=options)
