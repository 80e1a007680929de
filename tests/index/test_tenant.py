"""An index of several tenants: no document without one, no search that does not say whose."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from index.conftest import RandomTower, make_documents, make_encoder

from lightretriever import Encoded, Index
from lightretriever.errors import InputError, MismatchError, UsageError
from lightretriever.index.ingest import index_corpus, ingest_vectors
from lightretriever.text.corpus import Document
from lightretriever.vectors.encode import encode_corpus
from lightretriever.vectors.folder import VectorsFolder

DOCUMENTS = make_documents(30)  # of seven groups


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    path = tmp_path_factory.mktemp("tenants") / "i"
    with Index.create(path, make_encoder(), model=RandomTower(), tenant="group") as index:  # type: ignore[arg-type]
        index.add_documents(DOCUMENTS)
    with Index.open(path) as index:
        yield index


@pytest.mark.parametrize(
    "conditions",
    [{"group": 3}, {"group": {"$in": [3]}, "even": True}, {"$and": [{"even": True}, {"$and": [{"group": 3}]}]}],
)
def test_a_search_finds_its_tenants_documents_alone(shared: Index, conditions: dict) -> None:
    assert shared.info()["tenant"] == "group"
    for mode in ("dense", "sparse", "hybrid"):
        hits = shared.search("w01 w02 w03 w04", 100, mode, conditions)
        assert hits
        assert {hit.metadata["group"] for hit in hits} == {3}


@pytest.mark.parametrize(
    "conditions",
    [
        None,
        {},
        {"even": True},
        {"group": {"$ne": 3}},
        {"group": {"$gte": 3}},
        {"group": {"$exists": True}},
        {"$or": [{"group": 3}, {"even": True}]},
        {"$not": {"$not": {"group": 3}}},
    ],
)
def test_a_search_without_a_tenant_is_refused(shared: Index, conditions: dict | None) -> None:
    for mode in ("dense", "sparse", "hybrid"):
        with pytest.raises(UsageError, match="keeps tenants apart by 'group'"):
            shared.search("w01", mode=mode, filter=conditions)


@pytest.mark.parametrize("value", [{}, {"group": None}, {"group": [1]}, {"group": {"x": 1}}])
def test_a_document_of_no_tenant_is_refused(shared: Index, value: dict) -> None:
    encoded = RandomTower().encode(DOCUMENTS[:2])
    with pytest.raises(InputError, match="document stray has no single value in 'group'"):
        shared.add(["fine", "stray"], encoded, [{"group": 1}, {"metadata": value}])
    assert shared.count == 30


def test_adding_refuses_it_before_anything_is_encoded(tmp_path: Path) -> None:
    tower = RandomTower()
    with Index.create(tmp_path / "i", make_encoder(), model=tower, tenant="group") as index:  # type: ignore[arg-type]
        with pytest.raises(InputError, match="document stray has no single value in 'group'"):
            index.add_documents([*DOCUMENTS, Document("stray", "w01")])
        assert (index.count, tower.calls) == (0, 0)


def test_building_refuses_it_before_anything_is_stored(tmp_path: Path) -> None:
    stray = [*DOCUMENTS, Document("stray", "w01", metadata={"even": True})]
    with pytest.raises(InputError, match="document stray has no single value"):
        index_corpus(tmp_path / "a", stray, RandomTower(), make_encoder(), tenant="group")
    encode_corpus(stray, RandomTower(), tmp_path / "v", dtype="float32")
    vectors = VectorsFolder.open(tmp_path / "v")
    with pytest.raises(InputError, match="document stray has no single value"):
        ingest_vectors(tmp_path / "b", vectors, make_encoder(), tenant="group")
    with pytest.raises(MismatchError, match="begun with tenant 'group', now it is 'even'"):
        ingest_vectors(tmp_path / "b", vectors, make_encoder(), tenant="even")
    for name in ("", "$and"):
        with pytest.raises(UsageError, match="name a metadata field"):
            Index.create(tmp_path / "c", make_encoder(), tenant=name)


def test_many_queries_share_one_filter(shared: Index) -> None:
    rows = np.eye(2, 16, dtype=np.float32)
    for hits in shared.search_encoded(Encoded(rows), 5, "dense", {"group": 2}):
        assert {hit.metadata["group"] for hit in hits} == {2}
