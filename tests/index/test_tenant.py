"""An index of several tenants: no document without one, no search that does not say whose."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from index.conftest import RandomTower, make_documents, make_encoder

from lightretriever import Encoded, Index
from lightretriever.cli.main import execute
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


def tenants_of(index: Index, *values: object) -> dict[str, object]:
    return {d.id: d.metadata["owner"] for d in index.documents({"owner": {"$in": list(values)}})}


def put(index: Index, *rows: tuple[str, object], text: str = "w01 w02") -> None:
    documents = [Document(name, text, metadata={"owner": owner}) for name, owner in rows]
    encoded = RandomTower().encode(documents)
    index.add([d.id for d in documents], encoded, [{"text": d.text, "metadata": d.metadata} for d in documents])


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Index]:
    with Index.create(tmp_path / "i", make_encoder(), tenant="owner") as index:
        put(index, ("a1", "acme"), ("a2", "acme"), ("b1", "bolt"), ("n1", 7))
        yield index


def test_no_tenant_replaces_another_s_document(two: Index) -> None:
    for rows in ([("b1", "acme")], [("new", "acme"), ("b1", "acme")], [("n1", "7")], [("n1", True)]):
        with pytest.raises(InputError, match=r"document (b1|n1) is of another 'owner' already: .* begin them with"):
            put(two, *rows)
    with pytest.raises(InputError, match="document x is of another 'owner' already"):
        put(two, ("x", "acme"), ("y", "bolt"), ("x", "bolt"))
    assert tenants_of(two, "acme", "bolt", 7, "7", True) == {"a1": "acme", "a2": "acme", "b1": "bolt", "n1": 7}
    put(two, ("b1", "bolt"), ("n1", 7.0), ("z", "acme"), ("z", "acme"), text="w09")
    assert {d.text for d in two.documents({"owner": {"$in": ["bolt", 7]}})} == {"w09"}
    assert two.delete("b1", filter={"owner": "bolt"}) == 1
    put(two, ("b1", "acme"))  # nobody's now
    assert tenants_of(two, "acme") == dict.fromkeys(["a1", "a2", "z", "b1"], "acme")


def test_no_tenant_deletes_or_reads_another_s_document(two: Index) -> None:
    for conditions in (None, {}, {"owner": {"$ne": "bolt"}}, {"other": 1}):
        with pytest.raises(UsageError, match="keeps tenants apart by 'owner': every call needs a filter"):
            two.delete(["a1"], filter=conditions)
        with pytest.raises(UsageError, match="keeps tenants apart by 'owner'"):
            two.documents(conditions)
    assert two.delete(["b1", "a1", "nobody"], filter={"owner": "acme"}) == 1
    assert two.delete(["n1"], filter={"owner": "7"}) == 0
    assert two.delete(["b1"], filter={"owner": "bolt", "group": 1}) == 0
    assert tenants_of(two, "acme", "bolt", 7) == {"a2": "acme", "b1": "bolt", "n1": 7}
    assert [d.id for d in two.documents({"owner": "acme"})] == ["a2"]
    assert two.delete(["a2", "b1"], filter={"owner": {"$in": ["acme", "bolt"]}}) == 2


def test_a_filter_holds_deletions_and_documents_without_tenants_too(filled) -> None:
    index, documents, _ = filled(20)
    with index:
        even = {d.id for d in documents if d.metadata["even"]}
        assert {d.id for d in index.documents({"even": True})} == even
        assert index.delete([d.id for d in documents], filter={"even": True}) == len(even)
        assert {d.id for d in index.documents()} == {d.id for d in documents} - even
        with pytest.raises(UsageError, match="the operator"):
            index.delete(["d1"], filter={"$even": True})


@pytest.mark.parametrize(("first", "second"), [("acme", "bolt"), (1, "1"), (1, True)])
def test_building_refuses_an_id_of_two_tenants(tmp_path: Path, first: object, second: object) -> None:
    def corpus(second: object) -> list[Document]:
        owners = [("x", first), ("same", first), ("y", second), ("same", second)]
        return [Document(name, f"w01 w0{row}", metadata={"owner": owner}) for row, (name, owner) in enumerate(owners)]

    with pytest.raises(InputError, match="document same is of another 'owner' already"):
        index_corpus(tmp_path / "a", corpus(second), RandomTower(), make_encoder(), tenant="owner")
    encode_corpus(corpus(second), RandomTower(), tmp_path / "v", dtype="float32")
    with pytest.raises(InputError, match="document same is of another 'owner' already"):
        ingest_vectors(tmp_path / "b", VectorsFolder.open(tmp_path / "v"), make_encoder(), tenant="owner")
    report = index_corpus(tmp_path / "c", corpus(first), RandomTower(), make_encoder(), tenant="owner")
    assert (report.documents, report.duplicates) == (3, 1)


def test_the_command_line_names_a_tenant_as_a_search_does(two: Index, capsys: pytest.CaptureFixture[str]) -> None:
    two.close()
    assert execute(["delete", str(two.path), "a1", "b1"]) == 2
    assert "keeps tenants apart by 'owner'" in capsys.readouterr().err
    assert execute(["delete", str(two.path), "a1", "b1", "--filter", '{"owner": "acme"}']) == 0
    said = capsys.readouterr()
    assert "1 deleted, 1 not there, or did not pass the filter, 3 documents left" in said.out + said.err
