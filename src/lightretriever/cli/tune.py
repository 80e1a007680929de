"""``tune``: the fusion of an index learned on development queries, and stored in it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from lightretriever.cli.console import format_table, phases, say
from lightretriever.cli.options import IndexArgument, Split
from lightretriever.errors import UsageError

EXAMPLE = "lightretriever tune scifact.index --data scifact --split train"


def command(
    index: IndexArgument,
    data: Annotated[Path, typer.Option(metavar="DIR", help="A BEIR folder over the index's documents.")],
    split: Split = "dev",
    folds: Annotated[int, typer.Option(metavar="K", help="Parts of the queries, each measured unseen.")] = 5,
    queries: Annotated[int, typer.Option(min=1, metavar="N", help="Use at most so many queries.")] = 2000,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Compare only, store nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON.")] = False,
) -> None:
    """Learn how an index weighs its dense and its sparse list, on judged queries, and store it.

    Compared by nDCG@10 on queries that were not learned on: the fixed weights 0.7/0.3 and 0.5/0.5, one learned
    weight, and a weight for every query by a small network that looks at its two lists. What is learned stays only
    where it is better. Leave the queries that you measure on out: use another split.
    """
    from lightretriever.evaluation.collection import read_collection
    from lightretriever.evaluation.tune import tune
    from lightretriever.index.index import Index

    if split == "test":
        raise UsageError("--split test: what is tuned on the test queries cannot be measured on them: name another")
    collection = read_collection(data, split)
    if collection.textless:
        say(f"warning: {collection.textless} judged queries have no text in {data} and are left out")
    with Index.open(index) as opened, phases("queries") as report:
        found = tune(opened, collection, folds, queries, progress=report("queries"))
        if not dry_run:
            opened.set_fusion(found.fusion)
    if as_json:
        described = {**asdict(found), "fusion": found.fusion.describe()}
        print(json.dumps(described, ensure_ascii=False))
    else:
        rows = [[way, f"{value:.4f}", "chosen" if way == found.chosen else ""] for way, value in found.means.items()]
        print(format_table(["weights", "nDCG@10", ""], rows))
    say(f"{found.queries} queries in {found.folds} folds; {found.unanswered} more have no judged hit")
    if found.fusion.weigher is None:
        say(f"weights {found.fusion.dense:g} dense, {found.fusion.sparse:g} sparse" + _kept(dry_run))
    else:
        say("weights by query" + _kept(dry_run))


def _kept(dry_run: bool) -> str:
    return ", not stored" if dry_run else ", stored in the index: searches use them from here on"
