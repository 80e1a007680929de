"""Documents into an index: split, encoded, a table fitted where none is given, stored; interrupted, it goes on."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

from lightretriever.errors import ArtifactError, InputError
from lightretriever.index.folder import load_settings
from lightretriever.index.index import Index
from lightretriever.index.ingest import IngestReport, index_corpus, ingest_vectors
from lightretriever.index.settings import LOCAL
from lightretriever.index.store.files import NotedFile
from lightretriever.passages.split import PassageOptions, passage_documents, split_documents
from lightretriever.paths import absolute
from lightretriever.pipeline.documents import SourceOptions, Tally, is_corpus, source_documents
from lightretriever.progress import Report
from lightretriever.query.encoder import QueryEncoder
from lightretriever.query.table import TokenTable
from lightretriever.tables.at_hand import Begin, silent
from lightretriever.text.corpus import Document
from lightretriever.vectors.encode import encode_corpus
from lightretriever.vectors.folder import VectorsFolder

if TYPE_CHECKING:
    from lightretriever.document.encoder import DocumentEncoder

_VECTORS, _TABLE = "vectors", "table"


@dataclass(frozen=True)
class TowerOptions:
    """The document tower; see `DocumentEncoder.load`."""

    model: str = "minilm"
    base: str | None = None
    device: str = "auto"
    max_length: int = 512
    top_k: int | None = None


@dataclass(frozen=True)
class BuildOptions:
    """How an index is made of documents.

    Attributes:
        tower: encodes the documents.
        table: the token table that queries are looked up in; None: one is fitted to the documents.
        sentences: of the documents, encoded for that fit, at most.
        sparse: "lm", "bm25" or "none"; None: the model's own where it has one, else "bm25".
        passages: how documents are split.
        sources: which files are read, and how much one may cost.
        tenant, engine: as for `Index.create`.
    """

    tower: TowerOptions = field(default_factory=TowerOptions)
    table: Path | None = None
    sentences: int = 8_000
    sparse: str | None = None
    passages: PassageOptions = field(default_factory=PassageOptions)
    sources: SourceOptions = field(default_factory=SourceOptions)
    tenant: str | None = None
    engine: str = LOCAL

    @property
    def split(self) -> PassageOptions | None:
        """How documents are split; None where they stay whole."""
        return self.passages if self.passages.tokens else None


@dataclass(frozen=True)
class Built:
    """What building came to.

    Attributes:
        tally: what was read, and what was not.
        stored: passages where documents are split.
    """

    tally: Tally
    stored: IngestReport


def build_index(
    output: str | Path,
    sources: Sequence[Path] = (),
    documents: Iterable[Document] = (),
    options: BuildOptions | None = None,
    begin: Begin = silent,
) -> Built:
    """An index of what sources hold; run again after an interruption, it goes on where it was.

    What is made on the way, vectors and table, is in a folder beside the index, ``INDEX.building``, until it is done.

    Args:
        output: the index; new, or begun by the same call.
        sources: files and folders; a file of rows (.jsonl, .csv, .tsv, .parquet) or a BEIR folder is a corpus, each row
            a document.
        begin: gives the progress function of each phase, by its name and what it counts.

    Raises:
        InputError: a source does not exist, nothing in it can be read, or a corpus has a row that is no document.
        MismatchError: the output was begun with other documents or options.
        ArtifactError: the output is complete already, something else or damaged, or the disk is full.
        MissingExtraError: the model, or a format, needs an extra that is not installed.
    """
    options, path = options or BuildOptions(), absolute(output)
    if path.exists() and load_settings(path).state == "complete":
        raise ArtifactError(f"{output} is complete: bring it up to date with `sync`, or choose another output")
    tally, noted = Tally(), dict[str, NotedFile]()
    read = source_documents(sources, documents, options.sources, tally, noted)
    first = list(islice(read, 1))  # before a model is loaded, which takes seconds
    if not first:
        raise InputError(_nothing(sources, tally))
    tower = _load(options)
    rows = _rows(chain(first, read), tower, options.passages)
    stored = (_fitted if options.table is None else _with_table)(path, rows, tower, options, begin)
    with Index.open(path, engine=options.engine) as index:
        index.note_files(noted.values(), sources=[source for source in sources if not is_corpus(source)])
    shutil.rmtree(_beside(path), ignore_errors=True)
    return Built(tally, stored)


def _nothing(sources: Sequence[Path], tally: Tally) -> str:
    """Why there is nothing to index."""
    named = ", ".join(map(str, sources))
    reasons = [f"{count:,} {reason}" for reason, count in tally.left_out.most_common(3)]
    if tally.unreadable:
        return tally.unreadable[0] if len(tally.unreadable) == 1 else f"{tally.unreadable[0]}, and others likewise"
    return f"{named} holds no documents" + (f" (left out: {', '.join(reasons)})" if reasons else "")


def _load(options: BuildOptions) -> DocumentEncoder:
    from lightretriever.document.encoder import DocumentEncoder

    tower = options.tower
    wanted = {None: "auto", "lm": "lm"}.get(options.sparse, "none")
    return DocumentEncoder.load(
        tower.model,
        base=tower.base,
        device=tower.device,
        max_length=tower.max_length,
        sparse=wanted,
        top_k=tower.top_k,
    )


def _rows(documents: Iterable[Document], tower: DocumentEncoder, options: PassageOptions) -> Iterator[Document]:
    """What is encoded: passages, or documents where these stay whole."""
    if not options.tokens:
        yield from documents
        return
    for document, passages in split_documents(documents, tower.tokenizer, options):
        yield from passage_documents(document, passages, options)


def _with_table(
    path: Path, rows: Iterator[Document], tower: DocumentEncoder, options: BuildOptions, begin: Begin
) -> IngestReport:
    assert options.table is not None
    encoder, sparse, phases = QueryEncoder.load(options.table), _sparse(tower, options), _phases(options, begin)
    return index_corpus(path, rows, tower, encoder, sparse, phases, options.tenant, options.engine, options.split)


def _fitted(
    path: Path, rows: Iterator[Document], tower: DocumentEncoder, options: BuildOptions, begin: Begin
) -> IngestReport:
    folder = _beside(path)
    folder.mkdir(parents=True, exist_ok=True)
    encode_corpus(rows, tower, folder / _VECTORS, progress=begin("encoding", _counted(options)))
    vectors = VectorsFolder.open(folder / _VECTORS)
    if not (folder / _TABLE).exists():
        _fit(vectors, tower, options, begin).save(folder / _TABLE)
    encoder, sparse, phases = QueryEncoder.load(folder / _TABLE), _sparse(tower, options), _phases(options, begin)
    return ingest_vectors(path, vectors, encoder, sparse, phases, options.tenant, options.engine, options.split)


def _fit(vectors: VectorsFolder, tower: DocumentEncoder, options: BuildOptions, begin: Begin) -> TokenTable:
    from lightretriever.tables.fit import fit_tables

    texts = chain.from_iterable(vectors.documents())
    (table,) = fit_tables(tower, texts, [None], vectors, max_sentences=options.sentences, begin=begin)
    return table


def _counted(options: BuildOptions) -> str:
    return "passages" if options.split else "documents"


def _phases(options: BuildOptions, begin: Begin) -> Report:
    return lambda phase: begin(phase, _counted(options))


def _sparse(tower: DocumentEncoder, options: BuildOptions) -> str:
    return options.sparse or ("lm" if tower.has_sparse else "bm25")


def _beside(path: Path) -> Path:
    """What is made on the way."""
    return path.with_name(f"{path.name}.building")
