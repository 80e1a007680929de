"""Batches on a device with a queue: the next begun before one has ended, whatever memory says to either.

No GPU is needed: a processor stands for the queue, and computes at once what it is given. What CUDA itself does is
tested where there is one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from made_models import TEXTS, causal_folder, masked_folder

from lightretriever import DocumentEncoder, Encoded
from lightretriever.document import encoder, sparse
from lightretriever.document.batches import Budget, queue_batches
from lightretriever.errors import ModelError

CPU = torch.device("cpu")
LENGTHS = [int(length) for length in np.random.default_rng(0).integers(1, 500, 300)]
ROWS = [f"{text} {row}" for row in range(9) for text in TEXTS]


def test_the_next_batch_is_begun_before_one_is_waited_for() -> None:
    said: list[str] = []

    def begin(batch: list[int]) -> Callable[[], int]:
        said.append(f"begin {batch[0]}")
        return lambda: said.append(f"end {batch[0]}") or len(batch)  # type: ignore[func-returns-value]

    for batch, size in queue_batches([1024] * 4, Budget(CPU), begin):
        said.append(f"given {batch[0]}")
        assert size == 1
    order = "begin 0, begin 1, end 0, given 0, begin 2, end 1, given 1, begin 3, end 2, given 2, end 3, given 3"
    assert said == order.split(", ")


@pytest.mark.parametrize("place", ["begin", "end", "both"])
@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError, MemoryError, RuntimeError("CUDA error: out of memory"), "CUBLAS_STATUS_ALLOC_FAILED"],
)
def test_memory_may_run_out_at_either_end(place: str, error: type[Exception] | Exception | str) -> None:
    budget, seen = Budget(CPU), []
    begun = budget.tokens

    def check(batch: list[int], limit: int) -> None:
        if len(batch) > 1 and len(batch) * LENGTHS[batch[0]] > limit:
            raise RuntimeError(error) if isinstance(error, str) else error

    def begin(batch: list[int]) -> Callable[[], list[int]]:
        check(batch, 700 if place != "end" else begun)

        def end() -> list[int]:
            check(batch, 600 if place != "begin" else begun)
            return batch

        return end

    with pytest.warns(UserWarning, match="out of memory with a batch of .* tokens: going on with"):
        for batch, result in queue_batches(LENGTHS, budget, begin):
            assert result == batch
            seen += batch
    assert sorted(seen) == list(range(len(LENGTHS)))  # none lost, none twice
    assert begun / 4 <= budget.tokens < begun


def test_one_text_is_tried_again_when_those_before_it_have_ended() -> None:
    flying = 0

    def begin(batch: list[int]) -> Callable[[], list[int]]:
        nonlocal flying
        if flying:
            raise torch.OutOfMemoryError
        flying += 1

        def end() -> list[int]:
            nonlocal flying
            flying -= 1
            return batch

        return end

    budget = Budget(CPU)
    assert [result for _, result in queue_batches([900, 800, 700], budget, begin)] == [[0], [1], [2]]
    assert budget.tokens == Budget(CPU).tokens


@pytest.mark.parametrize("late", [False, True])
def test_one_text_that_does_not_fit_is_an_error(late: bool) -> None:
    def end() -> None:
        raise torch.OutOfMemoryError

    with pytest.warns(UserWarning), pytest.raises(ModelError, match="a single text of 50 tokens: give a smaller"):
        list(queue_batches([50, 40, 30], Budget(CPU), lambda _: end if late else end()))


def test_another_error_comes_through() -> None:
    def end() -> None:
        raise RuntimeError("device-side assert")

    for begin in (lambda _: end, lambda _: end()):
        with pytest.raises(RuntimeError, match="assert"):
            list(queue_batches(LENGTHS, Budget(CPU), begin))


def assert_same(found: Encoded, right: Encoded) -> None:
    assert np.abs(found.dense - right.dense).max() < 1e-5
    assert (found.sparse is None) == (right.sparse is None)
    if found.sparse is not None and right.sparse is not None:
        assert np.abs(found.sparse.to_dense() - right.sparse.to_dense()).max() < 1e-4


@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_a_tower_with_a_queue_gives_what_one_without_gives(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = causal_folder(tmp_path, kind) if kind == "llama" else masked_folder(tmp_path, kind)
    tower = DocumentEncoder.load(folder, device="cpu", max_length=40, top_k=12)
    right, queries = tower.encode(ROWS), tower.encode_queries(ROWS)
    monkeypatch.setattr(encoder, "queues", lambda _: True)
    done: list[int] = []
    assert_same(tower.encode(ROWS, progress=lambda count, _: done.append(count)), right)
    assert len(done) > 1 and done[-1] == len(ROWS)
    assert np.abs(tower.encode_queries(ROWS) - queries).max() < 1e-5


@pytest.mark.parametrize("place", ["begin", "end"])
def test_a_tower_goes_on_in_smaller_batches(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tower = DocumentEncoder.load(causal_folder(tmp_path, "llama"), device="cpu", max_length=40)
    right, run, end = tower.encode(ROWS), tower.backbone.model.forward, encoder._end

    def forward(*arguments: object, **named: torch.Tensor) -> object:
        if named["input_ids"].numel() > 200:
            raise torch.OutOfMemoryError
        return run(*arguments, **named)

    def ending(dense: Callable[[], torch.Tensor], rows: Callable[[], object]) -> object:
        if len(dense()) > 5:
            raise torch.OutOfMemoryError
        return end(dense, rows)  # type: ignore[arg-type]

    monkeypatch.setattr(encoder, "queues", lambda _: True)
    if place == "begin":
        monkeypatch.setattr(tower.backbone.model, "forward", forward)
    else:
        monkeypatch.setattr(encoder, "_end", ending)
    with pytest.warns(UserWarning, match="out of memory"):
        assert_same(tower.encode(ROWS), right)


def test_no_two_groups_of_weights_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    held = 0

    def later(values: torch.Tensor, take: Callable[[torch.Tensor], object]) -> Callable[[], object]:
        nonlocal held
        held += 1
        assert held == 1

        def finish() -> object:
            nonlocal held
            held -= 1
            return take(values)

        return finish

    states, weight = torch.randn(7, 9, 4), torch.randn(50, 4)
    lengths = torch.tensor([9, 3, 2, 5, 1, 9, 7])
    right = sparse.sparse_vectors(states, lengths, lambda x: x @ weight.T, 50, 8)
    monkeypatch.setattr(sparse, "once_computed", later)
    end = sparse.begin_sparse(states, lengths, lambda x: x @ weight.T, 50, 8, chunk_bytes=4 * 50 * 2)
    assert held == 1  # the last of four groups of two texts
    found = end()
    assert np.abs(found.to_dense() - right.to_dense()).max() < 1e-5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("kind", ["llama", "qwen2", "bert", "modernbert"])
def test_a_gpu_gives_what_a_processor_gives(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = masked_folder(tmp_path, kind) if kind.endswith("bert") else causal_folder(tmp_path, kind)
    monkeypatch.setattr("lightretriever.document.batches.GPU_BATCH_TOKENS", 200)
    right = DocumentEncoder.load(folder, device="cpu", dtype="float32", max_length=40, top_k=12)
    tower = DocumentEncoder.load(folder, device="cuda", dtype="float32", max_length=40, top_k=12)
    assert (tower.encode_queries(ROWS) * right.encode_queries(ROWS)).sum(1).min() > 0.999
    found, expected = tower.encode(ROWS), right.encode(ROWS)
    assert (found.dense * expected.dense).sum(1).min() > 0.999
    assert found.sparse is not None and expected.sparse is not None
    assert np.abs(found.sparse.to_dense() - expected.sparse.to_dense()).mean() < 1e-3
