"""``set-table``: another token table of the same model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lightretriever.cli.console import say
from lightretriever.cli.options import IndexArgument

EXAMPLE = "lightretriever set-table everest.index better.table"


def command(
    index: IndexArgument,
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="A token table of the index's document model.")],
) -> None:
    """Give an index another token table; its documents stay as they are. ``index set-table`` is the same."""
    from lightretriever.index.index import Index

    with Index.open(index) as opened:
        opened.set_table(table)
        now = opened.encoder.table.hash
    say(f"{index}: queries are encoded by {table} now ({now[:12]})")
