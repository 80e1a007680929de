"""Training files out of labelled collections in BEIR's format, with mined hard negatives.

Only train splits are read. What any collection here evaluates (its test queries and the documents judged for them) is
left out of every file. Negatives come from the full model's vectors where there are some (`lightretriever encode
DIR --model minilm -o VECTORS/NAME.vec`), else from BM25. Some train queries of each collection are set aside, with
their documents and the hardest others, as a small collection `dev` to choose checkpoints on:
`python benchmarks/training_data.py .bench/data/NAME… --evaluated .bench/data/NAME… --vectors .bench/vectors -o DIR`.
The table of counts goes to DIR/README.md too, beside the files that it is of.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from results import Result, markdown, report

from lightretriever import DocumentEncoder
from lightretriever.artifact import new_file
from lightretriever.scratch import new_folder
from lightretriever.text.corpus import read_corpus
from lightretriever.training.collection import write_examples
from lightretriever.training.example import Example, Passage, write_lines
from lightretriever.training.example_file import ExampleFile
from lightretriever.training.exclusion import Exclusion
from lightretriever.training.mining import MiningConfig, mine_negatives
from lightretriever.training.searches import Search, bm25_search, vector_search
from lightretriever.vectors.folder import VectorsFolder

HEADER = ("file", "examples", "of", "excluded", "negatives", "a query", "from", "too close", "copies", "without", "dev")
SEED = 42


def make_search(folder: Path, vectors: Path | None, tower: DocumentEncoder) -> tuple[Search, str]:
    """The full model's search where a collection's vectors are there, else BM25 over its tokens; and its name."""
    encoded = None if vectors is None else vectors / f"{folder.name}.vec"
    if encoded is None or not encoded.is_dir():
        return bm25_search(list(read_corpus(folder)), tower.tokenizer), "BM25"
    parts = list(VectorsFolder.open(encoded).parts())
    documents = [document for part, _ in parts for document in part]
    return vector_search(documents, np.concatenate([part.dense for _, part in parts]), tower.encode_queries), "dense"


def split_lines(path: Path, limit: int, aside: int, exclusion: Exclusion) -> tuple[list[Example], ExampleFile]:
    """Up to ``limit`` + ``aside`` examples of a file at random, without what is evaluated."""
    file = ExampleFile.open(path, 1, exclusion)
    order = np.random.default_rng(SEED).permutation(len(file))[: limit + aside]
    return [file[int(i)] for i in order], file


def write_dev(path: Path, examples: list[Example]) -> None:
    """A collection of some queries, their positives, and their negatives to be confused with."""
    documents: dict[str, Passage] = {}
    queries, judged = [], ["query-id\tcorpus-id\tscore"]
    for number, example in enumerate(examples):
        queries.append({"_id": f"q{number}", "text": example.query})
        for passage in (*example.positives, *example.negatives):
            documents.setdefault(passage.docid, passage)
        judged += [f"q{number}\t{passage.docid}\t1" for passage in example.positives]
    rows = [{"_id": name, "title": passage.title, "text": passage.text} for name, passage in documents.items()]
    with new_folder(path) as folder:
        (folder / "qrels").mkdir()
        for name, lines in (("queries", queries), ("corpus", rows)):
            text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
            (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
        (folder / "qrels" / "dev.tsv").write_text("\n".join(judged) + "\n", encoding="utf-8")


def shortened(example: Example, characters: int, prefix: str = "") -> Example:
    """The example with passages cut at a space, and ``prefix`` before their ids."""

    def cut(text: str) -> str:
        end = text.rfind(" ", 1, characters + 1)
        return text if len(text) <= characters else text[: end if end > 0 else characters]

    def short(passages: tuple[Passage, ...]) -> tuple[Passage, ...]:
        return tuple(Passage(cut(p.text), p.title, prefix + p.docid, p.ce_score) for p in passages)

    return replace(example, positives=short(example.positives), negatives=short(example.negatives))


def make_file(
    folder: Path,
    output: Path,
    tower: DocumentEncoder,
    vectors: Path | None,
    exclusion: Exclusion,
    config: MiningConfig,
    limit: int,
    aside: int,
    characters: int,
) -> tuple[list[str], dict[str, object], list[Example]]:
    """One training file: its row of the table, its counts, and what was set aside."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        plain, chosen, mined = (Path(scratch) / f"{name}.jsonl" for name in ("plain", "chosen", "mined"))
        written = write_examples(folder, "train", plain)
        examples, file = split_lines(plain, limit, aside, exclusion)
        write_lines(chosen, examples)
        search, kind = make_search(folder, vectors, tower)
        counts = mine_negatives(chosen, mined, search, config, exclusion)
        found = ExampleFile.open(mined)
        # Ids are unique within a collection only; a dev query without hard negatives would be too easy.
        hard = [i for i in range(len(found)) if found[i].negatives][:aside]
        dev = [shortened(found[i], characters, f"{folder.name}-") for i in hard]
        kept = {example.query for example in dev}
        with new_file(output / f"{folder.name}.jsonl") as temporary:
            examples = [found[i] for i in range(len(found)) if found[i].query not in kept]
            count = write_lines(temporary, (shortened(example, characters) for example in examples))
    row = [
        folder.name,
        f"{count:,}",
        f"{written.examples:,}",
        f"{file.counts.excluded:,}",
        f"{counts.negatives:,}",
        f"{counts.negatives / max(counts.examples, 1):.1f}",
        kind,
        f"{counts.too_close:,}",
        f"{counts.same_text:,}",
        f"{counts.no_negative:,}",
        f"{len(dev):,}",
    ]
    data = {"collection": asdict(written), "usable": asdict(file.counts), "mining": asdict(counts)}
    return row, data | {"seconds": time.perf_counter() - started}, dev


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("collections", nargs="+", type=Path, metavar="DIR", help="BEIR folders with a train split")
    parser.add_argument("--evaluated", nargs="+", type=Path, required=True, metavar="DIR", help="left out of all files")
    parser.add_argument("--vectors", type=Path, metavar="DIR", help="of NAME.vec folders by minilm")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--limit", type=int, default=5000, help="examples of a collection, at random")
    parser.add_argument("--dev", type=int, default=60, help="train queries of a collection set aside")
    parser.add_argument("--characters", type=int, default=1000, help="of a passage; training reads 128 tokens or so")
    parser.add_argument("--depth", type=int, default=60)
    parser.add_argument("--negatives", type=int, default=15)
    parser.add_argument("--ratio", type=float, default=0.95)
    options = parser.parse_args()
    exclusion = Exclusion.of(options.evaluated)
    tower = DocumentEncoder.load("minilm", sparse="none")
    config = MiningConfig(options.depth, options.negatives, ratio=options.ratio)
    rows, data, aside = [], {}, []
    for folder in options.collections:
        arguments = (folder, options.output, tower, options.vectors, exclusion, config, options.limit, options.dev)
        row, data[folder.name], dev = make_file(*arguments, options.characters)
        rows.append(row)
        aside += dev
    write_dev(options.output / "dev", aside)
    notes = (
        f"Of each train split at most {options.limit:,} queries at random, less those set aside for `dev` "
        f"({len(aside)} queries). Excluded: the query, or all its positives, are in the test split of one of "
        f"{', '.join(path.name for path in options.evaluated)} ({len(exclusion.queries):,} queries, judged documents "
        f"likewise left out as negatives). Negatives: of the first {options.depth} hits of the full model ('dense') or "
        f"of BM25 the best {options.negatives} scoring at most {options.ratio} of the positive ('too close' are the "
        f"others); 'without': the positive was not found, or every hit was too close. Passages are cut to "
        f"{options.characters:,} characters."
    )
    result = Result("training_data", HEADER, rows, notes, data)
    with new_file(options.output / "README.md") as temporary:
        temporary.write_text(f"# Training files\n\n{markdown(result)}\n", encoding="utf-8")
    report(result)


if __name__ == "__main__":
    main()
