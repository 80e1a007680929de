"""What is trained is what is saved, loaded, cached and encoded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from made_models import TEXTS
from made_towers import QUERIES, batch_of, gradients, step, tower_of, train

from lightretriever import DocumentEncoder, QueryEncoder, cache_table
from lightretriever.training.tower import Texts, TowerInput, TrainableTower, represent

KINDS = ["causal", "mlm", "tied"]


def _encoded(tower: TrainableTower, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    batch = batch_of(tower, QUERIES, texts)
    with torch.no_grad():
        found = tower(TowerInput(Texts(batch.passage_ids, batch.passage_lengths)))
    return torch.nn.functional.normalize(found.passages).numpy(), found.passages_sparse.numpy()


@pytest.mark.parametrize("adapter", ["lora", "full"])
@pytest.mark.parametrize("kind", KINDS)
def test_saved_tower_gives_the_vectors_of_the_trained_one(kind: str, adapter: str, tmp_path: Path) -> None:
    tower = tower_of(kind, tmp_path, adapter=adapter)
    before = _encoded(tower, TEXTS)
    batch = batch_of(tower)
    train(tower, batch)
    tower.save(tmp_path / "trained")
    loaded = DocumentEncoder.load(tmp_path / "trained", device="cpu", max_length=42)
    dense, sparse = _encoded(tower, TEXTS)
    encoded = loaded.encode(TEXTS)
    assert encoded.sparse is not None
    assert np.abs(encoded.dense - dense).max() < 1e-5
    assert np.abs(encoded.sparse.to_dense() - sparse).max() < 1e-5 * max(1, sparse.max())
    assert np.abs(before[0] - dense).max() > 1e-3 and np.abs(before[1] - sparse).max() > 1e-3

    # The look-up invariant: the cached table's mean is the training-time query vector.
    assert loaded.default_prompt == tower.prompt
    with torch.no_grad():
        trained = torch.nn.functional.normalize(represent(tower, batch).queries).numpy()
    table = cache_table(loaded)
    found = QueryEncoder(table).encode(QUERIES)
    assert np.abs(found.dense - trained).max() < 1e-5
    assert not trained[-1].any()  # the empty query

    if adapter == "lora":
        tower.save_merged(tmp_path / "merged")
        merged = DocumentEncoder.load(tmp_path / "merged", device="cpu", max_length=42)
        assert np.abs(merged.encode(TEXTS).dense - dense).max() < 1e-5
        assert np.abs(merged.encode(TEXTS).sparse.to_dense() - sparse).max() < 1e-4
        assert np.abs(cache_table(merged)[np.arange(50)] - table[np.arange(50)]).max() < 1e-5
        assert (tmp_path / "merged/model.safetensors").is_file()


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_tower_can_be_trained_on(kind: str, tmp_path: Path) -> None:
    tower = tower_of(kind, tmp_path)
    batch = batch_of(tower)
    train(tower, batch, 1)
    tower.save(tmp_path / "saved")
    other = tower_of(kind, tmp_path)
    other.restore(tmp_path / "saved")
    assert step(tower, batch).item() == step(other, batch).item()
    for (name, ours), theirs in zip(gradients(tower).items(), gradients(other).values(), strict=True):
        assert torch.equal(ours, theirs), name
