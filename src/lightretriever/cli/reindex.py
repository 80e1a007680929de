"""``reindex``: another document model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lightretriever.cli.console import progress, say
from lightretriever.cli.options import Base, Compute, Device, IndexArgument, MaxLength, ModelOption, TopK
from lightretriever.counted import counted

EXAMPLE = "lightretriever reindex everest.index --model BAAI/bge-base-en-v1.5 --table bge.table"


def command(
    index: IndexArgument,
    model: ModelOption,
    table: Annotated[Path, typer.Option(metavar="TABLE", help="The new model's token table.")],
    sparse: Annotated[
        str | None, typer.Option(metavar="KIND", help="lm, bm25 or none; the index's own kind if not given.")
    ] = None,
    base: Base = None,
    device: Device = "auto",
    compute: Compute = "auto",
    max_length: MaxLength = 512,
    top_k: TopK = None,
) -> None:
    """Encode every document anew with another model, from its stored text; the index changes when all is done.

    Run it again after an interruption: it goes on where it was.
    """
    from lightretriever.index.folder import load_settings
    from lightretriever.index.index import Index
    from lightretriever.query.encoder import QueryEncoder

    kind = sparse or load_settings(index).sparse
    encoder = QueryEncoder.load(table)
    from lightretriever.document.options import TowerOptions

    tower = TowerOptions(model, base, device, compute, max_length, top_k).load("lm" if kind == "lm" else "none")
    with Index.open(index) as opened, progress("encoding", "documents") as report:
        opened.reindex(encoder, tower, sparse=kind, progress=report)
        count = opened.count
    say(f"{index}: {counted(count, 'documents')}, encoded by {tower.name}")
