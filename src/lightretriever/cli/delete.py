"""``delete``: documents out of an index."""

from __future__ import annotations

from typing import Annotated

import typer

from lightretriever.cli.console import say
from lightretriever.cli.options import IndexArgument

EXAMPLE = "lightretriever delete everest.index 17 18"


def command(
    index: IndexArgument,
    ids: Annotated[list[str], typer.Argument(metavar="ID…", help="The documents' ids.")],
) -> None:
    """Remove documents by id; ids that the index does not have are counted."""
    from lightretriever.index.index import Index

    with Index.open(index) as opened:
        deleted = opened.delete(ids)
        left = opened.count
    missing = len(set(ids)) - deleted
    unknown = f", {missing} were not there" if missing else ""
    say(f"{index}: {deleted} deleted{unknown}, {left:,} documents left")
