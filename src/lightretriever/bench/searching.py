"""An index of so many documents: built, searched end to end, its bytes counted by kind."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightretriever.bench.clock import Call, Timing, take_turns
from lightretriever.bench.encoding import LOOK_UP, SECONDS, SINGLY, SMALL, SMALL_BATCH
from lightretriever.bench.made import Maker, Real, made_texts
from lightretriever.bench.storage import bytes_by_kind
from lightretriever.index.bm25 import BM25, count_tokens
from lightretriever.index.index import Index
from lightretriever.progress import Progress
from lightretriever.query.encoder import QueryEncoder
from lightretriever.query.table import TokenTable
from lightretriever.types import Encoded, SparseVectors

CHUNK = 5_000  # documents in one call while building
K = 10
CALLS = 100
Encode = Callable[[list[str]], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Built:
    """An index that was built.

    Attributes:
        documents, made: how many, and how many of them are no real passages.
        add_per_second: documents a second through `Index.add`, made durable at the end.
        optimise_seconds: until all of it is one segment.
        bytes: on disk, by what they hold; see `lightretriever.bench.storage`.
    """

    documents: int
    made: int
    add_per_second: float
    optimise_seconds: float
    bytes: dict[str, int]


def build(
    path: Path, table: TokenTable, real: Real, maker: Maker | None, documents: int, progress: Progress | None = None
) -> Built:
    """Build an index of the real passages, and of made ones beyond them, with BM25 impacts under the real ones'
    statistics.

    Args:
        path: of the index.
        table: which queries are looked up in.
        real: passages.
        maker: of what is beyond them.
        documents: how many in all.
        progress: called with documents added and all.
    """
    encoder = QueryEncoder(table)
    statistics = BM25.of((_counts(part, encoder) for part in _parts(real.texts[:documents])), len(table))
    taken = 0.0
    with Index.create(path, encoder) as index:
        for start, dense, texts in _documents(real, maker, documents):
            sparse = statistics.impacts(_counts(texts, encoder))
            ids = [str(start + i) for i in range(len(texts))]
            payloads = [{"text": text} for text in texts]
            begun = time.perf_counter()
            index.add(ids, Encoded(dense, sparse), payloads, flush=start + len(ids) == documents)
            taken += time.perf_counter() - begun
            if progress is not None:
                progress(start + len(ids), documents)
        begun = time.perf_counter()
        index.optimise()
        optimised = time.perf_counter() - begun
    made = documents - min(documents, len(real.texts))
    return Built(documents, made, documents / taken, optimised, bytes_by_kind(path))


def _documents(real: Real, maker: Maker | None, documents: int) -> Iterator[tuple[int, NDArray[np.float32], list[str]]]:
    own = min(documents, len(real.texts))
    for start in range(0, own, CHUNK):
        end = min(start + CHUNK, own)
        yield start, real.dense[start:end], real.texts[start:end]
    for start in range(own, documents, CHUNK):
        assert maker is not None  # or there would be no more documents than real ones
        dense, parents = maker.make(min(CHUNK, documents - start), seed=start)
        yield start, dense, made_texts(real.texts, parents, seed=start)


def _parts(texts: Sequence[str]) -> Iterator[list[str]]:
    for start in range(0, len(texts), CHUNK):
        yield list(texts[start : start + CHUNK])


def _counts(texts: Sequence[str], encoder: QueryEncoder) -> SparseVectors:
    return count_tokens(texts, encoder.chunks, encoder.table.leading_space, encoder.vocab_size)


def time_searches(path: Path, full: Mapping[str, Encode], texts: Sequence[str], turns: int) -> list[Timing]:
    """Hybrid searches, the query's vector looked up, or made by a full model first; everything else is the same.

    A model whose vectors have not the index's dimensions is run all the same, and the looked-up vector is searched
    with: what the search costs does not depend on who made the vector.

    Args:
        path: of the index.
        full: name to what encodes queries by a model, float32 [n, d].
        texts: queries.
        turns: that each system takes.
    """
    with Index.open(path) as index:
        encoder, dim = index.encoder, index.settings.dim

        def through(encode: Encode) -> Call:
            def ask(asked: list[str]) -> object:
                dense = encode(asked)
                if dense.shape[1] != dim:
                    dense = encoder.encode_dense(asked)
                return index.search_encoded(Encoded(dense, encoder.encode_sparse(asked)), K)

            return ask

        systems: dict[str, Call] = {LOOK_UP: lambda asked: index.search_many(asked, K)}
        systems |= {name: through(encode) for name, encode in full.items()}
        label = f"{index.count:,} documents"
        ones, small = dict.fromkeys(systems, 1), dict.fromkeys(systems, SMALL_BATCH)
        return take_turns(f"{label}, {SINGLY}", systems, texts, ones, turns, SECONDS, CALLS) + take_turns(
            f"{label}, {SMALL}", systems, texts, small, (turns + 1) // 2, SECONDS, CALLS // SMALL_BATCH
        )
