"""``eval --suite``: every collection in a folder indexed with one model and one table, and measured; resumable."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from lightretriever.cli.console import format_table, phases, print_json, say
from lightretriever.cli.measure import Asked, measure_index, write_measured
from lightretriever.errors import UsageError

if TYPE_CHECKING:
    from lightretriever.document.encoder import DocumentEncoder
    from lightretriever.query.encoder import QueryEncoder


def measure_suite(
    folder: Path,
    work: Path,
    model: str,
    table: Path,
    asked: Asked,
    split: str,
    sparse: str | None,
    base: str | None,
    device: str,
    output: Path | None,
    as_json: bool,
) -> None:
    """Index and measure every set, each once and for all, and show them with their average."""
    from lightretriever import __version__
    from lightretriever.evaluation.collection import begin_collection
    from lightretriever.evaluation.suite import (
        DOMAIN_HEADER,
        SCALE_NOTE,
        domain_rows,
        find_sets,
        read_result,
        result_key,
        suite_table,
        write_suite,
    )
    from lightretriever.index.settings import SPARSE_KINDS
    from lightretriever.query.encoder import QueryEncoder

    if sparse is not None and sparse not in SPARSE_KINDS:
        raise UsageError(f"--sparse {sparse}: choose one of {', '.join(SPARSE_KINDS)}")
    sets = find_sets(folder)
    for path in sets.values():
        begin_collection(path, split)  # what is wrong with the last set is said before the first is encoded
    encoder = QueryEncoder.load(table)
    from lightretriever.document.encoder import DocumentEncoder

    wanted = {None: "auto", "lm": "lm"}.get(sparse, "none")
    tower = DocumentEncoder.load(model, base=base, device=device, sparse=wanted)
    kind = sparse or ("lm" if tower.has_sparse else "bm25")
    settings = {
        "document model": f"{tower.name or 'unknown'} ({tower.revision or 'revision unknown'})",
        "table": encoder.table.hash,
        "sparse side": kind,
        "lightretriever": __version__,
        **asdict(asked),
    }
    results = []
    for number, (name, data) in enumerate(sets.items(), 1):
        place = work / name / f"results-{result_key(data, split, settings)}"
        if place.exists():
            say(f"{name} ({number} of {len(sets)}): measured before")
        else:
            say(f"{name} ({number} of {len(sets)})")
            _measure_set(data, split, work / name / "index", place, tower, encoder, kind, asked)
        results.append((read_result(name, place), place))
    found = [result for result, _ in results]
    if output is not None:
        places = {result.name: place for result, place in results}
        write_suite(output, f"{folder.name}, {split}", found, asked.measures, {**settings, "split": split}, places)
        say(f"{output}: results.md, results.json, bars.png, and sets/ with each set's results and runs")
    if as_json:
        print_json({result.name: result for result in found})
        return
    for measure in asked.measures:
        header, rows = suite_table(found, measure)
        print(format_table([measure, *header[1:]], rows, right=range(1, len(header))))
        print()
    print(SCALE_NOTE)
    if domains := domain_rows(found):
        print()
        print(format_table(DOMAIN_HEADER, domains))


def _measure_set(
    data: Path,
    split: str,
    path: Path,
    place: Path,
    tower: DocumentEncoder,
    encoder: QueryEncoder,
    sparse: str,
    asked: Asked,
) -> None:
    from lightretriever.evaluation.collection import read_collection
    from lightretriever.index.index import Index
    from lightretriever.index.ingest import index_corpus

    collection = read_collection(data, split)
    path.parent.mkdir(parents=True, exist_ok=True)
    with phases("documents") as report:
        index_corpus(path, collection.documents(), tower, encoder, sparse, report)
    with Index.open(path) as index:
        write_measured(place, measure_index(index, collection, asked, tower if asked.symmetric else None))
