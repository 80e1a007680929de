"""What ``eval`` does with one index and one collection, alone or as a part of a suite."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lightretriever.cli.console import format_table, phases, print_json, progress, say, wrapped
from lightretriever.counted import counted
from lightretriever.errors import UsageError

if TYPE_CHECKING:
    from lightretriever.document.encoder import DocumentEncoder
    from lightretriever.evaluation.collection import Collection
    from lightretriever.evaluation.compare import Comparison
    from lightretriever.evaluation.diagnosis import Diagnosis
    from lightretriever.evaluation.measures import Evaluation
    from lightretriever.evaluation.results import Pair
    from lightretriever.index.index import Index

BASELINES = ("symmetric", "bm25")


def check_depth(k: int) -> None:
    """Raises UsageError for a number of hits a query that no search can list."""
    from lightretriever.evaluation.measures import MOST_HITS

    if not 1 <= k <= MOST_HITS:
        raise UsageError(f"-k {k}: from 1 to {MOST_HITS:,} hits a query can be asked for")


@dataclass(frozen=True, slots=True)
class Asked:
    """What to measure.

    Attributes:
        measures: names.
        symmetric, bm25: the baselines.
        k: hits a query.
        ignore_own_ids: leave out hits of the query's id.
        diagnose: take the arms apart.
        filter: which documents may be found; None: all.
    """

    measures: tuple[str, ...]
    symmetric: bool
    bm25: bool
    k: int
    ignore_own_ids: bool
    diagnose: bool
    filter: Mapping[str, object] | None = None

    @staticmethod
    def of(
        measures: str,
        against: str | None,
        k: int | None,
        ignore_own_ids: bool,
        diagnose: bool,
        filter: Mapping[str, object] | None = None,
    ) -> Asked:
        """From the command line's words. Raises UsageError for none, or unknown ones, or ones not to be computed."""
        from lightretriever.evaluation.measures import check_measures, depth_of

        if k is not None:
            check_depth(k)
        names = tuple(dict.fromkeys(measures.replace(",", " ").split()))
        if not names:
            raise UsageError("--measures is empty: name some, as in --measures 'nDCG@10 R@100'")
        parsed = check_measures(names)
        baselines = (against or "").replace(",", " ").split()
        if unknown := [name for name in baselines if name not in BASELINES]:
            raise UsageError(f"--against {unknown[0]}: only {' and '.join(BASELINES)} are known")
        k = depth_of(parsed) if k is None else k
        return Asked(names, "symmetric" in baselines, "bm25" in baselines, k, ignore_own_ids, diagnose, filter)


@dataclass(frozen=True, slots=True)
class Measured:
    """What was found, and with which settings."""

    title: str
    comparison: Comparison
    pairs: Sequence[Pair]
    settings: Mapping[str, object]
    diagnosis: Diagnosis | None


def warn_doubled(collection: Collection) -> None:
    """Say which queries' texts were passed over."""
    if collection.doubled:
        texts = counted(collection.doubled, "texts")
        say(f"warning: {texts} of judged queries passed over: a later one has the same id")


def warn_tuned(index: Index, collection: Collection) -> None:
    """Say that the fusion was learned on queries that are measured now, under whatever name of a split."""
    from lightretriever.evaluation.tune import count_tuned

    count, of = count_tuned(index.fusion, collection.queries.values()), len(collection.queries)
    if count:
        these = "these queries" if count == of else f"{count:,} of these {of:,} queries"
        say(f"warning: the fusion was tuned on {these}: hybrid looks better than it is")


def measure_index(index: Index, collection: Collection, asked: Asked, tower: DocumentEncoder | None) -> Measured:
    """Compare the systems, test the pairs, and diagnose if asked to; ``tower`` is the full model, if that is asked."""
    from lightretriever.evaluation.compare import compare
    from lightretriever.evaluation.results import compare_pairs

    if collection.textless:
        textless = counted(collection.textless, "queries")
        say(f"warning: {textless} judged but without text in {collection.path}, counted zero")
    warn_doubled(collection)
    warn_tuned(index, collection)
    if asked.bm25 and index.settings.sparse == "bm25":
        say("--against bm25: its sparse side is BM25 already, which the line sparse shows")
    with phases("queries") as report:
        comparison = compare(
            index,
            collection,
            tower,
            asked.measures,
            asked.k,
            report,
            bm25=asked.bm25,
            ignore_own_ids=asked.ignore_own_ids,
            filter=asked.filter,
        )
    diagnosis = None
    if asked.diagnose:
        from lightretriever.evaluation.diagnosis import diagnose

        with progress("counting tokens", "documents") as show:
            diagnosis = diagnose(index, collection, comparison, show)
    return Measured(
        collection.name, comparison, compare_pairs(comparison), _settings(index, collection, asked), diagnosis
    )


def _settings(index: Index, collection: Collection, asked: Asked) -> dict[str, object]:
    from lightretriever import __version__
    from lightretriever.text.values import safe_text

    fusion = index.fusion
    return {
        "collection": safe_text(collection.path.name),
        "split": collection.split,
        "queries judged": len(collection.qrels),
        "documents": index.count,
        "document model": f"{index.settings.model or 'unknown'} ({index.settings.revision or 'revision unknown'})",
        "table": index.encoder.table.hash,
        "sparse side": index.settings.sparse,
        "fusion": f"{fusion.method}, weights {fusion.weights} ({fusion.chosen})",
        "hits a query": asked.k,
        "own ids ignored": asked.ignore_own_ids,
        "filter": "none" if asked.filter is None else json.dumps(asked.filter, ensure_ascii=False),
        "lightretriever": __version__,
    }


def write_measured(path: Path, found: Measured) -> None:
    """Write the folder of results."""
    from lightretriever.evaluation.diagnosis_text import markdown_lines
    from lightretriever.evaluation.results import write_results

    as_json = None if found.diagnosis is None else found.diagnosis.to_json()
    lines = [] if found.diagnosis is None else markdown_lines(found.diagnosis)
    encoded = write_results(path, found.title, found.comparison, found.pairs, found.settings, as_json, lines)
    if encoded:
        say(f"{path}: ids in runs/ that hold white space are percent-encoded, a space as %20: eval reads them back")
    say(f"{path}: results.md, results.json, {counted(len(found.comparison.runs), 'runs')}, plots")


def show_measured(found: Measured, as_json: bool) -> None:
    """Print tables, or JSON."""
    from lightretriever.evaluation.diagnosis_text import short_lines
    from lightretriever.evaluation.results import system_rows, systems_json

    if as_json:
        values: dict[str, object] = {**systems_json(found.comparison, found.pairs)}
        if found.diagnosis is not None:
            values["diagnosis"] = found.diagnosis.to_json()
        print_json(values)
    else:
        measures = found.comparison.measures
        print(format_table(["", *measures], system_rows(found.comparison)))
        if found.pairs:
            print()
            print(_pairs(found.pairs, measures[0]))
        if found.diagnosis is not None:
            print()
            for line in short_lines(found.diagnosis):
                print("\n".join(wrapped(line, sys.stdout)))
    warn(found.comparison.evaluations)


def _pairs(pairs: Sequence[Pair], measure: str) -> str:
    """The pairs by one measure, which the first column's name tells, in little room."""
    from lightretriever.evaluation.results import PAIR_HEADER, pair_rows

    header = (f"by {measure}", *PAIR_HEADER[2:-2], "p random.", PAIR_HEADER[-1])
    return format_table(header, [[row[0], *row[2:]] for row in pair_rows(pairs, [measure])])


def warn(evaluations: Mapping[str, Evaluation]) -> None:
    """Say what was counted on the way, each thing once."""
    for line in dict.fromkeys(line for found in evaluations.values() for line in found.warnings):
        say(f"warning: {line}")
