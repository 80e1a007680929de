"""Made passages keep company as the real ones do, the same every time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_tokenizers import wordpiece

from lightretriever.bench.made import (
    exact_neighbours,
    fit_maker,
    made_texts,
    neighbour_similarities,
    read_real,
    spectrum,
    unit_rows,
)
from lightretriever.errors import InputError, MismatchError
from lightretriever.text.corpus import Document
from lightretriever.types import Encoded
from lightretriever.vectors.folder import VectorsWriter


def clustered(n: int, dim: int = 24, seed: int = 0) -> np.ndarray:
    """Unit rows around 12 centres, with a falling spectrum."""
    rng = np.random.default_rng(seed)
    axes = 1 / np.arange(1, dim + 1)
    centres = rng.standard_normal((12, dim))
    return unit_rows((centres[rng.integers(0, 12, n)] + 0.7 * rng.standard_normal((n, dim))) * axes)


def test_made_vectors_have_the_real_ones_neighbourhoods_and_spectrum() -> None:
    real = clustered(600)
    maker = fit_maker(real)
    made, parents = maker.make(600, seed=3)
    assert parents.shape == (600, maker.mixed)
    np.testing.assert_allclose(np.linalg.norm(made, axis=1), 1, atol=1e-5)
    again, _ = maker.make(600, seed=3)
    np.testing.assert_array_equal(made, again)
    close, target = neighbour_similarities(made), neighbour_similarities(real)
    noise = neighbour_similarities(unit_rows(np.random.default_rng(0).standard_normal(real.shape)))
    for place in target:
        assert abs(close[place][1] - target[place][1]) < 0.3 * abs(noise[place][1] - target[place][1])
    assert spectrum(made)[0] == pytest.approx(spectrum(real)[0], abs=0.1)


@pytest.mark.parametrize("n", [2, 3, 40])
def test_a_few_real_vectors_will_do(n: int) -> None:
    made, parents = fit_maker(clustered(n)).make(10, seed=0)
    assert made.shape == (10, 24)
    assert parents.max() < n


def test_neighbours_are_the_nearest_others() -> None:
    real = clustered(60)
    scores = real @ real.T
    np.fill_diagonal(scores, -2)
    expected = np.argsort(-scores, axis=1)[:, :5]
    assert [set(row) for row in exact_neighbours(real, 5).tolist()] == [set(row) for row in expected.tolist()]


def test_texts_are_runs_of_words_of_the_parents() -> None:
    texts = ["a b c d", "e f", ""]
    made = made_texts(texts, np.array([[0, 1], [1, 0], [2, 0], [2, 2]]), seed=0)
    assert made == made_texts(texts, np.array([[0, 1], [1, 0], [2, 0], [2, 2]]), seed=0)
    assert made[0][:3] in ("a b", "b c", "c d")
    assert made[0][4:] in ("e", "f")
    assert len(made[2].split()) == 2
    assert made[3] == ""


def write(path: Path, model: str, dense: np.ndarray) -> Path:
    settings = {"max_length": 8}
    with VectorsWriter.open(
        path, model=model, revision="1", dim=dense.shape[1], settings=settings, width=None, tokenizer=wordpiece()
    ) as writer:
        writer.append([Document(str(i), f"text {i}") for i in range(len(dense))], Encoded(dense, None))
        writer.finish()
    return path


def test_vectors_folders_are_read_shuffled_and_without_repetitions(tmp_path: Path) -> None:
    dense = clustered(20)
    first = write(tmp_path / "a", "m", np.concatenate([dense, dense[:3]]))
    real = read_real([first, write(tmp_path / "b", "m", clustered(5, seed=1))], limit=100, characters=5)
    assert (len(real.dense), len(real.texts), real.model) == (25, 25, "m")
    assert set(real.texts) == {"text "}
    assert len(read_real([first], limit=4).texts) == 4
    with pytest.raises(MismatchError, match="of one model"):
        read_real([first, write(tmp_path / "c", "other", dense)], limit=9)
    with pytest.raises(InputError, match="not enough"):
        read_real([write(tmp_path / "d", "m", np.repeat(dense[:1], 3, axis=0))], limit=9)
