"""``tune``: the fusion of an index learned on development queries, and stored in it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from lightretriever.cli.console import format_table, phases, print_json, say
from lightretriever.cli.options import Filter, IndexArgument, Split
from lightretriever.errors import UsageError

EXAMPLE = "lightretriever tune scifact.index --data scifact --split train"


def command(
    index: IndexArgument,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A BEIR folder over the index's documents, to learn from.")
    ] = None,
    split: Split = "dev",
    folds: Annotated[int, typer.Option(metavar="K", help="Parts of the queries, each measured unseen.")] = 5,
    queries: Annotated[int, typer.Option(min=1, metavar="N", help="Use at most so many queries.")] = 2000,
    filter: Filter = None,
    weight: Annotated[
        float | None, typer.Option(metavar="W", help="Learn nothing: W dense and 1 - W sparse for every query.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Compare only, store nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON.")] = False,
) -> None:
    """Choose how an index weighs its dense and its sparse list, and store it.

    With --data it is learned on judged queries. Compared by nDCG@10 on queries that were not learned on: the fixed
    weights 0.7/0.3 and 0.5/0.5, one learned weight, and a weight for every query by a small network that looks at its
    two lists. What is learned stays only where it is better. Leave the queries that you measure on out: use another
    split. Without --data every query gets a weight from the network that comes with the package; --weight 0.7 goes
    back to what a new index has.
    """
    from lightretriever.evaluation.collection import read_collection
    from lightretriever.evaluation.tune import tune, unlearned
    from lightretriever.index.filter import read_filter
    from lightretriever.index.index import Index

    conditions = None if filter is None else read_filter(filter)
    if data is None and filter is not None:
        raise UsageError("--filter says which documents the judged queries may find: it needs --data")
    if data is not None and weight is not None:
        raise UsageError("--weight takes the place of learning from --data: give one of them")
    if data is not None and split == "test":
        raise UsageError("--split test: what is tuned on the test queries cannot be measured on them: name another")
    if weight is not None and not 0 <= weight <= 1:
        raise UsageError(f"--weight {weight:g}: it must be from 0 to 1")
    collection = read_collection(data, split) if data is not None else None
    if collection is not None and collection.textless:
        say(f"warning: {collection.textless} judged queries have no text in {data} and are left out")
    with Index.open(index) as opened, phases("queries") as report:
        found = None
        if collection is not None:
            found = tune(opened, collection, folds, queries, progress=report("queries"), filter=conditions)
            fusion = found.fusion
        else:
            fusion = unlearned(opened, weight)
        if not dry_run:
            opened.set_fusion(fusion)
    if as_json:
        compared = {} if found is None else asdict(found)
        print_json({**compared, "fusion": fusion.describe()})
    elif found is not None:
        rows = [[way, f"{value:.4f}", "chosen" if way == found.chosen else ""] for way, value in found.means.items()]
        print(format_table(["weights", "nDCG@10", ""], rows))
    if found is not None:
        say(f"{found.queries} queries in {found.folds} folds; {found.unanswered} more have no judged hit")
    weights = f"{fusion.dense:g} dense, {fusion.sparse:g} sparse" if fusion.weigher is None else "by query"
    say(f"weights {weights}" + _kept(dry_run))


def _kept(dry_run: bool) -> str:
    return ", not stored" if dry_run else ", stored in the index: searches use them from here on"
