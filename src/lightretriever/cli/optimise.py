"""``optimise``: one segment of all documents."""

from __future__ import annotations

from lightretriever.cli.console import say
from lightretriever.cli.options import IndexArgument
from lightretriever.counted import counted

EXAMPLE = "lightretriever optimise everest.index"


def command(index: IndexArgument) -> None:
    """Build one segment of all documents, and take the BM25 statistics anew.

    Large indexes do so by themselves, in parts. Searches are right without it, and slower the more was written since.
    """
    from lightretriever.index.index import Index

    with Index.open(index) as opened:
        written = opened.info().get("unoptimised")
        opened.optimise()
        count = opened.count
    since = f", {written:,} written or removed since all was built" if isinstance(written, int) else ""
    say(f"{index}: {counted(count, 'documents')}{since}")
