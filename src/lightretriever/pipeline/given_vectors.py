"""Documents that come with their vectors into an index, a table fitted to them where none is given."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightretriever.index.ingest import IngestReport
from lightretriever.index.provided import Provided, index_provided
from lightretriever.index.settings import LOCAL, check_analyser
from lightretriever.paths import absolute
from lightretriever.pipeline.building import table_beside
from lightretriever.query.encoder import QueryEncoder
from lightretriever.query.table import TokenTable
from lightretriever.tables.at_hand import Begin, silent
from lightretriever.text.analysers.analyser import Analyser
from lightretriever.text.corpus import Document
from lightretriever.text.tokenizer import packaged_tokenizer
from lightretriever.vectors.columns import Columns
from lightretriever.vectors.folder import VectorsFolder
from lightretriever.vectors.provider import read_provider_vectors


def index_given(
    output: str | Path,
    given: Provided,
    table: Path | None = None,
    sparse: str | None = None,
    tenant: str | None = None,
    engine: str = LOCAL,
    begin: Begin = silent,
    analyser: Analyser | None = None,
) -> IngestReport:
    """Index documents that have their vectors; run again after an interruption, it goes on where it was.

    Args:
        output: the index; new, or begun by the same call.
        given: the documents.
        table: the token table that queries are looked up in; None: one is fitted to the vectors. Where nobody knows
            what their model splits text by, queries are split by minilm's tokenizer.
        sparse, tenant, engine, analyser: as for `index_provided`.
        begin: gives the progress function of each phase, by its name and what it counts.

    Raises:
        As `index_provided` and `fit_table`.
    """
    path = absolute(output)
    check_analyser(analyser, sparse or "bm25", engine)
    if table is not None:
        encoder = QueryEncoder.load(table)
    elif (path / "table").exists():
        encoder = QueryEncoder.load(path / "table")  # it was complete before, or is half built
    else:
        place = table_beside(path)
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            _fit(given, begin).save(place)
        encoder = QueryEncoder.load(place)
    built = index_provided(
        path, given, encoder, sparse, lambda phase: begin(phase, "documents"), tenant, engine, analyser
    )
    if table is None:
        shutil.rmtree(table_beside(path).parent, ignore_errors=True)
    return built


def open_vectors(
    source: Path, corpus: Path | None = None, columns: Columns | None = None
) -> VectorsFolder | tuple[list[Document], NDArray[np.float32]]:
    """Documents with their vectors, to fit a table to: a vectors folder, or what a file of vectors holds.

    Args:
        source, corpus, columns: as for `read_provider_vectors`.

    Raises:
        As `VectorsFolder.open` and `read_provider_vectors`.
    """
    if not source.is_file():
        return VectorsFolder.open(source)
    parts = list(read_provider_vectors(source, corpus, columns or Columns()))
    documents = [document for read, _ in parts for document in read]
    return documents, np.concatenate([encoded.dense for _, encoded in parts])


def _fit(given: Provided, begin: Begin) -> TokenTable:
    from lightretriever.tables.fit import fit_tables

    vectors = open_vectors(given.source, given.corpus, given.columns)
    words = None if (given.source / "tokenizer.json").is_file() else packaged_tokenizer()
    (table,) = fit_tables(None, (), [None], vectors, tokenizer=words, begin=begin)
    return table
