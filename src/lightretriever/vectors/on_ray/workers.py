"""What runs on the cluster: the desk that blocks lie on, and the workers that encode them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import load, save

from lightretriever.document.options import TowerOptions
from lightretriever.errors import ClusterError, LightRetrieverError
from lightretriever.text.corpus import Document
from lightretriever.types import Encoded, SparseVectors
from lightretriever.vectors.encode import TowerFacts, facts_of

if TYPE_CHECKING:
    from lightretriever.document.encoder import DocumentEncoder

_ATTEMPTS = 5  # at a block: one that takes its worker's life so often would do so for ever


class Desk:
    """An actor that says which blocks there are, numbered from 0, and where the object store has them.

    It keeps each until the driver has written it, so a block whose worker was killed can be asked for again.
    """

    def __init__(self) -> None:
        self._blocks: dict[int, object] = {}
        self._asked: Counter[int] = Counter()
        self._laid, self._complete = 0, False
        self._changed = asyncio.Condition()

    async def lay(self, held: list[object]) -> None:
        """Add the next block: a list of its reference alone, which Ray hands over as it is."""
        async with self._changed:
            self._blocks[self._laid] = held[0]
            self._laid += 1
            self._changed.notify_all()

    async def complete(self) -> None:
        """No more will come."""
        async with self._changed:
            self._complete = True
            self._changed.notify_all()

    async def has(self, number: int) -> bool:
        """Whether there is, or was, such a block; waits until that is known."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._laid > number or self._complete)
        return self._laid > number

    async def take(self, number: int) -> tuple[list[object], int]:
        """A list of the block's reference, and how often it has been asked for, this time included."""
        self._asked[number] += 1
        return [self._blocks[number]], self._asked[number]

    async def drop(self, number: int) -> None:
        """It is written."""
        del self._blocks[number], self._asked[number]


def numbers(start: object, desk: Any) -> Iterator[dict[str, list[int]]]:
    """The number of each block, as soon as it lies on the desk; the same ones when Ray runs this again."""
    import ray

    del start  # what Ray Data begins with: one empty row
    number = 0
    while ray.get(desk.has.remote(number)):
        yield {"number": [number]}
        number += 1


class BlockEncoder:
    """A worker: loads the tower once and encodes block after block."""

    def __init__(self, desk: Any, tower: TowerOptions, threads: int) -> None:
        self._desk, self._threads = desk, threads
        self._failure: LightRetrieverError | None = None
        try:
            self._tower = load_tower(tower, threads)
        except LightRetrieverError as error:
            self._failure = error  # for the first block: Ray tries an actor that cannot begin again and again

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[object]]:
        """A batch of one number; gives it back with the tower's revision and `pack`ed vectors, or what went wrong.

        That goes back as a value, since of an error Ray Data keeps the traceback alone, as a text.
        """
        number = int(batch["number"][0])
        try:
            revision, vectors, failure = *self._encode(number), ""
        except LightRetrieverError as error:
            revision, vectors, failure = "", b"", str(error)
        return {"number": [number], "revision": [revision], "vectors": [vectors], "failure": [failure]}

    def _encode(self, number: int) -> tuple[str, bytes]:
        import ray

        if self._failure is not None:
            raise self._failure
        (reference,), attempt = ray.get(self._desk.take.remote(number))
        documents: list[Document] = ray.get(reference)
        if attempt > _ATTEMPTS:
            raise ClusterError(
                f"{_ATTEMPTS} workers ended while they encoded documents {documents[0].id!r} to {documents[-1].id!r}, "
                "for want of memory perhaps: give a smaller --max-length, or fewer workers a machine (--worker-cpus)"
            )
        _use_threads(self._threads)  # torch counts them for each thread, and Ray may call from another
        return self._tower.revision, pack(self._tower.encode(documents))


def describe(tower: TowerOptions, threads: int) -> tuple[TowerFacts, TowerOptions]:
    """What a worker finds the tower to be, and its options with what "auto" means there, for all of them."""
    tower = tower.decided()
    return facts_of(load_tower(tower, threads)), tower


def load_tower(tower: TowerOptions, threads: int) -> DocumentEncoder:
    """Load it, with so many threads to compute in. Raises as `DocumentEncoder.load`."""
    _use_threads(threads)
    return tower.load()


def _use_threads(threads: int) -> None:
    """Batches are made for the number of threads, and vectors depend on their batch in the last bits."""
    import torch

    torch.set_num_threads(threads)


def pack(encoded: Encoded) -> bytes:
    """Vectors as bytes, every bit kept: tables of Ray Data have types of their own."""
    tensors: dict[str, np.ndarray] = {"dense": encoded.dense}
    if encoded.sparse is not None:
        sparse = encoded.sparse
        tensors |= {"indptr": sparse.indptr, "indices": sparse.indices, "values": sparse.values}
    return save({name: np.ascontiguousarray(array) for name, array in tensors.items()})


def unpack(packed: bytes, width: int | None) -> Encoded:
    """What `pack` was given; ``width`` is V of the sparse vectors, None where there are none."""
    tensors = load(packed)
    if width is None:
        return Encoded(tensors["dense"])
    return Encoded(tensors["dense"], SparseVectors(tensors["indptr"], tensors["indices"], tensors["values"], width))
