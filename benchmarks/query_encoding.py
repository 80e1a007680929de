"""What encoding a query costs: look-up against other static encoders on the same table and the full model.

All systems run in one process, interleaved round by round, so that a busy machine slows all of them; medians are
reported, ratios first. Needs the `dev` extra: `python benchmarks/query_encoding.py`.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from results import Result, report

from lightretriever import DocumentEncoder, QueryEncoder, TokenTable
from lightretriever.text.tokenizer import id_count

WORDS_PER_QUERY = 8
RUN = 400  # queries asked one at a time before the next system has its turn
Systems = dict[str, Callable[[list[str]], object]]
SYSTEMS = ("look-up", "model2vec", "StaticEmbedding", "full MiniLM")


def make_queries(n: int, seed: int = 0) -> list[str]:
    """Queries of 8 words drawn with Zipf's frequencies from the words of Python's own documentation strings."""
    import pydoc_data.topics

    words = sorted(
        {word.strip("`*.,:;()[]'\"").lower() for text in pydoc_data.topics.topics.values() for word in text.split()}
    )
    words = [word for word in words if word.isascii() and word.isalpha()]
    chosen = random.Random(seed)
    chosen.shuffle(words)
    weights = [1 / (rank + 10) for rank in range(len(words))]
    return [" ".join(chosen.choices(words, weights, k=WORDS_PER_QUERY)) for _ in range(n)]


def accented(queries: Sequence[str]) -> list[str]:
    """The same with an accent in every second word."""
    table = str.maketrans("aeou", "àéöü")
    return [
        " ".join(word.translate(table) if i % 2 else word for i, word in enumerate(query.split())) for query in queries
    ]


def chinese(n: int, seed: int = 0) -> list[str]:
    """Queries of 12 ideographs, without spaces."""
    chosen = random.Random(seed)
    return ["".join(chr(0x4E00 + min(int(chosen.expovariate(1 / 800)), 20000)) for _ in range(12)) for _ in range(n)]


def load_systems(tower: DocumentEncoder, dim: int, folder: Path) -> Systems:
    """Encoders of a batch of texts by name: all static ones over the same random rows."""
    from model2vec import StaticModel
    from sentence_transformers import SentenceTransformer

    rows = np.random.default_rng(0).standard_normal((id_count(tower.tokenizer), dim)).astype(np.float32)
    table = TokenTable.from_rows(rows, tower.tokenizer, model=tower.name, skip_ids=tower.skip_ids)
    table.save(folder / str(dim))
    encoder = QueryEncoder.load(folder / str(dim))
    static = SentenceTransformer(str(folder / str(dim)), device="cpu")
    model2vec = StaticModel(rows, table.tokenizer, normalize=True)
    return {
        "look-up": encoder.encode_dense,
        "model2vec": model2vec.encode,
        "StaticEmbedding": lambda texts: static.encode(texts, batch_size=1024, show_progress_bar=False),
        "full MiniLM": tower.encode_queries,
        "look-up, dense and counts": encoder.encode,
    }


def microseconds(call: Callable[[list[str]], object], texts: list[str]) -> float:
    """Wall time of one call, per text."""
    start = time.perf_counter()
    call(texts)
    return (time.perf_counter() - start) / len(texts) * 1e6


def measure(systems: Systems, texts: dict[str, list[str]], rounds: int) -> dict[str, list[float]]:
    """Microseconds a text for each system, one figure a round, the systems taking turns within a round."""
    for name, call in systems.items():
        call(texts[name])  # compiled, loaded and remembered before the clock runs
    times: dict[str, list[float]] = {name: [] for name in systems}
    for _ in range(rounds):
        for name, call in systems.items():
            times[name].append(microseconds(call, texts[name]))
    return times


def measure_singly(systems: Systems, texts: list[str], rounds: dict[str, int]) -> dict[str, list[float]]:
    """Microseconds of one query at a time: every round each system answers a run of queries, one after the other."""
    times: dict[str, list[float]] = {name: [] for name in systems}
    for i in range(max(rounds.values())):
        for name, call in systems.items():
            if i < rounds[name]:
                first = i * RUN % len(texts)
                times[name] += [microseconds(call, [text]) for text in texts[first : first + RUN]]
    return times


def start_up_milliseconds(folder: Path) -> tuple[float, float]:
    """Import of the package and loading of a table, each in fresh processes; medians of seven."""
    program = f"""
import time
start = time.perf_counter()
import lightretriever
imported = time.perf_counter()
from lightretriever import QueryEncoder
ready = time.perf_counter()
QueryEncoder.load({str(folder)!r})
print(imported - start, time.perf_counter() - ready)
"""
    runs = [
        subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True) for _ in range(7)
    ]
    imports, loads = zip(*(map(float, run.stdout.split()) for run in runs), strict=True)
    return float(np.median(imports)) * 1e3, float(np.median(loads)) * 1e3


def row(label: str, times: dict[str, list[float]]) -> list[str]:
    """Label, the look-up's median, and every other system's median with its ratio to it."""
    medians = {name: float(np.median(values)) for name, values in times.items()}
    mine = medians["look-up"]
    others = [
        f"{medians[name]:,.1f} µs ({medians[name] / mine:,.0f}×)" if name in medians else "" for name in SYSTEMS[1:]
    ]
    both = medians.get("look-up, dense and counts")
    return [label, f"{mine:.2f} µs", f"{both:.2f} µs" if both else "", *others]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queries", type=int, default=16384, help="queries in a batch")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    tower = DocumentEncoder.load("minilm", sparse="none")
    queries = make_queries(options.queries)
    few = queries[:256]  # the full model is a thousand times slower: a smaller batch says the same
    lines, data = [], {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for dim in (tower.dim, 1024):
            systems = load_systems(tower, dim, folder)
            static = {name: call for name, call in systems.items() if name != "full MiniLM"}
            batches = {"": (systems if dim == tower.dim else static, queries)}
            if dim == tower.dim:
                batches |= {", accents": (static, accented(queries)), ", Chinese": (static, chinese(len(queries)))}
            for kind, (compared, texts) in batches.items():
                by_system = {name: few if name == "full MiniLM" else texts for name in compared}
                label = f"batch of {len(texts):,}, d = {dim}{kind}"
                data[label] = measure(compared, by_system, options.rounds)
                lines.append(row(label, data[label]))
            compared = batches[""][0]
            label = f"one at a time, d = {dim}"
            data[label] = measure_singly(
                compared, queries, {name: 1 if name == "full MiniLM" else 8 for name in compared}
            )
            lines.append(row(label, data[label]))
        imported, loaded = start_up_milliseconds(folder / str(tower.dim))
    header = ["queries of 8 words", "look-up", "with counts", *SYSTEMS[1:]]
    notes = (
        f"Microseconds a query, tokenisation included, medians; in brackets how many times the look-up's. "
        f"`import lightretriever` {imported:.1f} ms, loading a table {loaded:.0f} ms (fresh processes, medians of 7)."
    )
    report(
        Result("query_encoding", header, lines, notes, {"microseconds": data, "import_ms": imported, "load_ms": loaded})
    )


if __name__ == "__main__":
    main()
