"""``snapshot``: an index into one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lightretriever.cli.console import format_bytes, say
from lightretriever.cli.options import IndexArgument
from lightretriever.counted import counted

EXAMPLE = "lightretriever snapshot everest.index -o everest.snapshot"


def command(
    index: IndexArgument,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="File to write.")],
) -> None:
    """Write an index to one file, with checksums; `restore` makes one of it that answers the same."""
    from lightretriever.index.index import Index

    with Index.open(index) as opened:
        taken = opened.snapshot(output)
    say(f"{output}: {counted(taken.documents, 'documents')}, {format_bytes(taken.bytes)}")
