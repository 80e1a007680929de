"""BEIR folders: the judged queries of one split, and clear errors for what is not there."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from lightretriever.errors import InputError
from lightretriever.evaluation.collection import read_collection


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [{"_id": str(i), "text": f"text {i}"} for i in range(4)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "corpus.jsonl").write_text(lines)
    (tmp_path / "queries.jsonl").write_text(lines)
    (tmp_path / "qrels").mkdir()
    header = "query-id\tcorpus-id\tscore\n"
    (tmp_path / "qrels" / "test.tsv").write_text(header + "3\t1\t1\n1\t2\t1\n3\t0\t0\n9\t0\t1\n")
    (tmp_path / "qrels" / "dev.tsv.gz").write_bytes(gzip.compress((header + "0\t0\t1\n").encode()))
    (tmp_path / "qrels" / "other.tsv").write_text(header + "x\t0\t1\n")
    return tmp_path


def test_a_split_has_its_judged_queries_only(folder: Path) -> None:
    collection = read_collection(folder)
    assert list(collection.queries.items()) == [("3", "text 3"), ("1", "text 1")]
    assert collection.qrels == {"3": {"1": 1, "0": 0}, "1": {"2": 1}, "9": {"0": 1}}
    assert collection.textless == 1
    assert [document.id for document in collection.documents()] == ["0", "1", "2", "3"]
    assert read_collection(folder, "dev").queries == {"0": "text 0"}


def test_a_query_that_is_there_twice_is_counted(folder: Path) -> None:
    with (folder / "queries.jsonl").open("a") as queries:
        for query, text in (("3", "text 3"), ("1", "another text"), ("2", "nobody judges it")):
            queries.write(json.dumps({"_id": query, "text": text}) + "\n")
    collection = read_collection(folder)
    assert collection.doubled == 1
    assert collection.queries["1"] == "another text"


def test_what_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(InputError, match="no split 'train': there are dev, other, test"):
        read_collection(folder, "train")
    with pytest.raises(InputError, match=r"none of the queries that other\.tsv judges"):
        read_collection(folder, "other")
    with pytest.raises(InputError, match="is no folder"):
        read_collection(folder / "corpus.jsonl")
    with pytest.raises(InputError, match=r"the folder has no qrels/\*\.tsv"):
        read_collection(folder / "qrels")
