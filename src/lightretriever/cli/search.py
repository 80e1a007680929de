"""``search``: one query against an index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from lightretriever.cli.console import as_typed, columns, format_table, print_json, say, shorten
from lightretriever.cli.options import Filter, IndexArgument, Mode

if TYPE_CHECKING:
    from lightretriever.types import Hit

_WELL_UNDERSTOOD = 0.35  # of a query; just above what nothing but unseen words come to under a model's prior
EXAMPLE = 'lightretriever search everest.index "how tall is everest" -k 5'


def command(
    index: IndexArgument,
    query: Annotated[str, typer.Argument(metavar="QUERY", help="The query, in quotes.")],
    k: Annotated[int, typer.Option("-k", metavar="N", help="How many hits.")] = 10,
    mode: Mode = "hybrid",
    filter: Filter = None,
    min_dense: Annotated[
        float | None,
        typer.Option(metavar="S", help="Leave out documents whose dense score (a cosine) is below S, as 0.4."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a hit, with text and metadata.")] = False,
) -> None:
    """Search: no model runs, the query is looked up and its tokens counted."""
    from lightretriever.index.filter.language import read_filter
    from lightretriever.index.index import Index

    conditions = None if filter is None else read_filter(as_typed(filter))
    with Index.open(index) as opened:
        encoded = opened.encoder.encode([as_typed(query)])
        hits = opened.search_encoded(encoded, k, mode, conditions, min_dense=min_dense)[0]
    if as_json:
        for rank, hit in enumerate(hits, 1):
            print_json({"rank": rank, **hit._asdict()})
    else:
        print(show_hits(hits, columns()) if hits else "no hits")
    if mode == "hybrid" and encoded.trust is not None and encoded.trust[0] < _WELL_UNDERSTOOD:
        say(f"the table understands {encoded.trust[0]:.0%} of this query: it was fitted to no text with its words")


def show_hits(hits: Sequence[Hit], width: int, ids: bool = True) -> str:
    """Hits as a table: each arm's score and rank, what they come to fused, id, and as much text as fits ``width``.

    The arms' own scores come first: a fused score tells nothing of how alike query and document are.
    """
    fused = any(hit.score not in (hit.dense_score, hit.sparse_score) for hit in hits)
    header = ("#", "dense", "", "sparse", "", *(("fused",) if fused else ()), *(("id",) if ids else ()))
    rows = [
        [
            str(rank),
            *_arm(hit.dense_score, hit.dense_rank, "{:.3f}"),
            *_arm(hit.sparse_score, hit.sparse_rank, "{:.2f}"),
            *((f"{hit.score:.3f}",) if fused else ()),
            *((shorten(hit.id, min(40, max(width - 52, 12))),) if ids else ()),
        ]
        for rank, hit in enumerate(hits, 1)
    ]
    left = format_table(header, rows, right=range(5 + fused)).splitlines()
    pad = max(map(len, left))
    texts = ["document", *(shorten(_summary(hit, ids), max(width - pad - 2, 10)) for hit in hits)]
    return "\n".join(f"{line.ljust(pad)}  {text}".rstrip() for line, text in zip(left, texts, strict=True))


def _arm(score: float | None, rank: int | None, form: str) -> tuple[str, str]:
    return ("–", "") if score is None else (form.format(score), f"#{rank}" if rank is not None else "")


def _summary(hit: Hit, ids: bool) -> str:
    said = not hit.title or (ids and hit.id in hit.title)  # a name such as "csv.DictReader" is not said twice
    return hit.text if said else f"{hit.title} — {hit.text}"
