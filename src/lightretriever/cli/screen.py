"""``screen``: which document model suits look-up queries on a corpus."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lightretriever.cli.console import format_bytes, format_table, phases, print_json
from lightretriever.cli.inputs import begin_texts
from lightretriever.cli.options import MODEL_HELP, AsJson, Compute, Device, MaxLength

if TYPE_CHECKING:
    from lightretriever.pipeline.screen import Screened

EXAMPLE = "lightretriever screen minilm ./my-model --texts corpus.jsonl"


def command(
    models: Annotated[list[str], typer.Argument(metavar="MODEL", help=MODEL_HELP)],
    texts: Annotated[
        list[Path], typer.Option("--texts", metavar="FILE", help="The corpus, as fit reads it; may be repeated.")
    ],
    documents: Annotated[
        int, typer.Option(min=1, metavar="N", help="Documents of it that each model encodes, at most.")
    ] = 1_000,
    sentences: Annotated[int, typer.Option(min=1, metavar="N", help="Sentences of these besides, at most.")] = 2_000,
    device: Device = "auto",
    compute: Compute = "auto",
    max_length: MaxLength = 512,
    as_json: AsJson = False,
) -> None:
    """Compare document models by what look-up queries keep of each, on a sample of the corpus, without judged queries.

    Each model encodes the same documents, and a table is fitted to them. For texts held out of the fit: the share of
    the model's own ten best documents that is among the look-up's ten, and the look-up's nDCG@10 by them. It says
    nothing of how good a model is itself: for that, `eval` with judged queries.
    """
    from lightretriever.document.options import TowerOptions
    from lightretriever.pipeline.screen import ScreenOptions, screen

    towers = TowerOptions(None, None, device, compute, max_length)
    options = ScreenOptions(towers, documents, sentences)
    with phases("documents") as begin:
        found = sorted(screen(models, begin_texts(texts), options, begin), key=lambda one: -one.ndcg)
    if as_json:
        print_json(found)
    else:
        print(_table(found))


def _table(found: list[Screened]) -> str:
    rows = [
        [
            one.model,
            f"{one.dim:,}",
            f"{one.overlap:.1%}",
            f"{one.ndcg:.3f}",
            f"{one.document_ms:.1f} ms",
            f"{one.query_us:.0f} µs",
            format_bytes(one.table_bytes),
        ]
        for one in found
    ]
    header = ["model", "dim", "overlap@10", "nDCG@10", "a document", "a query", "table"]
    return format_table(header, rows, right=range(1, len(header)))
