"""Batches side by side, smaller ones where memory runs out, and what comes through: results, errors, interrupts."""

from __future__ import annotations

import threading
import time
from collections import deque
from pathlib import Path

import numpy as np
import pytest
import torch
from made_models import TEXTS, causal_folder

from lightretriever import DocumentEncoder
from lightretriever.document.batches import Budget, lanes_of, run_batches
from lightretriever.errors import ModelError

CPU = torch.device("cpu")
LENGTHS = [int(length) for length in np.random.default_rng(0).integers(1, 500, 300)]


@pytest.mark.parametrize("lanes", [1, 2, 5])
def test_every_text_runs_once_in_a_batch_of_its_length(lanes: int) -> None:
    threads = torch.get_num_threads()
    budget, seen = Budget(CPU), []
    for batch, (echo, own) in run_batches(LENGTHS, budget, lambda rows: (rows, torch.get_num_threads()), lanes):
        assert echo == batch
        assert own == threads if lanes == 1 else own == max(1, threads // lanes)
        assert len(batch) == 1 or len(batch) * LENGTHS[batch[0]] <= budget.tokens
        seen += batch
    assert seen == sorted(range(len(LENGTHS)), key=lambda row: -LENGTHS[row])
    assert torch.get_num_threads() == threads
    with_threads: list[int] = []
    one = threading.Thread(target=lambda: with_threads.append(torch.get_num_threads()))
    one.start()
    one.join()
    assert with_threads == [threads]  # nor does a thread that begins later have fewer


def test_little_to_do_is_done_by_the_thread_that_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 16)
    for lengths in ([400], [10, 9, 8], [0, 0], []):
        assert lanes_of(CPU, lengths) == 1
    assert (lanes_of(CPU, [100] * 6), lanes_of(CPU, LENGTHS)) == (2, 8)
    assert lanes_of(torch.device("cuda"), LENGTHS) == 1
    ((batch, name),) = run_batches([10, 9, 8], Budget(CPU), lambda _: threading.current_thread().name, 1)
    assert (batch, name) == ([0, 1, 2], threading.current_thread().name)
    found = list(run_batches([100] * 8, Budget(CPU), len, 2))
    assert [size for _, size in found] == [4, 4]  # one for each lane, not one of all


def test_a_batch_of_a_gpu_ends_early_rather_than_be_padded() -> None:
    def cut(lengths: list[int], device: str) -> list[int]:
        budget, rest, sizes = Budget(torch.device(device)), deque(range(len(lengths))), []
        budget.tokens = 1000
        while rest:
            sizes.append(len(budget.take(rest, lengths, budget.tokens)))
        return sizes

    assert cut([100] * 12, "cuda") == [10, 2]
    assert cut([100] * 6 + [90] * 2 + [89] * 9, "cuda") == [8, 9]  # a tenth shorter, and more than that
    assert cut([100] * 2 + [50] * 10, "cuda") == [5, 7]  # half of the tokens first, whatever that costs
    assert cut([2000, 100, 10], "cuda") == [1, 2]
    assert cut([100] * 6 + [90] * 2 + [9] * 9, "cpu") == [10, 7]


@pytest.mark.parametrize("lanes", [1, 3])
@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError, RuntimeError("[…] can't allocate memory: you")])
def test_out_of_memory_goes_on_in_smaller_batches(error: type[Exception] | Exception, lanes: int) -> None:
    budget = Budget(CPU)
    begun = budget.tokens

    def run(batch: list[int]) -> int:
        if len(batch) > 1 and len(batch) * LENGTHS[batch[0]] > 600:
            raise error
        return len(batch)

    with pytest.warns(UserWarning, match="out of memory with a batch of .* tokens: going on with"):
        found = list(run_batches(LENGTHS, budget, run, lanes))
    assert sorted(row for batch, _ in found for row in batch) == list(range(len(LENGTHS)))
    assert begun / 4 <= budget.tokens < begun  # halved by what failed, not once for every batch on its way


def test_one_text_that_does_not_fit_is_an_error() -> None:
    def run(_: list[int]) -> None:
        raise torch.OutOfMemoryError

    with pytest.warns(UserWarning), pytest.raises(ModelError, match="a single text of 50 tokens: give a smaller"):
        list(run_batches([50, 40, 30], Budget(CPU), run, 1))


@pytest.mark.parametrize("error", [ValueError("wrong"), RuntimeError("shapes"), KeyboardInterrupt()])
def test_an_error_comes_through_and_what_has_not_begun_is_dropped(error: BaseException) -> None:
    begun: list[int] = []

    def run(batch: list[int]) -> None:
        begun.append(len(batch))
        time.sleep(0.01)
        raise error

    with pytest.raises(type(error)):
        list(run_batches([256] * 100, Budget(CPU), run, 2))
    assert len(begun) <= 3
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("lane")]


def test_a_tower_on_several_lanes_gives_what_one_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tower = DocumentEncoder.load(causal_folder(tmp_path, "llama"), device="cpu", max_length=40)
    texts = [f"{text} {row}" for row in range(30) for text in TEXTS]
    lane = "lightretriever.document.encoder.lanes_of"
    monkeypatch.setattr(lane, lambda *_: 1)
    one, queries = tower.encode(texts), tower.encode_queries(texts)
    monkeypatch.setattr(lane, lambda *_: 3)
    fresh = DocumentEncoder.load(
        tower.source, device="cpu", max_length=40
    )  # which does not know yet what can be shared
    several = fresh.encode(texts)
    assert np.abs(fresh.encode_queries(texts) - queries).max() < 1e-5
    assert np.abs(several.dense - one.dense).max() < 1e-5
    assert several.sparse is not None and one.sparse is not None
    assert np.abs(several.sparse.to_dense() - one.sparse.to_dense()).max() < 1e-4


def test_models_that_a_run_changes_run_one_batch_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightretriever.document.encoder.lanes_of", lambda *_: 3)
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    kinds = {"dynamic": ("llama", {"rope_parameters": rope}), "state": ("recurrent_gemma", {}), "none": ("llama", {})}
    lanes = {}
    for name, (kind, settings) in kinds.items():
        folder = causal_folder(tmp_path / name, kind, **settings)
        lanes[name] = DocumentEncoder.load(folder, device="cpu", sparse="none")._lanes(LENGTHS)
    assert lanes == {"dynamic": 1, "state": 1, "none": 3}


def test_what_memory_taught_a_tower_it_keeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tower = DocumentEncoder.load(causal_folder(tmp_path, "llama"), device="cpu", sparse="none", max_length=40)
    texts = [f"{text} {row}" for row in range(9) for text in TEXTS]
    right, run = tower.encode(texts).dense, tower.backbone.model.forward

    def forward(*arguments: object, **named: torch.Tensor) -> object:
        if named["input_ids"].numel() > 200:
            raise torch.OutOfMemoryError
        return run(*arguments, **named)

    monkeypatch.setattr(tower.backbone.model, "forward", forward)
    with pytest.warns(UserWarning, match="out of memory"):
        found = tower.encode(texts).dense
    assert np.abs(found - right).max() < 1e-5
    assert np.abs(tower.encode(texts).dense - right).max() < 1e-5  # a warning would be an error
