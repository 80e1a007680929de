"""Providers' vectors: in one file with their documents, or beside a corpus; what does not fit is named."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from lightretriever.errors import InputError, LightRetrieverError, MismatchError, UsageError
from lightretriever.text.corpus import Document
from lightretriever.vectors.columns import Columns
from lightretriever.vectors.provider import read_provider_vectors, vector_columns

DIM = 8


def corpus_file(path: Path, ids: list[str]) -> Path:
    path.write_text("".join(json.dumps({"_id": name, "text": f"text of {name}"}) + "\n" for name in ids))
    return path


@pytest.fixture
def provided() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(5, DIM)).astype(np.float32)


def test_provider_vectors_in_the_order_of_the_corpus(tmp_path: Path, provided: np.ndarray) -> None:
    corpus = corpus_file(tmp_path / "c.jsonl", list("abcab"))
    np.save(tmp_path / "v.npy", provided)
    with pytest.warns(UserWarning, match="5 of 5 vectors were not of unit length .*first, that of document 'a'"):
        ((documents, encoded),) = read_provider_vectors(tmp_path / "v.npy", corpus)
    assert [document.id for document in documents] == list("abcab")
    assert np.allclose(encoded.dense, provided / np.linalg.norm(provided, axis=1, keepdims=True), atol=1e-6)


@pytest.mark.parametrize("name", ["v.ids.txt", "v.ids.npy", "ids.txt", "ids.npy"])
def test_provider_vectors_by_id(tmp_path: Path, provided: np.ndarray, name: str) -> None:
    corpus = corpus_file(tmp_path / "c.jsonl", ["5", "4", "3", "2", "1"])
    unit = provided / np.linalg.norm(provided, axis=1, keepdims=True)
    np.save(tmp_path / "v.npy", unit.astype(np.float64))
    if name.endswith(".txt"):
        (tmp_path / name).write_text("1\n2\n3\n4\n5\n")
    else:
        np.save(tmp_path / name, np.arange(1, 6))
    ((documents, encoded),) = read_provider_vectors(tmp_path / "v.npy", corpus)
    assert [document.id for document in documents] == ["5", "4", "3", "2", "1"]
    assert np.allclose(encoded.dense, unit[::-1], atol=1e-6)


def test_provider_vectors_in_parquet(tmp_path: Path, provided: np.ndarray) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    corpus = corpus_file(tmp_path / "c.jsonl", list("edcba"))
    unit = provided / np.linalg.norm(provided, axis=1, keepdims=True)
    for kind in (pyarrow.list_(pyarrow.float32()), pyarrow.list_(pyarrow.float64(), DIM)):
        columns = {"id": list("abcde"), "embedding": pyarrow.array(unit.tolist(), kind)}
        parquet.write_table(pyarrow.table(columns), tmp_path / "v.parquet")
        ((_, encoded),) = read_provider_vectors(tmp_path / "v.parquet", corpus)
        assert np.allclose(encoded.dense, unit[::-1], atol=1e-6)
    ragged = [[1.0], [1.0, 2.0], [1.0], [1.0], [1.0]]
    parquet.write_table(pyarrow.table({"id": list("abcde"), "vector": ragged}), tmp_path / "v.parquet")
    with pytest.raises(MismatchError, match="row 2: its vector has 2 dimensions, the first 1"):
        list(read_provider_vectors(tmp_path / "v.parquet", corpus))
    parquet.write_table(pyarrow.table({"key": list("abcde"), "vector": ragged}), tmp_path / "v.parquet")
    with pytest.raises(InputError, match="columns key, vector"):
        list(read_provider_vectors(tmp_path / "v.parquet", corpus))
    parquet.write_table(pyarrow.table({"id": list("abcde"), "vector": list("abcde")}), tmp_path / "v.parquet")
    with pytest.raises(InputError, match="row 1: 'vector' is no JSON array of numbers: 'a'"):
        list(read_provider_vectors(tmp_path / "v.parquet", corpus))


def test_provider_vectors_that_do_not_fit_are_named(tmp_path: Path, provided: np.ndarray) -> None:
    corpus = corpus_file(tmp_path / "c.jsonl", list("abcde"))

    def read(rows: np.ndarray, ids: str = "") -> None:
        np.save(tmp_path / "v.npy", rows)
        if ids:
            (tmp_path / "v.ids.txt").write_text("\n".join(ids))
        list(read_provider_vectors(tmp_path / "v.npy", corpus))

    with pytest.raises(MismatchError, match="4 vectors, none of them for document 'e'"):
        read(provided[:4])
    with pytest.raises(MismatchError, match=r"1 vectors for no document.*row 5"):
        read(np.vstack([provided, provided[:1]]))
    for value, message in ((np.nan, "NaN or infinity"), (np.inf, "NaN or infinity"), (0, "is zero")):
        wrong = provided.copy()
        wrong[2] = value
        with pytest.raises(InputError, match=f"'c' .row 2. .*{message}"):
            read(wrong)
    with pytest.raises(InputError, match="shape"):
        read(provided[0])
    with pytest.raises(MismatchError, match="none of them for document 'd'"):
        read(provided, "abcxe")
    with pytest.raises(MismatchError, match="4 ids"):
        read(provided, "abcd")
    (tmp_path / "bad.npy").write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(InputError, match=r"as \.npy"):
        list(read_provider_vectors(tmp_path / "bad.npy", corpus))
    with pytest.raises(InputError, match="does not exist"):
        list(read_provider_vectors(tmp_path / "none.npy", corpus))
    with pytest.raises(InputError, match=r"columns _id, text, none of them known to be the vector"):
        list(read_provider_vectors(corpus, corpus))


def write(path: Path, **columns: Any) -> Path:
    """A Parquet file of columns, or the same rows as JSON lines or CSV."""
    if path.suffix == ".parquet":
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pyarrow.table(columns), path)
        return path
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        import csv

        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(columns))
            writer.writeheader()
            writer.writerows(rows)
    return path


def read_one(path: Path, columns: str | None = None) -> tuple[list[Document], np.ndarray]:
    parts = list(read_provider_vectors(path, columns=None if columns is None else Columns.parse(columns)))
    return [d for some, _ in parts for d in some], np.concatenate([encoded.dense for _, encoded in parts])


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


FISH = {
    "docid": [7, 8, 9],
    "title": ["Eel", None, "Pike"],
    "body": ["It swims far to the sea.", "A carp likes mud.", "It waits among reeds."],
    "river": ["Elbe", "Oder", None],
}


@pytest.mark.filterwarnings("ignore:.*unit length")
@pytest.mark.parametrize("name", ["f.parquet", "f.jsonl", "f.csv"])
def test_one_file_brings_ids_titles_texts_metadata_and_vectors(tmp_path: Path, provided: np.ndarray, name: str) -> None:
    vectors = provided[:3].tolist()
    path = write(tmp_path / name, **FISH, emb=[json.dumps(row) for row in vectors] if name == "f.csv" else vectors)
    assert vector_columns(path) == Columns("docid", "body", "title", "emb")
    documents, dense = read_one(path)
    assert [document.id for document in documents] == ["7", "8", "9"]
    assert [document.text for document in documents] == FISH["body"]
    assert [document.title for document in documents] == ["Eel", "", "Pike"]
    assert documents[1].metadata["river"] == "Oder"
    assert all("emb" not in document.metadata for document in documents)
    assert dense.dtype == np.float32
    assert np.abs(dense - unit(provided[:3])).max() < 1e-6


@pytest.mark.filterwarnings("ignore:.*unit length")
@pytest.mark.parametrize("kind", ["list", "large", "fixed", "tensor", "json"])
@pytest.mark.parametrize("width", ["float16", "float32", "float64"])
def test_every_way_in_which_parquet_holds_vectors(tmp_path: Path, provided: np.ndarray, kind: str, width: str) -> None:
    pa = pytest.importorskip("pyarrow")
    value = getattr(pa, width)()
    rows = [row.astype(width) for row in provided]
    if kind == "tensor":
        flat = pa.FixedSizeListArray.from_arrays(pa.array(np.concatenate(rows), value), DIM)
        column = pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(value, (DIM,)), flat)
    elif kind == "json":
        column = pa.array([json.dumps(row.tolist()) for row in rows])
    else:
        make = {"list": lambda: pa.list_(value), "large": lambda: pa.large_list(value)}
        column = pa.array(rows, make.get(kind, lambda: pa.list_(value, DIM))())
    path = write(tmp_path / "v.parquet", _id=list("abcde"), text=["a text"] * 5, embedding=column)
    documents, dense = read_one(path)
    assert [document.id for document in documents] == list("abcde")
    assert np.abs(dense - unit(provided)).max() < (2e-3 if width == "float16" else 1e-6)


def test_columns_of_other_names(tmp_path: Path) -> None:
    given = {"key": ["x", "y"], "words": ["some text", "more text"], "openai": [[0.0, 1.0], [1.0, 0.0]]}
    path = write(tmp_path / "v.parquet", **given)
    with pytest.raises(InputError, match=r"columns key, words, openai, none of them known to be the id"):
        read_one(path)
    assert vector_columns(path) is None
    with pytest.raises(InputError, match=r"known to be the vector \('openai' holds list<.*double>\): "):
        read_one(path, "id=key")
    with pytest.raises(UsageError, match=r"no column of texts: name it with --columns text=NAME"):
        read_one(path, "id=key,vector=openai")
    documents, dense = read_one(path, "id=key, text=words, vector=openai")
    assert [(d.id, d.text, dict(d.metadata)) for d in documents] == [("x", "some text", {}), ("y", "more text", {})]
    assert np.array_equal(dense, [[0, 1], [1, 0]])
    with pytest.raises(UsageError, match="no column 'nothing' for vector: it has 'key', 'words', 'openai'"):
        read_one(path, "id=key,vector=nothing")
    two = write(tmp_path / "two.jsonl", id=["x"], text=["t"], vector=[[1.0]], embedding=[[1.0, 0.0]])
    with pytest.raises(
        UsageError, match=r"'vector', 'embedding' could be the vector: say which.*--columns vector=NAME"
    ):
        read_one(two)
    documents, dense = read_one(two, "vector=embedding")
    assert (dense.shape, documents[0].metadata) == ((1, 2), {"vector": [1.0]})
    for wrong in ("id", "id=", "ids=x", "id=a,id=b", ""):
        with pytest.raises(UsageError, match="id=NAME, text=NAME, title=NAME, vector=NAME"):
            Columns.parse(wrong)


@pytest.mark.parametrize(
    ("vectors", "error", "message"),
    [
        ([[1.0, 0.0], [1.0, 0.0], None], InputError, "(row|:)3:? has no vector"),
        ([[1.0, 0.0], [1.0], [1.0, 0.0]], MismatchError, "(row |:)2: its vector has 1 dimensions, the first 2"),
        ([[1.0, 0.0], [float("nan"), 1.0], [1.0, 0.0]], InputError, "(holds NaN|holds null)"),
        ([[1.0, 0.0], [1.0, 0.0], [float("inf"), 1.0]], InputError, "(NaN or infinity|holds null)"),
        ([[1.0, 0.0], [0.0, 0.0], [1.0, 0.0]], InputError, "document 'b' .(row|line) 2. is zero"),
        ([[1.0, None], [1.0, 0.0], [1.0, 0.0]], InputError, "(row |:)1: its vector 'embedding' holds null"),
        ([[], [], []], InputError, "(row |:)1.*(empty|a list of numbers)"),
    ],
)
@pytest.mark.parametrize("name", ["v.parquet", "v.jsonl"])
def test_a_vector_that_cannot_be_is_named_by_its_row(
    tmp_path: Path, name: str, vectors: list[Any], error: type[Exception], message: str
) -> None:
    if name == "v.parquet":
        pa = pytest.importorskip("pyarrow")
        vectors = pa.array(vectors, pa.list_(pa.float32()))
    path = write(tmp_path / name, id=list("abc"), text=["t"] * 3, embedding=vectors)
    with pytest.raises(error, match=message.replace("(row|:)3", "(row 3|:3)")):
        read_one(path)


def test_a_row_that_is_no_document_is_named(tmp_path: Path) -> None:
    vectors = [[1.0, 0.0], [0.0, 1.0]]
    for columns, message in [
        ({"id": ["a", None], "text": ["t", "t"]}, "row 2: the document has no id"),
        ({"id": ["a", "b"], "text": ["t", None]}, "row 2: document b has no text"),
        ({"id": [1.5, 2.5], "text": ["t", "t"]}, "row 1: the document's id is of type float"),
    ]:
        path = write(tmp_path / "v.parquet", **columns, vector=vectors)
        with pytest.raises(InputError, match=message):
            read_one(path)
    with pytest.raises(InputError, match="holds no"):
        read_one(write(tmp_path / "none.jsonl", id=[], text=[], vector=[]))


@pytest.mark.filterwarnings("ignore:.*unit length")
def test_a_large_file_is_read_in_parts(tmp_path: Path) -> None:
    """Many batches, row groups that are no multiple of them, and one wrong vector near the end."""
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    vectors = np.random.default_rng(1).normal(size=(9_000, 4)).astype(np.float32)
    columns = {"id": np.arange(9_000), "text": [f"text {i}" for i in range(9_000)]}
    vector = pa.FixedSizeListArray.from_arrays(vectors.ravel(), 4)
    parquet.write_table(pa.table({**columns, "vector": vector}), tmp_path / "v.parquet", row_group_size=1_500)
    sizes, position = [], 0
    for documents, encoded in read_provider_vectors(tmp_path / "v.parquet"):
        sizes.append(len(documents))
        assert [document.id for document in documents] == [str(position + i) for i in range(len(documents))]
        assert np.abs(encoded.dense - unit(vectors[position : position + len(documents)])).max() < 1e-6
        position += len(documents)
    assert sizes == [4096, 4096, 808]
    vectors[8_765] = np.nan
    vector = pa.FixedSizeListArray.from_arrays(vectors.ravel(), 4)
    parquet.write_table(pa.table({**columns, "vector": vector}), tmp_path / "v.parquet", row_group_size=1_500)
    with pytest.raises(InputError, match=r"document '8765' .row 8766. holds NaN"):
        list(read_provider_vectors(tmp_path / "v.parquet"))


def test_vectors_of_any_size_are_scaled(tmp_path: Path) -> None:
    path = write(tmp_path / "v.jsonl", id=["a", "b"], text=["t", "t"], vector=[[3e300, 4e300], [3e-310, 4e-310]])
    with pytest.warns(UserWarning, match="2 of 2 vectors were not of unit length"):
        _, dense = read_one(path)
    assert np.abs(dense - [[0.6, 0.8], [0.6, 0.8]]).max() < 1e-6


CELLS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "id": CELLS,
                "text": CELLS,
                "vector": CELLS | st.lists(CELLS, max_size=3),
                "title": CELLS,
                "values": CELLS | st.lists(st.floats(), max_size=2),
            },
        ),
        max_size=3,
    )
)
def test_nothing_but_our_own_errors_comes_of_any_rows(tmp_path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path = tmp_path / "any.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            documents, dense = read_one(path)
        except LightRetrieverError as error:
            assert "\n" not in str(error)
        else:
            assert len(documents) == len(rows)
            assert np.abs(np.linalg.norm(dense, axis=1) - 1).max() < 1e-5


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(npst.arrays(np.float64, (4, 3), elements=st.floats(-1e200, 1e200)))
def test_any_directions_come_through_parquet(tmp_path: Path, rows: np.ndarray) -> None:
    rows[np.abs(rows).max(axis=1) == 0] = 1
    path = write(tmp_path / "v.parquet", id=list("abcd"), text=["t"] * 4, vector=list(rows))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, dense = read_one(path)
    peaks = np.abs(rows).max(axis=1, keepdims=True)
    assert np.abs(dense - unit(rows / peaks)).max() < 1e-6


@pytest.mark.parametrize(
    "data",
    [
        "\ufeffå\nb\nc\nd\ne\n".encode(),
        "å\rb\rc\rd\re".encode(),
        "å\r\nb\r\nc\r\nd\r\ne\r\n".encode(),
        np.array(["å", "b", "c", "d", "e"]),
        np.array([name.encode() for name in ("å", "b", "c", "d", "e")]),
    ],
    ids=["BOM", "CR", "CRLF", "strings", "bytes"],
)
def test_ids_as_people_save_them(tmp_path: Path, provided: np.ndarray, data: bytes | np.ndarray) -> None:
    corpus = corpus_file(tmp_path / "c.jsonl", ["e", "d", "c", "b", "å"])
    np.save(tmp_path / "v.npy", unit(provided))
    if isinstance(data, bytes):
        (tmp_path / "v.ids.txt").write_bytes(data)
    else:
        np.save(tmp_path / "v.ids.npy", data)
    ((_, encoded),) = read_provider_vectors(tmp_path / "v.npy", corpus)
    assert np.abs(encoded.dense - unit(provided)[::-1]).max() < 1e-6


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (np.array(["a", 2, None, "d", "e"], dtype=object), "pickled objects are never loaded"),
        (np.arange(5.0), "holds float64 of shape .5,.: ids as integers or as strings"),
        (np.array([["a"], ["b"], ["c"], ["d"], ["e"]]), r"holds <U1 of shape \(5, 1\)"),
        (np.array([b"a", b"\xff", b"c", b"d", b"e"]), "id number 2 .* is not UTF-8"),
        (np.array(["a", "", "c", "d", "e"]), "id number 2 is empty"),
        (np.array(["a", "b"]), "has 2 ids, .*5 vectors"),
    ],
)
def test_ids_that_cannot_be_are_refused(tmp_path: Path, provided: np.ndarray, ids: np.ndarray, message: str) -> None:
    corpus = corpus_file(tmp_path / "c.jsonl", list("abcde"))
    np.save(tmp_path / "v.npy", provided)
    np.save(tmp_path / "v.ids.npy", ids, allow_pickle=True)
    with pytest.raises((InputError, MismatchError), match=message):
        list(read_provider_vectors(tmp_path / "v.npy", corpus))


def test_arrays_that_are_no_vectors_are_refused(tmp_path: Path) -> None:
    corpus = corpus_file(tmp_path / "c.jsonl", list("ab"))
    np.savez(tmp_path / "zip.npz", one=np.eye(2), two=np.eye(2))
    (tmp_path / "zip.npz").rename(tmp_path / "zip.npy")
    np.save(tmp_path / "whole.npy", np.eye(2, dtype=np.int8))
    np.save(tmp_path / "objects.npy", np.array([[1.0, None], [0.0, 1.0]], dtype=object), allow_pickle=True)
    (tmp_path / "header.npy").write_bytes(b"\x93NUMPY\x01\x00\x10\x00{'descr': ((((((\n")
    for name, message in [
        ("zip.npy", "an archive of arrays"),
        ("whole.npy", "holds int8"),
        ("objects.npy", "never loaded"),
        ("header.npy", r"cannot be read as \.npy"),
    ]:
        with pytest.raises(InputError, match=message):
            list(read_provider_vectors(tmp_path / name, corpus))
    with pytest.raises(UsageError, match="vectors alone: name their documents with --corpus"):
        read_provider_vectors(tmp_path / "whole.npy")


def test_files_are_found_after_a_change_of_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, provided: np.ndarray
) -> None:
    corpus_file(tmp_path / "c.jsonl", list("abcde"))
    np.save(tmp_path / "v.npy", unit(provided))
    write(tmp_path / "one.jsonl", id=["a"], text=["t"], vector=[[1.0, 0.0]])
    monkeypatch.chdir(tmp_path)
    beside, one = read_provider_vectors("v.npy", "c.jsonl"), read_provider_vectors(Path("one.jsonl"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert [len(documents) for documents, _ in beside] == [5]
    assert [len(documents) for documents, _ in one] == [1]


@pytest.mark.parametrize("name", ["harbour.jsonl", "harbour.parquet"])
@pytest.mark.parametrize(
    "more",
    [
        {"berth": [54.3, 10.1]},
        {"depths": [float(i) for i in range(30)]},
        {"vector": [12, 14]},
        {"values": [0.5] * 30},
        {"values": "[1, 2, 3, 4, 5, 6, 7, 8, 9]"},
        {"values": "tide and wind"},
        {"vector": "rat"},
        {"vector": ["rat", "flea"]},
        {"dense": True},
    ],
    ids=str,
)
def test_metadata_is_not_taken_for_vectors(tmp_path: Path, name: str, more: dict[str, Any]) -> None:
    """Numbers under any name, few numbers, and words that are also names of vectors: such a file is a corpus."""
    path = write(tmp_path / name, id=["k"], text=["A quay."], **{key: [value] for key, value in more.items()})
    assert vector_columns(path, width=16) is None


@pytest.mark.parametrize("name", ["v.jsonl", "v.parquet"])
def test_vectors_are_known_by_name_and_width(tmp_path: Path, name: str) -> None:
    whole, cut = [0.25] * 16, [0.25] * 12
    for column, row, width, found in [
        ("values", whole, 16, "values"),
        ("emb", whole, 16, "emb"),
        ("emb", cut, 16, "emb"),  # what reads them says that they are too short
        ("emb", [0.6, 0.8], 2, "emb"),
        ("emb", [1] * 16, 16, "emb"),
        ("emb", json.dumps(whole), 16, "emb"),
    ]:
        path = write(tmp_path / name, id=["k", "l"], text=["A quay."] * 2, pages=[[1, 2]] * 2, **{column: [None, row]})
        columns = vector_columns(path, width=width)
        assert columns is not None
        assert columns.vector == found
    assert vector_columns(path, Columns(vector="pages"), 16) == Columns("id", "text", None, "pages")


@pytest.mark.parametrize(
    ("name", "delimiter"), [("v.csv", ";"), ("v.csv", "\t"), ("v.csv", "|"), ("v.tsv", ","), ("v.tsv", ";")]
)
def test_delimiters_of_tables_with_vectors_are_found(tmp_path: Path, name: str, delimiter: str) -> None:
    """And of tables without, which are asked whether they have any."""
    path = tmp_path / name
    with path.open("w", newline="", encoding="utf-8") as file:
        import csv

        rows = csv.writer(file, delimiter=delimiter)
        rows.writerows([("Key", "Passage", "Embedding"), ("k", "A quay; a pier, long", "[0.6, 0.8]")])
    with pytest.warns(UserWarning, match="its columns are separated by"):
        ((document,), dense) = read_one(path, "id=Key")
    assert document.text == "A quay; a pier, long"
    assert np.allclose(dense, [[0.6, 0.8]])
    path.write_text(delimiter.join(("_id", "text", "year")) + "\n" + delimiter.join(("k", "A quay.", "1900")) + "\n")
    with pytest.warns(UserWarning, match="its columns are separated by"):
        assert vector_columns(path, width=16) is None


def test_a_table_of_one_line_says_what_was_taken_for_its_header(tmp_path: Path) -> None:
    (tmp_path / "v.tsv").write_text("k1\tA quay.\n")
    with pytest.raises(InputError, match=r"holds no rows: its only line, 'k1\\tA quay.', was taken for the header"):
        vector_columns(tmp_path / "v.tsv", width=16)


@pytest.mark.parametrize("kind", ["int8", "uint16", "int64", "list_view", "large_list_view", "dictionary"])
def test_parquet_vectors_of_less_usual_types(tmp_path: Path, kind: str) -> None:
    pa = pytest.importorskip("pyarrow")
    rows = [[3, 4] * 8, [4, 3] * 8]
    if kind == "dictionary":
        column = pa.array([json.dumps(row) for row in rows]).dictionary_encode()
    elif "view" in kind:
        column = pa.array(rows, getattr(pa, kind)(pa.float32()))
    else:
        column = pa.array(rows, pa.list_(getattr(pa, kind)()))
    try:
        path = write(tmp_path / "v.parquet", id=["k", "l"], text=["A quay."] * 2, embedding=column)
    except pa.ArrowNotImplementedError:
        pytest.skip(f"this pyarrow writes no {kind} to Parquet")
    columns = vector_columns(path, width=16)
    assert columns is not None
    assert columns.vector == "embedding"
    with pytest.warns(UserWarning, match="not of unit length"):
        _, dense = read_one(path)
    assert np.abs(dense - unit(np.array(rows))).max() < 1e-6


@pytest.mark.parametrize("kind", ["decimal", "binary", "nested", "struct", "base64"])
def test_vectors_that_cannot_be_read_are_named_not_kept_as_metadata(tmp_path: Path, kind: str) -> None:
    pa = pytest.importorskip("pyarrow")
    from decimal import Decimal

    value, shown = {
        "decimal": ([Decimal("0.5")] * 16, r"list<.*decimal128"),
        "binary": (np.ones(16, np.float32).tobytes(), "binary"),
        "nested": ([[0.5] * 16], r"list<.*list<"),
        "struct": ({"float": [0.5] * 16}, "struct<"),
        "base64": ("AAAAPw" * 16, "string"),
    }[kind]
    path = write(tmp_path / "v.parquet", id=["k"], text=["A quay."], embedding=pa.array([value]))
    with pytest.raises(InputError, match=f"column 'embedding' holds {shown}.*: lists of numbers are needed"):
        vector_columns(path, width=16)
    with pytest.raises(InputError, match=r"'embedding' (holds|is no JSON array)"):
        read_one(path)


def test_ids_beside_an_array_are_read_or_their_absence_is_said(tmp_path: Path, provided: np.ndarray) -> None:
    corpus = corpus_file(tmp_path / "c.jsonl", list("edcba"))
    np.save(tmp_path / "v.npy", unit(provided))
    with pytest.warns(UserWarning, match="no ids beside it: its vectors are taken in the corpus's order"):
        list(read_provider_vectors(tmp_path / "v.npy", corpus))
    (tmp_path / "v.ids.json").write_text('["a", "b", "c", "d", "e"]')
    with pytest.raises(InputError, match=r"v.ids.json is not read: ids are taken from v.ids.txt"):
        list(read_provider_vectors(tmp_path / "v.npy", corpus))
    (tmp_path / "v.ids.txt").write_text("a\nb\nc\nd\ne\n\n")
    ((_, encoded),) = read_provider_vectors(tmp_path / "v.npy", corpus)
    assert np.allclose(encoded.dense, unit(provided)[::-1], atol=1e-6)


@pytest.mark.parametrize(("name", "inner"), [("id", "another"), ("docid", "another"), ("body", "other words")])
def test_metadata_that_contradicts_its_document_is_refused(tmp_path: Path, name: str, inner: str) -> None:
    row = {"id" if name == "body" else name: "k", "text" if name != "body" else name: "A quay.", "emb": [0.6, 0.8]}
    path = tmp_path / "v.jsonl"
    path.write_text(json.dumps({**row, "metadata": {name: row[name]}}) + "\n")
    assert len(read_one(path)[0]) == 1
    path.write_text(json.dumps({**row, "metadata": {name: inner}}) + "\n")
    with pytest.raises(InputError, match=rf"v.jsonl:1.*its '{name}' is .* outside its metadata and '{inner}' in it"):
        read_one(path)
