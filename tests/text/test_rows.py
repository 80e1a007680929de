"""Rows of tables and of JSON, as spreadsheets, exporters and downloads leave them."""

from __future__ import annotations

import csv
import json
import warnings
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightretriever.errors import InputError
from lightretriever.text import json_rows
from lightretriever.text.corpus import Document, read_corpus, read_queries, read_texts
from lightretriever.text.rows import estimate_rows, read_rows


def documents(folder: Path, name: str, content: bytes) -> list[Document]:
    (folder / name).write_bytes(content)
    return list(read_corpus(folder / name))


def texts(folder: Path, name: str, content: bytes) -> list[tuple[str, str]]:
    return [(document.id, document.text) for document in documents(folder, name, content)]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("cr.tsv", b"id\ttext\n1\tone\rtwo\n2\tthree\r\n", [("1", "one\rtwo"), ("2", "three")]),
        ("cr.csv", b'id,text\n1,one\rtwo\n2,"a\rb\r\nc"\n3,d\r', [("1", "one\rtwo"), ("2", "a\rb\r\nc"), ("3", "d")]),
        ("mac.csv", b'id,text\r1,"a\rb"\r2,c\r', [("1", "a\rb"), ("2", "c")]),
        ("mac.tsv", b"id\ttext\r1\ta\r", [("1", "a")]),
        ("mac.jsonl", b'{"id":1,"text":"a"}\r{"id":2,"text":"b"}\r', [("1", "a"), ("2", "b")]),
        ("spaced.csv", b' id , text ,x\n7 , "a, b" ,\n8,  c,d \n'.replace(b'" ,', b'",'), [("7", "a, b"), ("8", "c")]),
        ("spaced.tsv", b"_id \t text\n7\t a \n", [("7", "a")]),
        ("quoted.tsv", b'"id"\t"text"\n"1"\t"say ""a\tb"""\n', [("1", 'say "a\tb"')]),
        ("sep.csv", b"\xef\xbb\xbfsep=|\r\nid|text\r\n1|a,b\r\n", [("1", "a,b")]),
        ("sep-tab.csv", b"sep=\t\nid\ttext\n1\ta\n", [("1", "a")]),
        ("numbers.csv", b"id,text\n007,1e5\n", [("007", "1e5")]),
        ("gaps.csv", b'\n\nid,text\n\n1,a\n,\n   \n2,"b\n\nc"\n', [("1", "a"), ("2", "b\n\nc")]),
        ("excel.csv", b"id,text,,\n1,a,,\n,,,\n", [("1", "a")]),
        ("wide.csv", 'id\ttext\r\n1\t"a\tb"\r\n'.encode("utf-16"), [("1", "a\tb")]),
    ],
)
@pytest.mark.filterwarnings("ignore:.*its columns are separated by tabs")
def test_tables_as_they_come(tmp_path: Path, name: str, content: bytes, expected: list) -> None:
    assert texts(tmp_path, name, content) == expected


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", b"_id;text\n1;a,b\n", "semicolons"),
        ("a.csv", b"_id\ttext\n1\ta,b\n", "tabs"),
        ("a.tsv", b'title,_id,text\nt,1,"a,b"\n', "commas"),
        ("a.tsv", b"id|text\n1|a,b\n", "vertical bars"),
    ],
)
def test_another_delimiter_is_used_and_said(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    with pytest.warns(UserWarning, match=f"its columns are separated by {said}"):
        assert texts(tmp_path, name, content) == [("1", "a,b")]


def test_a_delimiter_within_names_is_no_delimiter(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (found,) = documents(tmp_path, "a.csv", b"id,text,a;b;id\n1,x,y\n")
    assert found.metadata == {"a;b;id": "y"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.tsv",
            b"17\tpassage of a river\n18\tanother\n",
            r"a\.tsv:1: this line was taken for the header, but of its columns '17', 'passage of a river' none is",
        ),
        ("a.csv", b"number,words\n1,a\n", "columns 'number', 'words' none is named _id, id or text"),
        ("a.csv", b"id,words\n1,a\n", r"a\.csv:2: document 1 has no text: its fields are 'id', 'words'"),
        ("a.csv", b"id,text,lang,lang\n1,a,b,c\n", r"a\.csv:1: two columns are named 'lang'"),
        ("a.csv", b"id, text,text \n1,a,b\n", r"a\.csv:1: two columns are named 'text'"),
        ("a.csv", b"id,text\n1,a\n2,b,c\n", r"a\.csv:3: 3 fields, the header names 2: 'id', 'text'"),
        ("a.tsv", b"id\ttext\n1\n", r"a\.tsv:2: 1 field, the header names 2"),
        ("a.csv", b"id,text,,\n1,a,x,y\n", r"a\.csv:2: the fields 'x', 'y' are in columns without a name"),
        ("a.csv", b'id,text\n1,"a\n2,b\n', r"a\.csv:2: a quotation mark opens a field that does not end"),
        ("a.csv", b'id,text\n1,"a" b\n', r"a\.csv:2: a quoted field goes on after its end"),
        ("a.csv", b"sep=;\nid,text\n1,a\n", r"a\.csv:2: this line was taken for the header"),
        ("a.csv", b"<!DOCTYPE html>\n<html>", "a page of HTML"),
        ("a.jsonl", b"\n<?xml version='1.0'?>", "a page of XML"),
        ("a.csv", b"sep=;\n", "holds no documents"),
        ("a.tsv", b"id\ttext\n", "holds no documents"),
    ],
)
def test_tables_that_are_refused_say_what_was_understood(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        documents(tmp_path, name, content)
    assert "\n" not in str(caught.value)


def test_a_single_unnamed_column_is_a_field(tmp_path: Path) -> None:
    found = documents(tmp_path, "frame.csv", b",id,text\n0,1,a\n,2,b\n")
    assert [dict(document.metadata) for document in found] == [{"": "0"}, {}]


def test_rows_of_other_kinds_have_names_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("left;right\n1;2\n", encoding="utf-8")
    with pytest.warns(UserWarning, match="semicolons"):
        assert [row for _, row in read_rows(tmp_path / "pairs.csv", ("left", "right"))] == [{"left": "1", "right": "2"}]
    assert [row for _, row in read_rows(tmp_path / "pairs.csv", ())] == [{"left;right": "1;2"}]


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.ndjson"])
@pytest.mark.parametrize(
    "content",
    [
        b'[{"_id":"1","text":"a"},{"_id":"2","text":"b"}]',
        b'\xef\xbb\xbf \n[\n  {"_id": "1",\n "text": "a"} ,\n{"_id": "2", "text": "b"}\n]\n',
        b'{"_id":"1","text":"a"}\n\n\xef\xbb\xbf{"_id":"2","text":"b"}',
    ],
)
def test_json_is_an_array_or_lines_whatever_its_name(tmp_path: Path, name: str, content: bytes) -> None:
    assert texts(tmp_path, name, content) == [("1", "a"), ("2", "b")]
    assert texts(tmp_path, name, content.decode("utf-8-sig").encode("utf-16")) == [("1", "a"), ("2", "b")]


def test_arrays_are_streamed(tmp_path: Path) -> None:
    rows = [{"_id": str(i), "text": "é" * 90_000, "metadata": {"list": [1, "]", "}"]}} for i in range(12)]
    whole = json.dumps(rows, ensure_ascii=False).encode()
    assert texts(tmp_path, "a.json", whole) == [(row["_id"], row["text"]) for row in rows]
    (tmp_path / "b.json").write_bytes(whole[:-1] + b", oops]")
    found = read_corpus(tmp_path / "b.json")
    assert next(found).id == "0"
    with pytest.raises(InputError, match="element 13 of the array: a JSON object is needed, this is 'o'"):
        list(found)


def test_an_element_without_end_is_refused_before_all_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_rows, "MAX_ELEMENT", 1 << 20)
    content = b'[{"_id": "1", "text": "' + b"a" * 3_000_000
    with pytest.raises(InputError, match="element 1 of the array: it has no end within 1,048,576 characters"):
        documents(tmp_path, "a.json", content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'[{"_id":"1","text":"a"},7]', "element 2 of the array: a JSON object is needed"),
        (b'["1","a"]\n["2","b"]\n', "element 1 of the array: a JSON object is needed, this is a string"),
        (b'[{"_id":"1","text":"a"}', "after element 1 of the array: the file ends there: it was cut off"),
        (b'[{"_id":"1","text":"a"},', "element 2 of the array: the file ends there"),
        (b'[{"_id":"1","text":"a', "element 1 of the array: the file ends within it"),
        (b'[{"_id":"1","text":tru', "element 1 of the array: the file ends within it"),
        (b'[{"_id":"1","text":"a"} {"_id":"2"}]', "after element 1 of the array: a comma or ] is needed"),
        (b'[{"_id":"1","text":"a"},]', "element 2 .*this is the end of the array"),
        (b'[{"_id":"1","text":"a"}] more', "after the array: the end of the file is needed"),
        (b'[{"_id":"1" "text":"a"}' + b" " * 99, "element 1 of the array: not JSON at column 13"),
        (b'[{"_id":"1","text":"a","text":"b"}]', "element 1 of the array: an object names the key 'text' twice"),
        (b'[{"_id":"1"}]', "element 1 of the array: document 1 has no text"),
        (b"[]", "holds no documents"),
        (b'{"_id":"1","text":"a"}\n{"_id":"1","text":"a","m":{"x":1,"x":1}}', ":2: an object names the key 'x' twice"),
        (b'{\n "_id": "1"\n}\n', ":1: not JSON: the line ends within the object: one object on each line"),
        (b'{"_id": "1", "text": "cut\n', ":1: not JSON"),
        (b"plain words\n", r":1: not JSON at column 1, where it goes on with 'plain words'"),
        (b'{"_id": 1, "text": "a", "n": ' + b"9" * 5000 + b"}", ":1: not JSON that can be read: a number has too many"),
        (b'{"_id": 1, "text": "a", "n": ' + b'{"a":' * 5000 + b"}", ":1: not JSON that can be read: it is nested"),
        (b'{"_id": 1, "text": "a", "n": ' + b"[" * 200 + b"]" * 200 + b"}", r":1: id 1: the field 'n\[0\].*nested"),
        (b'{"_id": 1, "text": "a", "n": 18446744073709551616}', ":1: id 1: the field 'n' is an integer beyond 64 bits"),
        (b'{"_id": 1, "text": "a", "n": -Infinity}', ":1: id 1: the field 'n' is infinite"),
        (b'{"_id": 1, "text": "a", "owner": "x", "metadata": {"owner": "y"}}', ":1: document 1: its 'owner' is 'x'"),
    ],
)
def test_json_that_is_refused_says_where(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        documents(tmp_path, "a.jsonl", content)
    assert "\n" not in str(caught.value)


def test_queries_and_texts_read_the_same_files(tmp_path: Path) -> None:
    (tmp_path / "q.json").write_bytes(b'[{"_id": 1, "text": "how far", "when": [1]}]')
    assert [(query.id, query.text) for query in read_queries(tmp_path / "q.json")] == [("1", "how far")]
    (tmp_path / "log.txt").write_bytes("one query\ranother\r".encode("utf-16"))
    assert [text.text for text in read_texts(tmp_path / "log.txt")] == ["one query", "another"]
    assert estimate_rows(tmp_path / "q.json") == 0


def test_parquet_columns_of_every_kind(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "kinds.parquet"
    columns = {
        "id": pa.array([b"a", b"b"]),
        "text": pa.array(["Größe".encode(), None]),
        "title": pa.array([1984, None]),
        "price": pa.array([Decimal("3.50"), None]),
        "day": pa.array([date(2020, 1, 2), None]),
        "moment": pa.array([1, 1_000_000_001], pa.timestamp("ns")),
        "here": pa.array([datetime(2020, 1, 2, 3), None], pa.timestamp("us", tz="+02:00")),
        "hour": pa.array([time(3, 4), None], pa.time64("us")),
        "span": pa.array([timedelta(seconds=90), None], pa.duration("ms")),
        "kind": pa.array(["x", "y"]).dictionary_encode(),
        "sizes": pa.array([[1.5, None], None]),
        "pair": pa.array([{"a": 1, "b": "c"}, None]),
        "map": pa.array([[("k", [("n", 1)])], None], pa.map_(pa.string(), pa.map_(pa.string(), pa.int8()))),
        "maps": pa.array([[{"m": [("k", 1)]}], []], pa.list_(pa.struct({"m": pa.map_(pa.string(), pa.int8())}))),
        "nan": pa.array([float("nan"), 1.0], pa.float32()),
    }
    parquet.write_table(pa.table(columns).slice(0, 1), path)
    (first,) = read_corpus(path)
    assert (first.id, first.text, first.title) == ("a", "Größe", "1984")
    assert first.metadata == {
        "price": 3.5,
        "day": "2020-01-02",
        "moment": "1970-01-01T00:00:00",
        "here": "2020-01-02T05:00:00+02:00",
        "hour": "03:04:00",
        "span": 90.0,
        "kind": "x",
        "sizes": [1.5, None],
        "pair": {"a": 1, "b": "c"},
        "map": {"k": {"n": 1}},
        "maps": [{"m": {"k": 1}}],
        "nan": None,
    }
    parquet.write_table(pa.table(columns), path)
    with pytest.raises(InputError, match=r"kinds\.parquet: row 2: document b has no text"):
        list(read_corpus(path))


def test_parquet_that_is_refused_says_why(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "a.parquet"

    def refused(message: str, **columns: object) -> None:
        if columns:
            parquet.write_table(pa.table({"id": pa.array([1, 2]), "text": pa.array(["x", "y"]), **columns}), path)
        with pytest.raises(InputError, match=message) as caught:
            list(read_corpus(path))
        assert "\n" not in str(caught.value)

    refused(r"row 2: id 2: the field 'raw' is bytes that are not UTF-8", raw=pa.array([b"a", b"\xff"]))
    twice = pa.array([[("k", 1)], [("k", 1), ("k", 2)]], pa.map_(pa.string(), pa.int8()))
    refused(r"row 2: its 'map' \(map<.*cannot be kept", map=twice)
    refused(r"row 2: its 'when' \(timestamp\[us\]\) cannot be kept", when=pa.array([0, 2**62], pa.timestamp("us")))
    refused(r"row 2: id 2: the field 'n' is an integer beyond 64 bits", n=pa.array([1, 2**64 - 1], pa.uint64()))
    parquet.write_table(pa.table([pa.array([1])] * 3, names=["id", "text", "text"]), path)
    refused("two columns are named 'text'")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    refused("cannot be read as Parquet beyond row 0: it is damaged, cut off")
    path.write_bytes(b'{"id": 1}\n')
    refused("""this is no Parquet file: it begins with '{"id": 1}""")
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    refused("a Git LFS pointer")
    path.write_bytes(b"")
    refused("is empty")


identifiers = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Z"], exclude_characters="\ufeff"), min_size=1, max_size=9
)
cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
rows_of_cells = st.lists(st.tuples(identifiers, cells, cells), min_size=1, max_size=6)


@settings(max_examples=80)
@given(rows=rows_of_cells, form=st.sampled_from(["json", "jsonl", "csv", "tsv", "parquet"]))
def test_documents_written_in_any_format_read_back_equal(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str]], form: str
) -> None:
    path = tmp_path_factory.mktemp("formats") / f"a.{form}"
    names = ("_id", "text", "kind")
    if form == "tsv":  # whose fields hold neither tabs nor line ends
        rows = [(key, *(cell.translate({9: " ", 10: " ", 13: " "}) for cell in both)) for key, *both in rows]
        path.write_text("".join("\t".join(row) + "\n" for row in (names, *rows)), encoding="utf-8", newline="")
    elif form == "csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([names, *rows])
    elif form == "parquet":
        pa = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))), path)
    else:
        dumped = [json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False) for row in rows]
        path.write_text(f"[{','.join(dumped)}]" if form == "json" else "\n".join(dumped), "utf-8", newline="")
    found = [(document.id, document.text, document.metadata["kind"]) for document in read_corpus(path)]
    assert found == rows


starts = st.sampled_from(
    [b"", b"[", b"[{", b'{"id":', b"id,text\n", b"id\ttext\n", b"PAR1", b"\xff\xfe", b"\x1f\x8b\x08", b"sep=;\n"]
)


@settings(max_examples=150)
@given(start=starts, content=st.binary(max_size=120), form=st.sampled_from(["json", "jsonl", "csv", "tsv", "parquet"]))
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_any_bytes_in_any_format_are_documents_or_an_input_error(
    tmp_path_factory: pytest.TempPathFactory, start: bytes, content: bytes, form: str
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / f"a.{form}"
    path.write_bytes(start + content)
    try:
        assert all(isinstance(document, Document) for document in read_corpus(path))
    except InputError as error:
        assert f"a.{form}" in str(error)
        assert "\n" not in str(error)
