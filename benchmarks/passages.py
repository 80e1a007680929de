"""What passages are worth: nDCG@10 of long documents that are cut at 256 tokens, and of their passages.

Long documents are made of collections in BEIR's format: where questions of all splits name a topic ("What causes X?"),
answers to one topic that follow one another are joined; else documents are joined at random, each under its title as a
heading where it has one. A query's judgements are those of the long document. Nothing is chosen by the test queries but
which long documents are taken: those with a judgement first. Everything is encoded by `minilm`, searched exactly, and a
document scores as its best passage. Needs the `minilm` extra:
`python benchmarks/passages.py DIR/scifact [DIR/…] [--split test] [--characters 300000]`.
"""

from __future__ import annotations

import argparse
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from results import Result, report

from lightretriever import DocumentEncoder, QueryEncoder, fit_table
from lightretriever.evaluation.collection import Collection, read_collection
from lightretriever.evaluation.measures import evaluate
from lightretriever.passages.fields import document_id
from lightretriever.passages.split import PassageOptions, passage_documents, split_documents
from lightretriever.text.beir import qrel_files
from lightretriever.text.corpus import Document, read_queries
from lightretriever.text.trec import read_qrels
from lightretriever.types import Run

MEASURE = "nDCG@10"
JOINED = 8  # documents of a long one that is made at random
TOKENS = 256
TOPIC = re.compile(r"(?:\(are\)|\(is\)|causes|prevent|diagnose|inherited is|affects|to|of|for|with) (.+?)[ ?]*$", re.I)
Vectors = NDArray[np.float32]
Judged = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class Long:
    """A collection of long documents, and the queries of a split with their judgements."""

    documents: Sequence[Document]
    queries: Mapping[str, str]
    qrels: Judged


def join(collection: Collection, limit: int) -> Long:
    """Long documents of a collection, of at most ``limit`` characters together, those with a judgement first."""
    documents = list(collection.documents())
    topics = topics_of(collection)
    if len(topics) > len(documents) // 2:
        grouped = [list(group) for _, group in groupby(documents, key=lambda document: topics.get(document.id))]
    else:
        random.Random(0).shuffle(documents)
        grouped = [documents[i : i + JOINED] for i in range(0, len(documents), JOINED)]
    judged = {document for found in collection.qrels.values() for document in found}
    random.Random(1).shuffle(grouped)
    grouped.sort(key=lambda group: not any(document.id in judged for document in group))
    sizes = accumulate(sum(len(document.text) for document in group) for group in grouped)
    taken = [group for group, size in zip(grouped, sizes, strict=True) if size <= limit]
    long = [Document(f"long{number}", "\n\n".join(map(part, group))) for number, group in enumerate(taken)]
    place = {document.id: f"long{number}" for number, group in enumerate(taken) for document in group}
    qrels = {
        query: {place[document]: grade for document, grade in found.items() if document in place}
        for query, found in collection.qrels.items()
    }
    kept = {query: found for query, found in qrels.items() if found}
    return Long(long, {query: collection.queries[query] for query in kept}, kept)


def topics_of(collection: Collection) -> dict[str, str]:
    """What the questions that lead to a document are about, of every document where they say it."""
    texts = {query.id: query.text for query in read_queries(collection.path)}
    found: dict[str, str] = {}
    for files in qrel_files(collection.path).values():
        for query, documents in read_qrels(*files).items():
            topic = TOPIC.search(texts.get(query, "")) if texts.get(query, "").rstrip().endswith("?") else None
            found |= dict.fromkeys(documents, topic[1].casefold()) if topic else {}
    return found


def part(document: Document) -> str:
    """A document as a part of a long one."""
    return f"## {' '.join(document.title.split())}\n\n{document.text}" if document.title else document.text


def best(queries: Vectors, vectors: Vectors, ids: Sequence[str]) -> list[dict[str, float]]:
    """Of each query the ten best documents by their best row."""
    scores = queries @ vectors.T
    found = []
    for row in scores:
        own: dict[str, float] = {}
        for place in np.argsort(-row, kind="stable"):
            if len(own) == 10:
                break
            own.setdefault(ids[place], float(row[place]))
        found.append(own)
    return found


def measure_collection(collection: Collection, tower: DocumentEncoder, limit: int) -> dict[str, dict[str, float]]:
    """Way to encode to its numbers: of documents, vectors, queries, and the measure's mean by query side."""
    long = join(collection, limit)
    plain, under = PassageOptions(TOKENS, headings=False), PassageOptions(TOKENS)
    ways: dict[str, list[Document]] = {"whole, cut": list(long.documents)}
    for name, options in (("passages", plain), ("passages under their headings", under)):
        split = split_documents(long.documents, tower.tokenizer, options)
        ways[name] = [made for document, passages in split for made in passage_documents(document, passages, options)]
    if all(made.title == "" for made in ways["passages under their headings"]):
        del ways["passages under their headings"]
    vectors = {name: tower.encode(documents).dense for name, documents in ways.items()}
    table = fit_table(tower, vectors=(ways["passages"], vectors["passages"]))
    texts = list(long.queries.values())
    sides = {"look-up": QueryEncoder(table).encode_dense(texts), "full model": tower.encode_queries(texts)}
    characters = sum(len(document.text) for document in long.documents) / len(long.documents)
    found: dict[str, dict[str, float]] = {}
    for name, documents in ways.items():
        ids = [document.id if name == "whole, cut" else document_id(document.id) for document in documents]
        found[name] = {"documents": len(long.documents), "characters": characters, "vectors": len(ids)}
        for side, queries in sides.items():
            run = Run(dict(zip(long.queries, best(queries, vectors[name], ids), strict=True)))
            found[name][side] = evaluate(run, long.qrels, [MEASURE]).means[MEASURE]
        found[name]["queries"] = len(texts)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("collections", nargs="+", type=Path, metavar="DIR", help="BEIR folders")
    parser.add_argument("--split", default="test")
    parser.add_argument("--characters", type=int, default=300_000, help="of a collection, at most")
    options = parser.parse_args()
    tower = DocumentEncoder.load("minilm", sparse="none", max_length=TOKENS)
    found = {
        path.name: measure_collection(read_collection(path, options.split), tower, options.characters)
        for path in options.collections
    }
    rows = []
    for name, ways in found.items():
        for way, entry in ways.items():
            size = f"{name}: {entry['documents']:.0f} of {entry['characters']:,.0f} characters"
            queries = f"{entry['queries']:.0f}"
            rows.append(
                [
                    size,
                    queries,
                    way,
                    f"{entry['vectors']:,.0f}",
                    *(f"{entry[s]:.3f}" for s in ("look-up", "full model")),
                ]
            )
    header = ["long documents", "queries", "encoded", "vectors", "look-up", "full model"]
    notes = (
        f"{MEASURE} on the {options.split} split, dense alone, exact search; a document scores as its best passage. "
        f"Long documents are joined: answers on one topic (medquad), else {JOINED} documents at random, under their "
        f"titles as headings where they have some. At most {TOKENS} tokens are encoded, an overlap of "
        f"{PassageOptions().overlap}. One table for a collection, fitted to its passages' vectors, never to queries."
    )
    report(Result("passages", header, rows, notes, found))


if __name__ == "__main__":
    main()
