"""Queries to time with, and what a log of queries says about caches and phrases."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lightretriever.errors import InputError
from lightretriever.query.encoder import QueryEncoder

WORDS = 8
CACHE_SIZES = (100, 1_000, 10_000, 100_000)
_WORD = re.compile(r"\w+")


def passage_queries(passages: Sequence[str], count: int, seed: int = 0) -> list[str]:
    """So many queries, each a run of eight words out of a passage drawn at random.

    Raises:
        InputError: no passage has as many words.
    """
    words = [found for passage in passages if len(found := _WORD.findall(passage)) >= WORDS]
    if not words:
        raise InputError(f"none of the {len(passages):,} passages has {WORDS} words, so no queries can be made of them")
    rng = np.random.default_rng(seed)
    chosen, places = rng.integers(0, len(words), count).tolist(), rng.random(count).tolist()
    queries = []
    for number, place in zip(chosen, places, strict=True):
        passage = words[number]
        start = int(place * (len(passage) - WORDS + 1))
        queries.append(" ".join(passage[start : start + WORDS]))
    return queries


@dataclass(frozen=True, slots=True)
class LogRates:
    """What a log of queries says; shares are 0 … 1.

    Attributes:
        queries, distinct: how many, and how many different.
        phrases: share of the queries in which a row for a phrase is found.
        whole: share of the queries that have a row of their own.
        tokens: share of the tokens that such rows stand for.
        cached: by size, the share of queries that a cache of so many latest queries would answer, empty at first.
    """

    queries: int
    distinct: int
    phrases: float
    whole: float
    tokens: float
    cached: dict[str, float]


def log_rates(encoder: QueryEncoder, log: Sequence[str]) -> LogRates:
    """The rates of a log, in its order.

    Raises:
        InputError: it is empty.
    """
    if not log:
        raise InputError("the log of queries is empty")
    distinct = len(set(log))
    sizes = [size for size in CACHE_SIZES if size < distinct] + [distinct]
    cached = {str(size): _cached(log, size) for size in sizes}
    phrases = encoder.table.phrases
    if phrases is None:
        return LogRates(len(log), distinct, 0.0, 0.0, 0.0, cached)
    ids, offsets = encoder.tokenize(log)
    width = encoder.vocab_size
    found, starts = phrases.match(ids, offsets, width)
    found = found[: starts[-1]]
    owner = np.repeat(np.arange(len(log)), np.diff(starts))
    is_row, is_whole = found >= width, found >= width + len(phrases) - phrases.whole
    lengths = np.diff(phrases.indptr)[found[is_row] - width]
    return LogRates(
        queries=len(log),
        distinct=distinct,
        phrases=len(np.unique(owner[is_row & ~is_whole])) / len(log),
        whole=len(np.unique(owner[is_whole])) / len(log),
        tokens=float(lengths.sum() / max(1, len(ids))),
        cached=cached,
    )


def _cached(log: Sequence[str], size: int) -> float:
    latest: OrderedDict[str, None] = OrderedDict()
    hits = 0
    for query in log:
        if query in latest:
            hits += 1
            latest.move_to_end(query)
        else:
            latest[query] = None
            if len(latest) > size:
                latest.popitem(last=False)
    return hits / len(log)
