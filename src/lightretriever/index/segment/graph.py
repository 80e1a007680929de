"""Neighbour lists for walking: flat, of one length, the same for the same codes and options however many threads build.

Places join in batches, in a shuffled order. Of a batch every place looks for its neighbours in the graph as it was
before the batch, so it matters neither who is first nor on which thread; then the lists of those found take the new
ones back, each list by one thread. Batches grow with the graph, from one place to a fiftieth of all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue

import numpy as np
from numpy.typing import NDArray

from lightretriever.index.segment.graph_kernels import find_lists, inverse_lengths, link_back, thin
from lightretriever.index.segment.scratch import DenseScratch

_PIECE = 512  # places that a thread takes at a time
_BATCHES = 50  # of the full size, at least
_ROOM = 1.5  # of a list while building, in neighbours that it keeps


@dataclass(frozen=True)
class GraphOptions:
    """How neighbour lists are built.

    Attributes:
        degree: neighbours that a place has at most.
        width: candidates that they are chosen from.
        ease: how much nearer, as a factor of squared distances, another neighbour must be for one to be left out.
        starts: places where walks may begin.
        seed: of the order in which places join.
    """

    degree: int = 48
    width: int = 200
    ease: float = 1.1
    starts: int = 32
    seed: int = 0


def build_graph(
    hi: NDArray[np.int8],
    options: GraphOptions,
    threads: int = 1,
    head: int | None = None,
    spread: np.float32 = np.float32(0),
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Neighbour lists int32 [n, degree], filled up with -1, and where walks begin, int32, for int8 codes [n, d].

    ``head``, ``spread``: of turned codes, see `dense_kernels.walk`.
    """
    count = len(hi)
    inverse = np.zeros(count, np.float32)
    inverse_lengths(hi, inverse)
    order = np.random.default_rng(options.seed).permutation(np.flatnonzero(inverse > 0).astype(np.int32))
    neighbours = np.full((count, int(options.degree * _ROOM)), -1, np.int32)
    starts = order[: options.starts]
    scratches = [DenseScratch(count) for _ in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        head = hi.shape[1] if head is None else head
        build = _Build(hi, inverse, neighbours, order[:1], options, head, spread, pool, scratches)
        for begin, end in batches(len(order)):
            build.join(order[begin:end])
        build.finish()
    return np.ascontiguousarray(neighbours[:, : options.degree]), starts


def batches(count: int) -> Iterator[tuple[int, int]]:
    """Where batches begin and end, after the first place, which needs none."""
    begin = 1
    while begin < count:
        end = min(count, begin + max(1, min(begin, count // _BATCHES)))
        yield begin, end
        begin = end


@dataclass(frozen=True)
class _Build:
    hi: NDArray[np.int8]
    inverse: NDArray[np.float32]
    neighbours: NDArray[np.int32]
    starts: NDArray[np.int32]
    options: GraphOptions
    head: int
    spread: np.float32
    pool: ThreadPoolExecutor
    scratches: list[DenseScratch]

    def join(self, places: NDArray[np.int32]) -> None:
        """Give places their lists, and put them into the lists of those."""
        ease, degree = np.float32(self.options.ease), self.options.degree

        def find(begin: int, end: int, scratch: DenseScratch) -> None:
            find_lists(
                self.hi, self.inverse, self.neighbours, self.starts, places[begin:end], degree, ease,
                self.head, self.spread, scratch.pool(self.options.width), scratch.marks, scratch.touched, scratch.keys,
            )  # fmt: skip

        self._split(find, np.arange(0, len(places) + _PIECE, _PIECE).clip(max=len(places)))
        lists = self.neighbours[places, :degree]
        sources = np.repeat(places, degree).reshape(lists.shape)
        linked = lists >= 0
        targets, sources = lists[linked], sources[linked]
        by_target = np.argsort(targets, kind="stable")
        targets, sources = targets[by_target], sources[by_target]

        def link(begin: int, end: int, scratch: DenseScratch) -> None:
            link_back(self.hi, self.inverse, self.neighbours, targets, sources, begin, end, degree, ease, scratch.keys)

        firsts = np.flatnonzero(np.diff(targets, prepend=-1))
        self._split(link, np.append(firsts[::_PIECE], len(targets)))

    def finish(self) -> None:
        """Shorten what is longer than it may be in the end."""

        def shorten(begin: int, end: int, scratch: DenseScratch) -> None:
            ease = np.float32(self.options.ease)
            thin(self.hi, self.inverse, self.neighbours, begin, end, self.options.degree, ease, scratch.keys)

        count = len(self.hi)
        self._split(shorten, np.arange(0, count + _PIECE, _PIECE).clip(max=count))

    def _split(self, work: Callable[[int, int, DenseScratch], None], bounds: NDArray[np.int64]) -> None:
        """Do the work between each two bounds, on all threads."""
        pieces: SimpleQueue[tuple[int, int]] = SimpleQueue()
        for piece in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            pieces.put(piece)

        def run(scratch: DenseScratch) -> None:
            with suppress(Empty):
                while True:
                    begin, end = pieces.get_nowait()
                    work(begin, end, scratch)

        for _ in self.pool.map(run, self.scratches):
            pass
