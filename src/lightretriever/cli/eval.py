"""``eval``: measures of a run file, of an index on a test collection, or of a model and a table on many."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lightretriever.cli.console import format_table, print_json
from lightretriever.cli.measure import Asked, measure_index, show_measured, warn, write_measured
from lightretriever.cli.options import AsJson, Base, Device, Filter, Split
from lightretriever.cli.output import check_folder, check_place
from lightretriever.errors import UsageError

EXAMPLE = "lightretriever eval scifact.index --data scifact --split test --against symmetric,bm25"
MEASURES = "nDCG@10 R@100 RR@10"


def command(
    subject: Annotated[
        Path | None, typer.Argument(metavar="RUN|INDEX", help="A run file, or an index folder.", show_default=False)
    ] = None,
    qrels: Annotated[Path | None, typer.Option(metavar="FILE", help="Judgements, to measure a run file by.")] = None,
    measures: Annotated[str, typer.Option(metavar="NAMES", help="As ir-measures spells them, in quotes.")] = MEASURES,
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="A BEIR folder, to measure an index on.")] = None,
    split: Split = "test",
    against: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES", help="symmetric (queries encoded by the full model), bm25, or both: symmetric,bm25."
        ),
    ] = None,
    diagnose: Annotated[
        bool,
        typer.Option("--diagnose", help="Also which arm wins on which queries, both arms' scores, and the domain."),
    ] = False,
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="The full model; the index's own if not given.")
    ] = None,
    base: Base = None,
    device: Device = "auto",
    k: Annotated[
        int | None, typer.Option("-k", metavar="N", help="Hits a query; as many as the measures look at.")
    ] = None,
    ignore_own_ids: Annotated[
        bool, typer.Option("--ignore-own-ids", help="Leave out hits whose id is the query's: queries are documents.")
    ] = False,
    filter: Filter = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="DIR", help="Write results, TREC runs and plots there.")
    ] = None,
    suite: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="A folder of BEIR folders: index each with --model, --table; no INDEX."),
    ] = None,
    table: Annotated[Path | None, typer.Option(metavar="TABLE", help="With --suite: the token table.")] = None,
    work: Annotated[
        Path | None, typer.Option(metavar="DIR", help="With --suite: keep indexes and results there; resumable.")
    ] = None,
    sparse: Annotated[
        str | None, typer.Option(metavar="lm|bm25|none", help="With --suite: as for index.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure a run against qrels, every mode of an index on a test collection, or a suite of collections.

    A query without hits counts zero. With --against symmetric each look-up mode also shows the share that it keeps
    of the full model's value. Pairs of systems are tested, by randomisation and by Student's t.
    """
    from lightretriever.index.filter.language import parse_filter, read_filter

    conditions = None if filter is None else read_filter(filter)
    parse_filter(conditions)
    asked = Asked.of(measures, against, k, ignore_own_ids, diagnose, conditions)
    if suite is not None:
        if subject is not None or qrels is not None or data is not None:
            raise UsageError("--suite makes its own indexes: leave INDEX, --data and --qrels out")
        if model is None or table is None or work is None:
            raise UsageError("--suite needs --model MODEL, --table TABLE, and --work DIR to keep the indexes in")
    elif subject is None:
        raise UsageError("name a run file with --qrels, an index with --data, or a --suite of collections")
    elif table is not None or work is not None or sparse is not None:
        raise UsageError("--table, --work and --sparse are for a --suite: an index has its own")
    elif (qrels is None) == (data is None):
        raise UsageError("give --qrels FILE to measure a run file, or --data DIR to measure an index")
    elif (qrels is not None) != subject.is_file() and subject.exists():
        raise UsageError(
            f"{subject} is an index: measure it with --data DIR"
            if qrels
            else f"{subject} is a run: measure it with --qrels"
        )
    if qrels is not None:
        if output is not None or diagnose or filter is not None:
            raise UsageError(
                "--output, --diagnose and --filter are for an index measured with --data: a run has one arm's hits"
            )
        assert subject is not None
        _measure_run(subject, qrels, asked.measures, as_json)
        return
    if output is not None or suite is not None:
        if output is not None:
            check_folder(output)
        from lightretriever.evaluation.plot import need_matplotlib

        need_matplotlib()
    if suite is not None:
        assert model is not None and table is not None and work is not None
        from lightretriever.cli.suite import measure_suite

        check_place(work / "index")
        measure_suite(suite, work, model, table, asked, split, sparse, base, device, output, as_json)
        return
    assert subject is not None and data is not None
    _measure_index(subject, data, split, asked, model, base, device, output, as_json)


def _measure_run(path: Path, qrels: Path, measures: tuple[str, ...], as_json: bool) -> None:
    from lightretriever.evaluation.measures import evaluate

    found = evaluate(path, qrels, measures)
    if as_json:
        values = {"means": dict(found.means), "per_query": dict(found.per_query), "queries": found.queries}
        print_json({path.name: values})
    else:
        print(format_table(["", *measures], [[path.name, *(f"{found.means[name]:.4f}" for name in measures)]]))
    warn({path.name: found})


def _measure_index(
    path: Path,
    data: Path,
    split: str,
    asked: Asked,
    model: str | None,
    base: str | None,
    device: str,
    output: Path | None,
    as_json: bool,
) -> None:
    from lightretriever.evaluation.collection import read_collection
    from lightretriever.evaluation.compare import check_comparable
    from lightretriever.index.index import Index

    collection = read_collection(data, split)
    with Index.open(path) as index:
        tower = None
        if asked.symmetric:
            check_comparable(index, collection, asked.measures, asked.filter)
            from lightretriever.pipeline.towers import load_tower_of

            tower = load_tower_of(index.settings, model, base, device, sparse="none")
        found = measure_index(index, collection, asked, tower)
    if output is not None:
        write_measured(output, found)
    show_measured(found, as_json)
