"""Which document tower suits look-up queries on a corpus: each one's table, fitted to a sample and held to its tower.

How good a tower is does not say how good its table is: one that reads word order closely has more to lose. So each
encodes the same sample, a table is fitted, and for texts held out of the fit the look-up's ranking is compared with
the tower's own.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter

from lightretriever.bench.clock import take_turns
from lightretriever.document.options import TowerOptions
from lightretriever.errors import InputError, UsageError
from lightretriever.query.encoder import QueryEncoder
from lightretriever.tables.at_hand import Begin, silent
from lightretriever.tables.bags import text_key
from lightretriever.tables.fit import fit_table
from lightretriever.tables.options import FitOptions
from lightretriever.text.corpus import Document
from lightretriever.text.sentences import split_sentences

LEAST = 100
"""Documents: of fewer, too few texts are held out to say anything."""
_QUERIES = 200  # whose encoding is timed
_PATIENCE = 10.0  # seconds that this may take


@dataclass(frozen=True, slots=True)
class ScreenOptions:
    """How towers are compared.

    Attributes:
        towers: how each is loaded, its model aside.
        documents: of the corpus at most, an even sample that depends on the texts alone.
        sentences: of these, encoded besides, at most.
    """

    towers: TowerOptions = field(default_factory=TowerOptions)
    documents: int = 1_000
    sentences: int = 2_000


@dataclass(frozen=True, slots=True)
class Screened:
    """One tower, on the sample.

    Attributes:
        model: its name.
        dim: d of its vectors.
        overlap: for texts held out of the fit, the share of the tower's ten best documents that is among the look-up's.
        ndcg: nDCG@10 of the look-up, by these.
        document_ms: milliseconds that a document took to encode, by the clock.
        query_us: microseconds that a query of words seen before takes to look up, median.
        table_bytes: of the table's rows in float32.
    """

    model: str
    dim: int
    overlap: float
    ndcg: float
    document_ms: float
    query_us: float
    table_bytes: int


def screen(
    models: Sequence[str], documents: Iterable[Document], options: ScreenOptions | None = None, begin: Begin = silent
) -> Iterator[Screened]:
    """Compare towers one by one; only one is in memory at a time.

    Args:
        models: names or folders, as `DocumentEncoder.load` takes them.
        documents: the corpus, streamed once.
        options: how.
        begin: gives the progress function of each phase, by its name and what it counts.

    Raises:
        UsageError: no models, or one twice.
        InputError: fewer than `LEAST` different documents with a text.
        ModelError, MissingExtraError: a model cannot be loaded; those before it were compared.
    """
    options = options or ScreenOptions()
    if not models or len(set(models)) < len(models):
        raise UsageError("name the models to compare, none of them twice")
    sample = _sample(documents, options.documents)
    if len(sample) < LEAST:
        raise InputError(
            f"{len(sample)} different documents with a text: at least {LEAST} are needed to compare models"
        )
    for model in models:
        yield _screen(model, sample, options, begin)


def _screen(model: str, sample: Sequence[Document], options: ScreenOptions, begin: Begin) -> Screened:
    tower = replace(options.towers, model=model).load("none")
    progress = begin(f"encoding with {model}", "documents")
    began = time.perf_counter()
    dense = tower.encode(sample, progress).dense
    document_ms = 1_000 * (time.perf_counter() - began) / len(sample)
    how = FitOptions(max_sentences=options.sentences)
    sentences = begin(f"fitting to {model}", "sentences")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*are few for this vocabulary")  # it is a sample
        table = fit_table(tower, sample, vectors=(sample, dense), prior="zero", options=how, progress=sentences)
    fitted = table.fitted or {}
    overlap, ndcg = fitted.get("held_out_overlap"), fitted.get("held_out_ndcg")
    assert isinstance(overlap, float)  # the sample is large enough
    assert isinstance(ndcg, float)
    queries = [split_sentences(document.text)[0] for document in sample[:_QUERIES]]
    return Screened(
        model, table.dim, overlap, ndcg, document_ms, _microseconds(QueryEncoder(table), queries), 4 * table.rows.size
    )


def _microseconds(encoder: QueryEncoder, queries: Sequence[str]) -> float:
    encoder.encode(queries)  # whose words it remembers from then on
    (timing,) = take_turns("", {"": encoder.encode}, queries, {"": 1}, turns=1, seconds=_PATIENCE, calls=len(queries))
    return 1e6 * timing.p50


def _sample(documents: Iterable[Document], most: int) -> list[Document]:
    """So many different documents that have a text: those that sort first by their texts' keys."""
    kept: dict[bytes, Document] = {}
    for document in documents:
        if split_sentences(document.text):
            kept[text_key(document.input)] = document
        if len(kept) > 2 * most:
            kept = dict(sorted(kept.items(), key=itemgetter(0))[:most])
    return [document for _, document in sorted(kept.items(), key=itemgetter(0))[:most]]
