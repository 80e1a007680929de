"""Runs and qrels, in and out, in the formats every evaluation tool reads.

A run: ``qid Q0 docid rank score tag``. Qrels: BEIR's ``query-id<tab>corpus-id<tab>score`` with a header, or
TREC's ``qid 0 docid relevance``. Scores are float32 and written so that they read back exactly.

Tools disagree about ties (trec_eval puts the greater document id first, others the lesser, others keep the file's
order) and about precision, so the same file can get two marks. Our runs have no ties: a score that would not be
below the one before it is lowered to the next float32, about one part in ten million.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lightretriever.artifact import new_file
from lightretriever.errors import InputError
from lightretriever.text.lines import read_lines
from lightretriever.types import Hit, Run

_SPACE = re.compile(r"[ \t\r\n\f\v]+")  # what C tools separate columns at; str.split() knows many more
BEIR_HEADER = "query-id\tcorpus-id\tscore"


def rank(scores: Mapping[str, float]) -> list[tuple[str, float]]:
    """Document ids with float32 scores, the best first, every score below the one before.

    Ties (in float32) are ordered as trec_eval does, the greater document id first.

    Raises:
        InputError: a score is not finite as float32.
    """
    values = _as_float32(list(scores), list(scores.values()))
    ordered = sorted(zip(values, scores, strict=True), reverse=True)
    return _without_ties([document for _, document in ordered], [value for value, _ in ordered])


def run_from_hits(query_ids: Sequence[str], hits: Sequence[Sequence[Hit]], tag: str = "lightretriever") -> Run:
    """The run that a search's answers are: the order of the hits is kept, ties in their scores resolved by it."""
    scores = {}
    for query, found in zip(query_ids, hits, strict=True):
        ids = [hit.id for hit in found]
        scores[query] = dict(_without_ties(ids, _as_float32(ids, [hit.score for hit in found])))
    return Run(scores, tag)


def _as_float32(documents: Sequence[str], scores: Sequence[float]) -> list[float]:
    with np.errstate(over="ignore"):
        values = np.array(scores, dtype=np.float64).astype(np.float32)
    finite = np.isfinite(values)
    if not finite.all():
        place = int(np.argmin(finite))
        raise InputError(f"document {documents[place]} has the score {scores[place]}: it must be finite as float32")
    return values.tolist()


def _without_ties(documents: Sequence[str], scores: Sequence[float]) -> list[tuple[str, float]]:
    """Lower each score that is not below the one before; float32 in and out."""
    lowered, last = [], np.inf
    for score in scores:
        last = score if score < last else float(np.nextafter(np.float32(last), np.float32(-np.inf)))
        lowered.append(last)
    return list(zip(documents, lowered, strict=True))


def write_run(path: str | Path, run: Run) -> None:
    """Write a run file, complete or not at all, queries in the run's order, documents as `rank` puts them.

    Raises:
        InputError: an id or the tag is empty or holds white space, which the format cannot express.
    """
    tag = _word(run.tag, "tag")
    with new_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        for query, scores in run.scores.items():
            start = f"{_word(query, 'query id')} Q0"
            for place, (document, score) in enumerate(rank(scores), 1):
                digits = str(np.float32(score))
                file.write(f"{start} {_word(document, 'document id')} {place} {digits} {tag}\n")


def read_run(path: str | Path) -> Run:
    """Read a run file (plain or compressed); the scores order it, the rank column is not read.

    Raises:
        InputError: no such file, or a line that is none of a run; it names file and line.
    """
    scores: dict[str, dict[str, float]] = {}
    tag = ""
    for number, line in read_lines(path):
        fields = _fields(line)
        if not fields:
            continue
        if len(fields) != 6:
            raise InputError(
                f"{path}:{number}: {len(fields)} columns, a run has 6: query, Q0, document, rank, score, tag"
            )
        query, _, document, _, score, tag = fields
        found = scores.setdefault(query, {})
        if document in found:
            raise InputError(f"{path}:{number}: document {document} is there twice for query {query}")
        found[document] = _score(path, number, score)
    return Run(scores, tag) if scores else Run({})


def read_qrels(path: str | Path) -> dict[str, dict[str, int]]:
    """Read relevance judgements in BEIR's or TREC's format, plain or compressed.

    Returns:
        query id to (document id to relevance), in the file's order.

    Raises:
        InputError: no such file, nothing in it, or a line that is no judgement; it names file and line.
    """
    qrels: dict[str, dict[str, int]] = {}
    separated_by_tabs: bool | None = None
    for number, line in read_lines(path):
        if not line.strip():
            continue
        if separated_by_tabs is None:
            separated_by_tabs = len(line.split("\t")) == 3
            if separated_by_tabs and _integer(line.split("\t")[2].strip()) is None:
                continue  # the header
        fields = [field.strip() for field in line.split("\t")] if separated_by_tabs else _fields(line)
        if len(fields) != (3 if separated_by_tabs else 4):
            raise InputError(
                f"{path}:{number}: {len(fields)} columns: qrels have 3 between tabs (query, document, "
                "relevance) or 4 (query, 0, document, relevance)"
            )
        query, document, digits = fields[0], fields[-2], fields[-1]
        relevance = _integer(digits)
        if relevance is None:
            raise InputError(f"{path}:{number}: the relevance {digits!r} is not an integer")
        judged = qrels.setdefault(query, {})
        if judged.get(document, relevance) != relevance:
            raise InputError(f"{path}:{number}: document {document} is judged twice for query {query}, differently")
        judged[document] = relevance
    if not qrels:
        raise InputError(f"{path} holds no judgements")
    return qrels


def write_qrels(path: str | Path, qrels: Mapping[str, Mapping[str, int]]) -> None:
    """Write relevance judgements, complete or not at all: a name ending in .tsv gets BEIR's format, else TREC's.

    Raises:
        InputError: an id is empty or holds white space.
    """
    beir = Path(path).suffix == ".tsv"
    first, last = ("\t", "\t") if beir else (" 0 ", " ")
    with new_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        if beir:
            file.write(f"{BEIR_HEADER}\n")
        for query, judged in qrels.items():
            start = _word(query, "query id") + first
            for document, relevance in judged.items():
                file.write(f"{start}{_word(document, 'document id')}{last}{relevance}\n")


def _fields(line: str) -> list[str]:
    return [field for field in _SPACE.split(line) if field]


def _word(text: str, what: str) -> str:
    if text.split() != [text]:
        raise InputError(
            f"the {what} {text[:80]!r} is empty or holds white space, which separates columns in TREC files: rename it"
        )
    return text


def _score(path: str | Path, line: int, text: str) -> float:
    try:
        with np.errstate(over="ignore"):
            value = float(np.float32(float(text)))  # the digits name a float32, as trec_eval reads them
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{path}:{line}: the score {text!r} is not a finite number")
    return value


def _integer(text: str) -> int | None:
    """The integer that the text is, "1.0" included; None for anything else."""
    try:
        value = float(text)
    except ValueError:
        return None
    return int(value) if value.is_integer() else None
