"""Documents that come with their vectors, into an index: what `encode` wrote, or a provider's file."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lightretriever.artifact import MANIFEST, sha256_file
from lightretriever.errors import UsageError
from lightretriever.index.added import Added
from lightretriever.index.index import Index
from lightretriever.index.ingest import IngestReport, ingest_vectors
from lightretriever.index.settings import LOCAL, check_model
from lightretriever.progress import Progress, Report, silent
from lightretriever.query.encoder import QueryEncoder
from lightretriever.query.table import TokenTable
from lightretriever.query.table_manifest import read_table_manifest
from lightretriever.text.analysers.analyser import Analyser
from lightretriever.vectors.columns import Columns
from lightretriever.vectors.folder import VectorsFolder, VectorsWriter
from lightretriever.vectors.provider import read_provider_vectors, vector_columns


@dataclass(frozen=True, slots=True)
class Provided:
    """Documents that have their vectors.

    Attributes:
        source: a vectors folder, or a provider's file; see `read_provider_vectors`.
        corpus: the documents of a file that holds vectors alone.
        columns: of a file with named fields; those of a file that holds texts too are all known.
    """

    source: Path
    corpus: Path | None = None
    columns: Columns = field(default_factory=Columns)

    @staticmethod
    def find(
        source: Path, corpus: Path | None, columns: str | None, encode: bool, table: Path | None
    ) -> Provided | None:
        """What the source holds, if it is vectors; None for texts that have to be encoded.

        Args:
            source: a vectors folder, or a file.
            corpus: the documents, where they are named.
            columns: as for `Columns.parse`.
            encode: whether texts are to be encoded, even those that a file has vectors for.
            table: the token table of the index, which says what vectors it can have; None where there is none yet.

        Raises:
            InputError: there is no such source, or it cannot be read, or not what is named as its vectors.
            ArtifactError: there is no such table.
            UsageError: a corpus beside a source that brings its documents, or none beside one that does not; columns
                that cannot be.
        """
        named = Columns() if columns is None else Columns.parse(columns)
        if (source / MANIFEST).is_file():
            if corpus is not None or columns is not None:
                raise UsageError(f"{source} brings its own documents: leave --corpus and --columns out")
            return Provided(source)
        if corpus is None and source.suffix.lower() == ".npy":
            raise UsageError(f"{source} holds vectors alone: name their documents with --corpus")
        if corpus is not None:
            return Provided(source, corpus, named)
        found = (
            None
            if encode and columns is None
            else vector_columns(source, named, None if table is None else _width(table))
        )
        if found is None and columns is not None:
            return Provided(source, None, named)  # its reader says what is missing
        return None if found is None else Provided(source, None, found)

    @property
    def said(self) -> str:
        """Where the vectors come from, for the person watching."""
        return f"vectors of its column {self.columns.vector!r}" if self.columns.vector else "the vectors that it holds"


def index_provided(
    path: Path,
    given: Provided,
    encoder: QueryEncoder,
    sparse: str | None = None,
    report: Report | None = None,
    tenant: str | None = None,
    engine: str = LOCAL,
    analyser: Analyser | None = None,
) -> IngestReport:
    """Index documents that have their vectors, without any document model; run again on the same output, it resumes.

    Args:
        given: the documents.
        sparse: "lm", "bm25" or "none"; None: "lm" where there are such vectors and no analyser is given, else "bm25".
        path, encoder, report, tenant, engine, analyser: as for `ingest_vectors`.

    Raises:
        As `ingest_vectors` and `read_provider_vectors`.
    """
    if (given.source / MANIFEST).is_file():
        vectors = VectorsFolder.open(given.source)
        kind = sparse or ("bm25" if vectors.sparse_width is None or analyser else "lm")
        return ingest_vectors(path, vectors, encoder, kind, report, tenant, engine, analyser=analyser)
    progress = report("reading") if report else silent
    with _staged(path.with_name(f"{path.name}.vectors"), given, encoder.table, progress) as vectors:
        return ingest_vectors(path, vectors, encoder, sparse or "bm25", report, tenant, engine, analyser=analyser)


def add_provided(index: Index, given: Provided, progress: Progress | None = None) -> Added:
    """Add documents that have their vectors to an index, replacing those of equal id; streamed.

    Raises:
        MismatchError: the vectors are of another model or dimension than the index's.
        Else as `Index.add_encoded` and `read_provider_vectors`.
    """
    if not (given.source / MANIFEST).is_file():
        return index.add_encoded(read_provider_vectors(given.source, given.corpus, given.columns), progress)
    vectors, settings = VectorsFolder.open(given.source), index.settings
    check_model(f"{given.source}", vectors.model, vectors.revision, f"{index.path}", settings.model, settings.revision)
    return index.add_encoded(vectors.parts(), progress)


def _width(table: Path) -> int:
    """How many dimensions documents' vectors have, before the table turns them."""
    noted = read_table_manifest(table)
    return int(noted["rotation"][0] if noted["rotation"] else noted["shape"][1])


@contextmanager
def _staged(folder: Path, given: Provided, table: TokenTable, progress: Progress) -> Iterator[VectorsFolder]:
    """A provider's vectors as a vectors folder beside the index, which goes when this ends, however it ends.

    It costs no model, so it is made anew each time: whatever changed in the vectors, their ids or the corpus since an
    interrupted run shows in its digest, which a half-built index is checked against.
    """
    settings = {"provider_vectors": sha256_file(given.source)}

    def begin(dim: int) -> VectorsWriter:
        model, revision = table.model, table.revision
        return VectorsWriter.open(
            folder, model=model, revision=revision, dim=dim, settings=settings, width=None, dtype="float32"
        )

    writer: VectorsWriter | None = None
    try:
        for documents, encoded in read_provider_vectors(given.source, given.corpus, given.columns):
            if writer is None:
                writer = begin(encoded.dense.shape[1])
                if writer.done or writer.finished:  # by a run that was killed
                    writer.close()
                    shutil.rmtree(folder)
                    writer = begin(encoded.dense.shape[1])
            writer.append(documents, encoded)
            progress(writer.done, None)
        if writer is not None:
            writer.finish()
        yield VectorsFolder.open(folder)
    finally:
        if writer is not None:
            writer.close()
            shutil.rmtree(folder, ignore_errors=True)
