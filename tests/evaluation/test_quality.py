"""The quality that the project promises, on a real collection and a real model."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.slow
def test_scifact_keeps_what_the_full_model_has(
    collection: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lightretriever import DocumentEncoder, cache_table

    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    quality = importlib.import_module("quality")
    tower = DocumentEncoder.load("minilm", sparse="none")
    results = quality.measure_collection(collection("scifact"), "test", tower, cache_table(tower), tmp_path)
    assert 0.645 <= round(results["raw table"]["symmetric dense"], 3) <= 0.652  # the figures known have three digits
    fitted = results["fitted to sentences and documents' vectors"]
    assert fitted["dense"] >= 0.64
    assert fitted["hybrid"] >= 0.70
    assert results["fitted to the documents' vectors, no model call"]["dense"] >= 0.64
