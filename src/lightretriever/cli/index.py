"""``index``: a corpus, or documents already encoded, into a searchable index; resumable."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lightretriever.cli.console import Progress, phases, say
from lightretriever.cli.options import MODEL_HELP, Base, Device, MaxLength, TopK
from lightretriever.errors import UsageError

if TYPE_CHECKING:
    from lightretriever.index.ingest import IngestReport
    from lightretriever.query.encoder import QueryEncoder
    from lightretriever.vectors.folder import VectorsFolder

EXAMPLE = "lightretriever index corpus.jsonl --model minilm --table table -o everest.index --sparse bm25"


def command(
    source: Annotated[Path, typer.Argument(metavar="CORPUS|VECTORS", help="A corpus, or what encode wrote.")],
    table: Annotated[Path, typer.Option(metavar="TABLE", help="The token table: queries are encoded by it.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="INDEX", help="Folder to build the index in.")],
    model: Annotated[str | None, typer.Option(metavar="MODEL", help=MODEL_HELP)] = None,
    sparse: Annotated[
        str | None,
        typer.Option(metavar="lm|bm25|none", help="Sparse side; the model's own, or bm25 where it has none."),
    ] = None,
    engine: Annotated[
        str,
        typer.Option(metavar="edge|URL", help="What holds it: edge, or http(s)://host:6333/name of a Qdrant server."),
    ] = "edge",
    corpus: Annotated[
        Path | None, typer.Option(metavar="CORPUS", help="The documents of a .npy or .parquet file of vectors.")
    ] = None,
    base: Base = None,
    device: Device = "auto",
    max_length: MaxLength = 512,
    top_k: TopK = None,
    tenant: Annotated[
        str | None, typer.Option(metavar="FIELD", help="Metadata field that every search's filter must fix.")
    ] = None,
) -> None:
    """Build an index. Run it again after an interruption: it goes on where it was, and does nothing twice."""
    from lightretriever.index.qdrant_url import check_engine

    engine = check_engine(engine)
    encoded = (source / "manifest.json").is_file()
    if encoded and corpus is not None:
        raise UsageError(f"{source} brings its own documents: leave --corpus out")
    if source.suffix == ".npy" and corpus is None:
        raise UsageError(f"{source} holds vectors alone: name their documents with --corpus")
    from lightretriever.index.manifest import SPARSE_KINDS
    from lightretriever.query.encoder import QueryEncoder

    if sparse is not None and sparse not in SPARSE_KINDS:
        raise UsageError(f"--sparse {sparse}: choose one of {', '.join(SPARSE_KINDS)}")
    encoder = QueryEncoder.load(table)
    with phases("documents") as report:
        if corpus is not None:
            built = _index_provided(source, corpus, encoder, output, sparse, report, tenant, engine)
        elif encoded:
            from lightretriever.vectors.folder import VectorsFolder

            built = _index_vectors(VectorsFolder.open(source), encoder, output, sparse, report, tenant, engine)
        elif model is None:
            vectors = ", or the --corpus, if it holds vectors" if source.suffix == ".parquet" else ""
            raise UsageError(f"{source} has to be encoded: name the --model (or index what `encode` wrote){vectors}")
        else:
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
    report: Callable[[str], Progress],
    tenant: str | None,
    engine: str,
    base: str | None,
    device: str,
    max_length: int,
    top_k: int | None,
) -> IngestReport:
    from lightretriever.index.ingest import index_corpus
    from lightretriever.text.corpus import estimate_count, read_corpus

    documents, total = read_corpus(corpus), estimate_count(corpus)
    from lightretriever.document.encoder import DocumentEncoder

    wanted = {None: "auto", "lm": "lm"}.get(sparse, "none")
    tower = DocumentEncoder.load(model, base=base, device=device, max_length=max_length, sparse=wanted, top_k=top_k)

    def with_total(phase: str) -> Progress:
        show = report(phase)
        return lambda done, known: show(done, known if known is not None else total)

    kind = sparse or ("lm" if tower.has_sparse else "bm25")
    return index_corpus(output, documents, tower, encoder, kind, with_total, tenant, engine)


def _index_vectors(
    vectors: VectorsFolder,
    encoder: QueryEncoder,
    output: Path,
    sparse: str | None,
    report: Callable[[str], Progress],
    tenant: str | None,
    engine: str,
) -> IngestReport:
    from lightretriever.index.ingest import ingest_vectors

    kind = sparse or ("lm" if vectors.sparse_width is not None else "bm25")
    return ingest_vectors(output, vectors, encoder, kind, report, tenant, engine)


def _index_provided(
    source: Path,
    corpus: Path,
    encoder: QueryEncoder,
    output: Path,
    sparse: str | None,
    report: Callable[[str], Progress],
    tenant: str | None,
    engine: str,
) -> IngestReport:
    """A provider's vectors become a vectors folder beside the index first; it goes when this ends, however it ends.

    It costs no model, so it is made anew each time: whatever changed in the vectors, their ids or the corpus since an
    interrupted run shows in its digest, which a half-built index is checked against.
    """
    from lightretriever.artifact import sha256_file
    from lightretriever.vectors.folder import VectorsFolder, VectorsWriter
    from lightretriever.vectors.provider import read_provider_vectors

    folder = output.with_name(f"{output.name}.vectors")
    table = encoder.table
    show = report("reading")
    settings = {"provider_vectors": sha256_file(source)}

    def begin(dim: int) -> VectorsWriter:
        model, revision = table.model, table.revision
        return VectorsWriter.open(
            folder, model=model, revision=revision, dim=dim, settings=settings, width=None, dtype="float32"
        )

    writer: VectorsWriter | None = None
    try:
        for documents, encoded in read_provider_vectors(source, corpus):
            if writer is None:
                writer = begin(encoded.dense.shape[1])
                if writer.done or writer.finished:  # by a run that was killed
                    writer.close()
                    shutil.rmtree(folder)
                    writer = begin(encoded.dense.shape[1])
            writer.append(documents, encoded)
            show(writer.done, None)
        if writer is not None:
            writer.finish()
        return _index_vectors(VectorsFolder.open(folder), encoder, output, sparse or "bm25", report, tenant, engine)
    finally:
        if writer is not None:
            writer.close()
            shutil.rmtree(folder, ignore_errors=True)


def _say(output: Path, built: IngestReport) -> None:
    if built.complete_before:
        say(f"{output}: complete already, {built.documents:,} documents")
        return
    say(f"{output}: {built.documents:,} documents")
    if built.duplicates:
        say(f"warning: {built.duplicates:,} documents had an id that came again: the last of each is kept")
    if built.without_dense:
        say(f"warning: {built.without_dense:,} documents have no dense vector: only the sparse arm finds them")
