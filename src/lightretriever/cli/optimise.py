"""``optimise``: the graph over what was added since."""

from __future__ import annotations

from lightretriever.cli.console import say
from lightretriever.cli.options import IndexArgument
from lightretriever.counted import counted

EXAMPLE = "lightretriever optimise everest.index"


def command(index: IndexArgument) -> None:
    """Build the graph anew over all documents; searches are right without it, and slower the more were added."""
    from lightretriever.index.index import Index

    with Index.open(index) as opened:
        written = opened.manifest.unoptimised
        opened.optimise()
        count = opened.count
    say(f"{index}: {counted(count, 'documents')}, {written:,} written since the graph was built last")
