"""Documents into an index: split, encoded, a table fitted where none is given, stored; interrupted, it goes on."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

from lightretriever.document.folder import MINILM
from lightretriever.document.options import TowerOptions
from lightretriever.errors import InputError, MismatchError, UsageError
from lightretriever.index.engines.engine import pages
from lightretriever.index.folder import load_settings
from lightretriever.index.index import Index
from lightretriever.index.ingest import IngestReport, index_corpus, ingest_vectors
from lightretriever.index.settings import LOCAL, check_analyser, check_model
from lightretriever.index.store.files import NotedFile
from lightretriever.passages.options import PassageOptions
from lightretriever.passages.split import split_rows
from lightretriever.paths import absolute
from lightretriever.pipeline.building import table_beside, vectors_beside
from lightretriever.pipeline.documents import SourceOptions, Tally, is_corpus, source_documents
from lightretriever.progress import Report
from lightretriever.query.encoder import QueryEncoder
from lightretriever.query.table import TokenTable
from lightretriever.tables.at_hand import Begin, silent
from lightretriever.text.analysers.analyser import Analyser
from lightretriever.text.corpus import Document
from lightretriever.vectors.encode import encode_corpus
from lightretriever.vectors.folder import VectorsFolder
from lightretriever.vectors.parts import content_lines

if TYPE_CHECKING:
    from lightretriever.document.encoder import DocumentEncoder

_TOGETHER = 512  # documents compared at once


@dataclass(frozen=True)
class BuildOptions:
    """How an index is made of documents.

    Attributes:
        tower: encodes the documents.
        table: the token table that queries are looked up in; None: one is fitted to the documents.
        sentences: of the documents, encoded for that fit, at most.
        sparse: "lm", "bm25" or "none"; None: the model's own where it has one and no analyser is given, else "bm25".
        analyser: what "bm25" counts; None: what the documents' language wants.
        passages: how documents are split; None: files are, with the defaults, and rows of a corpus, which somebody cut
            already, stay whole.
        sources: which files are read, and how much one may cost.
        tenant, engine: as for `Index.create`.
    """

    tower: TowerOptions = field(default_factory=TowerOptions)
    table: Path | None = None
    sentences: int = 8_000
    sparse: str | None = None
    analyser: Analyser | None = None
    passages: PassageOptions | None = None
    sources: SourceOptions = field(default_factory=SourceOptions)
    tenant: str | None = None
    engine: str = LOCAL

    @property
    def asked(self) -> str | None:
        """The sparse side that is asked for: an analyser is BM25's; None: the model's own where it has one."""
        return self.sparse or (None if self.analyser is None else "bm25")

    @property
    def split(self) -> PassageOptions | None:
        """How documents are split; None where they stay whole."""
        return self.passages if self.passages and self.passages.tokens else None


@dataclass(frozen=True)
class Built:
    """What building came to.

    Attributes:
        tally: what was read, and what was not.
        stored: passages where documents are split.
        split: whether they are.
    """

    tally: Tally
    stored: IngestReport
    split: bool


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
        documents: more of them, from their beginning, in the same order every time.
        options: how it is made.
        begin: gives the progress function of each phase, by its name and what it counts.

    Raises:
        InputError: a source does not exist, nothing in it can be read, or a corpus has a row that is no document.
        MismatchError: the output was begun with other documents or options, or is complete and was made of others.
        ArtifactError: the output is something else or damaged, or the disk is full.
        MissingExtraError: the model, or a format, needs an extra that is not installed.
    """
    options, path = options or BuildOptions(), absolute(output)
    check_analyser(options.analyser, options.sparse or "bm25", options.engine)
    if options.passages is None:
        split = any(source.exists() and not is_corpus(source) for source in sources)
        options = replace(options, passages=PassageOptions() if split else PassageOptions(0))
    tally, noted = Tally(), dict[str, NotedFile]()
    once = options.split is not None  # else the last of each id wins, as ever
    read = source_documents(sources, documents, options.sources, tally, noted, once)
    first = list(islice(read, 1))  # before a model is loaded, which takes seconds
    if not first:
        raise InputError(_nothing(sources, tally))
    stream = chain(first, read)
    if options.table is None and path.exists() and load_settings(path).state == "complete":
        return Built(tally, _complete_before(path, stream, options), options.split is not None)
    tower = _load(options)
    rows = split_rows(stream, tower.tokenizer, options.split)
    stored = (_fitted if options.table is None else _with_table)(path, rows, tower, options, begin)
    with Index.open(path, engine=options.engine) as index:
        index.note_files(noted.values())
        followed, which = [source for source in sources if not is_corpus(source)], options.sources.walk
        index.follow(followed, which.include, which.exclude)
    shutil.rmtree(vectors_beside(path).parent, ignore_errors=True)
    return Built(tally, stored, options.split is not None)


def _complete_before(path: Path, documents: Iterable[Document], options: BuildOptions) -> IngestReport:
    """What a complete index holds, if that is what it would be made of; no model is loaded for it.

    Raises:
        MismatchError: it holds other documents, or they are split otherwise.
    """
    with Index.open(path, engine=options.engine) as index:
        way_out = "`sync` or `add` bring it up to date; or choose another output"
        if index.settings.passages != options.split:
            raise MismatchError(f"{path} is complete, and splits documents otherwise: {way_out}")
        wanted, read = dict[bytes, bytes](), 0
        for row in split_rows(documents, index.encoder.table.tokenizer, options.split):
            wanted[_digest(row.id.encode())] = _digest(content_lines([row]))
            read += 1
        for page in pages(index.engine, _TOGETHER):
            for row in page.documents:
                if wanted.pop(_digest(row.id.encode()), None) != _digest(content_lines([row])):
                    raise MismatchError(f"{path} is complete, and was made of other documents: {way_out}")
        if wanted:
            raise MismatchError(f"{path} is complete, and lacks some of these documents: {way_out}")
        count, zeros = index.count, index.settings.zeros
        return IngestReport(count, read, 0, zeros, resumed=True, complete_before=True, seconds={})


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


def _nothing(sources: Sequence[Path], tally: Tally) -> str:
    """Why there is nothing to index."""
    named = ", ".join(map(str, sources))
    reasons = [f"{count:,} {reason}" for reason, count in tally.left_out.most_common(3)]
    if tally.unreadable:
        return tally.unreadable[0] if len(tally.unreadable) == 1 else f"{tally.unreadable[0]}, and others likewise"
    return f"{named} holds no documents" + (f" (left out: {', '.join(reasons)})" if reasons else "")


def _load(options: BuildOptions) -> DocumentEncoder:
    named = options.tower
    tower = named.load({None: "auto", "lm": "lm"}.get(options.asked, "none"))
    if options.table is not None and named.model is None:
        table = TokenTable.load(options.table)
        try:
            check_model(f"{options.table}", table.model, table.revision, MINILM, tower.name, tower.revision)
        except MismatchError as error:
            raise UsageError(f"{error}: name the table's with --model") from None
    return tower


def _with_table(
    path: Path, rows: Iterator[Document], tower: DocumentEncoder, options: BuildOptions, begin: Begin
) -> IngestReport:
    assert options.table is not None
    encoder, sparse, phases = QueryEncoder.load(options.table), _sparse(tower, options), _phases(options, begin)
    more = (options.tenant, options.engine, options.split, options.analyser)
    return index_corpus(path, rows, tower, encoder, sparse, phases, *more)


def _fitted(
    path: Path, rows: Iterator[Document], tower: DocumentEncoder, options: BuildOptions, begin: Begin
) -> IngestReport:
    folder, table = vectors_beside(path), table_beside(path)
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        encode_corpus(rows, tower, folder, progress=begin("encoding", _counted(options)))
    except MismatchError as error:
        raise MismatchError(
            f"{error}; or remove {folder.parent}, where what was interrupted is, to begin anew"
        ) from None
    vectors = VectorsFolder.open(folder)
    if not table.exists():
        _fit(vectors, tower, options, begin).save(table)
    encoder, sparse, phases = QueryEncoder.load(table), _sparse(tower, options), _phases(options, begin)
    more = (options.tenant, options.engine, options.split, options.analyser)
    return ingest_vectors(path, vectors, encoder, sparse, phases, *more)


def _fit(vectors: VectorsFolder, tower: DocumentEncoder, options: BuildOptions, begin: Begin) -> TokenTable:
    from lightretriever.tables.fit import fit_tables
    from lightretriever.tables.options import FitOptions

    texts = chain.from_iterable(vectors.documents())
    how = FitOptions(max_sentences=options.sentences)
    (table,) = fit_tables(tower, texts, [None], vectors, options=how, begin=begin)
    return table


def _counted(options: BuildOptions) -> str:
    return "passages" if options.split else "documents"


def _phases(options: BuildOptions, begin: Begin) -> Report:
    return lambda phase: begin(phase, _counted(options))


def _sparse(tower: DocumentEncoder, options: BuildOptions) -> str:
    return options.asked or ("lm" if tower.has_sparse else "bm25")
