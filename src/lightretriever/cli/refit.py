"""``refit``: an index's token table fitted anew to what it holds now."""

from __future__ import annotations

from typing import Annotated

import typer

from lightretriever.cli.console import phases, say
from lightretriever.cli.options import Base, Device, IndexArgument

EXAMPLE = "lightretriever refit docs.index"


def command(
    index: IndexArgument,
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="The document tower; the index's own if not given.")
    ] = None,
    sentences: Annotated[
        int,
        typer.Option(min=0, metavar="N", help="Sentences that the model encodes for it, at most. 0: no model runs."),
    ] = 8_000,
    base: Base = None,
    device: Device = "auto",
) -> None:
    """Fit the index's table to its documents as they are now, and put it in force; searches go on meanwhile.

    The documents' vectors are there. The model encodes some of their sentences, which makes a better table.
    """
    from lightretriever.index.index import Index
    from lightretriever.pipeline.refit import refit_table
    from lightretriever.pipeline.towers import load_tower_of

    with Index.open(index) as opened:
        tower = load_tower_of(opened.settings, model, base, device, "none") if sentences else None
        with phases("documents") as begin:
            table = refit_table(opened, tower, sentences, begin)
        opened.set_table(table)
    fitted = int(str(table.fitted["samples"]))
    say(f"{index}: queries are looked up in a table fitted to {fitted:,} texts now")
