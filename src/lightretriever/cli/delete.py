"""``delete``: documents out of an index."""

from __future__ import annotations

from typing import Annotated

import typer

from lightretriever.cli.console import say
from lightretriever.cli.inputs import read_ids
from lightretriever.cli.options import Filter, IndexArgument
from lightretriever.counted import counted

EXAMPLE = "lightretriever delete everest.index 17 18"


def command(
    index: IndexArgument,
    ids: Annotated[
        list[str], typer.Argument(metavar="ID…", help="The documents' ids; - reads them from standard input.")
    ],
    filter: Filter = None,
) -> None:
    """Remove documents by id; ids that the index does not have are counted.

    With --filter only documents that pass it, as a search would find them; an index that keeps tenants apart needs it.
    """
    from lightretriever.index.filter.language import read_filter
    from lightretriever.index.index import Index

    ids = read_ids(ids)
    conditions = None if filter is None else read_filter(filter)
    with Index.open(index) as opened:
        deleted = opened.delete(ids, filter=conditions)
        left = opened.count
    missing = len(set(ids)) - deleted
    reason = "not there" if conditions is None else "not there, or did not pass the filter"
    unknown = f", {missing:,} {reason}" if missing else ""
    say(f"{index}: {deleted:,} deleted{unknown}, {counted(left, 'documents')} left")
