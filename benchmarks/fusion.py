"""What choosing the fusion's weights is worth, with judged queries and without: nDCG@10, collection by collection.

For each collection the documents are encoded once by `minilm` (kept in `.bench/vectors`), a table is fitted to those
vectors alone and an index made with BM25 (kept in `.bench/fusion`). Weights are learned on at most 1,500 queries of
the train split and measured on the test split. `general` is a weigher that never saw the collection: it was fitted on
the other collections' train splits. `python benchmarks/fusion.py DIR/scifact DIR/cranfield …`; with `--write` the
weigher of all their train splits becomes the one that comes with the package. Needs the `all` extra.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter

import numpy as np
from results import ROOT, SAVED, Result, report

from lightretriever import DocumentEncoder, Encoded, Index, QueryEncoder, TokenTable, fit_table
from lightretriever.errors import InputError
from lightretriever.evaluation.collection import read_collection
from lightretriever.evaluation.learn import best_weight, fit_weigher
from lightretriever.evaluation.lists import Judged, judge_lists
from lightretriever.evaluation.tune import FOLDS, choose
from lightretriever.text.analysers.analyser import Analyser
from lightretriever.text.corpus import read_corpus
from lightretriever.vectors.encode import encode_corpus
from lightretriever.vectors.folder import VectorsFolder
from lightretriever.weigher import Weigher, features, places_in

MOST = 1500
SHARE = 700  # queries of one collection that the general weigher is fitted to, so that none outweighs the others
SCALES = ("dense range", "sparse range", "tokens", "sparse score a token")
"""Features that a tower, a collection or a kind of query has its own range of: the general weigher does without."""
TRUST = 0.5
"""The general weigher's weights are so much its own, the rest is 0.7. The most under which no collection's train split,
left out of the fit, loses more than 0.3 points against 0.7/0.3; 1 gains more on average and loses up to 0.9."""
PSEUDO = 300
WORD = re.compile(r"\w+")


def open_index(path: Path, kept: Path, analyser: Analyser | None = None) -> Index:
    """The collection's index, made if there is none; under an analyser of its own, or the one that it gets. All of its
    indexes have one table."""
    folder = kept / f"{path.name}{'' if analyser is None else f'.{analyser.kind}'}.index"
    if folder.is_dir():
        return Index.open(folder)
    vectors = SAVED / "vectors" / path.name
    if not (vectors / "manifest.json").is_file():
        encode_corpus(read_corpus(path), DocumentEncoder.load("minilm", sparse="none"), vectors, dtype="float32")
    parts = list(VectorsFolder.open(vectors).parts())
    documents = [document for part, _ in parts for document in part]
    encoded = Encoded(np.concatenate([part.dense for _, part in parts]))
    fitted = kept / f"{path.name}.table"
    if not fitted.is_dir():
        tokenizer = VectorsFolder.open(vectors).tokenizer
        fit_table(vectors=(documents, encoded.dense), tokenizer=tokenizer).save(fitted)
    table = TokenTable.load(fitted)
    index = Index.create(folder, QueryEncoder(table), sparse="bm25", analyser=analyser)
    payloads = [{"title": document.title, "text": document.text} for document in documents]
    index.add([document.id for document in documents], encoded, payloads)
    return index


def judge(path: Path, kept: Path) -> dict[str, Judged]:
    """The lists of a collection's train and test queries, and of queries made of its documents."""
    found: dict[str, Judged] = {}
    with open_index(path, kept) as index:
        for split in ("train", "test", "pseudo"):
            file = kept / f"{path.name}.{split}.npz"
            if not file.is_file():
                try:
                    queries, qrels = pseudo_queries(path) if split == "pseudo" else real_queries(path, split)
                except InputError:
                    continue  # no such split
                judged = judge_lists(index, queries, qrels)
                np.savez(file, features=judged.features, gains=judged.gains)
            with np.load(file) as stored:
                found[split] = Judged(stored["features"], stored["gains"])
    return found


def real_queries(path: Path, split: str) -> tuple[Mapping[str, str], Mapping[str, Mapping[str, int]]]:
    """The queries of a split, of train at most `MOST`."""
    collection = read_collection(path, split)
    queries = dict(collection.queries)
    if len(queries) > MOST:
        queries = dict(random.Random(0).sample(sorted(queries.items()), MOST))
    return queries, collection.qrels


def pseudo_queries(path: Path) -> tuple[Mapping[str, str], Mapping[str, Mapping[str, int]]]:
    """A sentence of a document without the rarer half of its words; the document is what it should find."""
    documents, draw = list(read_corpus(path)), random.Random(0)
    spread = Counter(word for document in documents for word in set(WORD.findall(document.input.lower())))
    queries = {}
    for document in draw.sample(documents, min(PSEUDO, len(documents))):
        sentences = [part for part in re.split(r"(?<=[.!?])\s+", document.text) if len(WORD.findall(part)) >= 5]
        words = WORD.findall(draw.choice(sentences or [document.input]).lower())
        rare = set(sorted(words, key=spread.__getitem__)[: len(words) // 2])
        queries[document.id] = " ".join([word for word in words if word not in rare][:12])
    return queries, {name: {name: 1} for name in queries}


def fit_general(train: Mapping[str, Judged], without: str = "") -> Weigher:
    """One weigher for all, of the train splits of all collections but one."""
    parts = []
    for name, judged in train.items():
        if name != without:
            useful = judged.take(judged.informative())
            chosen = np.random.default_rng(zlib.crc32(name.encode())).permutation(len(useful))[:SHARE]
            parts.append(useful.take(chosen))
    pooled = Judged(np.concatenate([part.features for part in parts]), np.concatenate([part.gains for part in parts]))
    fitted = fit_weigher(pooled, blind=SCALES)
    return replace(fitted, low=(1 - TRUST) * 0.7, high=(1 - TRUST) * 0.7 + TRUST)


def measure(judged: Mapping[str, Judged], general: Weigher) -> dict[str, float | str]:
    """Way to its mean on the test split, in points; "gain" and "error" of the general weigher over 0.7/0.3."""
    test = judged["test"]
    values = {f"fixed {weight}": test.at(weight) for weight in (0.7, 0.6, 0.5)}
    values["general"] = test.at(general.weights(test.features))
    values["pseudo"] = test.at(best_weight(judged["pseudo"]))
    found: dict[str, float | str] = {}
    if "train" in judged:
        train = judged["train"].take(judged["train"].informative())
        values["one weight"] = test.at(best_weight(train))
        values["by query"] = test.at(fit_weigher(train).weights(test.features))
        tuned = choose(train, 0, FOLDS, 0, "best", Path())
        weigher, dense = tuned.fusion.weigher, tuned.fusion.dense
        values["tuned"] = test.at(weigher.weights(test.features) if weigher else dense)
        found["chosen"] = tuned.chosen
        gain = train.at(general.weights(train.features)) - train.at(0.7)
        found["train gain"] = 100 * float(gain.mean())
    gain = values["general"] - values["fixed 0.7"]
    found["gain"], found["error"] = 100 * float(gain.mean()), 100 * float(gain.std(ddof=1) / np.sqrt(len(gain)))
    return {**{way: 100 * float(value.mean()) for way, value in values.items()}, **found, "queries": len(test)}


def cost(weigher: Weigher, batch: int, rounds: int = 300) -> float:
    """Microseconds that a query's weight takes beside its search, over two lists of 100; median."""
    draw = np.random.default_rng(0)
    lists = [(draw.permutation(200)[:100].tolist(), sorted(draw.random(100).tolist())[::-1]) for _ in range(batch)]
    times = []
    for _ in range(max(1, rounds // batch)):
        start = perf_counter()
        pairs = zip(lists, lists[::-1], strict=True)
        found = [features(own, others, places_in(keys, names), 8) for (names, own), (keys, others) in pairs]
        _ = weigher.weight(found[0]) if batch == 1 else weigher.weights(found)
        times.append((perf_counter() - start) / batch)
    return 1e6 * float(np.median(times))


COLUMNS = ("fixed 0.7", "fixed 0.6", "fixed 0.5", "one weight", "by query", "tuned", "pseudo", "general")


def row(name: str, found: Mapping[str, float | str]) -> list[str]:
    """The collection's line of the table."""
    cells = [f"{found[way]:.1f}" if way in found else "" for way in COLUMNS]
    if "chosen" in found:
        cells[COLUMNS.index("tuned")] += f" ({found['chosen']})"
    return [name, str(found["queries"]), *cells, f"{found['gain']:+.2f} ± {found['error']:.2f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("collections", nargs="+", type=Path, metavar="DIR", help="BEIR folders")
    parser.add_argument("--write", action="store_true", help="make the general weigher the package's own")
    options = parser.parse_args()
    kept = SAVED / "fusion"
    kept.mkdir(parents=True, exist_ok=True)
    judged = {path.name: judge(path, kept) for path in options.collections}
    train = {name: splits["train"] for name, splits in judged.items() if "train" in splits}
    found = {name: measure(splits, fit_general(train, name)) for name, splits in judged.items()}
    if options.write:
        stored = json.loads(json.dumps(asdict(fit_general(train))), parse_float=lambda text: round(float(text), 6))
        file = ROOT / "src" / "lightretriever" / "weigher.json"
        file.write_text(json.dumps(stored) + "\n", encoding="utf-8")
    gains = [float(values["gain"]) for values in found.values()]
    alone, many = (cost(fit_general(train), batch) for batch in (1, 64))
    rows = [row(name, values) for name, values in found.items()]
    notes = (
        "100 × nDCG@10 on the test split (dense/sparse 0.7/0.3, 0.6/0.4, 0.5/0.5); learned on the train split: one "
        "weight, a weight by query, and what `tune` keeps of these and the fixed ones out of fold; without labels: one "
        "weight chosen by queries made of the documents, and the general weigher, fitted on the other collections, "
        f"with its gain over 0.7/0.3 and that gain's standard error. The general weigher gains {np.mean(gains):+.2f} "
        f"on average, {min(gains):+.2f} at worst. A weight by query takes {alone:.0f} µs a query, {many:.0f} in "
        f"batches of 64. Tower all-MiniLM-L6-v2, tables fitted to the documents' vectors."
    )
    header = ["collection", "queries", *COLUMNS, "general − 0.7"]
    report(Result("fusion", header, rows, notes, found))


if __name__ == "__main__":
    main()
