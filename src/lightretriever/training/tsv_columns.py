"""What the columns of a training file in TSV hold: query, positive, negatives; by a header, or in that order."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence

from lightretriever.errors import InputError

QUERY, POSITIVE, NEGATIVE = range(3)
_QUERY_NAMES = ("query", "anchor", "question")
_POSITIVE_NAMES = ("positive", "pos", "positive_passage", "passage", "answer")
_NEGATIVE_NAMES = re.compile(r"(?:negative|neg|negative_passage)(?:_?\d{1,6})?")
_ID_NAMES = re.compile(
    r"(?:(?:q|query|topic|p|passage|positive|pos|n|negative|neg|d|doc|document|corpus)[-_ ]?)ids?|docno|id"
)
_ID = re.compile(r"[!-~]*[0-9][!-~]*")  # without a space, and with a digit: no passage, whatever the language
_NUMBER = re.compile(r"\s*[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\s*")
_QUOTED = re.compile(r'"(?:[^"]|"")*"(?:\t"(?:[^"]|"")*")*')
_FIRST = 8  # lines that tell whether a file holds ids


def find_columns(line: str, where: str) -> tuple[tuple[int, ...], bool, bool]:
    """What the columns hold, by a file's first line; whether fields are quoted; whether the line is a header.

    Raises:
        InputError: one column, or a header of other columns; the message names them.
    """
    quoted = _is_quoted(line)
    fields = split_fields(line, quoted, where)
    if len(fields) < 2:
        raise InputError(f"{where}: one column: query, positive and negatives with tabs between are needed")
    names = [field.strip().lower() for field in fields]
    columns = list(map(_column, names))
    known = tuple(column for column in columns if column is not None)
    if not known:
        if sum(_ID_NAMES.fullmatch(name) is not None for name in names) > 1:
            raise _ids(f"{where}: the columns {_shown(names)}")
        return (QUERY, POSITIVE, *[NEGATIVE] * (len(fields) - 2)), quoted, False
    if len(known) < len(columns):
        other = names[columns.index(None)]
        raise InputError(
            f"{where}: a column {other[:40]!r} in what seems to be a header: query, positive and negatives are read"
        )
    if not {QUERY, POSITIVE} <= set(known):
        raise InputError(f"{where}: the columns {_shown(names)}: a query and a positive are needed")
    if known.count(QUERY) > 1 or known.count(POSITIVE) > 1:
        raise InputError(f"{where}: two columns of one name: query and positive are needed once")
    return known, quoted, True


def split_fields(line: str, quoted: bool, where: str) -> list[str]:
    """The fields of a line. Raises InputError where it is to be quoted and is not as in CSV."""
    if not quoted:
        return line.split("\t")
    try:
        return next(csv.reader([line], delimiter="\t", strict=True), [])
    except csv.Error:
        raise InputError(
            f"{where}: not quoted as its first line is: a line end within a field, or a quotation mark that is not "
            "written twice"
        ) from None


class ColumnCheck:
    """Looks for ids in a file, and for scores where no header names its columns, which would become passages."""

    def __init__(self, columns: Sequence[int], named: bool) -> None:
        self._scores = [place for place, column in enumerate(columns) if column == NEGATIVE and not named]
        self._lines, self._ids = 0, True

    def see(self, fields: Sequence[str], path: object) -> None:
        """Look at a line. Raises InputError where the first lines of the file hold nothing but ids."""
        self._lines += 1
        if self._lines <= _FIRST:
            self._ids = self._ids and all(map(_ID.fullmatch, fields))
        if self._ids and self._lines == _FIRST:
            raise _ids(f"{path}: the first lines")
        if self._scores:
            self._scores = [place for place in self._scores if _NUMBER.fullmatch(fields[place])]

    def end(self, path: object) -> None:
        """Raise InputError where all lines hold nothing but ids, or numbers where a negative is."""
        if self._ids and self._lines:
            raise _ids(f"{path}: all fields")
        if self._scores and self._lines:
            raise InputError(
                f"{path}: column {self._scores[0] + 1} holds numbers alone, where negative passages are: leave scores "
                "and labels out, or name the columns in a first line"
            )


def _is_quoted(line: str) -> bool:
    """Whether a first line is quoted as in CSV: every field is, or the names of a header."""
    if not line.lstrip().startswith('"'):
        return False
    try:
        fields = next(csv.reader([line], delimiter="\t", strict=True), [])
    except csv.Error:
        return False
    return _QUOTED.fullmatch(line) is not None or any(_column(field.strip().lower()) is not None for field in fields)


def _column(name: str) -> int | None:
    if name in _QUERY_NAMES:
        return QUERY
    if name in _POSITIVE_NAMES:
        return POSITIVE
    return NEGATIVE if _NEGATIVE_NAMES.fullmatch(name) else None


def _shown(names: Sequence[str]) -> str:
    return ", ".join(repr(name[:40]) for name in names[:8])


def _ids(what: str) -> InputError:
    return InputError(f"{what} are ids, not texts: put the texts of queries and passages in their place")
