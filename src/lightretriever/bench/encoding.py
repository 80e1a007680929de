"""Encoders of queries side by side, and what building takes: tables' rows, documents' vectors."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lightretriever.bench.clock import Call, Timing, take_turns
from lightretriever.query.table import TokenTable

if TYPE_CHECKING:
    from lightretriever.document.encoder import DocumentEncoder

LOOK_UP, STATIC, MODEL2VEC = "look-up", "StaticEmbedding", "model2vec"
SINGLY, SMALL, LARGE, NEW = "one at a time", "batches of 32", "large batches", "new texts"
SMALL_BATCH, LARGEST = 32, 65_536
MET = 16_384  # texts that static encoders have met before any is timed
TURNS, SECONDS = 8, 0.25
CALLS = 400  # queries asked one at a time before the next system has its turn
Floats = NDArray[np.float32]


def static_encoders(table: TokenTable, folder: Path) -> tuple[dict[str, Call], list[str]]:
    """Other packages' encoders over the same rows, and a line for each package that is not installed.

    Args:
        table: without rows for phrases, or these are left out.
        folder: where a float32 copy of it is written for sentence-transformers; must not exist.
    """
    rows = table[np.arange(len(table))]
    found: dict[str, Call] = {}
    missing = []
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        missing.append(f"{STATIC} is not measured: pip install sentence-transformers")
    else:
        TokenTable.from_rows(rows, table.tokenizer, model=table.model, skip_ids=table.skip_ids).save(folder)
        static = SentenceTransformer(str(folder), device="cpu")
        found[STATIC] = lambda texts: static.encode(texts, batch_size=1024, show_progress_bar=False)
    try:
        from model2vec import StaticModel
    except ImportError:
        missing.append(f"{MODEL2VEC} is not measured: pip install model2vec")
    else:
        found[MODEL2VEC] = StaticModel(rows, table.tokenizer, normalize=True).encode
    return found, missing


def time_encoders(
    static: Mapping[str, Call], full: Mapping[str, Call], texts: Sequence[str], kind: str, turns: int
) -> list[Timing]:
    """One query at a time, in batches of 32, and in batches as large as a system takes in about a second.

    Look-up remembers how words are tokenised, and a process that has run for a while has met most: so the texts have
    been met. Static encoders are timed on new ones too, as far as there are any.

    Args:
        static, full: name to what encodes a batch, without a model and with one.
        texts: queries; those after the first LARGEST are the new ones.
        kind: what queries they are, for the name of the timing.
        turns: that each system takes.
    """
    systems, fewer = {**static, **full}, (turns + 1) // 2
    met, new = texts[:MET], texts[LARGEST:]
    for call in static.values():
        call(list(met))
    ones, small = dict.fromkeys(systems, 1), dict.fromkeys(systems, SMALL_BATCH)
    timings = take_turns(f"{kind}, {SINGLY}", systems, met, ones, turns, SECONDS, CALLS)
    timings += take_turns(f"{kind}, {SMALL}", systems, met, small, fewer, SECONDS, CALLS // SMALL_BATCH)
    large = {timing.system: _power_of_two(timing.best) for timing in timings if timing.batch == SMALL_BATCH}
    timings += take_turns(f"{kind}, {LARGE}", systems, texts, large, fewer, 1.0, 1, again=True)
    apart = turns * CALLS + 1
    if len(new) <= apart + (fewer + 1) * SMALL_BATCH:
        return timings
    batch = _power_of_two((len(new) - apart) / (fewer + 1))
    timings += take_turns(f"{kind}, {NEW}, {SINGLY}", static, new[:apart], ones, turns, SECONDS, CALLS)
    return timings + take_turns(
        f"{kind}, {NEW}, {LARGE}", static, new[apart:], dict.fromkeys(static, batch), fewer, 1.0, 1
    )


def _power_of_two(limit: float) -> int:
    return int(min(max(2.0 ** np.floor(np.log2(limit)), SMALL_BATCH), LARGEST))


def largest_difference(systems: Mapping[str, Call], texts: list[str]) -> float:
    """Of a number in the vectors that static encoders over the same rows give for the same queries."""
    vectors = [np.asarray(call(texts), dtype=np.float32) for call in systems.values()]
    return float(max((np.abs(vectors[0] - other).max() for other in vectors[1:]), default=0.0))


@dataclass(frozen=True, slots=True)
class Rate:
    """How fast something is built.

    Attributes:
        what: "token table by running the vocabulary", …
        system: of which model.
        per_second: units a second.
        unit: "rows", "tokens", "documents".
        count: units that were timed.
        whole: seconds that the whole would take, where there is one; else 0.
    """

    what: str
    system: str
    per_second: float
    unit: str
    count: int
    whole: float = 0.0


def table_rate(name: str, tower: DocumentEncoder, seconds: float) -> Rate:
    """Rows a second of `cache_table`, from as many as take about so long."""
    from lightretriever.tables.cache import token_rows

    count, taken = 0, 0.0
    for limit in (64, None):
        count = min(tower.vocab_size, limit or max(64, int(count * seconds / taken)))
        begun = time.perf_counter()
        token_rows(tower, tower.default_prompt, limit=count)
        taken = time.perf_counter() - begun
    return Rate("token table, vocabulary run", name, count / taken, "rows", count, tower.vocab_size * taken / count)


def document_rates(towers: Mapping[str, DocumentEncoder], texts: Sequence[str], seconds: float) -> list[Rate]:
    """Tokens a second of each tower on passages, the towers taking turns of 8 passages, or 64 where that is quick."""
    taken, tokens, places = dict.fromkeys(towers, 0.0), dict.fromkeys(towers, 0), dict.fromkeys(towers, 0)
    for tower in towers.values():
        tower.encode([texts[0]])
    while any(spent < seconds for spent in taken.values()):
        for name, tower in towers.items():
            if taken[name] >= seconds:
                continue
            size = 64 if places[name] and taken[name] < seconds / 4 else 8
            part = [texts[i % len(texts)] for i in range(places[name], places[name] + size)]
            begun = time.perf_counter()
            tower.encode(part)
            taken[name] += time.perf_counter() - begun
            tokens[name] += sum(map(len, tower.tokenize(part)))
            places[name] += size
    return [
        Rate(f"documents, {count} passages", name, tokens[name] / taken[name], "tokens", tokens[name])
        for name, count in places.items()
    ]


def table_bytes(table: TokenTable) -> dict[str, int]:
    """Bytes of a table's rows, phrases' left out, by how they are stored."""
    rows = table[np.arange(len(table))]
    sizes = {}
    for dtype in ("float32", "float16", "int8"):
        stored = TokenTable.from_rows(rows, table.tokenizer, model=table.model, dtype=dtype)
        sizes[dtype] = stored.rows.nbytes + (0 if stored.scales is None else stored.scales.nbytes)
    return sizes
