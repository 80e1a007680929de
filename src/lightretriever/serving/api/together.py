"""Searches that come at once are done at once: a batch takes little more than one of them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from lightretriever.errors import MismatchError
from lightretriever.fusion import Fusion
from lightretriever.serving.metrics import Metrics
from lightretriever.serving.served import Served
from lightretriever.types import Encoded, Hit

if TYPE_CHECKING:
    from lightretriever.index.index import Index  # compiled searches, which embeddings do without

MOST = 64
"""Queries that are searched together, so that nobody waits for long."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked of every query; those that want the same are searched together.

    Attributes:
        k, mode, min_dense, group, texts, fusion: as of `Index.search_encoded`.
        filter: as JSON, so that it can be compared; b"" for none.
    """

    k: int = 10
    mode: str = "hybrid"
    filter: bytes = b""
    min_dense: float | None = None
    group: bool = True
    texts: bool = True
    fusion: Fusion | None = None

    @property
    def conditions(self) -> Mapping[str, object] | None:
        """The filter."""
        return msgspec.json.decode(self.filter) if self.filter else None


def search(index: Index, texts: Sequence[str], wanted: Wanted, metrics: Metrics) -> list[list[Hit]]:
    """Look queries up and search. Raises as `Index.search_encoded`."""
    started = perf_counter()
    encoder = index.encoder
    encoded = encoder.encode(texts)
    encoded_at = perf_counter()
    try:
        found = search_encoded(index, encoded, texts, wanted)
    except MismatchError:  # the index went over to another table meanwhile
        found = search_encoded(index, index.encoder.encode(texts), texts, wanted)
    metrics.stage("encode", "lookup", encoded_at - started)
    metrics.stage("search", wanted.mode, perf_counter() - encoded_at)
    metrics.searched(len(texts), encoded.trust if encoded.trust is not None else np.ones(0, np.float32))
    phrases = encoder.table.phrases
    if phrases is not None:
        metrics.met_phrases(sum(len(phrases.segment(encoder.chunks.ids(text, False))[1]) for text in texts))
    return found


def search_encoded(index: Index, encoded: Encoded, texts: Sequence[str], wanted: Wanted) -> list[list[Hit]]:
    """Search for queries that are encoded. Raises as `Index.search_encoded`."""
    return index.search_encoded(
        encoded,
        wanted.k,
        wanted.mode,
        wanted.conditions,
        texts=wanted.texts,
        min_dense=wanted.min_dense,
        group=wanted.group,
        queries=texts,
        fusion=wanted.fusion,
    )


class Together:
    """Gathers the searches of one turn of the event loop, and does them there.

    A turn hands out every request that has arrived; while a batch is being searched more arrive. So batches are as
    large as the load makes them, and nobody waits where there is none. In a thread of its own a search would share the
    interpreter with the loop, and be slower: docs/serving.md has both measured.
    """

    def __init__(self, served: Served, metrics: Metrics) -> None:
        self._served = served
        self._metrics = metrics
        self._waiting: dict[Wanted, list[tuple[str, asyncio.Future[list[Hit]]]]] = {}

    async def search(self, text: str, wanted: Wanted) -> list[Hit]:
        """The hits of one query. Raises as `Index.search_encoded`."""
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._answer)
        future: asyncio.Future[list[Hit]] = loop.create_future()
        self._waiting.setdefault(wanted, []).append((text, future))
        return await future

    def _answer(self) -> None:
        waiting, self._waiting = self._waiting, {}
        with self._served.use() as opened:
            index = opened.needs_index()
            for wanted, asked in waiting.items():
                for start in range(0, len(asked), MOST):
                    self._answer_some(index, wanted, asked[start : start + MOST])

    def _answer_some(
        self, index: Index, wanted: Wanted, asked: Sequence[tuple[str, asyncio.Future[list[Hit]]]]
    ) -> None:
        asked = [(text, future) for text, future in asked if not future.done()]  # those that gave up are
        try:
            found = search(index, [text for text, _ in asked], wanted, self._metrics) if asked else []
        except Exception as error:  # each that waits is told
            for _, future in asked:
                future.set_exception(error)
            return
        for (_, future), hits in zip(asked, found, strict=True):
            future.set_result(hits)
