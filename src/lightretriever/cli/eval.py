"""``eval``: measures of a run file, or of an index on a test collection, against the full model and BM25 if wanted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lightretriever.cli.console import format_table, phases, progress, refuse_existing, say
from lightretriever.cli.options import Base, Device, Split
from lightretriever.errors import UsageError

if TYPE_CHECKING:
    from lightretriever.evaluation.collection import Collection
    from lightretriever.evaluation.compare import Comparison
    from lightretriever.evaluation.diagnosis import Diagnosis
    from lightretriever.evaluation.measures import Evaluation
    from lightretriever.index.index import Index

EXAMPLE = "lightretriever eval scifact.index --data scifact --split test --against symmetric,bm25"
MEASURES = "nDCG@10 R@100 R@1000 RR@10"
BASELINES = ("symmetric", "bm25")


def command(
    subject: Annotated[Path, typer.Argument(metavar="RUN|INDEX", help="A run file, or an index folder.")],
    qrels: Annotated[Path | None, typer.Option(metavar="FILE", help="Judgements, to measure a run file by.")] = None,
    measures: Annotated[str, typer.Option(metavar="NAMES", help="As ir-measures spells them, in quotes.")] = MEASURES,
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="A BEIR folder, to measure an index on.")] = None,
    split: Split = "test",
    against: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES", help="symmetric (queries encoded by the full model), bm25, or both: with a comma."
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="The full model; the index's own if not given.")
    ] = None,
    base: Base = None,
    device: Device = "auto",
    k: Annotated[int, typer.Option("-k", min=1, metavar="N", help="Hits a query.")] = 1000,
    ignore_own_ids: Annotated[
        bool, typer.Option("--ignore-own-ids", help="Leave out hits whose id is the query's: queries are documents.")
    ] = False,
    diagnose: Annotated[
        bool,
        typer.Option("--diagnose", help="Also which arm wins on which queries, both arms' scores, and the domain."),
    ] = False,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="DIR", help="Write results, TREC runs and plots there.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON, with every query's values.")] = False,
) -> None:
    """Measure a run against qrels, or every mode of an index on a test collection.

    A query without hits counts zero. With --against symmetric each look-up mode also shows the share that it keeps
    of the full model's value. Pairs of systems are tested, by randomisation and by Student's t.
    """
    names = measures.replace(",", " ").split()
    if not names:
        raise UsageError("--measures is empty: name some, as in --measures 'nDCG@10 R@100'")
    baselines = (against or "").replace(",", " ").split()
    if unknown := [name for name in baselines if name not in BASELINES]:
        raise UsageError(f"--against {unknown[0]}: only {' and '.join(BASELINES)} are known")
    if (qrels is None) == (data is None):
        raise UsageError("give --qrels FILE to measure a run file, or --data DIR to measure an index")
    if (qrels is not None) != subject.is_file() and subject.exists():
        raise UsageError(
            f"{subject} is an index: measure it with --data DIR"
            if qrels
            else f"{subject} is a run: measure it with --qrels"
        )
    if qrels is not None:
        if output is not None:
            raise UsageError("--output is for an index measured with --data: a run's values go to standard output")
        from lightretriever.evaluation.measures import evaluate

        _show_run(subject.name, evaluate(subject, qrels, names), names, as_json)
        return
    assert data is not None
    if output is not None:
        refuse_existing(output)
        from lightretriever.evaluation.plot import need_matplotlib

        need_matplotlib()
    from lightretriever.evaluation.collection import read_collection
    from lightretriever.index.index import Index

    collection = read_collection(data, split)
    if collection.textless:
        say(f"warning: {collection.textless} judged queries have no text in {data} and count zero")
    with Index.open(subject) as index:
        comparison = _compare(index, collection, baselines, model, base, device, names, k, ignore_own_ids)
        settings = _settings(index, collection, k, ignore_own_ids)
        diagnosis = _diagnose(index, collection, comparison) if diagnose else None
    _show(comparison, settings, diagnosis, output, as_json)


def _compare(
    index: Index,
    collection: Collection,
    baselines: list[str],
    model: str | None,
    base: str | None,
    device: str,
    measures: list[str],
    k: int,
    ignore_own_ids: bool,
) -> Comparison:
    from lightretriever.evaluation.compare import compare

    if "bm25" in baselines and index.manifest.sparse == "bm25":
        say(f"{index.path}: its sparse side is BM25 already, which the line sparse shows")
    tower = None
    with phases("queries") as report:
        if "symmetric" in baselines:
            from lightretriever.cli.towers import load_tower_of

            tower = load_tower_of(index.manifest, model, base, device, sparse="none")
        return compare(
            index,
            collection,
            tower,
            measures,
            k,
            report,
            bm25="bm25" in baselines,
            ignore_own_ids=ignore_own_ids,
        )


def _diagnose(index: Index, collection: Collection, comparison: Comparison) -> Diagnosis:
    from lightretriever.evaluation.diagnosis import diagnose

    with progress("counting tokens", "documents") as report:
        return diagnose(index, collection, comparison, report)


def _settings(index: Index, collection: Collection, k: int, ignore_own_ids: bool) -> dict[str, object]:
    from lightretriever import __version__

    fusion = index.fusion
    return {
        "collection": collection.path.name,
        "split": collection.split,
        "queries judged": len(collection.qrels),
        "documents": index.count,
        "document model": f"{index.manifest.model or 'unknown'} ({index.manifest.revision or 'revision unknown'})",
        "table": index.encoder.table.hash,
        "sparse side": index.manifest.sparse,
        "fusion": f"{fusion.method}, {fusion.dense:g} dense, {fusion.sparse:g} sparse",
        "hits a query": k,
        "own ids ignored": ignore_own_ids,
        "lightretriever": __version__,
    }


def _show_run(name: str, found: Evaluation, measures: list[str], as_json: bool) -> None:
    if as_json:
        values = {"means": dict(found.means), "per_query": dict(found.per_query), "queries": found.queries}
        print(json.dumps({name: values}, ensure_ascii=False))
    else:
        print(format_table(["", *measures], [[name, *(f"{found.means[measure]:.4f}" for measure in measures)]]))
    _warn({name: found})


def _show(
    comparison: Comparison,
    settings: Mapping[str, object],
    diagnosis: Diagnosis | None,
    output: Path | None,
    as_json: bool,
) -> None:
    from lightretriever.evaluation.diagnosis_text import markdown_lines, short_lines
    from lightretriever.evaluation.results import PAIR_HEADER, compare_pairs, pair_rows, system_rows, systems_json

    pairs = compare_pairs(comparison)
    if output is not None:
        from lightretriever.evaluation.results import write_results

        title = f"{settings['collection']}, {settings['split']}"
        told = (diagnosis.to_json(), markdown_lines(diagnosis)) if diagnosis is not None else (None, ())
        write_results(output, title, comparison, pairs, settings, *told)
        say(f"{output}: results.md, results.json, {len(comparison.runs)} runs, plots")
    if as_json:
        found: dict[str, object] = {**systems_json(comparison, pairs)}
        if diagnosis is not None:
            found["diagnosis"] = diagnosis.to_json()
        print(json.dumps(found, ensure_ascii=False))
    else:
        print(format_table(["", *comparison.measures], system_rows(comparison)))
        if pairs:
            print()
            print(format_table(PAIR_HEADER, pair_rows(pairs, comparison.measures[:1])))
        if diagnosis is not None:
            print()
            print("\n".join(short_lines(diagnosis)))
    _warn(comparison.evaluations)


def _warn(evaluations: Mapping[str, Evaluation]) -> None:
    for line in dict.fromkeys(line for found in evaluations.values() for line in found.warnings):
        say(f"warning: {line}")
