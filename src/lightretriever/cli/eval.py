"""``eval``: measures of a run file, or of an index on a test collection, against the full model if wanted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lightretriever.cli.console import format_table, phases, say
from lightretriever.cli.options import Base, Device, Split
from lightretriever.errors import UsageError

if TYPE_CHECKING:
    from lightretriever.evaluation.compare import Comparison
    from lightretriever.evaluation.measures import Evaluation

EXAMPLE = "lightretriever eval scifact.index --data scifact --split test --against symmetric"
MEASURES = "nDCG@10 R@100 RR@10"


def command(
    subject: Annotated[Path, typer.Argument(metavar="RUN|INDEX", help="A run file, or an index folder.")],
    qrels: Annotated[Path | None, typer.Option(metavar="FILE", help="Judgements, to measure a run file by.")] = None,
    measures: Annotated[str, typer.Option(metavar="NAMES", help="As ir-measures spells them, in quotes.")] = MEASURES,
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="A BEIR folder, to measure an index on.")] = None,
    split: Split = "test",
    against: Annotated[
        str | None, typer.Option(metavar="symmetric", help="Also measure queries encoded by the full model.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="The full model; the index's own if not given.")
    ] = None,
    base: Base = None,
    device: Device = "auto",
    k: Annotated[int, typer.Option("-k", metavar="N", help="Hits a query.")] = 1000,
    as_json: Annotated[bool, typer.Option("--json", help="JSON, with every query's values.")] = False,
) -> None:
    """Measure a run against qrels, or every mode of an index on a test collection.

    A query without hits counts zero. With --against symmetric each look-up mode also shows the share that it keeps
    of the full model's value.
    """
    names = measures.replace(",", " ").split()
    if not names:
        raise UsageError("--measures is empty: name some, as in --measures 'nDCG@10 R@100'")
    if against not in (None, "symmetric"):
        raise UsageError(f"--against {against}: only symmetric is known")
    if (qrels is None) == (data is None):
        raise UsageError("give --qrels FILE to measure a run file, or --data DIR to measure an index")
    if (qrels is not None) != subject.is_file() and subject.exists():
        raise UsageError(
            f"{subject} is an index: measure it with --data DIR"
            if qrels
            else f"{subject} is a run: measure it with --qrels"
        )
    if qrels is not None:
        from lightretriever.evaluation.measures import evaluate

        evaluations = {subject.name: evaluate(subject, qrels, names)}
        _show(names, evaluations, None, as_json)
        return
    assert data is not None
    comparison = _compare(subject, data, split, against is not None, model, base, device, names, k)
    _show(names, comparison.evaluations, comparison, as_json)


def _compare(
    path: Path,
    data: Path,
    split: str,
    symmetric: bool,
    model: str | None,
    base: str | None,
    device: str,
    measures: list[str],
    k: int,
) -> Comparison:
    from lightretriever.evaluation.collection import read_collection
    from lightretriever.evaluation.compare import compare
    from lightretriever.index.index import Index

    collection = read_collection(data, split)
    if collection.textless:
        say(f"warning: {collection.textless} judged queries have no text in {data} and count zero")
    with Index.open(path) as index, phases("queries") as report:
        tower = None
        if symmetric:
            from lightretriever.cli.towers import load_tower_of

            tower = load_tower_of(index.manifest, model, base, device, sparse="none")

        return compare(index, collection, tower, measures, k, report)


def _show(
    names: list[str], evaluations: Mapping[str, Evaluation], comparison: Comparison | None, as_json: bool
) -> None:
    if as_json:
        found = {
            system: {"means": dict(result.means), "per_query": dict(result.per_query), "queries": result.queries}
            for system, result in evaluations.items()
        }
        print(json.dumps(found, ensure_ascii=False))
    else:
        rows = []
        for system, result in evaluations.items():
            cells = [system]
            for name in names:
                kept = comparison.retention(system, name) if comparison else None
                cells.append(f"{result.means[name]:.4f}" + (f" ({kept:.1%})" if kept is not None else ""))
            rows.append(cells)
        print(format_table(["", *names], rows))
    remarks = dict.fromkeys(line for result in evaluations.values() for line in result.warnings)
    for line in remarks:
        say(f"warning: {line}")
