"""Values of Python libraries in an index: stored as what they mean, found by filters of the same kind."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from index.conftest import DIM, RandomTower, make_encoder

from lightretriever import Encoded, Index
from lightretriever.errors import InputError, UsageError
from lightretriever.index.ingest import index_corpus
from lightretriever.text.corpus import Document
from lightretriever.vectors.encode import encode_corpus
from lightretriever.vectors.folder import VectorsFolder, VectorsWriter

ROW = {
    "floor": np.int16(7),
    "rent": Decimal("950.50"),
    "furnished": np.bool_(True),
    "rooms": np.array(["kitchen", "hall"]),
    "owners": {"ann", "bob"},
    "built": datetime(1931, 5, 1, tzinfo=UTC),
    "sold": np.datetime64("NaT"),
}
FOUND = {
    "floor": 7,
    "rent": 950.5,
    "furnished": True,
    "rooms": ["kitchen", "hall"],
    "owners": ["ann", "bob"],
    "built": "1931-05-01T00:00:00+00:00",
    "sold": None,
}


@pytest.mark.parametrize("given", ["documents", "payloads"])
def test_what_is_added_is_found_by_its_values(tmp_path: Path, given: str) -> None:
    tower = RandomTower()
    other = {"id": "other", "text": "w03 w04", "floor": 1, "sold": "2001-01-01"}
    with Index.create(tmp_path / "i", make_encoder(), model=tower) as index:  # type: ignore[arg-type]
        if given == "documents":
            index.add_documents([{"id": np.int64(12), "text": "w01 w02", **ROW}, other])
        else:
            encoded = tower.encode([Document("12", "w01 w02")])
            index.add(np.array([12]), encoded, [{"text": "w01 w02", **ROW}])  # type: ignore[arg-type]
        for conditions in (
            {"floor": np.uint8(7)},
            {"floor": {"$in": np.arange(5, 9)}},
            {"rent": {"$gt": Decimal("950"), "$lt": np.float32(951)}},
            {"furnished": np.bool_(True), "rooms": np.str_("hall")},
            {"owners": "bob"},
            {"built": {"$lt": datetime(1931, 5, 2, tzinfo=UTC)}},
            {"sold": {"$exists": False}},
        ):
            hits = index.search("w01 w03", 5, "dense", conditions)
            assert [hit.id for hit in hits] == ["12"], conditions
            assert hits[0].metadata == FOUND


def stored(index: Index) -> list[Document]:
    with index:
        return list(index.documents())


def by_add(path: Path, document: Any) -> list[Document]:
    index = Index.create(path, make_encoder())
    index.add([document.id], RandomTower().encode([Document("x", "w01")]), [document])
    return stored(index)


def by_add_documents(path: Path, document: Any) -> list[Document]:
    index = Index.create(path, make_encoder(), model=RandomTower())  # type: ignore[arg-type]
    index.add_documents([document])
    return stored(index)


def by_add_encoded(path: Path, document: Any) -> list[Document]:
    index = Index.create(path, make_encoder())
    index.add_encoded([([document], RandomTower().encode([Document("x", "w01")]))])
    return stored(index)


def by_index_corpus(path: Path, document: Any) -> list[Document]:
    index_corpus(path, [document], RandomTower(), make_encoder())
    return stored(Index.open(path))


def by_encode_corpus(path: Path, document: Any) -> list[Document]:
    for _ in range(2):  # the second time what was written is compared with what is given
        encode_corpus([document], RandomTower(), path)
    return [document for documents in VectorsFolder.open(path).documents() for document in documents]


def by_writer(path: Path, document: Any) -> list[Document]:
    encoded = RandomTower(has_sparse=False).encode([Document("x", "w01")])
    with VectorsWriter.open(path, model="m", revision="r", dim=DIM, settings={}, width=None) as writer:
        writer.append([document], encoded)
        writer.finish()
    return [document for documents in VectorsFolder.open(path).documents() for document in documents]


WAYS_IN = (by_add, by_add_documents, by_add_encoded, by_index_corpus, by_encode_corpus, by_writer)


@pytest.mark.parametrize("way_in", WAYS_IN)
def test_documents_made_in_python_are_kept_as_rows_of_a_file_would_be(
    tmp_path: Path, way_in: Callable[[Path, Any], list[Document]]
) -> None:
    given = Document(12, "w01\0 w02", None, {**ROW, "mark": "\ud83d", "height": float("nan")})  # type: ignore[arg-type]
    kept = Document("12", "w01\ufffd w02", "", {**FOUND, "mark": "\ufffd", "height": None})
    assert way_in(tmp_path / "out", given) == [kept]


@pytest.mark.parametrize("way_in", WAYS_IN)
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Document("lamp", "w01", "", {"watts": {"max": float("inf")}}), "id lamp: the field 'watts.max' is infinite"),
        (Document("lamp", "w01", "", {"serial": 2**64}), "id lamp: the field 'serial' is an integer beyond 64 bits"),
        (Document("lamp", "w01", "", {"maker": object()}), "id lamp: the field 'maker' is of type object"),
        (Document("lamp", "w01", "", ["brass"]), "document lamp: its metadata is list, not a mapping"),  # type: ignore[arg-type]
        (
            Document("lamp", "w01", "", {"text": "w02"}),
            "lamp: its 'text' is 'w01' outside its metadata and 'w02' in it",
        ),
        (Document("lamp\udc00", "w01"), "the id 'lamp\ufffd' holds NUL or a lone surrogate"),
        (Document("lamp" * 300, "w01"), "has 1,200 bytes"),
        (Document("lamp", None), "document lamp has no text"),  # type: ignore[arg-type]
    ],
)
def test_documents_made_in_python_are_refused_by_id_and_field(
    tmp_path: Path, way_in: Callable[[Path, Any], list[Document]], given: Document, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        way_in(tmp_path / "out", given)


@pytest.mark.parametrize("way_in", WAYS_IN)
def test_documents_without_an_id_are_refused(tmp_path: Path, way_in: Callable[[Path, Any], list[Document]]) -> None:
    with pytest.raises((UsageError, InputError), match=r"a document has no id .'w01|the document's id is empty"):
        way_in(tmp_path / "out", Document("", "w01"))


def test_a_tenant_said_twice_must_be_the_same(tmp_path: Path) -> None:
    with Index.create(tmp_path / "i", make_encoder(), model=RandomTower(), tenant="shop") as index:  # type: ignore[arg-type]
        with pytest.raises(InputError, match="its 'shop' is 'north' outside its metadata and 'south' in it"):
            index.add_documents([{"id": "1", "text": "w01", "shop": "north", "metadata": {"shop": "south"}}])
        index.add_documents([{"id": "2", "text": "w01", "shop": b"north", "metadata": {"shop": "north"}}])
        assert [hit.id for hit in index.search("w01", 5, filter={"shop": "north"})] == ["2"]


def test_a_payload_that_says_another_id_is_refused(tmp_path: Path) -> None:
    documents = [Document("oak", "w01"), Document("elm", "w02", "trees", {"age": 90})]
    encoded = RandomTower().encode(documents)
    with Index.create(tmp_path / "i", make_encoder()) as index:
        for row in ({"_id": "ash", "text": "w02"}, {"id": 5, "text": "w02"}, Document("ash", "w02")):
            with pytest.raises(InputError, match=r"the payload of id 'elm' has the _?id '(ash|5)': leave one out"):
                index.add(["oak", "elm"], encoded, [{"text": "w01"}, row])  # type: ignore[list-item]
        assert index.count == 0
        index.add(["oak", "elm"], encoded, [{"id": None, "_id": "oak", "text": "w01"}, documents[1]])
        assert {d.id: d for d in index.documents()}["elm"] == documents[1]


def test_two_ids_never_become_one(tmp_path: Path) -> None:
    ids = ["a\0", "a\ud801"]
    encoded = RandomTower().encode([Document("x", "w01")])
    with Index.create(tmp_path / "i", make_encoder(), model=RandomTower()) as index:  # type: ignore[arg-type]
        index.add(["a\ufffd"], encoded)
        for name in ids:
            for write in (
                lambda name=name: index.add([name], encoded),
                lambda name=name: index.add_documents([{"_id": None, "id": name, "text": "w01"}]),
                lambda name=name: index.add_documents([Document(name, "w01")]),
                lambda name=name: index.delete(["b", name]),
            ):
                with pytest.raises(InputError, match="holds NUL or a lone surrogate where"):
                    write()
        assert index.count == 1
        assert index.delete(["a\ufffd"]) == 1


@pytest.mark.parametrize("wrong", [None, 7, b"w01", float("nan"), ["w01"], {"w01": 1}])
def test_what_is_no_query_is_said(tmp_path: Path, wrong: Any) -> None:
    with Index.create(tmp_path / "i", make_encoder()) as index:
        with pytest.raises(UsageError, match=f"the query is of type {type(wrong).__name__}: a string is needed"):
            index.search(wrong)
        for queries in (["w01", wrong], [wrong] * 3_000):
            with pytest.raises(UsageError, match=r"query \d is of type .*: a string is needed"):
                index.search_many(queries)
        with pytest.raises(UsageError, match="encoded is of type"):
            index.search_encoded(wrong)


def test_what_is_no_argument_of_add_is_said(tmp_path: Path) -> None:
    encoded = RandomTower().encode([Document("x", "w01")])
    rows: list[Any] = [{"text": "w01"}]

    class Frame:
        ndim = 2

        def __iter__(self) -> Any:
            return iter(["text"])

    calls: list[tuple[Any, Any, Any]] = [
        (None, encoded, rows),
        ("x", encoded, rows),
        (Frame(), encoded, rows),
        (["x"], None, rows),
        (["x"], encoded.dense, rows),
        (["x"], Encoded(encoded.dense.tolist(), encoded.sparse), rows),
        (["x"], Encoded(encoded.dense, encoded.dense), rows),  # type: ignore[arg-type]
        (["x"], encoded, "w01"),
        (["x"], encoded, rows[0]),
        (["x"], encoded, Frame()),
        (["x"], encoded, [None]),
        (["x"], encoded, ["w01"]),
    ]
    with Index.create(tmp_path / "i", make_encoder()) as index:
        for ids, vectors, payloads in calls:
            with pytest.raises((UsageError, InputError), match=r"type|the string"):
                index.add(ids, vectors, payloads)
        assert index.count == 0
        with pytest.raises(UsageError, match="ids is of type int: give a list of ids"):
            index.delete(7)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"QueryEncoder\.load"):
        Index.create(tmp_path / "j", "table")  # type: ignore[arg-type]
