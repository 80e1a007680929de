"""A line of a training file, in any of the forms that people have them in, to an `Example`.

| kind | known by its fields |
|---|---|
| ours | `query`, `positive_passages`, `negative_passages` |
| FlagEmbedding | `query`, `pos`, `neg`: lists of texts; perhaps `pos_scores`, `neg_scores`, `prompt` |
| sentence-transformers | `anchor` (or `query`), `positive`, `negative`; perhaps `negative_1`, …, `negatives`: a list |
| TSV | the name's ending: query, positive and negatives, tabs between; perhaps a first line of names |
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lightretriever.errors import InputError
from lightretriever.text.json_rows import parse_object
from lightretriever.text.lines import not_utf8
from lightretriever.text.values import safe_text
from lightretriever.training.example import Example, Passage
from lightretriever.training.tsv_columns import find_columns, split_fields

_NEGATIVE = re.compile(r"negative(?:_(\d{1,6}))?")
_ANCHORS = ("anchor", "query")
# Fields of pairs with judgements, which are other data than examples: a positive may be none there.
_JUDGED = ("label", "labels", "score", "scores")
# Fields of passages by their names, and those among them that are none: ids.
_PASSAGES = re.compile(r"(?:pos|neg)(?:itives?|atives?)?(?:[-_\d].*)?", re.IGNORECASE)
_PASSAGE_IDS = re.compile(r".*[-_](?:id|ids|idx|docid|docids)")


@dataclass(frozen=True, slots=True)
class LineKind:
    """How the lines of one training file are read.

    Attributes:
        name: as people call it.
        columns: of TSV, what each holds: 0 the query, 1 the positive, 2 a negative; empty for JSON.
        quoted: of TSV, whether its fields are quoted as in CSV.
        named: of TSV, whether its first line names the columns.
    """

    name: str
    columns: tuple[int, ...] = ()
    quoted: bool = False
    named: bool = False

    def read(self, line: bytes, where: str) -> Example:
        """Read one line.

        Args:
            line: UTF-8; a byte order mark at its start is passed over.
            where: the place, for messages.

        Raises:
            InputError: not UTF-8, no example, or one of another kind; the message says what is wrong with which field.
        """
        text = _decoded(line, where)
        if self.columns:
            return _from_columns(self.fields(text, where), self.columns)
        row = parse_object(text, where)
        kind = _kind_of(row, where)
        if kind != self.name:
            raise InputError(f"{where}: a line of the kind {kind}, the file began with {self.name}: keep to one kind")
        return _READERS[kind](row, where)

    def fields(self, text: str, where: str) -> list[str]:
        """The fields of a line of TSV.

        Raises:
            InputError: more or fewer than there are columns, or not quoted as the file is.
        """
        fields = split_fields(text, self.quoted, where)
        if len(fields) != len(self.columns):
            raise InputError(f"{where}: {len(fields)} columns, the first line has {len(self.columns)}")
        return fields


OURS = LineKind("LightRetriever")


def parse_example(line: bytes, where: str) -> Example:
    """Read one line of JSON, of whatever kind; see `LineKind.read` for arguments and errors."""
    row = parse_object(_decoded(line, where), where)
    return _READERS[_kind_of(row, where)](row, where)


def find_kind(line: bytes, where: str, tabs: bool) -> tuple[LineKind, bool]:
    """The kind of a file, by its first line.

    Args:
        line: that line.
        where: its place, for messages.
        tabs: whether the file's name says TSV.

    Returns:
        The kind, and whether the line holds column names and no example.

    Raises:
        InputError: none of the kinds, or not text at all.
    """
    text = _decoded(line, where)
    if "\r" in text and (tabs or not text.lstrip().startswith("{")):
        raise InputError(f"{where}: lines end in carriage returns alone: save the file with line feeds")
    if not tabs:
        return LineKind(_kind_of(parse_object(text, where), where)), False
    columns, quoted, is_header = find_columns(text, where)
    return LineKind("TSV", columns, quoted, is_header), is_header


def _decoded(line: bytes, where: str) -> str:
    try:
        return line.decode("utf-8-sig").rstrip("\r\n")  # a line without an end is what may be cut off
    except UnicodeDecodeError as error:
        raise not_utf8(error, where) from None


def _kind_of(row: Mapping[str, object], where: str) -> str:
    found = [name for name, fields in _FIELDS.items() if any(field in row for field in fields)]
    if len(found) > 1:
        given = sorted(field for name in found for field in _FIELDS[name] if field in row)
        raise InputError(f"{where}: fields of two kinds of line, {' and '.join(given)}: keep to one kind")
    kind = found[0] if found else OURS.name
    numbered = kind == "sentence-transformers"
    unread = [name for name in row if name not in _FIELDS[kind] and not (numbered and _NEGATIVE.fullmatch(name))]
    named = (name for name in unread if _PASSAGES.fullmatch(name) and not _PASSAGE_IDS.fullmatch(name))
    if (other := next(named, None)) is not None:
        raise InputError(
            f"{where}: a field {other[:40]!r}, which no line of the kind {kind} has: its passages would not be read"
        )
    return kind


def _ours(row: Mapping[str, object], where: str) -> Example:
    instruction = row.get("instruction")
    query = _query(row, ("query",), where)
    if len(row) > 1 and not any(field in row for field in _FIELDS[OURS.name]):
        shown = ", ".join(repr(name[:40]) for name in list(row)[:12])
        raise InputError(f"{where}: no positive_passages, pos or positive: its fields are {shown}")
    return Example(
        query,
        _passages(row.get("positive_passages"), "positive_passages", where),
        _passages(row.get("negative_passages"), "negative_passages", where),
        None if instruction is None else _string(instruction, "instruction", where),
    )


def _flag_embedding(row: Mapping[str, object], where: str) -> Example:
    prompt = row.get("prompt")
    return Example(
        _query(row, ("query",), where),
        _texts(row, "pos", where),
        _texts(row, "neg", where),
        None if prompt is None else _string(prompt, "prompt", where),
    )


def _sentence_transformers(row: Mapping[str, object], where: str) -> Example:
    judged = next((name for name in _JUDGED if row.get(name) is not None), None)
    if judged is not None:
        raise InputError(f"{where}: a field {judged}: pairs with judgements are no examples, keep the true ones alone")
    negatives = sorted((int(match[1] or 0), name) for name in row if (match := _NEGATIVE.fullmatch(name)))
    return Example(
        _query(row, _ANCHORS, where),
        _one(row.get("positive"), "positive", where),
        (
            *(passage for _, name in negatives for passage in _one(row[name], name, where)),
            *_texts(row, "negatives", where),
        ),
    )


def _from_columns(fields: Sequence[str], columns: Sequence[int]) -> Example:
    found: tuple[list[str], ...] = ([], [], [])
    for column, field in zip(columns, fields, strict=True):
        found[column].append(safe_text(field))
    return Example(found[0][0], tuple(map(Passage, found[1])), tuple(map(Passage, found[2])))


def _query(row: Mapping[str, object], names: Sequence[str], where: str) -> str:
    given = [name for name in names if row.get(name) is not None]
    if not given:
        raise InputError(f"{where}: the example has no query: a field {' or '.join(names)} is needed")
    if len(given) > 1:
        raise InputError(f"{where}: {' and '.join(given)}: only one of them can be the query")
    return _string(row[given[0]], given[0], where)


def _one(value: object, field: str, where: str) -> tuple[Passage, ...]:
    return () if value is None else (Passage(_string(value, field, where)),)


def _texts(row: Mapping[str, object], field: str, where: str) -> tuple[Passage, ...]:
    texts, scores = row.get(field), row.get(f"{field}_scores")
    texts = [] if texts is None else texts
    if not isinstance(texts, list):
        raise InputError(f"{where}: {field} is {type(texts).__name__}, not a list of texts")
    if scores is None:
        scores = [None] * len(texts)
    if not isinstance(scores, list) or len(scores) != len(texts):
        raise InputError(f"{where}: {field}_scores is no list of {len(texts)} numbers, one for each of {field}")
    return tuple(
        Passage(_string(text, f"{field}[{i}]", where), ce_score=_score(score, f"{field}_scores[{i}]", where))
        for i, (text, score) in enumerate(zip(texts, scores, strict=True))
    )


def _passages(value: object, field: str, where: str) -> tuple[Passage, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise InputError(f"{where}: {field} is {type(value).__name__}, not a list of passages")
    return tuple(_passage(item, f"{field}[{place}]", where) for place, item in enumerate(value))


def _passage(value: object, field: str, where: str) -> Passage:
    if not isinstance(value, Mapping):
        raise InputError(f"{where}: {field} is {type(value).__name__}, not an object with text")
    text, title, docid = (value.get(name) for name in ("text", "title", "docid"))
    if text is None:
        raise InputError(f"{where}: {field} has no text")
    if docid is not None and (isinstance(docid, bool) or not isinstance(docid, str | int)):
        raise InputError(f"{where}: {field}.docid is {type(docid).__name__}: a string or an integer is needed")
    return Passage(
        _string(text, f"{field}.text", where),
        "" if title is None else _string(title, f"{field}.title", where),
        "" if docid is None else safe_text(str(docid)),
        _score(value.get("ce_score"), f"{field}.ce_score", where),
    )


def _score(value: object, field: str, where: str) -> float | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise InputError(f"{where}: {field} is {type(value).__name__}, not a number")
    try:
        return None if value is None or not math.isfinite(value) else float(value)
    except OverflowError:  # an integer of hundreds of digits
        raise InputError(f"{where}: {field} is too large a number") from None


def _string(value: object, field: str, where: str) -> str:
    if not isinstance(value, str):
        raise InputError(f"{where}: {field} is {type(value).__name__}, not a string")
    return safe_text(value)


_READERS: Mapping[str, Callable[[Mapping[str, object], str], Example]] = {
    OURS.name: _ours,
    "FlagEmbedding": _flag_embedding,
    "sentence-transformers": _sentence_transformers,
}
# What tells them apart: the fields that only they have.
_FIELDS: Mapping[str, tuple[str, ...]] = {
    OURS.name: ("positive_passages", "negative_passages", "instruction"),
    "FlagEmbedding": ("pos", "neg", "pos_scores", "neg_scores"),
    "sentence-transformers": ("anchor", "positive", "negative", "negative_1", "negatives"),
}
