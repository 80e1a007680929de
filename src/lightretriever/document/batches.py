"""Texts into batches of nearly one length, and the batches through a model: several at a time on a processor, the next
begun before one has ended on a GPU, and smaller ones where memory runs out.
"""

from __future__ import annotations

import gc
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from threading import Barrier
from typing import TypeVar

import torch

from lightretriever.errors import ModelError

Result = TypeVar("Result")

WINDOW_TEXTS, WINDOW_CHARACTERS = 4096, 1 << 25
"""Texts are sorted by length within windows of this size."""
CPU_BATCH_TOKENS, GPU_BATCH_TOKENS = 1024, 32768
"""Padded tokens of a batch. On a CPU larger ones only fall out of its caches; a GPU needs them to be busy."""
GPU_SLACK = 0.1
"""On a GPU a batch that has half its tokens takes no text that is so much shorter than its longest.

`benchmarks/padding.py` counts what is left: 2 to 7% of the real tokens in windows of 4,096 texts. Packing texts without
padding would win no more than that, and ask of every kind of model a second path through its attention.
"""
LANE_TOKENS = 256
"""A lane with less than that to do costs more than it brings."""
MOST_LANES = 8
"""Batches run at a time: each needs memory of its own."""
# As a processor says it, CUDA (pinned memory, kernels), and its library of products.
_OUT_OF_MEMORY = ("can't allocate memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


class Budget:
    """How many padded tokens a batch may have; less after memory ran out.

    Attributes:
        tokens: at most so many, but at least one text.
        slack: how much shorter than its longest a text of a batch may be once that has half its tokens, as a share;
            1 on a CPU, whose batches are small enough to be of one length.
    """

    def __init__(self, device: torch.device) -> None:
        cpu = device.type == "cpu"
        self.tokens = CPU_BATCH_TOKENS if cpu else GPU_BATCH_TOKENS
        self.slack = 1.0 if cpu else GPU_SLACK

    def texts(self, longest: int, share: int) -> int:
        """How many texts of ``longest`` tokens or fewer are a batch of no more than ``share``."""
        return max(1, min(self.tokens, share) // max(1, longest))

    def take(self, rest: deque[int], lengths: Sequence[int], share: int) -> list[int]:
        """Take the next batch off ``rest``, indices into ``lengths``, longest first."""
        longest = lengths[rest[0]]
        full = self.texts(longest, share)
        most = min(full, len(rest))
        batch = [rest.popleft() for _ in range(min(most, (full + 1) // 2))]
        while len(batch) < most and lengths[rest[0]] >= (1 - self.slack) * longest:
            batch.append(rest.popleft())
        return batch

    def reduce(self, texts: int, longest: int) -> None:
        """Halve it, since so many texts of so many tokens did not fit into memory; batches of one size do so once.

        Raises:
            ModelError: it was one text.
        """
        if texts == 1:
            raise ModelError(
                f"out of memory with a single text of {longest} tokens: give a smaller max_length (--max-length), or "
                "take a device with more memory"
            )
        tokens = max(1, texts * longest // 2)
        if tokens < self.tokens:
            warnings.warn(
                f"out of memory with a batch of {texts * longest:,} tokens: going on with {tokens:,}", stacklevel=3
            )
            self.tokens = tokens


def windows(texts: Iterable[str]) -> Iterator[list[str]]:
    """Runs of texts bounded in number and in characters."""
    window: list[str] = []
    characters = 0
    for text in texts:
        window.append(text)
        characters += len(text)
        if len(window) == WINDOW_TEXTS or characters >= WINDOW_CHARACTERS:
            yield window
            window, characters = [], 0
    if window:
        yield window


def run_batches(
    lengths: Sequence[int], budget: Budget, run: Callable[[list[int]], Result], lanes: int
) -> Iterator[tuple[list[int], Result]]:
    """Run every text in some batch; gives each batch, indices into ``lengths``, with what ``run`` made of it.

    Longest first: what needs most memory is met at once, and texts of a batch have nearly one length. A batch that
    does not fit into memory is run again in smaller ones.

    Args:
        lengths: tokens of each text.
        budget: bounds batches; reduced when memory runs out.
        run: a batch through the model.
        lanes: how many threads run batches side by side, see `lanes_of`.

    Raises:
        ModelError: a single text does not fit into memory.
    """
    share = budget.tokens if lanes == 1 else -(-sum(lengths) // lanes)  # so that there is a batch for each
    with _lanes(lanes, run) as begin:
        yield from _through(lengths, budget, begin, share, lanes)


def queue_batches(
    lengths: Sequence[int], budget: Budget, begin: Callable[[list[int]], Callable[[], Result]]
) -> Iterator[tuple[list[int], Result]]:
    """`run_batches` on a device that does later what it is given: each batch is begun before the one before it ends.

    Args:
        lengths, budget: as there.
        begin: gives the device what a batch is to be, and gives what waits for its result. Memory may run out in both.

    Raises:
        ModelError: a single text does not fit into memory.
    """
    return _through(lengths, budget, begin, budget.tokens, 1)


def _through(
    lengths: Sequence[int],
    budget: Budget,
    begin: Callable[[list[int]], Callable[[], Result]],
    share: int,
    lanes: int,
) -> Iterator[tuple[list[int], Result]]:
    """Begin batches, one more than there are lanes, so that none waits for this thread; and give each as it ends."""
    rest = deque(sorted(range(len(lengths)), key=lambda i: -lengths[i]))
    flying: deque[tuple[list[int], Callable[[], Result]]] = deque()
    while rest or flying:
        while rest and len(flying) <= lanes:
            batch = budget.take(rest, lengths, share)
            end = _if_it_fits(partial(begin, batch))
            if end is None:
                if len(batch) > 1 or not flying:  # one text may fit when those on their way have ended
                    budget.reduce(len(batch), lengths[batch[0]])
                rest.extendleft(reversed(batch))
                _free_memory()
                break
            flying.append((batch, end))
        if not flying:
            continue
        batch, end = flying.popleft()
        result = _if_it_fits(end)
        del end
        if result is None:
            budget.reduce(len(batch), lengths[batch[0]])
            rest.extendleft(reversed(batch))
            _free_memory()
        else:
            yield batch, result


def _if_it_fits(step: Callable[[], Result]) -> Result | None:
    """What a step gives, or None where memory ran out; the error, and what it held, are gone then."""
    try:
        return step()
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        return None


def lanes_of(device: torch.device, lengths: Sequence[int]) -> int:
    """How many batches of texts of so many tokens a device should run side by side.

    On a processor, as many as it has threads, with one each: threads that share every step of one batch wait for each
    other after each, at full speed, and all for one that another program holds up.
    """
    if device.type != "cpu":
        return 1
    return max(1, min(torch.get_num_threads(), MOST_LANES, len(lengths), sum(lengths) // LANE_TOKENS))


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out; torch has a class for its own allocator on a GPU alone."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(said in str(error) for said in _OUT_OF_MEMORY)


def _free_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def _lanes(count: int, run: Callable[[list[int]], Result]) -> Iterator[Callable[[list[int]], Callable[[], Result]]]:
    """Gives what begins a batch, and gives what waits for its end; one lane is this thread itself.

    On the way out, whatever the reason, batches that have not begun are dropped and the others waited for.
    """
    if count == 1:
        yield lambda batch: partial(run, batch)
        return
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(count, "lane", _narrow, (max(1, threads // count),))
    try:
        begun = Barrier(count + 1)
        for _ in range(count):
            pool.submit(begun.wait)
        begun.wait()
        torch.set_num_threads(threads)  # what the last one said would count for every thread that is yet to begin
        yield lambda batch: pool.submit(run, batch).result
    finally:
        pool.shutdown(cancel_futures=True)


def _narrow(threads: int) -> None:
    """Let this thread compute with so many."""
    torch.set_num_threads(threads)
    torch.get_num_threads()  # a thread that computes for the first time takes what was said last, by whomever
