"""``cache``: a token table by running the vocabulary through the model."""

from __future__ import annotations

from typing import Annotated

import typer

from lightretriever.cli.console import folder_size, format_bytes, progress, refuse_existing, say
from lightretriever.cli.options import MODEL_HELP, Base, Device, Dim, Prompt, TableDtype, TableOut

EXAMPLE = "lightretriever cache lightretriever/lightretriever-qwen2.5-1.5b -o table --dtype float16"


def command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP)],
    output: TableOut,
    prompt: Prompt = None,
    base: Base = None,
    dtype: TableDtype = "float32",
    dim: Dim = None,
    device: Device = "auto",
) -> None:
    """Make a token table: what the model makes of each token of its vocabulary."""
    refuse_existing(output)
    from lightretriever.document.encoder import DocumentEncoder
    from lightretriever.tables.cache import cache_table

    tower = DocumentEncoder.load(model, base=base, device=device, sparse="none")
    with progress("running the vocabulary", "tokens") as report:
        table = cache_table(tower, prompt=prompt, dtype=dtype, dim=dim, progress=report)
    table.save(output)
    say(f"{output}: {len(table):,} rows of {table.dim} dimensions, {dtype}, {format_bytes(folder_size(output))}")
