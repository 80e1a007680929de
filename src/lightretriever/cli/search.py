"""``search``: queries against an index: one, those of standard input, or as one types."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from lightretriever.cli.characters import plain
from lightretriever.cli.console import as_typed, columns, print_json, say, shows_marks
from lightretriever.cli.hits import show_hits
from lightretriever.cli.inputs import standard_queries
from lightretriever.cli.options import AsJson, Filter, IndexArgument, Mode
from lightretriever.counted import counted

if TYPE_CHECKING:
    from lightretriever.index.index import Index
    from lightretriever.types import Hit

_WELL_UNDERSTOOD = 0.35  # of a query; just above what nothing but unseen words come to under a model's prior
_BATCH = 256  # queries of standard input that are searched together
EXAMPLE = 'lightretriever search everest.index "how tall is everest" -k 5'


@dataclass(frozen=True, slots=True)
class Asked:
    """How to search: see the verb's options."""

    k: int
    mode: str
    filter: Mapping[str, object] | None
    min_dense: float | None

    def of(self, index: Index, texts: Sequence[str]) -> list[tuple[list[Hit], str]]:
        """Each query's hits, and a remark about it, perhaps none."""
        encoded = index.encoder.encode(texts)
        hits = index.search_encoded(encoded, self.k, self.mode, self.filter, min_dense=self.min_dense, queries=texts)
        trust = [1.0] * len(texts) if self.mode != "hybrid" or encoded.trust is None else encoded.trust.tolist()
        return list(zip(hits, map(_doubt, trust), strict=True))


def command(
    index: IndexArgument,
    query: Annotated[
        str | None,
        typer.Argument(
            metavar="[QUERY]",
            help="The query, in quotes; - reads standard input, a query a line. Without one: hits as you type.",
        ),
    ] = None,
    k: Annotated[int, typer.Option("-k", metavar="N", help="How many hits.")] = 10,
    mode: Mode = "hybrid",
    filter: Filter = None,
    min_dense: Annotated[
        float | None,
        typer.Option(metavar="S", help="Leave out documents whose dense score (a cosine) is below S, as 0.4."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Search: no model runs, the query is looked up and its words counted.

    Without a query, on a terminal, hits are shown as you type; elsewhere, and with -, queries come from standard input:
    a line each, or JSON lines with _id and text.
    """
    from lightretriever.cli.explore import explore, wanted
    from lightretriever.index.filter.language import read_filter
    from lightretriever.index.index import Index

    conditions = None if filter is None else read_filter(as_typed(filter))
    asked = Asked(k, mode, conditions, min_dense)
    with Index.open(index) as opened:
        if query is None and not as_json and wanted():
            explore(lambda text: asked.of(opened, [text])[0])
        elif query is None or query == "-":
            _answer(opened, asked, as_json)
        else:
            text = as_typed(query)
            ((hits, remark),) = asked.of(opened, [text])
            _print(text, hits, as_json)
            if remark:
                say(remark)


def _answer(index: Index, asked: Asked, as_json: bool) -> None:
    """The queries of standard input, each as soon as it is there."""
    answered = 0
    try:
        for texts in _given():
            for text, (hits, _) in zip(texts, asked.of(index, texts), strict=True):
                if not as_json:
                    print(f"“{plain(text)}”\n")
                _print(text, hits, as_json)
                if not as_json:
                    print()
            sys.stdout.flush()
            answered += len(texts)  # which were seen: what is asked again does no harm
    except KeyboardInterrupt:
        told = counted(answered, "queries")
        raise KeyboardInterrupt(f"interrupted: {told} answered, go on with those after") from None


def _given() -> Iterator[list[str]]:
    for queries in standard_queries():
        texts = [query.text for query in queries]
        yield from (texts[start : start + _BATCH] for start in range(0, len(texts), _BATCH))


def _print(query: str, hits: Sequence[Hit], as_json: bool) -> None:
    if not as_json:
        print(show_hits(hits, columns(), shows_marks()))
        return
    for rank, hit in enumerate(hits, 1):
        print_json({"query": query, "rank": rank, **hit.as_dict()})


def _doubt(trust: float) -> str:
    if trust >= _WELL_UNDERSTOOD:
        return ""
    return f"the table understands {trust:.0%} of this query: it was fitted to no text with its words"
