"""The parts of ``bench``, one after the other; each says on standard error that it begins."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

import numpy as np

from lightretriever.bench.clock import Call, Timing
from lightretriever.bench.encoding import (
    LARGEST,
    LOOK_UP,
    document_rates,
    largest_difference,
    static_encoders,
    table_bytes,
    table_rate,
    time_encoders,
)
from lightretriever.bench.machine import Memory, machine, memory_of
from lightretriever.bench.made import Maker, Real, fit_maker
from lightretriever.bench.queries import log_rates, passage_queries
from lightretriever.bench.report import Bench
from lightretriever.bench.searching import Built, Encode, build, time_searches
from lightretriever.cli.bench_given import (
    Asked,
    describe_tower,
    encode_passages,
    load_table,
    load_towers,
    make_table,
    random_towers,
    read_passages,
)
from lightretriever.cli.console import progress, say
from lightretriever.query.encoder import QueryEncoder
from lightretriever.query.table import TokenTable
from lightretriever.text.corpus import read_texts

SECONDS = 0.5  # that building rates are measured for, each, times the turns
MADE = " Documents beyond them are made of them: same spectrum and neighbourhoods, runs of their words."
PROBES = 200  # queries that processes are asked for their memory


def measure(asked: Asked, folder: Path) -> Bench:
    """Measure everything, working in an empty folder."""
    load = _load_average()
    given, log = _texts(asked.queries), _texts(asked.log)
    given_table = load_table(asked.table)
    passages = read_passages(asked)
    say("loading the full model …")
    towers = load_towers(asked)
    *_, fastest = towers.values()
    real, about = encode_passages(asked, passages, fastest)
    say("fitting a table …")
    table, fitted = make_table(given_table, real, fastest)
    table.save(folder / "table")
    encoder = QueryEncoder.load(folder / "table")
    if asked.shape is not None:
        say(f"making a random model of {asked.shape}'s shape …")
    towers |= random_towers(asked, table)
    full: dict[str, Encode] = {name: tower.encode_queries for name, tower in towers.items()}

    words = passage_queries(real.texts, 4 * LARGEST)
    encoding, difference, missing = _encode(encoder, full, words, given, asked.turns, folder / "static")
    probes = folder / "queries.json"
    probes.write_text(json.dumps((given or words)[:PROBES]), encoding="utf-8")
    say("memory of processes …")
    memory = memory_of("query", folder / "table", probes) + memory_of("model", asked.model, probes)
    built, searching, held = _search(asked, folder, table, real, full, given or words, probes)
    say("rates of building …")
    seconds = asked.turns * SECONDS
    rates = [fitted, *(table_rate(name, tower, seconds) for name, tower in towers.items())]
    rates += document_rates(towers, real.texts, seconds)
    return Bench(
        machine=machine(),
        date=date.today().isoformat(),
        command=asked.command,
        load=[*load, *_load_average()],
        about=[
            about + (MADE if any(one.made for one in built) else ""),
            f"Table: {len(table):,} rows of {table.dim} dimensions, {table.dtype}.",
            f"Queries: eight words out of a passage{f', and {len(given):,} given' if given else ''}.",
            f"Full models, with their prompt: {'; '.join(describe_tower(*one) for one in towers.items())}.",
        ],
        skipped=[*missing, *_skipped(asked)],
        encoding=encoding,
        searching=searching,
        difference=difference,
        built=built,
        rates=rates,
        table=table_bytes(table),
        log=log_rates(encoder, log) if log else None,
        memory=memory + held,
    )


def _load_average() -> list[float]:
    return [os.getloadavg()[0]] if hasattr(os, "getloadavg") else []


def _texts(paths: Sequence[Path]) -> list[str]:
    """All texts of files of queries, in an order that mixes the files, the same every time; of one file, its own."""
    texts = [document.input for path in paths for document in read_texts(path)]
    if len(paths) < 2:
        return texts
    return [texts[i] for i in np.random.default_rng(0).permutation(len(texts))]


def _encode(
    encoder: QueryEncoder,
    full: Mapping[str, Encode],
    words: list[str],
    given: list[str],
    turns: int,
    folder: Path,
) -> tuple[list[Timing], float, list[str]]:
    """Timings of all encoders, the largest difference between static ones, and what is not installed."""
    others, missing = static_encoders(encoder.table, folder)
    static: dict[str, Call] = {LOOK_UP: encoder.encode_dense, **others}
    say("encoding queries …")
    timings = time_encoders(static, full, words, "8 words", turns)
    if given:
        say("encoding the queries given …")
        timings += time_encoders(static, full, given, "given", turns)
    plain = encoder.table.phrases is None
    return timings, largest_difference(static, words[:256]) if plain else 0.0, missing


def _search(
    asked: Asked,
    folder: Path,
    table: TokenTable,
    real: Real,
    full: Mapping[str, Encode],
    texts: list[str],
    probes: Path,
) -> tuple[list[Built], list[Timing], list[Memory]]:
    """Every size built, measured and removed again."""
    maker: Maker | None = None
    if max(asked.sizes) > len(real.texts):
        say("learning to make documents …")
        maker = fit_maker(real.dense)
    built: list[Built] = []
    timings: list[Timing] = []
    memory: list[Memory] = []
    for size in asked.sizes:
        path = folder / "index"
        with progress(f"index of {size:,}", "documents") as show:
            built.append(build(path, table, real, maker, size, show))
        say(f"searching {size:,} documents …")
        timings += time_searches(path, full, texts, asked.turns)
        memory += memory_of("index", path, probes)
        shutil.rmtree(path)
    return built, timings, memory


def _skipped(asked: Asked) -> list[str]:
    """A line for what could have been measured too."""
    lines = []
    if max(asked.sizes) < 1_000_000:
        lines.append("Not measured: larger indexes (--full, --documents 1000000).")
    if asked.shape is None:
        lines.append("Not measured: a model of half a billion parameters (--shape qwen2-0.5b, no download).")
    if not asked.log:
        lines.append("Not measured: what caches and phrases would answer (--queries-log FILE).")
    return lines
