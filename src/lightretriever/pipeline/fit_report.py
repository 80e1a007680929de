"""What a fitted table keeps of its model, measured: queries to measure by, documents to search, the report's folder."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lightretriever.errors import InputError, UsageError
from lightretriever.progress import Report

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lightretriever.document.encoder import DocumentEncoder
    from lightretriever.evaluation.collection import Collection
    from lightretriever.index.index import Index
    from lightretriever.query.table import TokenTable
    from lightretriever.text.corpus import Document
    from lightretriever.vectors.folder import VectorsFolder

    Vectors = VectorsFolder | tuple[list[Document], NDArray[np.float32]]

HELD_OUT = 200  # sentences that a report without judgements is measured on
_FITTED = 5_000  # sentences of the fit that stand for documents where there are none


@dataclass(frozen=True)
class Held:
    """The sentences of a fit.

    Attributes:
        fitted: that the table is fitted to, in the fit's own order.
        held_out: that it is not, to measure it by.
    """

    fitted: Sequence[str] = ()
    held_out: Sequence[str] = ()


def hold_out(texts: Iterable[Document], limit: int, judged: bool) -> Held:
    """The sentences of a fit to ``limit`` of the texts' at most; without judged queries some are kept from it.

    Raises:
        InputError: there are too few to keep any.
    """
    from lightretriever.tables.samples import unique_sentences

    if judged:
        return Held(unique_sentences(texts, limit)[0], ())
    chosen, _ = unique_sentences(texts, limit + HELD_OUT)
    kept = min(HELD_OUT, len(chosen) // 10)
    if not kept:
        raise InputError(f"{len(chosen)} sentences are too few to keep any for the report: give judged queries, --data")
    return Held(chosen[: len(chosen) - kept], chosen[len(chosen) - kept :])


def hold_out_documents(vectors: Vectors | None) -> Held:
    """Sentences of documents given with their vectors, to measure by; the fit has them too."""
    return Held((), hold_out(documents_of(vectors), HELD_OUT, False).held_out)


def report_fit(
    path: Path,
    table: TokenTable,
    tower: DocumentEncoder | None,
    vectors: Vectors | None,
    collection: Collection | None,
    held: Held,
    cache: str | Path | None,
    begin: Report,
) -> dict[str, float]:
    """Measure a table beside its model, and write the report: a card and a plot.

    Args:
        path: the report's folder, which must not exist.
        tower: may be None where there are a collection and vectors.
        vectors: documents with theirs, to be searched; None: the collection's, or else sentences of the fit.
        collection: judged queries; None: sentences kept from the fit, by the model's own ranking.
        held: of the fit.
        cache: the fit's.
        begin: gives the progress function of each phase.

    Returns:
        Of the full model's nDCG@10 the share that the look-up keeps, by mode.

    Raises:
        UsageError: the documents have to be encoded, and there is no tower.
        InputError: no document that the collection judges is there.
    """
    from lightretriever.evaluation.compare import compare
    from lightretriever.evaluation.reasons import count_texts
    from lightretriever.evaluation.report import Evidence, write_report
    from lightretriever.query.encoder import QueryEncoder
    from lightretriever.types import Encoded
    from lightretriever.vectors.parts import usable

    path.parent.mkdir(parents=True, exist_ok=True)
    measures = ["nDCG@10", "R@100", "RR@10"] if collection is not None else ["nDCG@10", "RR@10"]
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as scratch:
        if collection is not None:
            source = f"{len(collection.qrels):,} of {collection.path.name}'s split {collection.split}, as judged there"
            index = _index(Path(scratch) / "index", table, tower, vectors, collection, begin)
        else:
            assert tower is not None
            index = _index_unjudged(Path(scratch) / "index", table, tower, vectors, held, cache, begin)
        with index:
            if collection is None:
                assert tower is not None
                collection = _judged_by(index, tower, held.held_out)
                source = (
                    f"{len(held.held_out):,} sentences kept from the fit; relevant are the ten documents that the full "
                    "model ranks first, so its own values are 1"
                )
            found = compare(index, collection, tower, measures, depth=100, progress=begin)

    def encode(texts: list[str]) -> NDArray[np.float32]:
        assert tower is not None
        return usable(Encoded(tower.encode_queries(texts, table.prompt or None)), table.dim, table.rotation).dense

    seen = count_texts(QueryEncoder(table), [*held.fitted, *(document.input for document in documents_of(vectors))])
    write_report(path, table, Evidence(found, collection, source, seen, None if tower is None else encode))
    kept = {mode: found.retention(mode, "nDCG@10") for mode in ("dense", "hybrid")}
    return {mode: share for mode, share in kept.items() if share is not None}


def _index(
    path: Path,
    table: TokenTable,
    tower: DocumentEncoder | None,
    vectors: Vectors | None,
    collection: Collection | None,
    begin: Report,
) -> Index:
    """The documents given with their vectors, or else the collection's, encoded."""
    from lightretriever.index.index import Index
    from lightretriever.index.ingest import index_corpus, ingest_vectors
    from lightretriever.query.encoder import QueryEncoder
    from lightretriever.types import Encoded

    encoder = QueryEncoder(table)
    if isinstance(vectors, tuple):
        index = Index.create(path, encoder, "bm25")
        documents, dense = vectors
        payloads = [{"title": document.title, "text": document.text} for document in documents]
        index.add([document.id for document in documents], Encoded(dense), payloads)
    elif vectors is not None:
        ingest_vectors(path, vectors, encoder, "bm25", begin)
        index = Index.open(path)
    else:
        assert collection is not None
        if tower is None:
            raise UsageError("the report's documents have to be encoded: name the MODEL, or give their --vectors")
        index_corpus(path, collection.documents(), tower, encoder, "bm25", begin)
        index = Index.open(path)
    judged = {name for of_query in collection.qrels.values() for name in of_query} if collection is not None else set()
    if judged and not judged & {document.id for document in index.documents()}:
        index.close()
        raise InputError("--vectors holds none of the documents that --data judges: give the vectors of that corpus")
    return index


def _index_unjudged(
    path: Path,
    table: TokenTable,
    tower: DocumentEncoder,
    vectors: Vectors | None,
    held: Held,
    cache: str | Path | None,
    begin: Report,
) -> Index:
    """The documents given with their vectors, or else sentences of the fit in the place of documents."""
    if vectors is not None:
        return _index(path, table, tower, vectors, None, begin)
    from lightretriever.tables.teacher import encode_cached
    from lightretriever.text.corpus import Document

    texts = held.fitted[:_FITTED]
    dense = encode_cached(tower, texts, table.prompt, cache, begin("documents"))
    documents = [Document(str(number), text) for number, text in enumerate(texts)]
    return _index(path, table, tower, (documents, dense), None, begin)


def _judged_by(index: Index, tower: DocumentEncoder, texts: Sequence[str]) -> Collection:
    """The texts as queries, for which the full model's best ten documents are relevant."""
    from lightretriever.evaluation.collection import Collection
    from lightretriever.evaluation.compare import symmetric_encoder
    from lightretriever.evaluation.runs import search_queries

    queries = {f"text {number}": text for number, text in enumerate(texts, 1)}
    run = search_queries(index, queries, 10, "dense", encode=symmetric_encoder(index, tower, list(texts)))
    qrels = {query: dict.fromkeys(found, 1) for query, found in run.scores.items() if found}
    return Collection(Path(), "held out", {query: queries[query] for query in qrels}, qrels)


def documents_of(vectors: Vectors | None) -> Iterable[Document]:
    """The documents given with their vectors."""
    if vectors is None:
        return ()
    if isinstance(vectors, tuple):
        return vectors[0]
    return (document for part in vectors.documents() for document in part)
