"""``cache``: a token table by running the vocabulary through the model."""

from __future__ import annotations

from typing import Annotated

import typer

from lightretriever.cli.console import progress, refuse_existing, say, say_table
from lightretriever.cli.inputs import begin_texts
from lightretriever.cli.options import MODEL_HELP, Base, Device, Dim, Phrases, Prompt, QueriesLog, TableDtype, TableOut
from lightretriever.errors import UsageError

EXAMPLE = "lightretriever cache lightretriever/lightretriever-qwen2.5-1.5b -o table --dtype float16"


def command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP)],
    output: TableOut,
    prompt: Prompt = None,
    base: Base = None,
    dtype: TableDtype = "float32",
    dim: Dim = None,
    device: Device = "auto",
    phrases: Phrases = 0,
    queries_log: QueriesLog = None,
) -> None:
    """Make a token table: what the model makes of each token of its vocabulary."""
    refuse_existing(output)
    if bool(queries_log) != bool(phrases):
        raise UsageError("give --queries-log FILE and --phrases N together: the log's N most frequent queries get rows")
    log = begin_texts(queries_log)
    from lightretriever.document.encoder import DocumentEncoder
    from lightretriever.tables.cache import cache_table

    tower = DocumentEncoder.load(model, base=base, device=device, sparse="none")
    if not tower.causal and (tower.default_prompt if prompt is None else prompt):
        say(f"the prompt is run again for every token: {tower.backbone.sharing.reason}")
    with progress("running the vocabulary", "tokens") as report:
        table = cache_table(tower, prompt=prompt, dtype=dtype, dim=dim, progress=report)
    if queries_log:
        from lightretriever.tables.phrases import add_queries, frequent_queries

        queries = frequent_queries((text.input for text in log), phrases)
        with progress("encoding queries", "queries") as report:
            table = add_queries(table, tower, queries, progress=report)
    table.save(output)
    say_table(output, table)
