"""``sync``: an index brought up to date with its files."""

from __future__ import annotations

import time
from itertools import chain, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lightretriever.cli.console import phases, progress, say
from lightretriever.cli.left_out import say_tally
from lightretriever.cli.options import Base, Compute, Device, Exclude, Include, IndexArgument, ListLeftOut
from lightretriever.counted import counted

if TYPE_CHECKING:
    from lightretriever.pipeline.sync import Synced

EXAMPLE = "lightretriever sync docs.index docs/"


def command(
    index: IndexArgument,
    sources: Annotated[
        list[Path] | None,
        typer.Argument(metavar="SOURCE", help="All files and folders that it is to hold; those it was made of."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="The document tower; the index's own if not given.")
    ] = None,
    include: Include = None,
    exclude: Exclude = None,
    list_left_out: ListLeftOut = False,
    refit: Annotated[
        bool, typer.Option("--refit", help="Then fit the table anew, if much of what was added has words new to it.")
    ] = False,
    watch: Annotated[
        float | None,
        typer.Option(min=0.1, metavar="SECONDS", help="Go on, looking again every so many seconds, until Ctrl-C."),
    ] = None,
    base: Base = None,
    device: Device = "auto",
    compute: Compute = "auto",
) -> None:
    """Read and encode what is new or changed, delete what is gone; what is as it was is left alone.

    A file of the same size and time is taken to be the same, else its content decides. Run again after an interruption
    it does what is left. The model is loaded only if there is something to encode.
    """
    from lightretriever.index.index import Index
    from lightretriever.pipeline.documents import SourceOptions
    from lightretriever.pipeline.refit import needs_refit, refit_table
    from lightretriever.pipeline.sync import sync_index
    from lightretriever.pipeline.walk import WalkOptions

    given = include is not None or exclude is not None
    options = SourceOptions(WalkOptions(tuple(include or ()), tuple(exclude or ()))) if given else None
    with Index.open(index) as opened:

        def load() -> None:
            from lightretriever.pipeline.towers import load_document_tower

            opened.model = load_document_tower(opened.settings, model, base, device, compute)

        for first in chain([True], repeat(False)):
            with progress("syncing", "files") as report:
                synced = sync_index(opened, sources or (), options, report, load)
            changed = bool(synced.new or synced.changed or synced.gone)
            if first or changed:
                say_tally(synced.tally, list_left_out)
                _say(index, synced, opened.count)
            if (first or changed) and needs_refit(opened):
                if refit:
                    with phases("documents") as begin:
                        opened.set_table(refit_table(opened, opened.model, begin=begin))
                    say(f"{index}: the table was fitted to what is there now")
                else:
                    say(f"{index}: much of what was added has words new to the table: `refit {index}`, or --refit")
            if watch is None:
                break
            time.sleep(watch)


def _say(index: Path, synced: Synced, count: int) -> None:
    changes = f"{synced.new:,} new, {synced.changed:,} changed, {synced.gone:,} gone, {synced.unchanged:,} as they were"
    say(f"{index}: {counted(count, 'passages')}; files: {changes}")
    if synced.kept:
        say(f"warning: {counted(synced.kept, 'files')} not found are kept, for a folder could not be read")
