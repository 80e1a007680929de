"""Judgements row by row, out of every format that people keep them in.

Lines of text: BEIR's three columns between tabs, commas, semicolons or vertical bars, with a header or without, or
TREC's four. Tables (Parquet, JSON) and headers name their columns, and the names decide, not their order. A .json file
may also be one object of objects: query id to (document id to grade).
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lightretriever.errors import InputError
from lightretriever.paths import absolute
from lightretriever.text.compression import split_suffix
from lightretriever.text.grades import as_grade, is_grade, parse_grade
from lightretriever.text.ids import MARK, check_id, decode_id
from lightretriever.text.json_rows import json_rows, parse_object
from lightretriever.text.lines import open_text, read_lines
from lightretriever.text.rows import read_rows
from lightretriever.text.values import NoJsonValueError, plain_value

NAMES = {
    "query-id": ("query-id", "queryid", "qid", "q-id", "topic-id", "query", "topic"),
    "corpus-id": (
        *("corpus-id", "corpusid", "document-id", "documentid", "doc-id", "docid", "docno", "did"),
        *("passage-id", "pid", "document", "doc"),
    ),
    "score": ("score", "relevance", "rel", "grade", "label", "judgement", "judgment"),
}
"""BEIR's name of each column, and what else it is called; the first that is there is taken."""

TREC_MARK = f"0{MARK}"
_SPACE = re.compile(r"[ \t\r\n\f\v]+")  # what C tools separate columns at; str.split() knows many more


@dataclass(frozen=True, slots=True)
class Judgement:
    """One row: its place, and what it says."""

    where: str
    query: str
    document: str
    grade: int


def read_judgements(path: str | Path) -> Iterator[Judgement]:
    """Stream a file's judgements.

    Raises:
        InputError: no such file, columns that are not there or that are none of judgements, an id that is none, or a
            grade that is none; it names file and line.
        MissingExtraError: Parquet without ``pyarrow``.
    """
    form, _ = split_suffix(path)
    if form in (".parquet", ".jsonl", ".ndjson"):
        return _from_table(read_rows(path))
    if form == ".json":
        return _from_table(_json_rows(absolute(path), path))
    return _from_lines(path, read_lines(path))


def split_columns(line: str) -> list[str]:
    """The columns of a TREC file's line."""
    return [field for field in _SPACE.split(line) if field]


def _from_table(rows: Iterable[tuple[str, Mapping[str, object]]]) -> Iterator[Judgement]:
    for where, row in rows:
        query, document, grade = (row[name] for name in _named(list(row), where))
        relevance = parse_grade(grade, where) if isinstance(grade, str) else as_grade(grade, where)
        yield _judgement(where, _plain_id(query, where), _plain_id(document, where), relevance)


def _json_rows(source: Path, shown: str | Path) -> Iterator[tuple[str, Mapping[str, object]]]:
    """The rows of a .json file: an array, an object a line, or one object of each query's grades."""
    with open_text(source, shown) as file:
        if file.head.lstrip("\ufeff \t\r\n").startswith("["):
            yield from json_rows(file)
            return
        text = "".join(file.chunks())  # judgements fit into memory, where they all end
    lines = [(f"{shown}:{number}", line) for number, line in enumerate(text.split(file.line_end), 1) if line.strip()]
    if not lines:
        return
    if len(lines) > 1 and _is_object(lines[0][1]):
        yield from ((where, parse_object(line, where)) for where, line in lines)
        return
    whole = parse_object(" ".join(line for _, line in lines), str(shown))
    if not all(isinstance(grades, Mapping) for grades in whole.values()):
        yield str(shown), whole
        return
    for query, grades in whole.items():
        where = f"{shown}: query {query[:80]!r}"
        for document, grade in grades.items():  # type: ignore[attr-defined]
            yield where, dict(zip(NAMES, (query, document, grade), strict=True))


def _is_object(line: str) -> bool:
    try:
        parse_object(line, "")
    except InputError:
        return False
    return True


def _plain_id(value: object, where: str) -> object:
    """An id by the rules of a corpus, so that its judgements load where it does."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if value is None or isinstance(value, str | bool | float):
        return value
    try:
        plain = plain_value(value)
    except NoJsonValueError as problem:
        raise InputError(f"{where}: an id is {problem.reason}") from None
    return str(plain) if isinstance(plain, int) and not isinstance(plain, bool) else plain


def _from_lines(path: str | Path, lines: Iterable[tuple[int, str]]) -> Iterator[Judgement]:
    layout: _Layout | None = None
    for number, line in lines:
        if not line.strip():
            continue
        where = f"{path}:{number}"
        if layout is None:
            layout = _layout_of(line, where)
            if layout.header:
                continue
        fields = layout.fields(line, where)
        query, document, digits = (fields[place] for place in layout.places)
        if layout.marked(fields):
            query, document = decode_id(query, where), decode_id(document, where)
        yield _judgement(where, query, document, parse_grade(digits, where))


def _judgement(where: str, query: object, document: object, grade: int) -> Judgement:
    return Judgement(where, check_id(query, "query id", where), check_id(document, "document id", where), grade)


@dataclass(frozen=True, slots=True)
class _Layout:
    """How a file's lines are cut, and which of their columns are query, document and grade."""

    separator: str  # tab, comma, semicolon, vertical bar, or "" for white space
    count: int
    places: tuple[int, int, int]
    header: bool

    def fields(self, line: str, where: str) -> list[str]:
        fields = _cut(line, self.separator, where)
        if len(fields) != self.count and self.count == 4 and not self.header and _is_trec(line):
            fields = split_columns(line)  # tabs in one line and spaces in the next
        if len(fields) != self.count:
            wanted = f"the header has {self.count}" if self.header else _WANTED
            raise InputError(f"{where}: {len(fields)} columns: {wanted}")
        return fields

    def marked(self, fields: Sequence[str]) -> bool:
        return self.count == 4 and not self.header and fields[1] == TREC_MARK


_WANTED = "qrels have 3 between tabs (query, document, relevance) or 4 (query, 0, document, relevance)"
_PLACES = {3: (0, 1, 2), 4: (0, 2, 3)}


def _is_trec(line: str) -> bool:
    fields = split_columns(line)
    return len(fields) == 4 and fields[1] in ("0", "Q0", TREC_MARK)


def _layout_of(line: str, where: str) -> _Layout:
    """From the first line that is not blank."""
    fields: list[str] = []
    for separator in ("\t", "") if _is_trec(line) else ("\t", ",", ";", "|", ""):  # an id may hold any of the others
        if separator and separator not in line:
            continue
        fields = _cut(line, separator, where)
        judged = is_grade(fields[-1])
        if not judged and any(_role(name) for name in fields):
            return _Layout(separator, len(fields), _places(fields, _named(fields, where)), header=True)
        # Without tabs or commas three columns may as well be TREC's four with one left out.
        if len(fields) == 4 or (len(fields) == 3 and separator):
            if judged:
                return _Layout(separator, len(fields), _PLACES[len(fields)], header=False)
            if separator in ("\t", ""):
                raise InputError(
                    f"{where}: the relevance {fields[-1][:40]!r} is not an integer, and the line is no header, which "
                    f"names the columns {', '.join(NAMES)}"
                )
        if separator == "\t" and not _is_trec(line):
            break
    raise InputError(f"{where}: {len(fields)} columns: {_WANTED}")


def _cut(line: str, separator: str, where: str) -> list[str]:
    if not separator:
        return split_columns(line)
    if separator == "\t":
        return [field.strip() for field in line.rstrip("\r\n").split("\t")]
    try:
        return [
            field.strip() for field in next(csv.reader([line.rstrip("\r\n")], delimiter=separator, strict=True), [])
        ]
    except csv.Error:
        raise InputError(f"{where}: not a row of CSV: write quotation marks inside a field twice") from None


def _role(name: str) -> str | None:
    plain = _normal(name)
    return next((role for role, names in NAMES.items() if plain in names), None)


def _normal(name: str) -> str:
    return name.strip().strip("\"'").lower().replace("_", "-").replace(" ", "-")


def _places(fields: Sequence[str], names: Sequence[str]) -> tuple[int, int, int]:
    query, document, grade = (fields.index(name) for name in names)
    return query, document, grade


def _named(columns: Sequence[str], where: str) -> tuple[str, str, str]:
    """The columns of query, document and grade among those that a header or a table has."""
    by_name: dict[str, list[str]] = {}
    for column in columns:
        by_name.setdefault(_normal(column), []).append(column)
    chosen = {role: _chosen(by_name, names) for role, names in NAMES.items()}
    shown = ", ".join(column[:40] for column in columns[:20])
    if missing := [role for role, found in chosen.items() if not found]:
        raise InputError(
            f"{where}: the columns {shown} lack {' and '.join(missing)}: judgements need {', '.join(NAMES)}"
        )
    if doubled := [found for found in chosen.values() if len(found) > 1]:
        raise InputError(f"{where}: the columns {' and '.join(doubled[0])} could both be meant: keep one of them")
    query, document, grade = (found[0] for found in chosen.values())
    return query, document, grade


def _chosen(by_name: Mapping[str, Sequence[str]], names: Sequence[str]) -> list[str]:
    """The column of a role; all that could be meant where that is not certain."""
    there = [name for name in names if name in by_name]
    if names is NAMES["score"]:
        return [column for name in there for column in by_name[name]]
    return list(by_name[there[0]]) if there else []
