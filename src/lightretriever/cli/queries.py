"""``queries``: the vectors of queries, for other tools to search with."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lightretriever.cli.console import progress, say, write_data
from lightretriever.cli.inputs import standard_queries
from lightretriever.counted import counted
from lightretriever.errors import UsageError

if TYPE_CHECKING:
    from lightretriever.progress import Progress
    from lightretriever.query.encoder import QueryEncoder
    from lightretriever.query.vectors_file import Written
    from lightretriever.text.corpus import Query

EXAMPLE = "lightretriever queries table queries.jsonl -o queries.npy"
BATCH = 4096
SUFFIXES = {".npy": "npy", ".jsonl": "jsonl", ".ndjson": "jsonl"}


def command(
    table: Annotated[Path, typer.Argument(metavar="TABLE|INDEX", help="A token table, or an index that has one.")],
    queries: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="Queries: _id and text, a BEIR folder, .txt with a line a query; - reads such lines, or JSON lines.",
        ),
    ],
    output: Annotated[
        str, typer.Option("-o", "--output", metavar="FILE", help="Where to: .npy or .jsonl; - prints JSON lines.")
    ],
    form: Annotated[
        str | None, typer.Option("--format", metavar="npy|jsonl", help="Where the output's name does not say.")
    ] = None,
    sparse: Annotated[
        bool, typer.Option("--sparse", help="With JSON lines: also the ids of each query's terms and their counts.")
    ] = False,
) -> None:
    """Write the vectors of queries as .npy, their ids beside it in NAME.ids.txt, or as JSON lines. No model runs.

    A query without a token that counts has the zero vector. Lines have their numbers for ids, from 1. What - reads is
    JSON lines where its first line is an object with a text: then every line needs _id and text.
    """
    form = form or ("jsonl" if output == "-" else SUFFIXES.get(Path(output).suffix.lower()))
    if form not in ("npy", "jsonl"):
        raise UsageError(f"--output {output}: a name in .npy or .jsonl is needed, or --format npy or jsonl")
    if form == "npy" and (output == "-" or sparse):
        raise UsageError("a .npy file holds dense vectors alone and is no stream: write JSON lines (--format jsonl)")
    from lightretriever.artifact import new_file
    from lightretriever.query.vectors_file import ids_beside, write_json_lines, write_npy
    from lightretriever.text.corpus import estimate_count

    total = None if queries == "-" else estimate_count(queries)
    with _encoder(table, sparse) as encoder, progress("encoding", "queries", closing=output != "-") as report:

        def count(done: int, _: int | None) -> None:
            report(done, total)

        if form == "npy":
            written = write_npy(output, _batches(queries), encoder, count)
        elif output == "-":
            written = _print(lambda progress: write_json_lines(_flushed, _batches(queries), encoder, sparse, progress))
        else:
            with new_file(output) as temporary, temporary.open("wb") as file:
                written = write_json_lines(file.write, _batches(queries), encoder, sparse, count)
    if output != "-":
        beside = f", ids in {ids_beside(Path(output))}" if form == "npy" else ""
        say(f"{output}: {counted(written.queries, 'vectors')} of {encoder.dim} dimensions{beside}")
    if written.empty:
        say(f"warning: {written.empty:,} of {written.queries:,} queries have no token that counts: their vectors are 0")


@contextmanager
def _encoder(path: Path, sparse: bool) -> Iterator[QueryEncoder]:
    """Of a table, or of an index; this is opened only where it counts words of its own, and they are asked for."""
    from lightretriever.index.store.database import FILE
    from lightretriever.query.encoder import QueryEncoder

    if not (path / FILE).exists():
        yield QueryEncoder.load(path)
        return
    from lightretriever.index.folder import load_settings

    settings = load_settings(path)
    if not sparse or not settings.counts_words:
        yield QueryEncoder.load(path / settings.table)
        return
    from lightretriever.index.index import Index

    with Index.open(path) as index:
        yield index.encoder


def _batches(source: str) -> Iterator[Sequence[Query]]:
    from lightretriever.text.compression import split_suffix
    from lightretriever.text.corpus import read_queries
    from lightretriever.text.query_lines import query_lines

    if source == "-":
        yield from standard_queries()
    else:
        queries = query_lines(source) if split_suffix(source)[0] == ".txt" else read_queries(source)
        while batch := list(islice(queries, BATCH)):
            yield batch


def _print(write: Callable[[Progress], Written]) -> Written:
    """Write to standard output; what was printed before an interruption is said."""
    printed = 0

    def count(done: int, _: int | None) -> None:
        nonlocal printed
        printed = done

    try:
        return write(count)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted: {counted(printed, 'queries')} printed") from None


def _flushed(data: bytes) -> None:
    """So that whoever waits for the vectors of what it has asked gets them."""
    write_data(data)
    sys.stdout.flush()
