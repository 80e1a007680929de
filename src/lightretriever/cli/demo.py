"""``demo``: the whole pipeline on text that every machine has, the docstrings of Python's standard library."""

from __future__ import annotations

import json
import platform
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lightretriever.cli.console import columns, folder_size, format_bytes, format_seconds, phases, progress, shows_marks
from lightretriever.cli.hits import show_hits
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
    "measure the execution time of a small piece of code",
    "run another program and read its output",
    "copy a whole directory tree",
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
        index.search("warm")  # loads what is loaded on first use
        first = statistics.median([_ask(index, question) for question in QUESTIONS])
        _time(index, tower, first)
    program = "lightretriever" if shutil.which("lightretriever") else sys.argv[0]  # not on the path where make ran it
    print(f'\nAsk your own:  {program} search {output / "index"} "your question"')
    print(f"Look inside:   {program} info {output / 'index'}")


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
    from lightretriever.tables.fit import fit_tables
    from lightretriever.tables.options import FitOptions
    from lightretriever.vectors.folder import VectorsFolder

    started, there = time.perf_counter(), path.exists()
    if not there:
        with phases("sentences", closing=False) as begin:
            encoded = VectorsFolder.open(vectors)
            how = FitOptions(max_sentences=SENTENCES)
            (table,) = fit_tables(tower, documents, [None], encoded, options=how, begin=begin)
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


def _ask(index: Index, question: str) -> float:
    """Search and show; returns the microseconds that encoding the question took, its words being new."""
    started = time.perf_counter()
    encoded = index.encoder.encode([question])
    looked_up = time.perf_counter()
    hits = index.search_encoded(encoded, HITS, queries=[question])[0]
    took = time.perf_counter() - started
    print(f"\n“{question}”  {took * 1e3:.1f} ms\n{show_hits(hits, columns(), shows_marks())}", flush=True)
    return (looked_up - started) * 1e6


def _time(index: Index, tower: DocumentEncoder, first: float) -> None:
    """What encoding one query costs, by look-up and by the full model; medians, one query at a time."""
    look_up = _median_microseconds(lambda text: index.encoder.encode([text]), LOOK_UPS)
    full = _median_microseconds(lambda text: tower.encode_queries([text]), FULL)
    print(
        f"\nEncoding a query takes {look_up:.0f} µs, tokenisation included; {first:.0f} µs when its words are new.\n"
        f"The full model takes {full:,.0f} µs, {full / look_up:,.0f} times as long."
    )


def _median_microseconds(encode: Callable[[str], object], times: int) -> float:
    found = []
    for i in range(times):
        start = time.perf_counter()
        encode(QUESTIONS[i % len(QUESTIONS)])
        found.append(time.perf_counter() - start)
    return statistics.median(found) * 1e6
