"""``index``: a corpus, or documents already encoded, into a searchable index; resumable."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lightretriever.cli.console import phases, say
from lightretriever.cli.inputs import begin_corpus
from lightretriever.cli.options import MODEL_HELP, Base, ColumnNames, Corpus, Device, MaxLength, TopK
from lightretriever.counted import counted
from lightretriever.errors import UsageError
from lightretriever.progress import Progress, Report

if TYPE_CHECKING:
    from lightretriever.index.ingest import IngestReport
    from lightretriever.query.encoder import QueryEncoder

EXAMPLE = "lightretriever index corpus.jsonl --model minilm --table table -o everest.index --sparse bm25"


def command(
    source: Annotated[
        Path,
        typer.Argument(metavar="CORPUS|VECTORS", help="A corpus; or with vectors: what encode wrote, or a file."),
    ],
    table: Annotated[Path, typer.Option(metavar="TABLE", help="The token table: queries are encoded by it.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="INDEX", help="Folder to build the index in.")],
    model: Annotated[str | None, typer.Option(metavar="MODEL", help=MODEL_HELP)] = None,
    sparse: Annotated[
        str | None,
        typer.Option(metavar="lm|bm25|none", help="Sparse side; the model's own, or bm25 where it has none."),
    ] = None,
    engine: Annotated[
        str,
        typer.Option(metavar="local|URL", help="What holds it: local, or http(s)://host:6333/name of a Qdrant server."),
    ] = "local",
    corpus: Corpus = None,
    columns: ColumnNames = None,
    base: Base = None,
    device: Device = "auto",
    max_length: MaxLength = 512,
    top_k: TopK = None,
    tenant: Annotated[
        str | None, typer.Option(metavar="FIELD", help="Metadata field that every search's filter must fix.")
    ] = None,
) -> None:
    """Build an index. Run it again after an interruption: it goes on where it was, and does nothing twice.

    Vectors come as a folder that encode wrote; as a Parquet, JSON lines or CSV file with columns of ids, texts and
    vectors; or as such a file without texts, or a .npy file, and the --corpus that they are of.
    """
    from lightretriever.index.settings import SPARSE_KINDS, check_engine

    engine = check_engine(engine)
    from lightretriever.index.provided import Provided, index_provided

    if sparse is not None and sparse not in SPARSE_KINDS:
        raise UsageError(f"--sparse {sparse}: choose one of {', '.join(SPARSE_KINDS)}")
    given = Provided.find(source, corpus, columns, encode=model is not None, table=table)
    if given is None and model is None:
        raise UsageError(
            f"{source} holds texts without vectors and has to be encoded: name the --model (or index what `encode` "
            "wrote); if it holds vectors alone, name the --corpus"
        )
    from lightretriever.query.encoder import QueryEncoder

    encoder = QueryEncoder.load(table)
    with phases("documents") as report:
        if given is not None:
            say(f"{source}: {given.said}, no model runs")
            built = index_provided(output, given, encoder, sparse, report, tenant, engine)
        else:
            assert model is not None
            built = _index_corpus(
                source, model, encoder, output, sparse, report, tenant, engine, base, device, max_length, top_k
            )
    _say(output, built)


def _index_corpus(
    corpus: Path,
    model: str,
    encoder: QueryEncoder,
    output: Path,
    sparse: str | None,
    report: Report,
    tenant: str | None,
    engine: str,
    base: str | None,
    device: str,
    max_length: int,
    top_k: int | None,
) -> IngestReport:
    from lightretriever.index.ingest import index_corpus

    documents, total = begin_corpus(corpus)
    from lightretriever.document.encoder import DocumentEncoder

    wanted = {None: "auto", "lm": "lm"}.get(sparse, "none")
    tower = DocumentEncoder.load(model, base=base, device=device, max_length=max_length, sparse=wanted, top_k=top_k)

    def with_total(phase: str) -> Progress:
        show = report(phase)
        return lambda done, known: show(done, known if known is not None else total)

    kind = sparse or ("lm" if tower.has_sparse else "bm25")
    return index_corpus(output, documents, tower, encoder, kind, with_total, tenant, engine)


def _say(output: Path, built: IngestReport) -> None:
    if built.complete_before:
        say(f"{output}: complete already, {counted(built.documents, 'documents')}")
        return
    say(f"{output}: {counted(built.documents, 'documents')}")
    if built.duplicates:
        say(f"warning: {counted(built.duplicates, 'documents')} with an id that came again: the last of each is kept")
    if built.without_dense:
        without = counted(built.without_dense, "documents")
        say(f"warning: {without} without a dense vector, found by the sparse arm alone")
