"""``search``: one query against an index."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from lightretriever.cli.console import as_typed, columns, format_table, print_json, shorten
from lightretriever.cli.options import Filter, IndexArgument, Mode

if TYPE_CHECKING:
    from lightretriever.types import Hit

EXAMPLE = 'lightretriever search everest.index "how tall is everest" -k 5'


def command(
    index: IndexArgument,
    query: Annotated[str, typer.Argument(metavar="QUERY", help="The query, in quotes.")],
    k: Annotated[int, typer.Option("-k", metavar="N", help="How many hits.")] = 10,
    mode: Mode = "hybrid",
    filter: Filter = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a hit, with text and metadata.")] = False,
) -> None:
    """Search: no model runs, the query is looked up and its tokens counted."""
    from lightretriever.index.filter import read_filter
    from lightretriever.index.index import Index

    conditions = None if filter is None else read_filter(as_typed(filter))
    with Index.open(index) as opened:
        hits = opened.search(as_typed(query), k=k, mode=mode, filter=conditions)
    if as_json:
        for rank, hit in enumerate(hits, 1):
            print_json({"rank": rank, **dataclasses.asdict(hit)})
    else:
        print(show_hits(hits, columns()) if hits else "no hits")


def show_hits(hits: Sequence[Hit], width: int, ids: bool = True) -> str:
    """Hits as a table: score, each arm's score and rank, id, and as much of the document as fits ``width``."""
    header = ("#", "score", "dense", "", "sparse", "", *(("id",) if ids else ()))
    rows = [
        [
            str(rank),
            f"{hit.score:.3f}",
            *_arm(hit.dense_score, hit.dense_rank, "{:.3f}"),
            *_arm(hit.sparse_score, hit.sparse_rank, "{:.2f}"),
            *((shorten(hit.id, 40),) if ids else ()),
        ]
        for rank, hit in enumerate(hits, 1)
    ]
    left = format_table(header, rows, right=range(6)).splitlines()
    pad = max(map(len, left))
    texts = ["document", *(shorten(_summary(hit, ids), max(width - pad - 2, 20)) for hit in hits)]
    return "\n".join(f"{line.ljust(pad)}  {text}".rstrip() for line, text in zip(left, texts, strict=True))


def _arm(score: float | None, rank: int | None, form: str) -> tuple[str, str]:
    return ("–", "") if score is None else (form.format(score), f"#{rank}" if rank is not None else "")


def _summary(hit: Hit, ids: bool) -> str:
    said = not hit.title or (ids and hit.id in hit.title)  # a name such as "csv.DictReader" is not said twice
    return hit.text if said else f"{hit.title} — {hit.text}"
