"""What a run is worth: the field's measures, computed by ``ir-measures``, a query without hits counting zero."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any

from lightretriever.errors import InputError, MissingExtraError, UsageError
from lightretriever.text.trec import rank, read_qrels, read_run
from lightretriever.types import Run

MEASURES = ("nDCG@10", "R@100", "R@1000", "RR@10")

Qrels = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The measures of one run.

    Attributes:
        means: measure name to its mean over all queries of the qrels.
        per_query: measure name to (query id to value), every query of the qrels being there.
        queries: number of queries in the qrels.
        warnings: what was counted on the way: queries without hits, queries that nobody judged, judged documents
            that the collection lacks, queries with nothing relevant, a run of other documents. One line each.
    """

    means: Mapping[str, float]
    per_query: Mapping[str, Mapping[str, float]]
    queries: int
    warnings: tuple[str, ...] = ()


def evaluate(
    run: Run | str | Path,
    qrels: Qrels | str | Path,
    measures: Sequence[str] = MEASURES,
    documents: Container[str] | None = None,
) -> Evaluation:
    """Measure a run against relevance judgements.

    Documents are ordered by score as float32, ties as trec_eval orders them, so that a run in memory and the file
    written of it get the same values, here and from any other tool.

    Args:
        run: a Run, or the path of a run file.
        qrels: query id to (document id to relevance), or the path of a qrels file.
        measures: names as ``ir-measures`` spells them: "nDCG@10", "R@1000", "RR@10", "AP", "P@5" …
        documents: ids of the collection; judged documents outside it are counted in a warning.

    Raises:
        InputError: a file that cannot be read, empty qrels, or a run that answers none of the qrels' queries.
        UsageError: an unknown measure, or one that needs a tool that is not installed.
        MissingExtraError: ``ir-measures`` is not installed.
    """
    parsed = check_measures(measures)
    found = run if isinstance(run, Run) else read_run(run)
    judged = qrels if isinstance(qrels, Mapping) else read_qrels(qrels)
    if not judged:
        raise InputError("the qrels are empty: there is nothing to measure against")
    scores = {query: dict(rank(found.scores[query])) for query in judged if found.scores.get(query)}
    if found.scores and not scores and any(found.scores.values()):
        raise InputError(
            f"the run answers none of the qrels' {len(judged)} queries (the run has {_some(found.scores)}, "
            f"the qrels have {_some(judged)}): are they of the same collection and split?"
        )
    per_query = {name: dict.fromkeys(judged, 0.0) for name in measures}
    import ir_measures

    names = {measure: name for name, measure in parsed.items()}
    plain = {query: dict(relevances) for query, relevances in judged.items()}
    try:
        for metric in ir_measures.iter_calc(list(names), plain, scores):
            per_query[names[metric.measure]][metric.query_id] = float(metric.value)
    except (RuntimeError, ValueError, CalledProcessError) as error:  # a measure whose own tool is missing
        reason = str(error).splitlines()[0]
        raise UsageError(f"{', '.join(measures)} cannot be computed on this machine ({reason})") from None
    return Evaluation(
        means={name: sum(values.values()) / len(judged) for name, values in per_query.items()},
        per_query=per_query,
        queries=len(judged),
        warnings=_warnings(found, judged, documents),
    )


def check_measures(measures: Sequence[str]) -> dict[str, Any]:
    """What ``ir-measures`` makes of each name; to find out what is wrong with them before any work.

    Raises:
        UsageError: an unknown measure.
        MissingExtraError: ``ir-measures`` is not installed.
    """
    try:
        import ir_measures
    except ImportError:
        raise MissingExtraError("evaluation", "eval") from None
    return {name: _parse(ir_measures, name) for name in measures}


def _parse(ir_measures: Any, name: str) -> Any:
    try:
        measure = ir_measures.parse_measure(name)
        measure.validate_params()
    except (NameError, ValueError, TypeError, KeyError, AssertionError) as error:
        raise UsageError(f"unknown measure {name!r} ({error}): nDCG@10, R@100, RR@10, AP are some") from None
    cutoff = measure.params.get("cutoff", 1)
    if not isinstance(cutoff, int) or cutoff < 1:  # trec_eval's own code crashes at these
        raise UsageError(f"the measure {name!r} is cut off at {cutoff}: a positive integer is needed")
    return measure


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
        warnings.append(f"{unjudged} queries of the run are not in the qrels and are left out")
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
