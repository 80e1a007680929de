"""Runs and qrels, in and out, in the formats every evaluation tool reads.

A run: ``qid Q0 docid rank score tag``. Qrels: BEIR's ``query-id<tab>corpus-id<tab>score`` with a header, or
TREC's ``qid 0 docid relevance``. Scores are float32 and written so that they read back exactly; so are ids, see
`lightretriever.text.ids` for those with white space.

Tools disagree about ties (trec_eval puts the greater document id first, others the lesser, others keep the file's
order) and about precision, so the same file can get two marks. Our runs have no ties: a score that would not be
below the one before it is lowered to the next float32, about one part in ten million.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lightretriever.artifact import new_file
from lightretriever.errors import InputError
from lightretriever.text.grades import as_grade
from lightretriever.text.ids import MARK, any_separates, check_id, decode_id, encode_id, separates
from lightretriever.text.judgements import TREC_MARK, read_judgements, split_columns
from lightretriever.text.lines import read_lines
from lightretriever.types import Hit, Run

RUN_MARK = f"Q0{MARK}"
_LARGEST = float(np.finfo(np.float32).max)
_RANK = re.compile(r"-?[0-9]+")
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
    given = _numbers(documents, scores)
    with np.errstate(over="ignore"):
        values = given.astype(np.float64).astype(np.float32)
    finite = np.isfinite(values)
    if not finite.all():
        place = int(np.argmin(finite))
        raise InputError(f"document {documents[place]} has the score {scores[place]}: it must be finite as float32")
    return list(map(float, values))


def _numbers(documents: Sequence[str], scores: Sequence[float]) -> np.ndarray:
    """The scores as an array of numbers; numpy itself would read them out of texts too."""
    try:
        given = np.array(scores)
    except (TypeError, ValueError, OverflowError):
        given = np.array([None])
    if given.dtype.kind in "fiub" and given.ndim == 1:
        return given if len(given) else given.astype(np.float64)
    for document, score in zip(documents, scores, strict=True):
        if not isinstance(score, int | float | np.integer | np.floating) or abs(score) > _LARGEST:
            kind = type(score).__name__
            raise InputError(f"document {document} has the score {str(score)[:40]} ({kind}): a finite number is needed")
    return np.array([float(score) for score in scores])


def _without_ties(documents: Sequence[str], scores: Sequence[float]) -> list[tuple[str, float]]:
    """Lower each score that is not below the one before; float32 in and out."""
    lowered, last = [], np.inf
    for score in scores:
        last = score if score < last else float(np.nextafter(np.float32(last), np.float32(-np.inf)))
        lowered.append(last)
    if lowered and lowered[-1] == -np.inf:  # there is no room below the least of float32: raise those before
        least = -_LARGEST
        for place in reversed(range(len(lowered))):
            lowered[place] = max(lowered[place], least)
            least = float(np.nextafter(np.float32(lowered[place]), np.float32(np.inf)))
    return list(zip(documents, lowered, strict=True))


def write_run(path: str | Path, run: Run) -> int:
    """Write a run file, complete or not at all, queries in the run's order, documents as `rank` puts them.

    Returns:
        How many ids (the tag is one) hold white space, so that the file is percent-encoded, see
        `lightretriever.text.ids`.

    Raises:
        InputError: an id or the tag is empty, or no text that a file can hold.
    """
    ids = set(run.scores).union(*run.scores.values())
    for name in ids:
        check_id(name, "id", "the run")
    spaced = sum(map(separates, (*ids, check_id(run.tag, "tag", "the run"))))
    word, mark = (encode_id, RUN_MARK) if spaced else (str, "Q0")
    tag = word(run.tag)
    with new_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        for query, scores in run.scores.items():
            start = f"{word(query)} {mark}"
            for place, (document, score) in enumerate(rank(scores), 1):
                file.write(f"{start} {word(document)} {place} {np.float32(score)!s} {tag}\n")
    return spaced


def read_run(path: str | Path) -> Run:
    """Read a run file (plain or compressed); the scores order it, ranks must be integers and say nothing.

    Raises:
        InputError: no such file, or a line that is none of a run; it names file and line.
    """
    scores: dict[str, dict[str, float]] = {}
    tag = ""
    for number, line in read_lines(path):
        fields = split_columns(line)
        if not fields:
            continue
        where = f"{path}:{number}"
        if len(fields) != 6:
            raise InputError(f"{where}: {len(fields)} columns, a run has 6: query, Q0, document, rank, score, tag")
        query, mark, document, place, score, tag = fields
        if not _RANK.fullmatch(place):
            raise InputError(
                f"{where}: the rank {place[:40]!r} is not an integer: are rank and score in each other's column?"
            )
        if mark == RUN_MARK:
            query, document, tag = (decode_id(name, where) for name in (query, document, tag))
        found = scores.setdefault(check_id(query, "query id", where), {})
        if check_id(document, "document id", where) in found:
            raise InputError(f"{where}: document {document} is there twice for query {query}")
        found[document] = _score(where, score)
    return Run(scores, tag) if scores else Run({})


def read_qrels(*paths: str | Path) -> dict[str, dict[str, int]]:
    """Read relevance judgements: BEIR's or TREC's lines, CSV, Parquet or JSON, plain or compressed.

    A header's names decide, not its order (see `lightretriever.text.judgements`). Grades are integers from
    `lightretriever.text.grades.LEAST` to ``MOST``.

    Args:
        paths: the file, or all that a split is cut into.

    Returns:
        query id to (document id to relevance), in the files' order.

    Raises:
        InputError: no such file, nothing in it, or a row that is no judgement; it names file and line.
        MissingExtraError: Parquet without ``pyarrow``.
    """
    qrels: dict[str, dict[str, int]] = {}
    for found in (found for path in paths for found in read_judgements(path)):
        judged = qrels.setdefault(found.query, {})
        if judged.setdefault(found.document, found.grade) != found.grade:
            raise InputError(
                f"{found.where}: document {found.document} is judged twice for query {found.query}, differently "
                f"({judged[found.document]} and {found.grade})"
            )
    if not qrels:
        raise InputError(f"{', '.join(map(str, paths))} holds no judgements")
    return qrels


def write_qrels(path: str | Path, qrels: Mapping[str, Mapping[str, int]]) -> None:
    """Write relevance judgements, complete or not at all: a name ending in .tsv gets BEIR's format, else TREC's.

    TREC's is percent-encoded where an id holds white space, as `write_run` does it, so that the two fit each other.

    Raises:
        InputError: an id is empty or no text, or a grade is none; for BEIR's format also an id that begins or ends
            with white space, or holds any but spaces.
    """
    ids = set(qrels).union(*qrels.values())
    for name in ids:
        check_id(name, "id", "the qrels")
    beir = Path(path).suffix == ".tsv"
    if beir and (unfit := next(filter(_not_for_tabs, ids), None)) is not None:
        raise InputError(
            f"the id {unfit[:80]!r} does not fit between tabs: write it in TREC's format (no name in .tsv)"
        )
    encoded = not beir and any_separates(ids)
    word = encode_id if encoded else str
    first, last = ("\t", "\t") if beir else (f" {TREC_MARK if encoded else 0} ", " ")
    with new_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        if beir:
            file.write(f"{BEIR_HEADER}\n")
        for query, judged in qrels.items():
            for document, relevance in judged.items():
                grade = as_grade(relevance, f"query {query}, document {document}")
                file.write(f"{word(query)}{first}{word(document)}{last}{grade}\n")


def _not_for_tabs(text: str) -> bool:
    return text.strip() != text or any(c.isspace() and unicodedata.category(c) != "Zs" for c in text)


def _score(where: str, text: str) -> float:
    try:
        with np.errstate(over="ignore"):
            value = float(np.float32(float(text)))  # the digits name a float32, as trec_eval reads them
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or "_" in text or not text.isascii():  # which Python's float() passes over
        raise InputError(f"{where}: the score {text[:40]!r} is not a finite number")
    return value
