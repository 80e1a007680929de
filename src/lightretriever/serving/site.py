"""What a worker's endpoints share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import ParamSpec, TypeVar

from lightretriever.serving.access.keys import Key
from lightretriever.serving.api.together import Together
from lightretriever.serving.metrics import IndexCollector, Metrics
from lightretriever.serving.served import Served
from lightretriever.serving.settings import ServeOptions
from lightretriever.serving.tower.remote import TowerLink

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """A worker.

    Attributes:
        options: how it serves.
        served: what.
        together: searches what comes at once.
        metrics, index_metrics: what is counted, and what the index says of itself.
        keys: who may call; empty where anybody may.
        tower: the way to the document model; None where there is none.
        threads: where slow things are done: writes, large batches, whatever waits for the model.
        writing: held by whoever writes; an index takes one writer at a time.
        started: when, in seconds since 1970.
    """

    options: ServeOptions
    served: Served
    together: Together
    metrics: Metrics
    index_metrics: IndexCollector
    keys: tuple[Key, ...]
    tower: TowerLink | None
    threads: ThreadPoolExecutor
    writing: asyncio.Lock
    started: float = field(default_factory=time.time)

    async def aside(self, work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Do slow work in a thread, the event loop going on."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, partial(work, *arguments, **named))
