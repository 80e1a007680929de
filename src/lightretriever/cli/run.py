"""``run``: a file of queries against an index, into a TREC run file."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from lightretriever.cli.console import progress, say
from lightretriever.cli.inputs import STANDARD_INPUT, standard_queries
from lightretriever.cli.measure import check_depth
from lightretriever.cli.options import Filter, IndexArgument, Mode
from lightretriever.cli.output import check_file
from lightretriever.counted import counted
from lightretriever.errors import UsageError

EXAMPLE = "lightretriever run everest.index --queries queries.jsonl --output hybrid.run"


def command(
    index: IndexArgument,
    queries: Annotated[
        Path, typer.Option(metavar="FILE", help="Queries: _id and text, or a BEIR folder; - is standard input.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="RUN", help="The run file to write.")],
    k: Annotated[int, typer.Option("-k", metavar="N", help="Hits a query.")] = 1000,
    mode: Mode = "hybrid",
    filter: Filter = None,
    tag: Annotated[str, typer.Option(metavar="NAME", help="The run's name, its sixth column.")] = "lightretriever",
) -> None:
    """Answer every query of a file: qid Q0 docid rank score tag.

    Ids (and a tag) that hold white space are written percent-encoded, a space as %20, and read back as they were.
    """
    from lightretriever.evaluation.runs import search_queries
    from lightretriever.index.filter.language import read_filter
    from lightretriever.index.index import Index
    from lightretriever.text.corpus import read_queries
    from lightretriever.text.ids import check_id
    from lightretriever.text.trec import write_run

    check_depth(k)
    if not tag:
        raise UsageError("--tag is empty: give the run a name")
    check_id(tag, "tag", "--tag")
    check_file(output)
    conditions = None if filter is None else read_filter(filter)
    texts: dict[str, str] = {}
    doubled = 0
    for query in chain.from_iterable(standard_queries()) if queries == STANDARD_INPUT else read_queries(queries):
        doubled += query.id in texts
        texts[query.id] = query.text
    if doubled:
        say(f"warning: {queries}: {counted(doubled, 'queries')} with an id that came again: the last of each is taken")
    with Index.open(index) as opened, progress("searching", "queries") as report:
        run = search_queries(opened, texts, k, mode, filter=conditions, tag=tag, progress=report)
    encoded = write_run(output, run)
    found = sum(len(scores) for scores in run.scores.values())
    say(f"{output}: {counted(len(texts), 'queries')}, {counted(found, 'hits')}")
    if encoded:
        ids = counted(encoded, "ids")
        say(f"{output}: {ids} with white space, percent-encoded (a space is %20): eval reads them back")
