"""What a step sees: a function of its number, without repeats in an epoch or between devices."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightretriever.errors import InputError, UsageError
from lightretriever.training.example import Example, Passage, write_lines
from lightretriever.training.sampling import (
    BLOCK,
    DataConfig,
    DataFile,
    Schedule,
    TrainingData,
    draw_passages,
)

shapes = st.tuples(st.integers(1, 5), st.integers(1, 4))  # batch, world


def make_file(path: Path, examples: int, negatives: int = 3, positives: int = 1, empty: int = 0) -> str:
    """Examples "name 0", "name 1", …; the first ``empty`` have no negatives."""
    name = path.stem

    def passages(kind: str, i: int, count: int) -> tuple[Passage, ...]:
        return tuple(Passage(f"{name} {kind} {i}.{j}") for j in range(count))

    rows = [
        Example(f"{name} {i}", passages("yes", i, positives), passages("no", i, 0 if i < empty else negatives))
        for i in range(examples)
    ]
    write_lines(path, rows)
    return str(path)


@settings(max_examples=60)
@given(shapes, st.lists(st.integers(4, 60), min_size=1, max_size=3), st.integers(0, 2**32), st.integers(1, 40))
def test_an_epoch_has_no_example_twice_on_any_device(
    shape: tuple[int, int], sizes: list[int], seed: int, steps: int
) -> None:
    batch, world = shape
    schedule = Schedule(tuple(sizes), (1.0,) * len(sizes), batch, world, seed)
    seen: dict[tuple[int, int], list[int]] = {}
    for step in range(steps):
        places = [schedule.place(step, rank) for rank in range(world)]
        assert len({(place.dataset, place.epoch, len(place.examples)) for place in places}) == 1
        dataset = places[0].dataset
        assert dataset == schedule.dataset(step)
        assert len(places[0].examples) == schedule.share(dataset) == min(batch, sizes[dataset] // world) > 0
        epoch = seen.setdefault((dataset, places[0].epoch), [])
        for place in places:
            epoch += place.examples.tolist()
    for (dataset, epoch), examples in seen.items():
        assert len(set(examples)) == len(examples)
        assert set(examples) <= set(range(sizes[dataset]))
        used = schedule.share(dataset) * world
        if (dataset, epoch + 1) in seen:  # it is over: less than one step is left
            assert sizes[dataset] - len(examples) < used
            assert len(examples) % used == 0


@settings(max_examples=40)
@given(shapes, st.integers(0, 2**32), st.integers(1, 8))
def test_an_epoch_that_steps_divide_has_every_example_once(shape: tuple[int, int], seed: int, steps: int) -> None:
    batch, world = shape
    size = batch * world * steps
    schedule = Schedule((size,), (1.0,), batch, world, seed)
    for epoch in range(3):
        turns = range(epoch * steps, (epoch + 1) * steps)
        places = [schedule.place(step, rank) for step in turns for rank in range(world)]
        assert {place.epoch for place in places} == {epoch}
        assert sorted(np.concatenate([place.examples for place in places])) == list(range(size))


@settings(max_examples=30)
@given(shapes, st.integers(0, 2**32), st.lists(st.integers(0, 3 * BLOCK), min_size=1, max_size=6))
def test_a_step_does_not_depend_on_the_steps_asked_before(shape: tuple[int, int], seed: int, steps: list[int]) -> None:
    batch, world = shape
    sizes, weights = (40, 7, 23), (0.5, 0.2, 1.0)
    through = Schedule(sizes, weights, batch, world, seed)
    for step in steps:
        fresh, again = (
            schedule.place(step, world - 1) for schedule in (Schedule(sizes, weights, batch, world, seed), through)
        )
        assert (fresh.dataset, fresh.epoch) == (again.dataset, again.epoch)
        np.testing.assert_array_equal(fresh.examples, again.examples)


def test_epochs_and_seeds_differ() -> None:
    schedule = Schedule((64,), (1.0,), 64)
    orders = [tuple(schedule.place(step).examples) for step in range(3)]
    orders.append(tuple(Schedule((64,), (1.0,), 64, seed=1).place(0).examples))
    assert len(set(orders)) == 4


def test_data_sets_are_drawn_by_weight() -> None:
    schedule = Schedule((100, 100, 100), (6, 3, 1), 2)
    drawn = Counter(schedule.dataset(step) for step in range(4 * BLOCK))
    assert [round(drawn[i] / (4 * BLOCK), 1) for i in range(3)] == [0.6, 0.3, 0.1]


def test_epochs_are_counted_past_a_block() -> None:
    schedule = Schedule((10, 10), (1, 1), 2)
    counts = [0, 0]
    for step in range(BLOCK + 50):
        place = schedule.place(step)
        assert place.epoch == counts[place.dataset] // 5
        counts[place.dataset] += 1


def test_a_small_data_set_gives_smaller_batches_without_repeats(tmp_path: Path) -> None:
    config = DataConfig((DataFile(make_file(tmp_path / "tiny.jsonl", 5)),), passages=2)
    data = TrainingData.open(config, batch=4, world=2)
    assert data.schedule.share(0) == 2
    for step in range(10):
        queries = [row.query for rank in range(2) for row in data.draw(step, rank).rows]
        assert len(queries) == len(set(queries)) == 4
    with pytest.raises(UsageError, match=r"tiny\.jsonl has 5 examples for 6 devices: leave it out"):
        TrainingData.open(config, batch=1, world=6)


@pytest.mark.parametrize(
    ("sizes", "weights", "batch", "message"),
    [
        ((), (), 1, "0 data sets"),
        ((3,), (1, 1), 1, "1 data sets and 2 weights"),
        ((3,), (0,), 1, "weight 0"),
        ((3,), (float("nan"),), 1, "weight nan"),
        ((3,), (float("inf"),), 1, "weight inf"),
        ((0,), (1,), 1, "0 examples"),
        ((3,), (1,), 0, "batch of 0"),
    ],
)
def test_refuses_what_makes_no_sense(sizes: tuple, weights: tuple, batch: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Schedule(sizes, weights, batch)


@given(st.integers(1, 4), st.integers(1, 9), st.integers(1, 8), st.integers(0, 2**32))
def test_passages_are_drawn_without_replacement_while_there_are_enough(
    positives: int, negatives: int, passages: int, seed: int
) -> None:
    example = Example(
        "q",
        tuple(Passage(f"yes {i}") for i in range(positives)),
        tuple(Passage(f"no {i}") for i in range(negatives)),
    )
    drawn = draw_passages(example, passages, np.random.default_rng(seed))
    assert len(drawn) == passages
    assert drawn[0] in example.positives
    times = Counter(drawn[1:])
    assert set(times) <= set(example.negatives)
    assert len(times) == min(passages - 1, negatives)
    assert not times or max(times.values()) - min(times.values()) <= 1


def test_every_positive_and_negative_has_its_turn(tmp_path: Path) -> None:
    config = DataConfig((DataFile(make_file(tmp_path / "a.jsonl", 1, negatives=6, positives=3)),), passages=3)
    data = TrainingData.open(config, batch=1)
    drawn = [data.draw(step).rows[0].passages for step in range(60)]
    assert {passages[0].text for passages in drawn} == {f"a yes 0.{i}" for i in range(3)}
    assert {passage.text for passages in drawn for passage in passages[1:]} == {f"a no 0.{i}" for i in range(6)}


def test_what_a_step_sees_is_the_same_at_resume_and_on_other_devices(tmp_path: Path) -> None:
    files = tuple(
        DataFile(make_file(tmp_path / f"{name}.jsonl", size), weight, name == "b", f"{name}: ", name * 2)
        for name, size, weight in (("a", 30, 0.7), ("b", 9, 0.3))
    )
    config = DataConfig(files, passages=3)
    data, resumed = TrainingData.open(config, 3, 2, seed=5), TrainingData.open(config, 3, 2, seed=5)
    through = [[data.draw(step, rank) for rank in range(2)] for step in range(12)]
    assert [resumed.draw(11, 1), resumed.draw(6, 0)] == [through[11][1], through[6][0]]
    for ranks in through:
        assert len({batch.dataset for batch in ranks}) == 1
        dataset = ranks[0].dataset
        assert dataset in ("aa", "bb")
        for batch in ranks:
            assert batch.only_hard_negatives == (dataset == "bb")
            assert {row.instruction for row in batch.rows} == {f"{dataset[0]}: "}
            assert all(row.query.startswith(dataset[0]) for row in batch.rows)
    one = TrainingData.open(config, 6, 1, seed=5)
    assert TrainingData.open(config, 6, 1, seed=6).draw(0) != one.draw(0)
    assert [row for batch in through[0] for row in batch.rows] == list(one.draw(0).rows)


def test_a_data_set_without_negatives_has_one_passage_a_query(tmp_path: Path) -> None:
    config = DataConfig((DataFile(make_file(tmp_path / "a.jsonl", 6, negatives=0)),), passages=4)
    data = TrainingData.open(config, batch=3)
    assert data.passages(0) == 1
    assert [len(row.passages) for row in data.draw(0).rows] == [1, 1, 1]


def test_an_example_without_negatives_gets_those_of_others(tmp_path: Path) -> None:
    config = DataConfig((DataFile(make_file(tmp_path / "a.jsonl", 12, empty=11)),), passages=4)
    data = TrainingData.open(config, batch=12)
    assert data.passages(0) == 4
    assert data.files[0].counts.no_negative == 11
    for row in data.draw(0).rows:
        own = row.query.removeprefix("a ")
        assert len(row.passages) == 4
        assert row.passages[0].text == f"a yes {own}.0"
        others = [passage.text for passage in row.passages[1:]]
        if own == "11":
            assert all(text.startswith("a no 11.") for text in others)
        else:
            assert len(set(others)) == 3
            assert row.passages[0].text not in others


def test_says_when_nothing_can_stand_for_negatives(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write_lines(path, [Example("one", (Passage("x"),)), Example("two", (Passage("y"),), (Passage("x"),))])
    data = TrainingData.open(DataConfig((DataFile(str(path)),), passages=3), batch=2)
    rows = {row.query: [passage.text for passage in row.passages] for row in data.draw(0).rows}
    assert rows == {"one": ["x", "y", "y"], "two": ["y", "x", "x"]}
    write_lines(path, [Example("one", (Passage("x"),)), Example("two", (Passage("x"),), (Passage("x"),))])
    data = TrainingData.open(DataConfig((DataFile(str(path)),), passages=3), batch=2)
    with pytest.raises(InputError, match=r"a\.jsonl: example 0 \('one'\) has no negatives"):
        data.draw(0)


def test_an_own_instruction_wins(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [{"query": f"{i}", "positive_passages": [{"text": "x"}]} for i in range(2)]
    path.write_text(
        "".join(json.dumps(row | ({"instruction": ""} if row["query"] == "1" else {})) + "\n" for row in rows)
    )
    data = TrainingData.open(DataConfig((DataFile(str(path), instruction="P: "),)), batch=2)
    assert {row.query: row.instruction for row in data.draw(0).rows} == {"0": "P: ", "1": ""}


def test_opening_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no training file"):
        TrainingData.open(DataConfig(), 1)
    with pytest.raises(InputError, match=r"absent\.jsonl does not exist"):
        TrainingData.open(DataConfig((DataFile(str(tmp_path / "absent.jsonl")),)), 1)
    path = make_file(tmp_path / "a.jsonl", 2)
    with pytest.raises(UsageError, match="passages is 0"):
        TrainingData.open(DataConfig((DataFile(path),), passages=0), 1)
    with pytest.raises(UsageError, match=r"a\.jsonl: only_hard_negatives, and queries have no negatives"):
        TrainingData.open(DataConfig((DataFile(path, only_hard_negatives=True),), passages=1), 1)
    with pytest.raises(InputError, match="is no folder"):
        TrainingData.open(DataConfig((DataFile(path),), exclude=(str(tmp_path / "absent"),)), 1)


def test_only_the_first_examples_are_used(tmp_path: Path) -> None:
    config = DataConfig((DataFile(make_file(tmp_path / "a.jsonl", 9)),), max_examples=2)
    data = TrainingData.open(config, batch=4)
    assert {row.query for row in data.draw(0).rows} == {"a 0", "a 1"}


def test_workers_may_have_copies(tmp_path: Path) -> None:
    config = DataConfig((DataFile(make_file(tmp_path / "a.jsonl", 20)), DataFile(make_file(tmp_path / "b.jsonl", 9))))
    data = TrainingData.open(config, batch=2)
    drawn = [data.draw(step) for step in range(4)]
    copy = pickle.loads(pickle.dumps(data))
    assert [pickle.loads(pickle.dumps(copy.draw(step))) for step in range(4)] == drawn
