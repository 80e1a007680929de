"""What is counted and timed, for Prometheus; of all workers together, whichever answers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from lightretriever.errors import LightRetrieverError
from lightretriever.serving.served import Served

SHARED = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable by which prometheus-client knows that several processes count; see `server`."""
_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
_SHARES = (0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 1.0)
_FRESH = 5.0  # seconds that what is said of the index is remembered


class Metrics:
    """The counters of a worker. Labels take few values: routes as they are written, never what a request says."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own: dict[str, Any] = {"registry": self.registry, "namespace": "lightretriever"}
        self._requests = Counter("requests", "Requests answered.", ["method", "route", "status"], **own)
        self._seconds = Histogram(
            "request_seconds", "From a request's headers to its answer.", ["route"], buckets=_SECONDS, **own
        )
        self._stages = Histogram("stage_seconds", "One stage of a batch.", ["stage", "arm"], buckets=_SECONDS, **own)
        self._batches = Histogram(
            "batch_queries", "Queries searched together.", buckets=(1, 2, 4, 8, 16, 32, 64, 256), **own
        )
        self._queries = Counter("queries", "Queries searched.", **own)
        self._coverage = Histogram(
            "query_coverage", "Share of a query that the table understands.", buckets=_SHARES, **own
        )
        self._phrases = Counter("phrase_hits", "Rows for phrases that queries met.", **own)
        self._texts = Counter("texts_encoded", "Texts encoded for embeddings.", ["by"], **own)
        self._stored = Counter("documents_stored", "Documents written.", **own)
        self._removed = Counter("documents_removed", "Documents removed.", **own)
        self.in_flight = Gauge("requests_in_flight", "Being answered.", multiprocess_mode="livesum", **own)
        self._children: dict[tuple[str, ...], Any] = {}

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """One was answered."""
        self._child(self._requests, method, route, str(status)).inc()
        self._child(self._seconds, route).observe(seconds)

    def stage(self, stage: str, arm: str, seconds: float) -> None:
        """One stage of a batch took so long."""
        self._child(self._stages, stage, arm).observe(seconds)

    def searched(self, queries: int, trust: NDArray[np.float32]) -> None:
        """So many queries were searched together; ``trust``: how much of each was understood, where that is known."""
        self._batches.observe(queries)
        self._queries.inc(queries)
        for share in trust.tolist():
            self._coverage.observe(share)

    def met_phrases(self, count: int) -> None:
        """So many rows for phrases."""
        self._phrases.inc(count)

    def encoded(self, texts: int, by: str) -> None:
        """So many texts, by "lookup" or "model"."""
        self._child(self._texts, by).inc(texts)

    def wrote(self, stored: int = 0, removed: int = 0) -> None:
        """So many documents were stored, and removed."""
        self._stored.inc(stored)
        self._removed.inc(removed)

    def _child(self, metric: Any, *labels: str) -> Any:
        """`metric.labels(...)`, which takes longer than counting does."""
        key = (metric._name, *labels)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = metric.labels(*labels)
        return child


class IndexCollector(Collector):
    """What the index says of itself, asked for when somebody looks, every few seconds at most."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._said: dict[str, float] = {}
        self._at = -_FRESH

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Gauges."""
        if monotonic() - self._at >= _FRESH:
            self._said, self._at = _said(self._served), monotonic()
        for name, value in self._said.items():
            yield GaugeMetricFamily(f"lightretriever_index_{name}", _MEANINGS[name], value)


_MEANINGS = {
    "documents": "Documents, or passages where they are split.",
    "segments": "Built segments.",
    "fresh_documents": "In no segment yet, and scanned.",
    "unoptimised_documents": "Written or removed since all was built.",
    "damaged_segments": "Segments that are damaged, and searched out of the database.",
    "bm25_stale": "1 where too much changed since BM25 counted.",
    "tokens_unknown_share": "Share of tokens added since the fit that the table does not know.",
}


def _said(served: Served) -> dict[str, float]:
    with served.use() as opened:
        if opened.index is None:
            return {}
        try:
            info: dict[str, Any] = dict(opened.index.info())
        except LightRetrieverError:
            return {}
    said = {"documents": info["documents"]}
    for name, key in (("fresh_documents", "fresh"), ("unoptimised_documents", "unoptimised")):
        if isinstance(info.get(key), int):
            said[name] = info[key]
    for name, key in (("segments", "segments"), ("damaged_segments", "damaged")):
        if key in info:
            said[name] = len(info[key])
    if "bm25" in info:
        said["bm25_stale"] = float(info["bm25"]["stale"])
    if "added" in info:
        said["tokens_unknown_share"] = info["added"]["unknown_to_table"]
    return said


def exposition(metrics: Metrics, index: IndexCollector) -> bytes:
    """What Prometheus reads: all workers' counters added up, and the index's state."""
    shown = CollectorRegistry()
    shown.register(index)
    if SHARED in os.environ:
        MultiProcessCollector(shown)
        return generate_latest(shown)
    return generate_latest(metrics.registry) + generate_latest(shown)
