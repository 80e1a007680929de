"""A real training run: what look-ups, and the same tower's whole queries, find before and after it.

`python benchmarks/training.py benchmarks/training.toml DIR/scifact [DIR/…] --work FOLDER` trains as
`lightretriever train` does, unless FOLDER/after holds the finished run. "Before" is the same tower with no step taken:
its sparse head then is lexical search. The training files are made by `benchmarks/training_data.py`. Needs the `all`
extra.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from results import Result, report

from lightretriever import DocumentEncoder, Encoded, Index, QueryEncoder, cache_table, train
from lightretriever.artifact import read_json
from lightretriever.evaluation.collection import read_collection
from lightretriever.evaluation.compare import compare
from lightretriever.evaluation.significance import paired_test
from lightretriever.fusion import Fusion
from lightretriever.training.config import TrainingConfig, read_config
from lightretriever.vectors.encode import encode_corpus
from lightretriever.vectors.folder import VectorsFolder

MEASURE = "nDCG@10"
WEIGHT = 0.5  # dense, of the hybrids
SYSTEMS = ("dense", "symmetric dense", "sparse", "bm25", "hybrid", "symmetric hybrid")


@dataclass(frozen=True)
class Found:
    """One tower on one collection.

    Attributes:
        means: system to its nDCG@10.
        non_zeros: of a document's sparse vector, mean and most.
        p: of sparse against BM25, by randomisation.
    """

    means: dict[str, float]
    non_zeros: tuple[float, int]
    p: float


def tower_folders(config: TrainingConfig, work: Path) -> dict[str, Path]:
    """The tower before and after; what is not there is trained, before with a step of no length."""
    folders = {name: work / name for name in ("before", "after")}
    if not (folders["before"] / "README.md").is_file():
        still = {**config.trainer, "max_steps": 1, "learning_rate": 0.0, "warmup_steps": 0}
        unmeasured = replace(config.validation, every=0)
        train(
            replace(
                config, output=str(folders["before"]), trainer=still, validation=unmeasured, head_learning_rate=1e-12
            )
        )
    if not (folders["after"] / "README.md").is_file():
        train(replace(config, output=str(folders["after"])))
    return folders


def measure(tower: DocumentEncoder, encoder: QueryEncoder, data: Path, split: str, vectors: Path) -> Found:
    """Encode the collection's documents, which is kept, and compare every query side on them."""
    collection = read_collection(data, split)
    encode_corpus(collection.documents(), tower, vectors, dtype="float32")
    with (
        tempfile.TemporaryDirectory() as folder,
        Index.create(Path(folder) / "index", encoder, sparse="lm") as index,
    ):
        entries: list[np.ndarray] = []
        for some, encoded in VectorsFolder.open(vectors).parts():
            payloads = [{"title": document.title, "text": document.text} for document in some]
            index.add([document.id for document in some], Encoded(encoded.dense, encoded.sparse), payloads)
            entries.append(np.diff(encoded.sparse.indptr))
        index.set_fusion(Fusion(dense=WEIGHT, sparse=1 - WEIGHT))
        comparison = compare(index, collection, tower, [MEASURE], bm25=True)
    found = {system: result.means[MEASURE] for system, result in comparison.evaluations.items()}
    sparse, bm25 = (comparison.evaluations[system].per_query[MEASURE] for system in ("sparse", "bm25"))
    counts = np.concatenate(entries)
    return Found(found, (float(counts.mean()), int(counts.max())), paired_test(sparse, bm25).randomisation)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="settings of the run; its output is FOLDER/after")
    parser.add_argument("collections", nargs="+", type=Path, metavar="DIR", help="BEIR folders")
    parser.add_argument("--split", default="test")
    parser.add_argument("--work", type=Path, required=True, metavar="FOLDER")
    options = parser.parse_args()
    config = read_config(options.config)
    rows, data = [], {}
    for name, folder in tower_folders(config, options.work).items():
        tower = DocumentEncoder.load(folder, top_k=config.model.top_k)
        encoder = QueryEncoder(cache_table(tower))
        for path in options.collections:
            found = measure(tower, encoder, path, options.split, options.work / f"{name}.{path.name}.vectors")
            data[f"{path.name} {name}"] = vars(found)
            cells = [f"{found.means[system]:.3f}" for system in SYSTEMS]
            cells[2] += f" (p {found.p:.3f})"
            rows.append([path.name, name, *cells, f"{found.non_zeros[0]:.0f}, {found.non_zeros[1]}"])
    rows.sort(key=lambda row: [path.name for path in options.collections].index(row[0]))
    history = read_json(options.work / "after" / "history.json")
    notes = (
        f"{MEASURE} on the {options.split} split. Before and after {config.steps} steps of {config.batch} queries with "
        f"{config.data.passages} passages each, from `{options.config.name}`; before, the sparse head is lexical "
        "search. Dense and sparse: look-up queries, with the table that `cache` makes of each tower; symmetric: the "
        f"same tower's own vectors of whole queries; hybrids {WEIGHT}/{1 - WEIGHT}; p of sparse against BM25 over the "
        "same tokens, by randomisation; non-zeros of a document's sparse vector, mean and most."
    )
    header = ["collection", "tower", *SYSTEMS, "non-zeros"]
    report(Result(options.config.stem, header, rows, notes, {"found": data, "history": history}))


if __name__ == "__main__":
    main()
