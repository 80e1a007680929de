"""``demo``: the whole pipeline on text that every machine has, the docstrings of Python's standard library."""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lightretriever.cli.console import columns, folder_size, format_bytes, format_seconds, phases, progress
from lightretriever.cli.search import show_hits
from lightretriever.errors import ArtifactError

if TYPE_CHECKING:
    from lightretriever.document.encoder import DocumentEncoder
    from lightretriever.index.index import Index
    from lightretriever.text.corpus import Document

EXAMPLE = "lightretriever demo -o demo"
MODEL = "minilm"
QUESTIONS = (
    "read a csv file",
    "run a function in another thread",
    "parse command line arguments",
    "how long did my code take",
    "copy a whole directory tree",
    "send an email with an attachment",
)
HITS = 3
MAX_TOKENS, SENTENCES = 128, 8000  # of a docstring, and to fit to: less than usual, to be done soon
LOOK_UPS, FULL = 2000, 20  # queries timed, one at a time


def command(
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="Folder for everything that is made.")
    ] = Path("demo"),
) -> None:
    """Fit, encode, index and search Python's own documentation; run again, it uses what is complete."""
    print(f"Python {platform.python_version()}'s own documentation, searched with no model at query time\n", flush=True)
    documents = _collect(output / "corpus.jsonl")
    tower = _load_tower()
    _encode(tower, documents, output / "vectors")
    _fit(tower, documents, output / "vectors", output / "table")
    _index(output / "vectors", output / "table", output / "index")
    from lightretriever.index.index import Index

    with Index.open(output / "index") as index:
        index.search(QUESTIONS[0])  # touches what is read on first use
        for question in QUESTIONS:
            _ask(index, question)
        _time(index, tower)
    print(f'\nAsk your own:  lightretriever search {output / "index"} "your question"')
    print(f"Look inside:   lightretriever info {output / 'index'}")


def _step(name: str, what: str, took: float | None) -> None:
    print(f"  {name:<9}{what:<55}{'there already' if took is None else format_seconds(took):>14}", flush=True)


def _collect(path: Path) -> list[Document]:
    from lightretriever.artifact import new_file
    from lightretriever.cli.docstrings import standard_library_docstrings
    from lightretriever.text.corpus import read_corpus

    started, there = time.perf_counter(), path.exists()
    if not there:
        with new_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            for document in standard_library_docstrings():
                row = asdict(document)
                file.write(json.dumps({"_id": row.pop("id"), **row}, ensure_ascii=False) + "\n")
    documents = list(read_corpus(path))
    _step("collect", f"{len(documents):,} docstrings", None if there else time.perf_counter() - started)
    return documents


def _load_tower() -> DocumentEncoder:
    started = time.perf_counter()
    from lightretriever.document.encoder import DocumentEncoder

    tower = DocumentEncoder.load(MODEL, max_length=MAX_TOKENS, sparse="none")
    _step("load", "all-MiniLM-L6-v2, the document tower", time.perf_counter() - started)
    return tower


def _encode(tower: DocumentEncoder, documents: list[Document], path: Path) -> None:
    from lightretriever.vectors.encode import encode_corpus
    from lightretriever.vectors.folder import VectorsFolder

    started, there = time.perf_counter(), _is_complete(lambda: VectorsFolder.open(path))
    if not there:
        with progress("encoding", "documents", closing=False) as report:
            encode_corpus(documents, tower, path, progress=lambda done, _: report(done, len(documents)))
    what = f"{len(documents):,} documents, each as {tower.dim} numbers"
    _step("encode", what, None if there else time.perf_counter() - started)


def _fit(tower: DocumentEncoder, documents: list[Document], vectors: Path, path: Path) -> None:
    from lightretriever.query.table import TokenTable
    from lightretriever.tables.fit import fit_table
    from lightretriever.vectors.folder import VectorsFolder

    started, there = time.perf_counter(), path.exists()
    if not there:
        with progress("encoding sentences", "sentences", closing=False) as report:
            table = fit_table(tower, documents, VectorsFolder.open(vectors), max_sentences=SENTENCES, progress=report)
        table.save(path)
    table = TokenTable.load(path)
    what = f"a table of {len(table):,} tokens, to {table.fitted['samples']:,} texts of theirs"
    _step("fit", what, None if there else time.perf_counter() - started)


def _index(vectors: Path, table: Path, path: Path) -> None:
    from lightretriever.index.ingest import ingest_vectors
    from lightretriever.query.encoder import QueryEncoder
    from lightretriever.vectors.folder import VectorsFolder

    started = time.perf_counter()
    with phases("documents", closing=False) as report:
        built = ingest_vectors(path, VectorsFolder.open(vectors), QueryEncoder.load(table), "bm25", report)
    what = f"dense and BM25, {format_bytes(folder_size(path))} on disk"
    _step("index", what, None if built.complete_before else time.perf_counter() - started)


def _is_complete(opened: Callable[[], object]) -> bool:
    try:
        opened()
    except ArtifactError:
        return False
    return True


def _ask(index: Index, question: str) -> None:
    started = time.perf_counter()
    encoded = index.encoder.encode([question])
    looked_up = time.perf_counter()
    hits = index.search_encoded(encoded, HITS)[0]
    searched = time.perf_counter()
    took = f"encoded in {(looked_up - started) * 1e6:.0f} µs, searched in {(searched - looked_up) * 1e3:.1f} ms"
    print(f"\n“{question}”  {took}\n{show_hits(hits, columns())}", flush=True)


def _time(index: Index, tower: DocumentEncoder) -> None:
    """What encoding one query costs, by look-up and by the full model; medians, one query at a time."""
    look_up = _median_microseconds(lambda text: index.encoder.encode([text]), LOOK_UPS)
    full = _median_microseconds(lambda text: tower.encode_queries([text]), FULL)
    print(
        f"\nEncoding a query, tokenisation included: {look_up:.0f} µs by look-up, {full:,.0f} µs by the full model, "
        f"{full / look_up:,.0f} times as long."
    )


def _median_microseconds(encode: Callable[[str], object], times: int) -> float:
    found = []
    for i in range(times):
        start = time.perf_counter()
        encode(QUESTIONS[i % len(QUESTIONS)])
        found.append(time.perf_counter() - start)
    return statistics.median(found) * 1e6
