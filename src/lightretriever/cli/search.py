"""``search``: one query against an index."""

from __future__ import annotations

from typing import Annotated

import typer

from lightretriever.cli.console import as_typed, columns, print_json, say, shows_marks
from lightretriever.cli.hits import hit_fields, show_hits
from lightretriever.cli.options import AsJson, Filter, IndexArgument, Mode

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
    as_json: AsJson = False,
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
            print_json({"rank": rank, **hit_fields(hit)})
    else:
        print(show_hits(hits, columns(), shows_marks()))
    if mode == "hybrid" and encoded.trust is not None and encoded.trust[0] < _WELL_UNDERSTOOD:
        say(f"the table understands {encoded.trust[0]:.0%} of this query: it was fitted to no text with its words")
