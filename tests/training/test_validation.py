"""nDCG of look-up queries: what a collection judges and does not have counts as not found, as it does for `eval`."""

from __future__ import annotations

from collections.abc import Callable
from math import log2
from pathlib import Path

import pytest
import torch

pytest.importorskip("accelerate")

from lightretriever import train
from lightretriever.errors import InputError
from lightretriever.training.config import read_config
from lightretriever.training.run import make_collator
from lightretriever.training.sampling import TrainingData
from lightretriever.training.tower import TrainableTower
from lightretriever.training.validation import Validation, measure, open_validation

Settings = Callable[..., Path]
Judged = Callable[..., Path]
Opened = Callable[..., tuple[Validation, float]]


@pytest.fixture
def opened(settings: Settings, judged: Judged) -> Opened:
    """The validation made of such judgements, and the untrained tower's dense nDCG@10 of all ten documents."""

    def measured(*lines: str) -> tuple[Validation, float]:
        config = read_config(settings(), [f"validation.data={judged(*lines)}"])
        validation, _ = open_validation(config.validation, TrainingData.open(config.data, 8))
        assert validation is not None
        tower = TrainableTower.load(config.model)
        collator, device = make_collator(tower, config), torch.device("cpu")
        return validation, measure(tower, validation, collator, tower.vocab_size, ["dense"], 8, device)["dense"]

    return measured


def test_absent_documents_and_queries_count_as_not_found(opened: Opened) -> None:
    whole, found = opened("q d9 1")
    assert found > 0
    assert whole.absent == ""
    lacking, less = opened("q d9 1", "q gone 1", "r gone 1", "r away 1", "textless d3 1")
    ideal = 1 + 1 / log2(3)  # of two relevant documents
    assert less == pytest.approx(found / ideal / 3, rel=1e-6)
    assert len(lacking.queries) == 2
    assert lacking.absent == "judged documents that are not in the corpus: 2, judged queries without text: 1"


def test_a_run_tells_what_is_absent(settings: Settings, judged: Judged) -> None:
    told: list[str] = []
    overrides = [f"validation.data={judged('q d9 1', 'q gone 1')}", "trainer.max_steps=1"]
    train(read_config(settings(), overrides), notice=told.append)
    assert "beir/dev: judged documents that are not in the corpus: 1; they count as not found" in told


@pytest.mark.parametrize("lines", [["q gone 1"], ["q gone 1", "q d9 0"], ["q d9 0"]])
def test_a_split_that_measures_nothing_is_named(settings: Settings, judged: Judged, lines: list[str]) -> None:
    folder = judged(*lines)
    config = read_config(settings(), [f"validation.data={folder}"])
    with pytest.raises(InputError, match=f"^{folder}: no document that dev judges relevant is in the corpus"):
        open_validation(config.validation, TrainingData.open(config.data, 8))
