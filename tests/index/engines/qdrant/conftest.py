"""A server to ask, and engines over it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from index.engines.data import DIM, WIDTH
from index.rest_server import RestServer, serve

from lightretriever.index.engines.qdrant import calls
from lightretriever.index.engines.qdrant.calls import Connection
from lightretriever.index.engines.qdrant.collection import Contents
from lightretriever.index.engines.qdrant.engine import QdrantEngine
from lightretriever.index.engines.qdrant.server import QdrantServer
from lightretriever.index.engines.qdrant.url import parse_address

CONTENTS = Contents(DIM, WIDTH, {"model": "tiny", "table_hash": "aa"})


@pytest.fixture
def server() -> Iterator[RestServer]:
    with serve() as running:
        yield running


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """No waiting between attempts; what would have been waited, in seconds."""
    waited: list[float] = []
    monkeypatch.setattr(calls.time, "sleep", waited.append)
    return waited


def reach(url: str, named: bool = True) -> QdrantServer:
    return QdrantServer(Connection(parse_address(url), named))


def make(server: RestServer, contents: Contents = CONTENTS) -> QdrantEngine:
    return reach(f"{server.url}/everest").create(contents)
