"""What rows for phrases and whole queries are worth, and what they cost.

Quality: tables fitted to each collection with more and more phrases, nDCG@10 against the full model by exact search;
and a log drawn by Zipf's law from a collection's training questions, whose most frequent get rows of their own.
Cost: memory and time of a query with up to a million rows in one memory-mapped table, the systems taking turns.
Needs the `minilm` extra: `python benchmarks/phrases.py quality DIR/scifact [DIR/…]`, `… log DIR`, and `… cost`.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from fitting import MEASURE, search
from numpy.typing import NDArray
from query_encoding import RUN, make_queries, microseconds
from results import SAVED, Result, report

from lightretriever import DocumentEncoder, FitOptions, QueryEncoder, TokenTable, fit_table
from lightretriever.cli.console import folder_size, format_bytes
from lightretriever.evaluation.collection import read_collection
from lightretriever.evaluation.measures import Qrels, evaluate
from lightretriever.tables.phrases import add_queries
from lightretriever.tables.teacher import encode_cached
from lightretriever.text.corpus import Document
from lightretriever.vectors.encode import encode_corpus
from lightretriever.vectors.folder import VectorsFolder

SIZES = (0, 10_000, 100_000)
QUESTIONS, DRAWS = 5_000, 100_000  # distinct ones in a log, and how many it holds and are asked after it
COST_SIZES = (0, 10_000, 100_000, 1_000_000)
UNIVERSE, LONG_LOG = 5_000_000, 2_000_000  # distinct queries that there could be, and how many a long log holds
Floats = NDArray[np.float32]
CACHE = SAVED / "sentences"


def encode_documents(path: Path, tower: DocumentEncoder) -> tuple[VectorsFolder, list[Document], Floats]:
    """The collection's documents with their vectors, kept in `.bench`."""
    folder = SAVED / "vectors" / path.name
    encode_corpus(read_collection(path, "test").documents(), tower, folder, dtype="float32")
    vectors = VectorsFolder.open(folder)
    parts = list(vectors.parts())
    documents = [document for part, _ in parts for document in part]
    return vectors, documents, np.concatenate([part.dense for _, part in parts])


def per_query(queries: Floats, dense: Floats, ids: Sequence[str], qrels: Qrels) -> NDArray[np.float64]:
    """The measure of each query of the qrels, in their order."""
    found = evaluate(search(queries, dense, list(qrels), ids), qrels, [MEASURE]).per_query[MEASURE]
    return np.array([found[query] for query in qrels])


def measure_phrases(path: Path, tower: DocumentEncoder, split: str, sentences: int) -> dict[int, dict[str, float]]:
    """Phrases asked for to: rows kept, the measure, its share of the full model's, the cosine to the full model."""
    vectors, documents, dense = encode_documents(path, tower)
    collection = read_collection(path, split)
    ids, qrels = [document.id for document in documents], {q: collection.qrels[q] for q in collection.queries}
    texts = list(collection.queries.values())
    place = {text: row for row, text in enumerate(dict.fromkeys(texts))}
    full = encode_cached(tower, list(place), tower.default_prompt, CACHE)[[place[text] for text in texts]]
    best = per_query(full, dense, ids, qrels).mean()
    found: dict[int, dict[str, float]] = {}
    for size in SIZES:
        how = FitOptions(max_sentences=sentences, phrases=size)
        table = fit_table(tower, documents, vectors=vectors, options=how, cache=CACHE)
        queries = QueryEncoder(table).encode_dense(texts)
        mean = per_query(queries, dense, ids, qrels).mean()
        rows = 0 if table.phrases is None else len(table.phrases)
        cosine = float((queries * full).sum(axis=1).mean())
        found[size] = {"rows": rows, MEASURE: mean, "share": mean / best, "cosine": cosine}
        print(path.name, size, found[size], flush=True)
    return found


def draw(random: np.random.Generator, distinct: int, count: int) -> NDArray[np.int64]:
    """Numbers of queries, the k-th with probability proportional to 1/k (Zipf's law, s = 1)."""
    cumulative = np.cumsum(1 / np.arange(1, distinct + 1))
    return np.searchsorted(cumulative, random.random(count) * cumulative[-1])


def head(log: NDArray[np.int64], distinct: int, size: int) -> NDArray[np.int64]:
    """The numbers that are most frequent in a log, at most ``size``, each in it at least once."""
    counts = np.bincount(log, minlength=distinct)
    order = np.argsort(-counts, kind="stable")[:size]
    return order[counts[order] > 0]


def measure_log(path: Path, tower: DocumentEncoder, sentences: int) -> list[dict[str, float]]:
    """For each number of head queries: share of fresh queries that hit, mean measure, share of the full model's."""
    vectors, documents, dense = encode_documents(path, tower)
    collection = read_collection(path, "train")
    ids = [document.id for document in documents]
    first = {text: query for query, text in list(collection.queries.items())[:QUESTIONS]}
    texts = list(first)
    qrels = {query: collection.qrels[query] for query in first.values()}
    random = np.random.default_rng(0)
    order = random.permutation(len(texts))
    log, asked = order[draw(random, len(texts), DRAWS)], order[draw(random, len(texts), DRAWS)]
    plain = fit_table(tower, documents, vectors=vectors, options=FitOptions(max_sentences=sentences), cache=CACHE)
    best = per_query(encode_cached(tower, texts, tower.default_prompt, CACHE), dense, ids, qrels)[asked].mean()
    found = []
    for size in (0, 10, 100, 1_000, 10_000):
        heads = head(log, len(texts), size)
        table = add_queries(plain, tower, [texts[i] for i in heads], CACHE)
        mean = per_query(QueryEncoder(table).encode_dense(texts), dense, ids, qrels)[asked].mean()
        hits = float(np.isin(asked, heads).mean())
        found.append({"asked for": size, "rows": len(heads), "hits": hits, MEASURE: mean, "share": mean / best})
        print(path.name, found[-1], flush=True)
    return found


def report_quality(paths: Sequence[Path], split: str, sentences: int) -> None:
    tower = DocumentEncoder.load("minilm", sparse="none")
    found = {path.name: measure_phrases(path, tower, split, sentences) for path in paths}
    rows = []
    for size in SIZES:
        of = [means[size] for means in found.values()]
        cells = [f"{m[MEASURE]:.3f} ({m['share']:.1%}), cosine {m['cosine']:.3f}, {m['rows']:,} rows" for m in of]
        rows.append([f"{size:,}", *cells, f"{np.mean([m['share'] for m in of]):.1%}"])
    notes = (
        f"{MEASURE} on the {split} split, dense alone, exact search; in brackets the share of the full model's, last "
        "their mean; the queries' mean cosine to the full model's vectors; rows kept. Tables are fitted to the "
        f"collection's own documents and at most {sentences:,} of their sentences, never to queries."
    )
    report(Result("phrases", ["phrases asked for", *found, "mean"], rows, notes, found))


def report_log(path: Path, sentences: int) -> None:
    lines = measure_log(path, DocumentEncoder.load("minilm", sparse="none"), sentences)
    cells = [[f"{m['rows']:,}", f"{m['hits']:.1%}", f"{m[MEASURE]:.3f} ({m['share']:.1%})"] for m in lines]
    notes = (
        f"{QUESTIONS:,} training questions of {path.name}, drawn by Zipf's law (s = 1): {DRAWS:,} are the log, as many "
        f"are asked after it. {MEASURE} over what is asked, dense alone; in brackets the share of the full model's."
    )
    report(Result("phrases_log", ["whole queries with rows", "asked queries that hit", MEASURE], cells, notes, lines))


def made_rows(count: int, dim: int) -> Floats:
    return np.random.default_rng(1).standard_normal((count, dim), dtype=np.float32)


def large_table(plain: TokenTable, size: int, texts: Sequence[str]) -> TokenTable:
    """Half as many phrases of two and three tokens of the texts, half whole queries; random rows."""
    ids, offsets = QueryEncoder(plain).tokenize(texts)
    queries = (tuple(ids[start:end].tolist()) for start, end in itertools.pairwise(offsets))
    wholes: dict[tuple[int, ...], None] = {}
    phrases: dict[tuple[int, ...], None] = {}
    for query in queries:
        if len(wholes) < size // 2:
            wholes[query] = None
        parts = (query[i : i + n] for n in (2, 3) for i in range(len(query) - n + 1))
        phrases |= dict.fromkeys(itertools.islice(parts, max(0, size // 2 - len(phrases))))
        if len(wholes) + len(phrases) >= size // 2 * 2:
            break
    return plain.with_phrases(list(phrases), list(wholes), made_rows(len(phrases) + len(wholes), plain.dim))


def report_cost(dim: int, rounds: int) -> None:
    tokenizer = DocumentEncoder.load("minilm", sparse="none").tokenizer
    plain = TokenTable.from_rows(made_rows(tokenizer.get_vocab_size(), dim), tokenizer, model="made", skip_ids=[0])
    asked, known = make_queries(16_384), make_queries(700_000, seed=5)
    random = np.random.default_rng(0)
    log, fresh = draw(random, UNIVERSE, LONG_LOG), draw(random, UNIVERSE, LONG_LOG)
    batch: dict[int, list[float]] = {size: [] for size in COST_SIZES}
    single: dict[int, list[float]] = {size: [] for size in COST_SIZES}
    features, sizes, hits = {}, {}, {}
    with tempfile.TemporaryDirectory() as folder:
        encoders = {}
        for size in COST_SIZES:
            path = Path(folder) / str(size)
            (large_table(plain, size, known) if size else plain).save(path)
            encoders[size] = QueryEncoder.load(path)
            encoders[size].encode_dense(asked)
            sizes[size] = folder_size(path)
            hits[size] = float(np.isin(fresh, head(log, UNIVERSE, size)).mean())
            ids, offsets = encoders[size].tokenize(asked)
            phrases = encoders[size].table.phrases
            summed = len(ids) if phrases is None else int(phrases.match(ids, offsets, len(plain))[1][-1])
            features[size] = summed / len(asked)
        for _ in range(rounds):
            for size, encoder in encoders.items():
                batch[size].append(microseconds(encoder.encode_dense, asked))
        for first in range(0, 8 * RUN, RUN):
            for size, encoder in encoders.items():
                single[size] += [microseconds(encoder.encode_dense, [text]) for text in asked[first : first + RUN]]
    base_batch, base_single = float(np.median(batch[0])), float(np.median(single[0]))
    rows_ = []
    for size in COST_SIZES:
        many, one = float(np.median(batch[size])), float(np.median(single[size]))
        cells = [f"{many:.2f} µs ({many / base_batch:.2f}×)", f"{one:.1f} µs ({one / base_single:.2f}×)"]
        share = f"{hits[size]:.1%}" if size else ""
        rows_.append([f"{size:,}", format_bytes(sizes[size]), f"{features[size]:.1f}", *cells, share])
    notes = (
        f"Queries of 8 words, d = {dim}, float32 rows on disk, memory-mapped, dense vectors alone; half the rows are "
        "phrases of two and three tokens, half whole queries. A batch is 16,384 queries; medians, all tables taking "
        "turns in one process, in brackets against no phrases. Hits: the share of fresh queries that are among as "
        f"many head queries as there are rows, of a log of {LONG_LOG:,} drawn by Zipf's law from {UNIVERSE:,}."
    )
    header = ["rows", "folder", "rows summed a query", "batch, a query", "one query, p50", "hits, all rows heads"]
    data = {"batch": batch, "single": single, "bytes": sizes, "hits": hits}
    report(Result("phrases_cost", header, rows_, notes, data))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    quality = verbs.add_parser("quality")
    quality.add_argument("collections", nargs="+", type=Path, metavar="DIR", help="BEIR folders")
    quality.add_argument("--split", default="test")
    log = verbs.add_parser("log")
    log.add_argument("collection", type=Path, metavar="DIR", help="a BEIR folder with training questions")
    for verb in (quality, log):
        verb.add_argument("--sentences", type=int, default=20_000)
    cost = verbs.add_parser("cost")
    cost.add_argument("--dim", type=int, default=384)
    cost.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    if options.verb == "cost":
        report_cost(options.dim, options.rounds)
    elif options.verb == "log":
        report_log(options.collection, options.sentences)
    else:
        report_quality(options.collections, options.split, options.sentences)


if __name__ == "__main__":
    main()
