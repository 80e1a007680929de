"""What a run is worth: the field's measures, computed by ``ir-measures``, a query without hits counting zero."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from os import PathLike
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any
from urllib.parse import unquote

from lightretriever.counted import counted
from lightretriever.errors import InputError, MissingExtraError, UsageError
from lightretriever.text.grades import LEAST, MOST, as_grade
from lightretriever.text.ids import check_id
from lightretriever.text.trec import rank, read_qrels, read_run
from lightretriever.types import Run

MEASURES = ("nDCG@10", "R@100", "RR@10")
DEEP = 1_000
"""Hits a query, for measures that have no cutoff."""
MOST_HITS = 1_000_000
"""No measure is cut off further down, and no search asks for more."""

Qrels = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The measures of one run.

    Attributes:
        means: measure name to its mean over all queries of the qrels.
        per_query: measure name to (query id to value), every query of the qrels being there.
        queries: number of queries in the qrels.
        warnings: what was counted on the way: queries without hits, queries that nobody judged, judged documents
            that the collection lacks, queries with nothing relevant, a run of other documents, a run whose ids are
            percent-encoded. One line each.
    """

    means: Mapping[str, float]
    per_query: Mapping[str, Mapping[str, float]]
    queries: int
    warnings: tuple[str, ...] = ()


def evaluate(
    run: Run | Mapping[str, Mapping[str, float]] | str | Path,
    qrels: Qrels | str | Path,
    measures: Sequence[str] | str = MEASURES,
    documents: Container[str] | None = None,
) -> Evaluation:
    """Measure a run against relevance judgements.

    Documents are ordered by score as float32, ties as trec_eval orders them, so that a run in memory and the file
    written of it get the same values, here and from any other tool.

    Args:
        run: a Run, or what it holds (query id to (document id to score)), or the path of a run file. An id in a file
            that the qrels lack, and have when ``%20`` and the like are read as what they encode, is read so.
        qrels: query id to (document id to relevance), or the path of a qrels file. Relevances are integers (NumPy's,
            whole floats and Decimals too) from -1000 to 1000; those below 1 count as not relevant.
        measures: names as ``ir-measures`` spells them: "nDCG@10", "R@1000", "RR@10", "AP", "P@5" …; or one string
            of them, with spaces between.
        documents: ids of the collection; judged documents outside it are counted in a warning.

    Raises:
        InputError: a file that cannot be read, empty qrels, an id, a relevance or a score that is none, or a run that
            answers none of the qrels' queries.
        UsageError: an unknown measure, or one that needs a tool that is not installed.
        MissingExtraError: ``ir-measures`` is not installed.
    """
    measures = measures.split() if isinstance(measures, str) else measures
    parsed = check_measures(measures)
    for what, given, number in (("run", run, "score"), ("qrels", qrels, "relevance")):
        if not isinstance(given, Run | Mapping | str | PathLike):
            kind = type(given).__name__
            raise InputError(f"the {what}: a {kind} was given: a path, or query id to (document id to {number})")
    run = Run(run) if isinstance(run, Mapping) else run
    judged = check_qrels(qrels) if isinstance(qrels, Mapping) else read_qrels(qrels)
    if not judged:
        raise InputError("the qrels are empty: there is nothing to measure against")
    found, decoded = (_checked_run(run), ()) if isinstance(run, Run) else _decoded(read_run(run), judged)
    scores = {query: _ranked(query, found.scores[query]) for query in judged if found.scores.get(query)}
    if found.scores and not scores and any(found.scores.values()):
        raise InputError(
            f"the run answers none of the qrels' {len(judged)} queries (the run has {_some(found.scores)}, "
            f"the qrels have {_some(judged)}): are they of the same collection and split?"
        )
    per_query = {name: dict.fromkeys(judged, 0.0) for name in measures}
    import ir_measures

    names = {measure: name for name, measure in parsed.items()}
    try:
        for metric in ir_measures.iter_calc(list(names), judged, scores):
            per_query[names[metric.measure]][metric.query_id] = float(metric.value)
    except _FAILURES as error:
        raise _not_computed(", ".join(measures), error) from None
    return Evaluation(
        means={name: sum(values.values()) / len(judged) for name, values in per_query.items()},
        per_query=per_query,
        queries=len(judged),
        warnings=(*_warnings(found, judged, documents), *decoded),
    )


def check_measures(measures: Sequence[str]) -> dict[str, Any]:
    """What ``ir-measures`` makes of each name; to find out what is wrong with them before any work.

    Raises:
        UsageError: an unknown measure, parameters that make no sense, or one whose own tool is not installed.
        MissingExtraError: ``ir-measures`` is not installed.
    """
    try:
        import ir_measures
    except ImportError:
        raise MissingExtraError("evaluation", "eval") from None
    return {name: _parse(ir_measures, name) for name in measures}


def depth_of(measures: Mapping[str, Any]) -> int:
    """How many hits of a query measures look at, of what `check_measures` gives; `DEEP` where one looks at all."""
    return max(int(measure.params.get("cutoff", DEEP)) for measure in measures.values())


def check_qrels(qrels: Qrels) -> dict[str, dict[str, int]]:
    """The qrels with plain integers, every id and relevance having been looked at.

    Raises:
        InputError: an id or a relevance that is none, see `evaluate`; it names query, document and value.
    """
    checked = {}
    for query, relevances in qrels.items():
        where = f"the qrels' query {check_id(query, 'query id', 'the qrels')}"
        if not isinstance(relevances, Mapping):
            raise InputError(f"{where} has a {type(relevances).__name__}: document id to relevance is needed")
        checked[query] = {
            check_id(name, "document id", where): value
            if type(value) is int and LEAST <= value <= MOST
            else as_grade(value, f"{where}, document {name}")
            for name, value in relevances.items()
        }
    return checked


_FAILURES = (RuntimeError, ValueError, TypeError, ArithmeticError, SystemError, OSError, CalledProcessError)


def _parse(ir_measures: Any, name: str) -> Any:
    try:
        measure = ir_measures.parse_measure(name)
        measure.validate_params()
    except (NameError, ValueError, TypeError, KeyError, AssertionError, RecursionError, SyntaxError) as error:
        raise UsageError(f"unknown measure {name!r} ({error}): nDCG@10, R@100, RR@10, AP are some") from None
    cutoff = measure.params.get("cutoff", 1)
    if not isinstance(cutoff, int) or not 1 <= cutoff <= MOST_HITS:  # trec_eval's own code crashes at some
        raise UsageError(f"the measure {name!r} is cut off at {cutoff}: an integer from 1 to {MOST_HITS:,} is needed")
    levels = [measure.params.get("rel", 1), *_gains(measure)]
    if not all(isinstance(level, int) and LEAST <= level <= MOST for level in levels):
        raise UsageError(f"the measure {name!r} has a relevance that lies outside {LEAST} to {MOST}")
    try:  # some have a tool of their own, which may not be there, and bounds that only it knows
        list(ir_measures.iter_calc([measure], {"1": {"a": 1, "b": 0}}, {"1": {"a": 1.0, "b": 0.5}}))
    except _FAILURES as error:
        raise _not_computed(repr(name), error) from None
    return measure


def _gains(measure: Any) -> Collection[object]:
    gains = measure.params.get("gains", {})
    return [*gains, *gains.values()] if isinstance(gains, dict) else [gains]


def _not_computed(name: str, error: BaseException) -> UsageError:
    reason = next(iter(str(error).splitlines()), "") or type(error).__name__
    return UsageError(f"{name} cannot be computed on this machine ({reason})")


def _checked_run(run: Run) -> Run:
    for query, scores in run.scores.items():
        if not isinstance(scores, Mapping):
            kind = type(scores).__name__
            raise InputError(f"the run's query {query!r} has a {kind}: document id to score is needed")
        check_id(query, "query id", "the run")
    for name in set[str]().union(*run.scores.values()):
        check_id(name, "document id", "the run")
    return run


def _ranked(query: str, scores: Mapping[str, float]) -> dict[str, float]:
    try:
        return dict(rank(scores))
    except InputError as error:
        raise InputError(f"the run's query {query}: {error}") from None


def _decoded(run: Run, qrels: Qrels) -> tuple[Run, tuple[str, ...]]:
    """The run under the qrels' ids, where those tell that its own are percent-encoded; and a line that says so."""
    queries = _read_as(run.scores, qrels)
    judged = {name for relevances in qrels.values() for name in relevances}
    documents = _read_as(set[str]().union(*run.scores.values()), judged)
    if not queries and not documents:
        return run, ()
    scores = {
        queries.get(query, query): {documents.get(name, name): score for name, score in found.items()}
        for query, found in run.scores.items()
    }
    count = len(queries) + len(documents)
    return Run(scores, run.tag), (
        f"{counted(count, 'ids')} of the run read percent-decoded (%20 a space), as the qrels have them",
    )


def _read_as(ids: Collection[str], known: Container[str]) -> dict[str, str]:
    """Which ids are not known, and are when decoded; none that would become another's."""
    read: dict[str, str] = {}
    taken = set(ids)
    for name in ids:
        if "%" in name and name not in known and (decoded := unquote(name)) in known and decoded not in taken:
            read[name] = decoded
            taken.add(decoded)
    return read


def _some(ids: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in islice(ids, 3))


def _warnings(run: Run, qrels: Qrels, documents: Container[str] | None) -> tuple[str, ...]:
    warnings = []
    unanswered = sum(not run.scores.get(query) for query in qrels)
    if unanswered:
        warnings.append(f"{unanswered} of {len(qrels)} queries have no hits and count zero")
    irrelevant = sum(not any(value > 0 for value in relevances.values()) for relevances in qrels.values())
    if irrelevant:
        warnings.append(f"{irrelevant} of {len(qrels)} queries have no document judged relevant and count zero")
    unjudged = sum(query not in qrels for query in run.scores)
    if unjudged:
        warnings.append(f"{counted(unjudged, 'queries')} of the run not in the qrels, left out")
    judged = {document for relevances in qrels.values() for document in relevances}
    listed = {document for query, scores in run.scores.items() if query in qrels for document in scores}
    if listed and listed.isdisjoint(judged):
        warnings.append(
            f"none of the {len(listed)} documents found is judged for any query ({_some(listed)}; judged are "
            f"{_some(judged)}): are they of the same collection?"
        )
    if documents is not None:
        unknown = sum(document not in documents for document in judged)
        if unknown:
            warnings.append(f"{unknown} of {len(judged)} judged documents are not in the collection")
    return tuple(warnings)
