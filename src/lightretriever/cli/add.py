"""``add``: more documents into an index, or newer versions of those it has."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from lightretriever.cli.console import progress, say
from lightretriever.cli.options import Base, Device, IndexArgument
from lightretriever.errors import LightRetrieverError

EXAMPLE = "lightretriever add everest.index new-documents.jsonl"


def command(
    index: IndexArgument,
    corpus: Annotated[Path, typer.Argument(metavar="CORPUS", help="A corpus file, or a folder.")],
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="The document tower; the index's own if not given.")
    ] = None,
    base: Base = None,
    device: Device = "auto",
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Then take the BM25 statistics anew, of all documents.")
    ] = False,
) -> None:
    """Encode documents and store them; an id that the index has is replaced. Running it again does no harm."""
    from lightretriever.index.index import Index
    from lightretriever.index.manifest import IndexManifest
    from lightretriever.text.corpus import estimate_count, read_corpus

    documents, total = read_corpus(corpus), estimate_count(corpus)
    manifest = IndexManifest.load(index)
    from lightretriever.cli.towers import load_tower_of

    tower = load_tower_of(manifest, model, base, device, "lm" if manifest.sparse == "lm" else "none")
    with Index.open(index, tower) as opened, progress("adding", "documents") as report:
        stored = 0

        def count_stored(done: int, _: int | None) -> None:
            nonlocal stored
            stored = done
            report(done, total)

        try:
            added = opened.add_documents(documents, progress=count_stored)
        except LightRetrieverError:
            say(f"{index}: {stored:,} documents before the error were stored; run again when it is mended")
            raise
        if refresh:
            opened.refresh_bm25()
        count, state = opened.count, opened.info().get("bm25")
    say(f"{index}: {added.documents - added.replaced:,} added, {added.replaced:,} replaced, {count:,} documents now")
    if isinstance(state, Mapping) and state["stale"]:
        say(
            f"warning: {state['drift']:.0%} of the documents changed since BM25 counted them: add --refresh counts anew"
        )
    if added.duplicates:
        say(f"warning: {added.duplicates} documents had an id that came again: the last of each is kept")
