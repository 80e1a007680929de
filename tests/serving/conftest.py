"""Servers over small made indexes; one for all tests that change nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from index.conftest import RandomTower, fill, make_documents, make_encoder, payload
from index.conftest import tmp_path as tmp_path
from serving.running import Running, running

from lightretriever import Index
from lightretriever.serving.access.keys import new_key


@pytest.fixture(scope="session")
def made_index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 documents, the model's sparse vectors."""
    path = tmp_path_factory.mktemp("served") / "made.index"
    fill(path, 300)[0].close()
    return path


@pytest.fixture(scope="session")
def server(made_index: Path) -> Iterator[Running]:
    """Over it, without keys and without a model."""
    with running(made_index) as found:
        yield found


@dataclass(frozen=True)
class Guarded:
    """A server with keys, over an index of two tenants."""

    server: Running
    read: str
    write: str
    ann: str


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """Ten documents of ann's and ten of bob's."""
    folder = tmp_path_factory.mktemp("guarded")
    keys = folder / "keys.json"
    secrets = [
        new_key(keys, "reader"),
        new_key(keys, "writer", "write"),
        new_key(keys, "ann's", "write", "ann"),
    ]
    documents = make_documents(20)
    encoded = RandomTower().encode(documents)
    with Index.create(folder / "two.index", make_encoder(), tenant="owner") as index:
        rows = [payload(d) | {"metadata": {"owner": "ann" if i < 10 else "bob"}} for i, d in enumerate(documents)]
        index.add([d.id for d in documents], encoded, rows)
    with running(folder / "two.index", "--keys", keys, "--limit", "body=200000") as found:
        yield Guarded(found, *secrets)
