"""Documents and queries in: every format, every compression, every way a file can be wrong."""

from __future__ import annotations

import bz2
import csv
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from lightretriever.errors import InputError
from lightretriever.text.corpus import (
    MAX_ID_BYTES,
    Document,
    Query,
    as_document,
    estimate_count,
    read_corpus,
    read_queries,
    read_texts,
)
from lightretriever.text.values import safe_text

ROWS = [
    {"_id": "1", "title": "Everest", "text": "The mountain is 8,849 m tall.", "country": "Nepal"},
    {"_id": "2", "title": "", "text": 'Quoted "words", commas,\nand a line end. 日本語'},
    {"_id": "three and a half", "title": "Empty", "text": ""},
]
PACK: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor().compress,
}


def jsonl(rows: list[dict]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def write_csv(path: Path, rows: list[dict]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["_id", "title", "text", "country"])
        writer.writeheader()
        writer.writerows(rows)


def contents(documents: list[Document]) -> list[tuple[str, str, str]]:
    return [(document.id, document.title, document.text) for document in documents]


EXPECTED = [(row["_id"], row["title"], row["text"]) for row in ROWS]


@pytest.mark.parametrize("compression", PACK)
def test_json_lines_in_every_compression(tmp_path: Path, compression: str) -> None:
    path = tmp_path / f"corpus.jsonl{compression}"
    path.write_bytes(PACK[compression](jsonl(ROWS)))
    documents = list(read_corpus(path))
    assert contents(documents) == EXPECTED
    assert documents[0].metadata == {"country": "Nepal"}
    assert list(read_corpus(tmp_path)) == documents  # as a BEIR folder


@pytest.mark.parametrize("compression", [".gz", ".bz2", ".xz", ".zst"])
def test_cut_off_archives_are_an_error_not_a_shorter_corpus(tmp_path: Path, compression: str) -> None:
    path = tmp_path / f"corpus.jsonl{compression}"
    packed = PACK[compression](jsonl([{"_id": str(i), "text": f"text {i * 7919}"} for i in range(2000)]))
    path.write_bytes(packed[: len(packed) - 20])
    with pytest.raises(InputError, match=r"corpus\.jsonl\..*cannot be read beyond line"):
        list(read_corpus(path))


def test_zstd_of_several_frames_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl.zst"
    path.write_bytes(PACK[".zst"](jsonl(ROWS[:1])) + PACK[".zst"](jsonl(ROWS[1:])))
    assert contents(list(read_corpus(path))) == EXPECTED


def test_csv_with_quotes_and_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "corpus.csv"
    write_csv(path, ROWS)
    documents = list(read_corpus(path))
    assert contents(documents) == EXPECTED
    assert documents[0].metadata == {"country": "Nepal"}


def test_csv_errors_name_the_line_where_the_row_begins(tmp_path: Path) -> None:
    path = tmp_path / "corpus.csv"
    path.write_text('id,text\n1,"two\nlines"\n,"no id"\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"corpus\.csv:4: the document's id is empty"):
        list(read_corpus(path))


def test_tsv_takes_quotation_marks_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "corpus.tsv"
    path.write_text('id\ttext\n1\t"to be\n2\tor not" to be\n', encoding="utf-8")
    assert [document.text for document in read_corpus(path)] == ['"to be', 'or not" to be']


def test_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "corpus.parquet"
    parquet.write_table(pyarrow.Table.from_pylist([{**row, "year": 1953} for row in ROWS]), path)
    documents = list(read_corpus(path))
    assert contents(documents) == EXPECTED
    assert documents[0].metadata == {"country": "Nepal", "year": 1953}
    parquet.write_table(pyarrow.table({"id": ["1", None], "text": ["a", "b"]}), path)
    with pytest.raises(InputError, match=r"corpus\.parquet: row 2: the document has no id"):
        list(read_corpus(path))


def test_a_folder_of_text_files(tmp_path: Path) -> None:
    (tmp_path / "guide").mkdir()
    (tmp_path / "guide" / "install.md").write_text("# Install\nRun it.\n", encoding="utf-8")
    (tmp_path / "notes.txt").write_text("plain", encoding="utf-8")
    (tmp_path / "image.png").write_bytes(b"\x89PNG")
    assert list(read_corpus(tmp_path)) == [
        Document("guide/install.md", "# Install\nRun it.\n", "install"),
        Document("notes.txt", "plain", "notes"),
    ]


def test_queries_from_folder_and_file(tmp_path: Path) -> None:
    (tmp_path / "queries.jsonl").write_bytes(jsonl([{"_id": 7, "text": "how tall", "metadata": {"a": 1}}]))
    assert list(read_queries(tmp_path)) == [Query("7", "how tall")]
    assert list(read_queries(tmp_path / "queries.jsonl")) == [Query("7", "how tall")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"_id": "1", "text": "a"}\n{"_id": \n', r"corpus\.jsonl:2: not JSON"),
        (b'{"_id": "1", "text": "a"}\n\n["no", "object"]\n', r":3: a JSON object is needed, this is a list"),
        (b'{"text": "a"}\n', r":1: the document has no id"),
        (b'{"_id": null, "id": "", "text": "a"}\n', r":1: the document's id is empty"),
        (b'{"_id": 1.5, "text": "a"}\n', r":1: the document's id is of type float"),
        (b'{"_id": "1", "title": "a"}\n', r":1: document 1 has no text"),
        (b'{"_id": "1", "text": null}\n', r":1: document 1 has no text"),
        (b'{"_id": "1", "text": ["a"]}\n', r":1: document 1: its text is list"),
        (b'{"_id": "1", "text": "a", "title": ["a"]}\n', r":1: document 1: its title is list"),
        (b'{"_id": "1", "text": "caf\xe9"}\n', r":1: not UTF-8 text \(byte 0xe9 at column 26\)"),
        (b'{"_id": "' + b"x" * 10_000 + b'", "text": "a"}\n', r":1: the id .* has 10,000 bytes"),
        (b'{"_id": "1", "text": ' + b"[" * 100_000 + b"\n", r":1: not JSON"),
        (b"", r"corpus\.jsonl holds no documents"),
        (b"\n\n", r"corpus\.jsonl holds no documents"),
    ],
)
def test_what_is_no_document_is_refused_with_its_place(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "corpus.jsonl"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        list(read_corpus(path))
    assert "\n" not in str(caught.value)


def test_missing_and_unknown_files_are_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "corpus.docx").write_bytes(b"PK")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"nowhere\.jsonl does not exist"):
        read_corpus(tmp_path / "nowhere.jsonl")
    with pytest.raises(InputError, match="unknown format"):
        read_corpus(tmp_path / "corpus.docx")
    with pytest.raises(InputError, match=r"holds neither corpus\.jsonl nor"):
        list(read_corpus(tmp_path / "empty"))
    with pytest.raises(InputError, match=r"holds no queries\.jsonl"):
        read_queries(tmp_path / "empty")
    with pytest.raises(InputError, match=r"c\.csv:2: the document has no id"):
        (tmp_path / "c.csv").write_text("number,text\n1,a\n", encoding="utf-8")
        list(read_corpus(tmp_path / "c.csv"))


def test_nul_and_lone_surrogates_are_made_safe_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl"
    path.write_bytes(rb'{"_id": "a\u0000", "text": "x\ud800y", "k\udfff": ["\u0000"]}' + b"\n" + jsonl([ROWS[0]]))
    with pytest.warns(UserWarning, match=r"corpus\.jsonl: 1 document with NUL or lone surrogates"):
        first, _ = read_corpus(path)
    assert first == Document("a\ufffd", "x\ufffdy", "", {"k\ufffd": ["\ufffd"]})


def test_metadata_is_merged_and_made_json(tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl"
    path.write_bytes(
        b'{"id": 1, "text": "a", "metadata": {"url": "u", "n": NaN}, "big": 9223372036854775807}\n'
        b'{"id": 2, "text": "a", "metadata": "note", "score": NaN}\n'
    )
    assert [dict(document.metadata) for document in read_corpus(path)] == [
        {"big": 9223372036854775807, "url": "u", "n": None},
        {"metadata": "note", "score": None},
    ]


def test_ten_megabytes_of_text(tmp_path: Path) -> None:
    text = "long " * 2_000_000
    (tmp_path / "corpus.jsonl").write_bytes(jsonl([{"_id": "1", "text": text}]))
    write_csv(tmp_path / "corpus.csv", [{"_id": "1", "text": text}])
    for name in ("corpus.jsonl", "corpus.csv"):
        assert next(read_corpus(tmp_path / name)).text == text


def test_reading_is_streamed(tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl"
    path.write_bytes(jsonl([ROWS[0]]) + b"not json\n")
    documents = read_corpus(path)
    assert next(documents).id == "1"
    with pytest.raises(InputError, match=":2: not JSON"):
        next(documents)


def test_texts_of_any_kind(tmp_path: Path) -> None:
    (tmp_path / "lines.txt.gz").write_bytes(gzip.compress(b"one text\n\n  another text \r\n"))
    (tmp_path / "no-ids.jsonl").write_bytes(jsonl([{"text": "a"}, {"text": "b", "title": "t", "_id": 5}]))
    (tmp_path / "corpus.jsonl").write_bytes(jsonl(ROWS))
    assert [document.text for document in read_texts(tmp_path / "lines.txt.gz")] == ["one text", "another text"]
    assert [document.input for document in read_texts(tmp_path / "no-ids.jsonl")] == ["a", "t b"]
    assert contents(list(read_texts(tmp_path))) == EXPECTED
    (tmp_path / "bad.jsonl").write_bytes(jsonl([{"text": "a"}, {"words": "b"}]))
    with pytest.raises(InputError, match=r"bad\.jsonl:2: document .* has no text"):
        list(read_texts(tmp_path / "bad.jsonl"))
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(InputError, match=r"empty\.txt holds no texts"):
        list(read_texts(tmp_path / "empty.txt"))
    with pytest.raises(InputError, match="does not exist"):
        read_texts(tmp_path / "nowhere.txt")


def test_counts_are_estimated_for_progress(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl.zst").write_bytes(PACK[".zst"](jsonl(ROWS)))
    assert estimate_count(tmp_path) == 3
    assert estimate_count(tmp_path / "corpus.jsonl.zst") == 3
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(jsonl(ROWS))[:30])
    (tmp_path / "corpus.csv").write_text("id,text\n")
    assert estimate_count(tmp_path / "cut.jsonl.gz") is None
    assert estimate_count(tmp_path / "corpus.csv") is None


def test_as_document() -> None:
    document = Document("1", "text", "title")
    assert as_document(document) == document
    assert document.input == "title text"
    assert as_document("only text", "9") == Document("9", "only text")
    assert as_document("only text").input == "only text"
    assert as_document({"title": "t", "text": "x"}) == Document("", "x", "t")
    assert as_document({"id": 3, "text": "x", "lang": "en"}, "9") == Document("3", "x", "", {"lang": "en"})
    with pytest.raises(InputError, match="document 9 has no text"):
        as_document({"title": "t"}, "9")
    with pytest.raises(InputError, match="a text or a mapping is needed"):
        as_document(3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="id is empty"):
        as_document({"_id": "", "text": "x"})


any_text = st.text(alphabet=st.characters(exclude_categories=()))  # lone surrogates too


@given(any_text)
def test_safe_text_is_utf8_without_nul_and_changes_nothing_else(text: str) -> None:
    safe = safe_text(text)
    safe.encode()
    assert "\0" not in safe
    assert len(safe) == len(text)
    assert all(new == old or new == "\ufffd" for new, old in zip(safe, text, strict=True))
    assert safe_text(safe) is safe


identifiers = st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
identifiers = identifiers.filter(lambda text: text.strip() and len(text.encode()) <= MAX_ID_BYTES)
texts = st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@settings(max_examples=60)
@given(rows=st.lists(st.tuples(identifiers, texts, texts), min_size=1), ascii_only=st.booleans())
def test_json_lines_round_trip(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str]], ascii_only: bool
) -> None:
    path = tmp_path_factory.mktemp("corpus") / "corpus.jsonl"
    lines = [
        json.dumps({"_id": key, "title": title, "text": text}, ensure_ascii=ascii_only) for key, title, text in rows
    ]
    path.write_text("\n".join(lines), encoding="utf-8", newline="")
    assert contents(list(read_corpus(path))) == rows


@settings(max_examples=60)
@given(content=st.binary(max_size=200))
def test_any_bytes_are_documents_or_an_input_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.mktemp("bytes")
    for name in ("a.jsonl", "a.csv", "a.tsv", "a.jsonl.gz", "a.jsonl.zst", "a.csv.xz", "a.tsv.bz2"):
        (folder / name).write_bytes(content)
        try:
            assert all(isinstance(document, Document) for document in read_corpus(folder / name))
        except InputError as error:
            assert name in str(error)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (Document([1], "x"), "the document's id is of type list"),  # type: ignore[arg-type]
        (Document(None, "x"), "the document has no id"),  # type: ignore[arg-type]
        (Document("k" * 1_025, "x"), "has 1,025 bytes"),
        (Document("k\0", "x"), "holds NUL or a lone surrogate"),
        (Document("k", None), "document k has no text"),  # type: ignore[arg-type]
        (Document("k", ["x"]), "its text is list, not a string"),  # type: ignore[arg-type]
        (Document("k", "x", 1.5), "its title is float, not a string"),  # type: ignore[arg-type]
        (Document("k", "x", "", [("a", 1)]), "document k: its metadata is list, not a mapping"),  # type: ignore[arg-type]
        (Document("k", "x", "", {"a": {"b": object()}}), "id k: the field 'a.b' is of type object"),
        (Document("k", "x", "", {"text": "y"}), "its 'text' is 'x' outside its metadata and 'y' in it"),
        (Document("k", "x", "", {"_id": "m"}), "its '_id' is 'k' outside its metadata and 'm' in it"),
    ],
)
def test_a_document_is_checked_as_its_row_would_be(document: Document, message: str) -> None:
    with pytest.raises(InputError, match=message):
        as_document(document)


def test_a_document_is_made_plain_as_its_row_would_be() -> None:
    made = as_document(Document(12, "a\0b", None, {"sizes": (1, 2), "metadata": [3]}))  # type: ignore[arg-type]
    assert made == Document("12", "a\ufffdb", "", {"sizes": [1, 2], "metadata": [3]})
    assert as_document(Document("", "x"), "9") == Document("9", "x")
    assert as_document(Document("", "x", "", None)) == Document("", "x")  # type: ignore[arg-type]


names = st.sampled_from(["_id", "id", "title", "text", "metadata", "year"])
values = st.sampled_from([None, "", "7", "a", 7, 7.5, True, ["a", 7], float("nan")])
rows = st.dictionaries(names, values | st.dictionaries(names, values, max_size=3), max_size=5)


@given(rows)
def test_a_row_that_was_read_once_is_read_again_unchanged(row: dict[str, object]) -> None:
    try:
        document = as_document({"text": "x", **row}, "9")
    except InputError:
        return
    assert as_document(document) == document


def test_an_id_in_the_metadata_must_be_the_one_outside() -> None:
    with pytest.raises(InputError, match="its '_id' is 'k' outside its metadata and 'm' in it"):
        as_document({"id": "k", "text": "x", "metadata": {"_id": "m"}})
    numbered = {"id": 5, "title": 1984, "text": "x", "metadata": {"_id": 5, "title": 1984}}
    assert as_document(as_document(numbered)) == Document("5", "x", "1984", {"_id": 5, "title": 1984})
