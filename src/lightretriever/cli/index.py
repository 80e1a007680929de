"""``index``: documents, or documents already encoded, into a searchable index; resumable."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lightretriever.cli.console import phases, say
from lightretriever.cli.inputs import STANDARD_INPUT, begin_corpus
from lightretriever.cli.left_out import say_tally
from lightretriever.cli.options import (
    MODEL_HELP,
    Base,
    ColumnNames,
    Compute,
    Corpus,
    Device,
    Exclude,
    Include,
    ListLeftOut,
    MaxLength,
    TopK,
)
from lightretriever.counted import counted
from lightretriever.errors import UsageError

if TYPE_CHECKING:
    from lightretriever.index.ingest import IngestReport
    from lightretriever.index.provided import Provided
    from lightretriever.text.analysers.analyser import Analyser

EXAMPLE = "lightretriever index docs/ -o docs.index"


def command(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="SOURCE",
            help="Files and folders; a corpus, - being JSON lines on standard input; or with vectors: what encode "
            "wrote, or a file.",
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="INDEX", help="Folder to build the index in.")],
    model: Annotated[str | None, typer.Option(metavar="MODEL", help=f"{MODEL_HELP} minilm if not given.")] = None,
    table: Annotated[
        Path | None,
        typer.Option(metavar="TABLE", help="The token table: queries are encoded by it. One is fitted if not given."),
    ] = None,
    sparse: Annotated[
        str | None,
        typer.Option(metavar="lm|bm25|none", help="Sparse side; the model's own, or bm25 where it has none."),
    ] = None,
    analyser: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help="What bm25 counts: words, cjk (pairs of characters) or pieces (the model's tokens). As the documents "
            "are if not given.",
        ),
    ] = None,
    language: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Of the words, as english or en; none: not stemmed. As the documents are if not given."
        ),
    ] = None,
    chunk_tokens: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            help="Tokens of a passage, at most; 0: documents stay whole. Files have 256, rows of a corpus stay whole.",
        ),
    ] = None,
    overlap: Annotated[
        int, typer.Option(min=0, metavar="N", help="Tokens of a passage that the next one begins with, at most.")
    ] = 32,
    include: Include = None,
    exclude: Exclude = None,
    list_left_out: ListLeftOut = False,
    engine: Annotated[
        str,
        typer.Option(metavar="local|URL", help="What holds it: local, or http(s)://host:6333/name of a Qdrant server."),
    ] = "local",
    corpus: Corpus = None,
    columns: ColumnNames = None,
    base: Base = None,
    device: Device = "auto",
    compute: Compute = "auto",
    max_length: MaxLength = 512,
    top_k: TopK = None,
    tenant: Annotated[
        str | None, typer.Option(metavar="FIELD", help="Metadata field that every search's filter must fix.")
    ] = None,
) -> None:
    """Build an index. Run it again after an interruption: it goes on where it was, and does nothing twice.

    Files are read, split into passages and encoded; a table is fitted to them for the queries. A folder is walked as
    its owner sees it: what .gitignore names, hidden and installed things are left out, and counted.

    Documents that have their vectors are indexed with these, and the table is fitted to them. They come as a folder
    that encode wrote; as a Parquet, JSON lines or CSV file with columns of ids, texts and vectors; or as such a file
    without texts, or a .npy file, and the --corpus that they are of.
    """
    from lightretriever.index.settings import SPARSE_KINDS, check_engine

    engine = check_engine(engine)
    if sparse is not None and sparse not in SPARSE_KINDS:
        raise UsageError(f"--sparse {sparse}: choose one of {', '.join(SPARSE_KINDS)}")
    counted_as = _analyser(analyser, language)
    piped = begin_corpus(STANDARD_INPUT)[0] if STANDARD_INPUT in sources else ()
    sources = [source for source in sources if source != STANDARD_INPUT]
    given = _provided(sources, corpus, columns, model, table)
    if given is not None:
        _index_vectors(given, output, table, sparse, tenant, engine, counted_as)
        return
    from lightretriever.document.options import TowerOptions
    from lightretriever.passages.options import PassageOptions
    from lightretriever.pipeline.build import BuildOptions, build_index
    from lightretriever.pipeline.documents import SourceOptions
    from lightretriever.pipeline.walk import WalkOptions

    options = BuildOptions(
        tower=TowerOptions(model, base, device, compute, max_length, top_k),
        table=table,
        sparse=sparse,
        analyser=counted_as,
        passages=None if chunk_tokens is None else PassageOptions(chunk_tokens, min(overlap, chunk_tokens // 2)),
        sources=SourceOptions(WalkOptions(tuple(include or ()), tuple(exclude or ()))),
        tenant=tenant,
        engine=engine,
    )
    with phases("documents") as begin:
        built = build_index(output, sources, piped, options, begin)
    say_tally(built.tally, list_left_out)
    _say(output, built.stored, built.tally.documents if built.split else None)
    say(f'search it: lightretriever search {output} "…"')


def _provided(
    sources: list[Path], corpus: Path | None, columns: str | None, model: str | None, table: Path | None
) -> Provided | None:
    """What comes with its vectors; None for what has to be encoded."""
    from lightretriever.index.provided import Provided

    if len(sources) != 1:
        if corpus is not None or columns is not None:
            raise UsageError("--corpus and --columns belong to one source: index that alone")
        return None
    return Provided.find(sources[0], corpus, columns, encode=model is not None, table=table)


def _analyser(kind: str | None, language: str | None) -> Analyser | None:
    """As it was asked for; None where the documents are to say."""
    from lightretriever.text.analysers.analyser import WORDS, Analyser

    if kind is None and language is None:
        return None
    if kind == WORDS and language is None:
        raise UsageError(
            "--analyser words: name their --language, or none; or leave both out, and the documents say it"
        )
    return Analyser(kind or WORDS, "" if language in (None, "none") else language)


def _index_vectors(
    given: Provided,
    output: Path,
    table: Path | None,
    sparse: str | None,
    tenant: str | None,
    engine: str,
    analyser: Analyser | None,
) -> None:
    from lightretriever.pipeline.given_vectors import index_given

    with phases("documents") as begin:
        say(f"{given.source}: {given.said}, " + ("a table is fitted to them" if table is None else "no model runs"))
        built = index_given(output, given, table, sparse, tenant, engine, begin, analyser)
    _say(output, built, None)


def _say(output: Path, built: IngestReport, documents: int | None) -> None:
    """What was stored; of ``documents`` where these were split."""
    if built.complete_before:
        say(f"{output}: complete already, {counted(built.documents, 'documents')}")
        return
    if documents is None:
        say(f"{output}: {counted(built.documents, 'documents')}")
    else:
        say(f"{output}: {counted(documents, 'documents')} in {counted(built.documents, 'passages')}")
    if built.analyser:
        say(f"{output}: its sparse side counts {built.analyser}")
    if built.duplicates:
        say(f"warning: {counted(built.duplicates, 'documents')} with an id that came again: the last of each is kept")
    if built.without_dense:
        without = counted(built.without_dense, "documents")
        say(f"warning: {without} without a dense vector, found by the sparse arm alone")
