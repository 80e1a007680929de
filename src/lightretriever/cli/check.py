"""``check``: whether an index is what was written to it, bit by bit."""

from __future__ import annotations

import typer

from lightretriever.cli.characters import plain
from lightretriever.cli.console import print_json
from lightretriever.cli.options import AsJson, IndexArgument

EXAMPLE = "lightretriever check everest.index"


def command(index: IndexArgument, as_json: AsJson = False) -> None:
    """Compare all of an index with its checksums; ends with 1, and a line for each damage, where there is any."""
    from lightretriever.index.engines.local.check import check_index
    from lightretriever.paths import absolute

    damage = []
    for line in check_index(absolute(index)):
        damage.append(" ".join(line.split()))
        if not as_json:
            print(plain(damage[-1]), flush=True)
    if as_json:
        print_json({"path": index, "damage": damage})
    elif not damage:
        print("everything is as it was written")
    if damage:
        raise typer.Exit(1)
