"""``restore``: an index from a snapshot."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lightretriever.cli.console import say
from lightretriever.counted import counted

EXAMPLE = "lightretriever restore everest.snapshot -o everest.index"


def command(
    snapshot: Annotated[Path, typer.Argument(metavar="FILE", help="What `snapshot` wrote.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="INDEX", help="Folder to make the index in.")],
) -> None:
    """Make an index of a snapshot, checking every file."""
    from lightretriever.index.snapshot import restore_snapshot

    count = restore_snapshot(snapshot, output)
    say(f"{output}: {counted(count, 'documents')}")
