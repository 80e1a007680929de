"""``add``: more documents into an index, or newer versions of those it has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lightretriever.cli.console import progress, say
from lightretriever.cli.inputs import STANDARD_INPUT, begin_corpus
from lightretriever.cli.options import Base, ColumnNames, Compute, Corpus, Device, IndexArgument
from lightretriever.counted import counted
from lightretriever.errors import LightRetrieverError

if TYPE_CHECKING:
    from lightretriever.document.encoder import DocumentEncoder
    from lightretriever.index.added import Added
    from lightretriever.index.index import Index

EXAMPLE = "lightretriever add everest.index new-documents.jsonl"


def command(
    index: IndexArgument,
    source: Annotated[
        Path,
        typer.Argument(
            metavar="CORPUS|VECTORS",
            help="A corpus, - being JSON lines on standard input; or with vectors: what encode wrote, or a file.",
        ),
    ],
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="The document tower; the index's own if not given.")
    ] = None,
    corpus: Corpus = None,
    columns: ColumnNames = None,
    base: Base = None,
    device: Device = "auto",
    compute: Compute = "auto",
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Then take the BM25 statistics anew, of all documents.")
    ] = False,
) -> None:
    """Store more documents; an id that the index has is replaced, unless the document is as it was.

    Documents with vectors, in what index takes, are stored as they are, and no model is loaded; others are encoded.
    """
    from lightretriever.index.folder import load_settings
    from lightretriever.index.index import Index
    from lightretriever.index.novelty import LARGE
    from lightretriever.index.provided import Provided, add_provided

    settings = load_settings(index)
    table, piped = index / settings.table, source == STANDARD_INPUT
    given = None if piped else Provided.find(source, corpus, columns, encode=model is not None, table=table)
    tower: DocumentEncoder | None = None
    total: int | None = None
    if given is not None:
        say(f"{source}: {given.said}, no model runs")
        store = partial(add_provided, given=given)
    else:
        documents, total = begin_corpus(source)
        from lightretriever.pipeline.towers import load_document_tower

        tower = load_document_tower(settings, model, base, device, compute)
        store = partial(Index.add_documents, documents=documents)
    with Index.open(index, tower) as opened:
        added = _add(opened, store, total)
        if refresh:
            opened.refresh_bm25()
        count, state = opened.count, opened.info().get("bm25")
    new, there = added.documents - added.replaced, counted(count, "documents")
    same = f", {added.unchanged:,} as they were" if added.unchanged else ""
    say(f"{index}: {new:,} added, {added.replaced:,} replaced{same}, {there} now")
    if isinstance(state, Mapping) and state["stale"]:
        say(f"warning: {state['drift']:.0%} of the documents changed since BM25 counted them: add --refresh")
    if added.novelty.share >= LARGE:
        say(
            f"warning: {added.novelty.share:.0%} of the tokens added are of words that no text of the table's fit had: "
            f"fit one to these documents too, and set-table {index} TABLE"
        )
    if added.duplicates:
        say(f"warning: {counted(added.duplicates, 'documents')} with an id that came again: the last of each is kept")


def _add(opened: Index, store: Callable[..., Added], total: int | None) -> Added:
    """Store with progress; what was stored before an error is said."""
    stored = 0
    with progress("adding", "documents") as report:

        def count_stored(done: int, _: int | None) -> None:
            nonlocal stored
            stored = done
            report(done, total)

        try:
            return store(opened, progress=count_stored)
        except LightRetrieverError:
            say(f"{opened.path}: {counted(stored, 'documents')} stored before the error; run again when it is mended")
            raise
