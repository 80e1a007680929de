"""``tune``: the fusion of an index learned on development queries, and stored in it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from lightretriever.cli.console import format_table, phases, print_json, say
from lightretriever.cli.measure import warn_doubled
from lightretriever.cli.options import AsJson, Filter, IndexArgument
from lightretriever.counted import counted
from lightretriever.errors import UsageError

EXAMPLE = "lightretriever tune scifact.index --data scifact --split train"


def command(
    index: IndexArgument,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A BEIR folder over the index's documents, to learn from.")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Which qrels/NAME.tsv: dev; test with --cross-validate.", show_default=False),
    ] = None,
    cross_validate: Annotated[
        bool,
        typer.Option("--cross-validate", help="There are no other judged queries: choose on those to be measured."),
    ] = False,
    folds: Annotated[int, typer.Option(metavar="K", help="Parts of the queries, each measured unseen.")] = 5,
    queries: Annotated[int, typer.Option(min=1, metavar="N", help="Use at most so many queries.")] = 2000,
    filter: Filter = None,
    weight: Annotated[
        float | None, typer.Option(metavar="W", help="Learn nothing: W dense and 1 - W sparse for every query.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Compare only, store nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Choose how an index weighs its dense and its sparse list, and store it.

    With --data it is learned on judged queries. Compared by nDCG@10 on queries that were not learned on: the fixed
    weights 0.7/0.3 and 0.5/0.5, one learned weight, and a weight for every query by a small network that looks at its
    two lists. What is learned stays only where it is better. Leave the queries that you measure on out: use another
    split.

    --cross-validate takes the test split where there is no other. The nDCG@10 shown here is of queries not learned on,
    so it is the one to report: eval on the same queries shows more. The index keeps that it was chosen so.

    Without --data every query gets a weight from the network that comes with the package; --weight 0.7 goes back to
    what a new index has. Both change the index too.
    """
    from lightretriever.evaluation.collection import read_collection
    from lightretriever.evaluation.tune import tune, unlearned
    from lightretriever.index.filter.language import read_filter
    from lightretriever.index.index import Index

    conditions = None if filter is None else read_filter(filter)
    if data is None and filter is not None:
        raise UsageError("--filter says which documents the judged queries may find: it needs --data")
    if data is not None and weight is not None:
        raise UsageError("--weight takes the place of learning from --data: give one of them")
    if data is None and cross_validate:
        raise UsageError("--cross-validate chooses on judged queries: it needs --data")
    split = split or ("test" if cross_validate else "dev")
    if data is not None and not cross_validate:
        _check_split(data, split)
    if weight is not None and not 0 <= weight <= 1:
        raise UsageError(f"--weight {weight:g}: it must be from 0 to 1")
    collection = read_collection(data, split) if data is not None else None
    if collection is not None:
        warn_doubled(collection)
        if collection.textless:
            say(f"warning: {counted(collection.textless, 'queries')} judged but without text in {data}, left out")
    with Index.open(index) as opened, phases("queries") as report:
        before = opened.fusion
        found = None
        if collection is not None:
            shown = report("queries")
            found = tune(opened, collection, folds, queries, 0, shown, conditions, measured_too=cross_validate)
            fusion = found.fusion
        else:
            fusion = unlearned(opened, weight)
        if not dry_run:
            opened.set_fusion(fusion)
    if as_json:
        compared = {} if found is None else asdict(found)
        facts = {"fusion": fusion.describe(), "before": before.describe(), "stored": not dry_run}
        print_json({**compared, **facts})
    elif found is not None:
        rows = [[way, f"{value:.4f}", "chosen" if way == found.chosen else ""] for way, value in found.means.items()]
        print(format_table(["weights", "nDCG@10", ""], rows))
    if found is not None:
        more = f"; {found.unanswered:,} more without a judged hit" if found.unanswered else ""
        say(f"{counted(found.queries, 'queries')} in {counted(found.folds, 'folds')}{more}")
    if found is not None and cross_validate:
        best = found.means[found.chosen]
        say(
            f"warning: chosen by cross-validation on {fusion.judged}: report {best:.4f}, of queries not learned on; "
            "eval there shows more"
        )
    then, now = (f"{one.weights} ({one.chosen})" for one in (before, fusion))
    if then == now:
        say(f"{index} is as before: weights {now}")
    elif dry_run:
        say(f"{index} is not changed: it has {then}")
        say(f"without --dry-run: {now}")
    else:
        say(f"{index} is changed: weights {now}")
        say(f"before: {then}")


def _check_split(data: Path, split: str) -> None:
    """Raises UsageError for the split that is to be measured on, and where there is no other."""
    from lightretriever.text.beir import qrel_files

    if split == "test":
        raise UsageError(
            "--split test: what is tuned on the test queries cannot be measured on them: name another, or "
            "--cross-validate"
        )
    if list(qrel_files(data)) == ["test"]:
        raise UsageError(
            f"{data} has no split {split!r}, only test: --cross-validate chooses on it, and has the index say so"
        )
