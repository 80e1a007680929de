from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lightretriever.errors import InputError
from lightretriever.text.columns import ColumnNames, documents_of_frame, read_table
from lightretriever.text.corpus import Document

NAMES = ColumnNames(id="no", title="name", text=("short", "long"), metadata=("year",))


def file(folder: Path, name: str, data: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def database(folder: Path, *statements: str) -> Path:
    path = folder / "a.db"
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()
    return path


def test_columns_are_named_and_texts_joined(tmp_path: Path) -> None:
    path = file(
        tmp_path, "a.csv", "no;name;short;long;year;rest\n7;Cats;They sleep.;Much.;1999;x\n8;Dogs;;Bark.;2000;y\n"
    )
    with pytest.warns(UserWarning, match="semicolons"):
        documents = list(read_table(path, NAMES))
    assert documents[0] == Document("7", "They sleep.\n\nMuch.", "Cats", {"year": "1999"})
    assert documents[1].text == "Bark."


def test_all_other_columns_are_metadata_unless_some_are_named(tmp_path: Path) -> None:
    path = file(tmp_path, "a.jsonl", '{"no": 1, "body": "b", "text": "t", "x": 2}\n')
    (document,) = read_table(path, ColumnNames(id="no", text=("body",)))
    assert document == Document("1", "b", "", {"x": 2})


def test_rows_without_an_id_get_one_that_stays(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="hash of their content"):
        one, two = read_table(file(tmp_path, "a.csv", "text,year\nfirst,1\nsecond,2\n"))
    with pytest.warns(UserWarning):
        three, second, _ = read_table(file(tmp_path, "b.csv", "text,year\nzero,0\nsecond,2\nfirst,9\n"))
    assert second.id == two.id
    assert len({one.id, two.id, three.id}) == 3
    (named,) = read_table(file(tmp_path, "c.json", '[{"id": 5, "text": "t"}]'))
    assert named.id == "5"


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-8-sig"])
@pytest.mark.filterwarnings("ignore:.*(semicolons|bars)")
@pytest.mark.parametrize("delimiter", [",", ";", "|"])
def test_tables_as_spreadsheets_save_them(tmp_path: Path, encoding: str, delimiter: str) -> None:
    row = f'1{delimiter}"Größe ""M"" – déjà{delimiter} vu"\r\n'
    path = file(tmp_path, "a.csv", f"Nr{delimiter}Inhalt\r\n{row}".encode(encoding))
    names = ColumnNames(id="Nr", text=("Inhalt",))
    if encoding == "cp1252":
        with pytest.warns(UserWarning, match="Windows-1252"):
            (document,) = read_table(path, names)
    else:
        (document,) = read_table(path, names)
    assert document == Document("1", f'Größe "M" – déjà{delimiter} vu')


def test_a_column_that_is_not_there(tmp_path: Path) -> None:
    path = file(tmp_path, "a.jsonl", '{"a": 1}\n')
    with pytest.raises(InputError, match=r"a\.jsonl:1: there is no column 'body': its columns are 'a'"):
        list(read_table(path, ColumnNames(text=("body",))))
    with pytest.raises(InputError, match="has no text"), pytest.warns(UserWarning):
        list(read_table(path))


def test_sqlite(tmp_path: Path) -> None:
    path = database(
        tmp_path, 'CREATE TABLE "odd "" name" (id, text, n)', """INSERT INTO "odd "" name" VALUES (3, 'x', 1.5)"""
    )
    assert list(read_table(path)) == [Document("3", "x", "", {"n": 1.5})]
    path = database(tmp_path, "CREATE TABLE b (text)", "INSERT INTO b VALUES ('y')")
    with pytest.raises(InputError, match="name the table to read: its tables are 'b', 'odd"):
        list(read_table(path))
    with pytest.raises(InputError, match="has no table 'c'"):
        list(read_table(path, ColumnNames(table="c")))
    with pytest.warns(UserWarning, match="hash"):
        assert [document.text for document in read_table(path, ColumnNames(table="b"))] == ["y"]
    before = path.read_bytes()
    assert path.read_bytes() == before


def test_what_is_no_database(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no SQLite database"):
        list(read_table(file(tmp_path, "a.db", "text")))
    with pytest.raises(InputError, match="does not exist"):
        list(read_table(tmp_path / "b.db"))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    places=st.lists(st.tuples(st.integers(0, 8191), st.integers(0, 255)), min_size=1, max_size=30),
    cut=st.integers(0, 9000),
)
@pytest.mark.filterwarnings("ignore")
def test_damaged_databases(tmp_path: Path, places: list[tuple[int, int]], cut: int) -> None:
    path = tmp_path / "damaged.db"
    if not (tmp_path / "a.db").exists():
        database(tmp_path, "CREATE TABLE t (id, text)", "INSERT INTO t VALUES (1, 'some text'), (2, 'more')")
    data = bytearray((tmp_path / "a.db").read_bytes())
    for place, byte in places:
        data[place % len(data)] = byte
    path.write_bytes(data[: max(cut, 100)])
    try:
        list(read_table(path))
    except InputError as error:
        assert len(str(error).splitlines()) == 1


def test_frames() -> None:
    rows = {"no": [1, 2], "body": ["a", "b"], "year": [3, 4]}
    expected = [Document("1", "a", "", {"year": 3}), Document("2", "b", "", {"year": 4})]
    names = ColumnNames(id="no", text=("body",))
    for library, make in (("pandas", "DataFrame"), ("polars", "DataFrame"), ("pyarrow", "table")):
        module = pytest.importorskip(library)
        assert list(documents_of_frame(getattr(module, make)(rows), names)) == expected
    with pytest.raises(InputError, match="this is list"):
        documents_of_frame([])
