"""``migrate``: an index from one engine to another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lightretriever.cli.console import phases, say
from lightretriever.cli.options import IndexArgument
from lightretriever.counted import counted

EXAMPLE = "lightretriever migrate everest.index --to 'http://host:6333/everest?shards=6&replicas=2' -o cluster.index"


def command(
    index: IndexArgument,
    to: Annotated[
        str, typer.Option("--to", metavar="local|URL", help="local, or http(s)://host:6333/name of a Qdrant server.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="NEWINDEX", help="Folder of the new index.")],
) -> None:
    """Copy an index to another engine, and compare every document. Run it again after an interruption: it goes on."""
    from lightretriever.index.migrate import migrate_index

    with phases("documents") as report:
        done = migrate_index(index, to, output, report)
    say(
        f"{output}: {counted(done.documents, 'documents')}, {done.copied:,} copied now; each was read back "
        "and compared: texts, metadata and vectors are equal, bit for bit"
    )
    if done.recounted:
        say("its sparse side counts the model's tokens, as a server's collection cannot count words: searches differ")
