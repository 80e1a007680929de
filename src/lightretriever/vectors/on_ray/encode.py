"""A corpus through the workers of a Ray cluster into a vectors folder. No torch here: the driver loads no model."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from lightretriever.document.options import TowerOptions
from lightretriever.errors import ClusterError, MismatchError, UsageError
from lightretriever.progress import Progress
from lightretriever.text.corpus import Document, given_document
from lightretriever.types import Encoded
from lightretriever.vectors.encode import (
    TowerFacts,
    begun,
    interrupted,
    open_writer,
    refuse_more,
    resumed,
    warn_in_all,
)
from lightretriever.vectors.folder import VectorsWriter
from lightretriever.vectors.on_ray.cluster import (
    Workers,
    connected,
    import_ray,
    nodes,
    our_error,
    plan_workers,
    was_interrupted,
)
from lightretriever.vectors.on_ray.workers import BlockEncoder, Desk, describe, numbers, unpack
from lightretriever.vectors.parts import usable
from lightretriever.vectors.unusable import name_unusable

BLOCK = 512  # documents: enough to sort by length, few enough to lose with a worker
_AHEAD = 3  # blocks for each worker: one encoded, one waiting, one that waits to be written
_PATIENCE = 30.0  # seconds until somebody who waits for room is told so
_DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True, slots=True)
class RayOptions:
    """Which cluster, and how its workers share a corpus.

    Attributes:
        address: see `cluster.connected`.
        workers, cpus: see `cluster.plan_workers`.
        block: documents that a worker is given at a time, and a part of the folder.
    """

    address: str = "auto"
    workers: int | None = None
    cpus: int | None = None
    block: int = BLOCK

    def __post_init__(self) -> None:
        """Raises UsageError for a number below 1."""
        for name in ("workers", "cpus", "block"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} is {value}: give a positive number")


def encode_on_ray(
    documents: Iterable[Document],
    tower: TowerOptions,
    path: str | Path,
    options: RayOptions = RayOptions(),
    *,
    dtype: str = "float16",
    progress: Progress | None = None,
) -> int:
    """Encode a corpus on a Ray cluster into a vectors folder; run again after an interruption, it goes on.

    This process reads the corpus as a stream and writes the folder, each block as one part; workers encode. A worker
    that is killed is begun anew and its block encoded again. The folder is, byte for byte, what a run with one worker
    of as many CPUs gives, on processors or GPUs of the same kind; documents without usable vectors are treated as by
    `encode_corpus`.

    Args:
        documents: the whole corpus, from its beginning, in the same order every time.
        tower: what each worker loads.
        path: the vectors folder.
        options: which cluster, and how many workers.
        dtype: how vectors are stored.
        progress: called with the number done, those of earlier runs included, and None.

    Returns:
        How many documents the folder holds.

    Raises:
        MissingExtraError: Ray is not installed here, or on a worker what the model needs.
        ClusterError: no cluster, no room in it, or Ray or a worker gives up.
        ModelError: the first worker asked cannot load the model.
        MismatchError: as `encode_corpus`; or workers have different models under one name.
        UsageError: options that make no sense, or a device by number; also as `encode_corpus`.
        InputError, ArtifactError, LockedError, KeyboardInterrupt: as `encode_corpus`.
    """
    if tower.device not in _DEVICES:
        raise UsageError(f"device {tower.device!r}: on a cluster Ray says which; choose {', '.join(_DEVICES)}")
    documents = begun(map(given_document, documents))
    with connected(options.address):
        workers = plan_workers(nodes(), tower.device, options.workers, options.cpus)
        facts, tower = _ask_a_worker(_as_seen_elsewhere(tower, workers), workers)
        with open_writer(facts, path, dtype) as writer:
            try:
                blocks = _blocks(resumed(writer, documents, facts.tokenizer), options.block)
                _encode_rest(blocks, facts, tower, workers, writer, path, progress)
            except KeyboardInterrupt:
                raise interrupted(writer) from None
            return writer.done


def _as_seen_elsewhere(tower: TowerOptions, workers: Workers) -> TowerOptions:
    """The tower as a worker shall load it: folders under their whole paths, since it works in a folder of its own."""
    return replace(tower, model=_whole(tower.model), base=_whole(tower.base), device="cuda" if workers.gpus else "cpu")


def _whole(model: str | None) -> str | None:
    if model is None:
        return None
    folder = Path(model).expanduser()
    return str(folder.resolve()) if folder.is_dir() else model


def _ask_a_worker(tower: TowerOptions, workers: Workers) -> tuple[TowerFacts, TowerOptions]:
    """`describe` on the cluster: this machine may have neither the model nor torch."""
    ray = import_ray()
    asked = ray.remote(num_cpus=workers.cpus, num_gpus=workers.gpus)(describe)
    try:
        answer = asked.remote(tower, workers.cpus)
        if not ray.wait([answer], timeout=_PATIENCE)[0]:
            warnings.warn(
                f"no worker has begun yet: the model takes long to load, or the cluster has no room for {workers.cpus} "
                f"CPUs and {workers.gpus} GPUs yet (ray status shows that)",
                stacklevel=3,
            )
        found: tuple[TowerFacts, TowerOptions] = ray.get(answer)
    except ray.exceptions.RayError as error:
        raise our_error(error) from None
    return found


def _blocks(documents: Iterator[Document], size: int) -> Iterator[list[Document]]:
    while block := list(islice(documents, size)):
        yield block


def _encode_rest(
    blocks: Iterator[list[Document]],
    facts: TowerFacts,
    tower: TowerOptions,
    workers: Workers,
    writer: VectorsWriter,
    path: str | Path,
    progress: Progress | None,
) -> None:
    """Write each block when it comes back."""
    unusable = 0
    first = next(blocks, None)
    if first is not None:  # else there is nothing to do, and no worker needed
        refuse_more(writer, path)
        with closing(encode_blocks(chain([first], blocks), facts, tower, workers)) as encoded_blocks:
            for documents, encoded in encoded_blocks:
                unusable += name_unusable(documents, encoded)
                writer.append(documents, usable(encoded, facts.dim))
                if progress is not None:
                    progress(writer.done, None)
    warn_in_all(unusable)
    if not writer.finished:
        writer.finish()


def encode_blocks(
    blocks: Iterator[list[Document]], facts: TowerFacts, tower: TowerOptions, workers: Workers
) -> Generator[tuple[list[Document], Encoded], None, None]:
    """Blocks with their vectors, in their order; the next is read when one has been dealt with.

    Ray Data streams what tasks and files give it, but cannot read a stream of this process, such as its standard
    input; and a data set for every few blocks would load the model as often. So what it streams first are mere
    numbers of blocks, from a task that waits until the next is there. Blocks lie in the object store, and a `Desk`
    knows where, until this process has written them. It reads no more than a few for each worker ahead of that,
    which bounds what is held here, there and on the way; and a number says the same whenever it is said, so whatever
    of this Ray runs again gives what it gave.

    Raises:
        ClusterError: Ray gave up, or a worker, which says why: its machine lacks the model, or memory.
        MismatchError: a worker has another model.
    """
    ray = import_ray()
    desk = ray.remote(num_cpus=0)(Desk).remote()
    flying: deque[list[Document]] = deque()
    try:
        _lay(blocks, desk, flying, workers.count * _AHEAD)
        for number, row in enumerate(_rows(desk, tower, workers)):
            if row["failure"]:
                raise ClusterError(f"a worker of the cluster says: {row['failure']}")
            if row["revision"] != facts.revision:
                raise MismatchError(
                    f"workers have different models under the name {tower.model!r} ({row['revision']} and "
                    f"{facts.revision}): put the same on each machine"
                )
            yield flying.popleft(), unpack(row["vectors"], facts.width)
            ray.get(desk.drop.remote(number))
            _lay(blocks, desk, flying, workers.count * _AHEAD)
    finally:
        ray.kill(desk)
    if flying:
        raise ClusterError(f"Ray has ended {len(flying)} blocks too early: run again, what is written is kept")


def _lay(blocks: Iterator[list[Document]], desk: Any, flying: deque[list[Document]], most: int) -> None:
    """Put blocks on the desk until there are so many that are not yet written."""
    ray = import_ray()
    while len(flying) < most:
        block = next(blocks, None)
        if block is None:
            ray.get(desk.complete.remote())
            return
        flying.append(block)
        reference = ray.put([replace(document, metadata={}) for document in block])  # which no tower reads
        ray.get(desk.lay.remote([reference]))


def _rows(desk: Any, tower: TowerOptions, workers: Workers) -> Iterator[dict[str, Any]]:
    """What workers give for the blocks on a desk, in their order. Raises as `encode_blocks`."""
    ray = import_ray()
    try:
        data = ray.data.from_items([{"start": 0}], override_num_blocks=1)
        settings = data.context  # of this data set alone
        settings.execution_options.preserve_order = True
        settings.target_max_block_size = 1  # bytes: hand every row on at once, where Ray Data would wait for 128 MB
        settings.enable_progress_bars = settings.print_on_execution_start = False
        # Of no CPU, since it only waits; and unlike the workers', so that Ray Data does not make both one step.
        data = data.map_batches(numbers, fn_kwargs={"desk": desk}, batch_size=None, num_cpus=0)
        data = data.map_batches(
            BlockEncoder,
            fn_constructor_kwargs={"desk": desk, "tower": tower, "threads": workers.cpus},
            batch_size=1,
            batch_format="numpy",
            compute=ray.data.ActorPoolStrategy(size=workers.count),
            num_cpus=workers.cpus,
            num_gpus=workers.gpus,
        )
        for table in data.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            yield from table.to_pylist()
    except Exception as error:
        if was_interrupted(error):
            raise KeyboardInterrupt from None
        raise our_error(error) from None
