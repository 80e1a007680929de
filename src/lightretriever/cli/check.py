"""``check``: whether an index is what was written to it, bit by bit."""

from __future__ import annotations

import typer

from lightretriever.cli.characters import plain
from lightretriever.cli.options import IndexArgument

EXAMPLE = "lightretriever check everest.index"


def command(index: IndexArgument) -> None:
    """Compare all of an index with its checksums; ends with 1, and a line for each damage, where there is any."""
    from lightretriever.index.engines.local.check import check_index
    from lightretriever.paths import absolute

    damaged = False
    for line in check_index(absolute(index)):
        print(plain(" ".join(line.split())), flush=True)
        damaged = True
    if damaged:
        raise typer.Exit(1)
    print("everything is as it was written")
