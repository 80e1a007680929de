"""Data sets' folders as the hub keeps them: what is found, in which order, and pieces that are not there."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from lightretriever.errors import InputError
from lightretriever.evaluation.collection import read_collection
from lightretriever.evaluation.suite import find_sets, result_key
from lightretriever.text.beir import corpus_files, qrel_files
from lightretriever.text.corpus import estimate_count, read_corpus, read_queries

pyarrow = pytest.importorskip("pyarrow")


def write(path: Path, columns: Mapping[str, Sequence[object]]) -> None:
    from pyarrow import parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.table(dict(columns)), path)


def write_corpus(folder: Path, split: str = "corpus") -> None:
    for number, ids in enumerate((["a", "b"], ["c"])):
        texts = [f"about {name}" for name in ids]
        columns = {"_id": ids, "title": [""] * len(ids), "text": texts}
        write(folder / f"corpus/{split}-{number:05}-of-00002.parquet", columns)
    for name, ids in (("test", ["1", "2"]), ("train", ["3"])):
        path = folder / f"queries/{name}-00000-of-00001.parquet"
        write(path, {"_id": ids, "text": [f"what is {query}" for query in ids]})


JUDGED = {"score": [1, 0, 2], "query-id": ["2", "2", "1"], "corpus-id": ["a", "b", "c"]}


@pytest.mark.parametrize("place", ["qrels", "default", "data"])
def test_a_folder_of_the_hub_is_a_collection(tmp_path: Path, place: str) -> None:
    write_corpus(tmp_path, split="test" if place == "data" else "corpus")
    write(tmp_path / place / "test-00000-of-00001.parquet", JUDGED)
    write(tmp_path / place / "train-00000-of-00001-0f3a9c.parquet", {**JUDGED, "query-id": ["3"] * 3})
    (tmp_path / "README.md").write_text("# A set")
    found = read_collection(tmp_path)
    assert found.qrels == {"2": {"a": 1, "b": 0}, "1": {"c": 2}}
    assert found.queries == {"2": "what is 2", "1": "what is 1"}
    assert [document.id for document in found.documents()] == ["a", "b", "c"]
    assert estimate_count(tmp_path) == 3
    assert [query.id for query in read_queries(tmp_path)] == ["1", "2", "3"]
    assert read_collection(tmp_path, "train").queries == {"3": "what is 3"}
    with pytest.raises(InputError, match="no split 'dev': there are test, train"):
        read_collection(tmp_path, "dev")


def test_everything_in_one_folder_and_json_lines(tmp_path: Path) -> None:
    write(tmp_path / "data/corpus-00000-of-00001.parquet", {"_id": ["a"], "text": ["x"]})
    write(tmp_path / "data/queries-00000-of-00001.parquet", {"id": [1], "text": ["y"]})
    write(tmp_path / "data/test-00000-of-00001.parquet", {"query_id": [1], "corpus_id": ["a"], "score": [1.0]})
    assert read_collection(tmp_path).qrels == {"1": {"a": 1}}
    (tmp_path / "qrels").mkdir()
    line = json.dumps({"query-id": "1", "corpus-id": "a", "score": 3})
    (tmp_path / "qrels/test.jsonl").write_text(f"{line}\n")
    assert read_collection(tmp_path).qrels == {"1": {"a": 3}}
    (tmp_path / "qrels/test.tsv.gz").write_bytes(gzip.compress(b"1\ta\t2\n"))
    assert read_collection(tmp_path).qrels == {"1": {"a": 3}}
    (tmp_path / "qrels/test.tsv").write_text("1\ta\t1\n")
    assert read_collection(tmp_path).qrels == {"1": {"a": 1}}


def test_a_piece_that_is_not_there_is_named(tmp_path: Path) -> None:
    write_corpus(tmp_path)
    write(tmp_path / "qrels/test-00001-of-00003.parquet", JUDGED)
    with pytest.raises(InputError, match=r"test\.parquet is cut into 3 files, and 2 are not there \(number 00000"):
        read_collection(tmp_path)
    (tmp_path / "corpus/corpus-00000-of-00002.parquet").unlink()
    with pytest.raises(InputError, match=r"corpus\.parquet is cut into 2 files, and 1 are not there"):
        list(read_corpus(tmp_path))


def test_judgements_in_pieces_are_one_split_and_columns_are_named(tmp_path: Path) -> None:
    write_corpus(tmp_path)
    write(tmp_path / "qrels/test-00000-of-00002.parquet", JUDGED)
    write(tmp_path / "qrels/test-00001-of-00002.parquet", {**JUDGED, "score": [1, 1, 1]})
    with pytest.raises(InputError, match=r"00001-of-00002\.parquet: row 2: document b is judged twice .* \(0 and 1\)"):
        read_collection(tmp_path)
    write(tmp_path / "qrels/test-00001-of-00002.parquet", {"query-id": ["1"], "passage": ["a"], "score": [1]})
    with pytest.raises(InputError, match="row 1: the columns query-id, passage, score lack corpus-id"):
        read_collection(tmp_path)


def test_a_file_wins_over_a_folder_and_notes_are_no_data_set(tmp_path: Path) -> None:
    write_corpus(tmp_path)
    assert len(corpus_files(tmp_path)) == 2
    (tmp_path / "corpus.jsonl").write_text('{"_id": "own", "text": "x"}\n')
    assert [document.id for document in read_corpus(tmp_path)] == ["own"]
    notes = tmp_path / "notes"
    (notes / "corpus").mkdir(parents=True)
    (notes / "corpus/one.txt").write_text("a note")
    (notes / "data").mkdir()
    (notes / "data/prices.csv").write_text("a,b\n1,2\n")
    assert [document.id for document in read_corpus(notes)] == ["corpus/one.txt"]
    assert qrel_files(notes) == {}


def test_a_suite_finds_such_folders_and_what_they_hold_is_part_of_a_result_s_key(tmp_path: Path) -> None:
    for name, place in (("one", "qrels"), ("many/two", "data"), ("many/three", "default")):
        write_corpus(tmp_path / name, split="test")
        write(tmp_path / name / place / "test-00000-of-00001.parquet", JUDGED)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/prices.csv").write_text("a,b\n1,2\n")
    assert list(find_sets(tmp_path)) == ["many/three", "many/two", "one"]
    before = result_key(tmp_path / "many/two", "test", {})
    write(tmp_path / "many/two/data/test-00000-of-00001.parquet", {**JUDGED, "score": [1, 0, 1]})
    assert result_key(tmp_path / "many/two", "test", {}) != before


def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root reads any folder: here the system's own refusal is put in its place."""
    (tmp_path / "qrels").mkdir()

    def refused(self: Path) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "iterdir", refused)
    with pytest.raises(InputError, match=r"qrels cannot be read \(Permission denied\)"):
        qrel_files(tmp_path)
