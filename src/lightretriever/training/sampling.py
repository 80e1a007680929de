"""Which examples a training step sees: a function of the seed and the step's number, so a resumed run needs no state.

Every step takes one data set, the same on every device, so that no query is set against another task's passages.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightretriever.errors import InputError, UsageError
from lightretriever.training.example import Example, Passage
from lightretriever.training.example_file import ExampleFile
from lightretriever.training.exclusion import Exclusion

BLOCK = 1024
"""Steps whose data sets are drawn together."""
_DATASETS, _ORDER, _PASSAGES = range(3)  # what a random stream is for; one for each keeps them independent


@dataclass(frozen=True, slots=True)
class DataFile:
    """One data set of a run.

    Attributes:
        path: a training file.
        weight: how often it is drawn, relative to the others.
        only_hard_negatives: its queries are compared with their own passages alone.
        instruction: the prompt before its queries, where an example has none of its own; None for the model's.
        name: in logs; "" for the file's, without suffix.
    """

    path: str
    weight: float = 1.0
    only_hard_negatives: bool = False
    instruction: str | None = None
    name: str = ""

    @property
    def label(self) -> str:
        """What the data set is called in logs."""
        return self.name or Path(self.path).stem


@dataclass(frozen=True, slots=True)
class DataConfig:
    """What a run is trained on.

    Attributes:
        files: the data sets.
        passages: P, of a query: one positive and P - 1 hard negatives.
        exclude: BEIR folders whose test queries and judged documents are left out.
        max_examples: of each file, the first so many; None for all.
    """

    files: tuple[DataFile, ...] = ()
    passages: int = 8
    exclude: tuple[str, ...] = ()
    max_examples: int | None = None

    def __post_init__(self) -> None:
        if self.max_examples is not None and self.max_examples < 1:
            raise UsageError(f"data.max_examples is {self.max_examples}: at least 1 is needed, or leave it out")


@dataclass(frozen=True, slots=True)
class Drawn:
    """One query with the passages drawn for it.

    Attributes:
        query: its text.
        passages: P, the positive first.
        instruction: its prompt; None for the model's.
    """

    query: str
    passages: tuple[Passage, ...]
    instruction: str | None = None


@dataclass(frozen=True, slots=True)
class DrawnBatch:
    """What one device sees in one step, as text.

    Attributes:
        dataset: its name.
        rows: B queries, each with equally many passages.
        only_hard_negatives: the data set's switch.
    """

    dataset: str
    rows: tuple[Drawn, ...]
    only_hard_negatives: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Where a step stands in its data set.

    Attributes:
        dataset: its number.
        epoch: how often all of it was seen before.
        examples: int64 [b], for one device.
    """

    dataset: int
    epoch: int
    examples: NDArray[np.int64]


@dataclass(slots=True, eq=False)
class Schedule:
    """The examples of every step on every device.

    A data set of n examples is seen in epochs, each a new permutation, without repeats. With ``batch`` queries on
    each of ``world`` devices an epoch has floor(n / (batch · world)) steps; what is left over at its end, fewer
    than one step's, waits for the next. A data set with fewer than ``batch`` · ``world`` examples gives
    smaller batches, floor(n / world) on each device, rather than a query twice among its own negatives.

    Attributes:
        sizes: examples of each data set.
        weights: how often each is drawn, in proportion.
        batch: queries of a step on one device.
        world: devices.
        seed: of everything.

    Raises:
        UsageError: no data set, a weight that is no positive number, or fewer examples than devices.
    """

    sizes: tuple[int, ...]
    weights: tuple[float, ...]
    batch: int
    world: int = 1
    seed: int = 42
    _blocks: list[NDArray[np.int64]] = field(default_factory=list)  # steps of each data set before each block
    _order: dict[int, tuple[int, NDArray[np.int64]]] = field(default_factory=dict)  # the epoch at hand of each

    def __post_init__(self) -> None:
        if self.batch < 1 or self.world < 1:
            raise UsageError(f"a batch of {self.batch} on {self.world} devices: both must be at least 1")
        if not self.sizes or len(self.sizes) != len(self.weights):
            raise UsageError(f"{len(self.sizes)} data sets and {len(self.weights)} weights: one weight each is needed")
        for i, (size, weight) in enumerate(zip(self.sizes, self.weights, strict=True)):
            if not 0 < weight < float("inf"):
                raise UsageError(f"data set {i} has the weight {weight}: a positive number is needed")
            if size < self.world:
                raise UsageError(f"data set {i} has {size} examples for {self.world} devices: leave it out")
        self._blocks.append(np.zeros(len(self.sizes), dtype=np.int64))

    def share(self, dataset: int) -> int:
        """Queries of a step on each device: ``batch``, or fewer for a small data set."""
        return min(self.batch, self.sizes[dataset] // self.world)

    def dataset(self, step: int) -> int:
        """The data set of a step, counted from 0."""
        return int(self._block(step // BLOCK)[step % BLOCK])

    def place(self, step: int, rank: int = 0) -> Place:
        """The examples that one device sees in a step, counted from 0."""
        block, inside = divmod(step, BLOCK)
        while len(self._blocks) <= block:
            last = len(self._blocks) - 1
            self._blocks.append(self._blocks[last] + np.bincount(self._block(last), minlength=len(self.sizes)))
        drawn = self._block(block)
        chosen = int(drawn[inside])
        before = int(self._blocks[block][chosen] + np.count_nonzero(drawn[:inside] == chosen))
        share = self.share(chosen)
        epoch, turn = divmod(before, self.sizes[chosen] // (share * self.world))
        start = (turn * self.world + rank) * share
        return Place(chosen, epoch, self._epoch(chosen, epoch)[start : start + share])

    def _block(self, block: int) -> NDArray[np.int64]:
        bounds = np.cumsum(self.weights) / np.sum(self.weights)
        drawn = np.random.default_rng([self.seed, _DATASETS, block]).random(BLOCK)
        return np.minimum(np.searchsorted(bounds, drawn, side="right"), len(self.sizes) - 1)

    def _epoch(self, dataset: int, epoch: int) -> NDArray[np.int64]:
        if self._order.get(dataset, (-1, None))[0] != epoch:
            order = np.random.default_rng([self.seed, _ORDER, dataset, epoch]).permutation(self.sizes[dataset])
            self._order[dataset] = epoch, order
        return self._order[dataset][1]


def draw_passages(example: Example, passages: int, random: np.random.Generator) -> tuple[Passage, ...]:
    """One positive at random and ``passages`` - 1 negatives, without replacement unless there are too few.

    Args:
        example: with a positive, and with a negative unless ``passages`` is 1.
    """
    positive = example.positives[int(random.integers(len(example.positives)))]
    wanted, there = passages - 1, len(example.negatives)
    if not wanted:
        return (positive,)
    # Too few: all of them before any a second time.
    rounds = [random.permutation(there) for _ in range(-(-wanted // there))]
    return positive, *(example.negatives[int(i)] for i in np.concatenate(rounds)[:wanted])


@dataclass(frozen=True, slots=True, eq=False)
class TrainingData:
    """The data sets of a run and what each step sees of them; `open` makes one.

    Attributes:
        config: what was asked for.
        files: the data sets, in its order.
        schedule: which examples, when; its seed is that of the passages too.
    """

    config: DataConfig
    files: tuple[ExampleFile, ...]
    schedule: Schedule

    @staticmethod
    def open(config: DataConfig, batch: int, world: int = 1, seed: int = 42) -> TrainingData:
        """Open the files of a run.

        Args:
            config: files and draws.
            batch: queries of a step on one device.
            world: devices.
            seed: of all that is drawn.

        Raises:
            InputError: a file or an evaluation set cannot be read.
            UsageError: no file, a weight or a number of passages that makes no sense, or too few examples.
        """
        if not config.files:
            raise UsageError("no training file: name at least one under [[data.files]]")
        if config.passages < 1:
            raise UsageError(f"passages is {config.passages}: at least 1 (the positive) is needed")
        exclusion = Exclusion.of(config.exclude) if config.exclude else None
        files = tuple(
            ExampleFile.open(file.path, config.passages, exclusion, config.max_examples) for file in config.files
        )
        for file in files:
            if len(file) < world:
                raise UsageError(f"{file.path} has {len(file)} examples for {world} devices: leave it out")
        weights = tuple(float(file.weight) for file in config.files)
        schedule = Schedule(tuple(len(file) for file in files), weights, batch, world, seed)
        data = TrainingData(config, files, schedule)
        for number, options in enumerate(config.files):
            if options.only_hard_negatives and data.passages(number) == 1:
                raise UsageError(
                    f"{files[number].path}: only_hard_negatives, and queries have no negatives here, so there is "
                    "nothing to tell their positives from: give them some, let passages be 2 at least, or turn it off"
                )
        return data

    def passages(self, dataset: int) -> int:
        """P in a data set's batches: what was asked for, or 1 where no example has a negative."""
        counts = self.files[dataset].counts
        return 1 if counts.no_negative == counts.usable else self.config.passages

    def draw(self, step: int, rank: int = 0) -> DrawnBatch:
        """What one device sees in a step, counted from 0.

        An example without negatives, in a data set whose others have some, gets passages of other examples in
        their place: what it would be compared with in any batch.

        Raises:
            InputError: a file is gone or has changed, or nothing can stand for an example's negatives.
        """
        place = self.schedule.place(step, rank)
        file, options = self.files[place.dataset], self.config.files[place.dataset]
        wanted = self.passages(place.dataset)
        rows = []
        for i in place.examples.tolist():
            random = np.random.default_rng([self.schedule.seed, _PASSAGES, place.dataset, place.epoch, i])
            example = file[i]
            if wanted > 1 and not example.negatives:
                example = _with_others(example, file, i, wanted - 1, random)
            instruction = options.instruction if example.instruction is None else example.instruction
            rows.append(Drawn(example.query, draw_passages(example, wanted, random), instruction))
        return DrawnBatch(options.label, tuple(rows), options.only_hard_negatives)


def _with_others(example: Example, file: ExampleFile, i: int, wanted: int, random: np.random.Generator) -> Example:
    """The example with passages of other examples for negatives, none of them with the text of its own positives."""
    seen = {passage.input for passage in example.positives}
    found: list[Passage] = []
    for _ in range(20 * wanted):
        other = file[int(random.integers(len(file)))]
        own = (*other.positives, *other.negatives)
        passage = own[int(random.integers(len(own)))]
        if passage.input not in seen:
            seen.add(passage.input)
            found.append(Passage(passage.text, passage.title, passage.docid))  # its score was for another query
            if len(found) == wanted:
                break
    if not found:
        raise InputError(
            f"{file.path}: example {i} ({example.query[:40]!r}) has no negatives, and no other passage was found to "
            "stand for them: give it some, or set passages to 1"
        )
    return replace(example, negatives=tuple(found))
