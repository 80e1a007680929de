"""Phrase rows: found by longest match, singly and in batches, as a slow search finds them; stored whole."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_tokenizers import wordpiece

from lightretriever import QueryEncoder, TokenTable
from lightretriever.errors import UsageError
from lightretriever.query.phrases import PhraseTable, build_phrases
from lightretriever.text.memo import BATCH
from lightretriever.text.tokenizer import id_count

WIDTH = 6
V = id_count(wordpiece())
Ids = Sequence[int]


def made(phrases: Sequence[Ids], queries: Sequence[Ids], width: int = WIDTH) -> PhraseTable:
    rows = np.zeros((len(phrases) + len(queries), 1), np.float32)
    return build_phrases(phrases, queries, rows, None, np.ones(len(rows), np.float32), width)


def slow_match(ids: Ids, phrases: Sequence[Ids], queries: Sequence[Ids]) -> list[int]:
    """The definition: a whole query stands for all; else from the left the longest phrase that begins there."""
    for number, query in enumerate(queries):
        if list(query) == list(ids):
            return [WIDTH + len(phrases) + number]
    found, i = [], 0
    while i < len(ids):
        here = [n for n, phrase in enumerate(phrases) if list(ids[i : i + len(phrase)]) == list(phrase)]
        best = max(here, key=lambda n: len(phrases[n]), default=None)
        found.append(ids[i] if best is None else WIDTH + best)
        i += 1 if best is None else len(phrases[best])
    return found


tokens = st.integers(0, WIDTH - 1)
sequences = st.lists(st.lists(tokens, min_size=2, max_size=5), max_size=12, unique_by=tuple)
wholes = st.lists(st.lists(tokens, min_size=1, max_size=4), max_size=6, unique_by=tuple)


@settings(max_examples=150)
@given(sequences, wholes, st.lists(st.lists(tokens, max_size=9), max_size=8))
def test_both_paths_find_what_a_slow_search_finds(
    phrases: list[Ids], queries: list[Ids], texts: list[list[int]]
) -> None:
    table = made(phrases, queries)
    offsets = np.concatenate([[0], np.cumsum([len(text) for text in texts])]).astype(np.int64)
    ids = np.array([i for text in texts for i in text], dtype=np.int32)
    found, found_offsets = table.match(ids, offsets, WIDTH)
    for row, text in enumerate(texts):
        expected = slow_match(text, phrases, queries)
        assert found[found_offsets[row] : found_offsets[row + 1]].tolist() == expected
        left, numbers = table.segment(text)
        assert left == [i for i in expected if i < WIDTH]
        assert numbers == [i - WIDTH for i in expected if i >= WIDTH]


def test_many_sequences_are_each_found() -> None:
    random = np.random.default_rng(0)
    phrases = sorted({tuple(row) for row in random.integers(0, 500, (4000, 3)).tolist()})
    queries = sorted({tuple(row) for row in random.integers(0, 500, (4000, 7)).tolist()})
    table = made(phrases, queries, 500)
    assert [table.segment(list(p)) for p in phrases] == [([], [n]) for n in range(len(phrases))]
    assert [table.segment(list(q)) for q in queries] == [([], [len(phrases) + n]) for n in range(len(queries))]
    assert [table.sequence(n) for n in range(len(table))] == [list(s) for s in (*phrases, *queries)]


def made_table(dtype: str = "float32", **options: object) -> TokenTable:
    rows = np.random.default_rng(0).standard_normal((V, 24)).astype(np.float32)
    return TokenTable.from_rows(rows, wordpiece(), model="made", dtype=dtype, **options)  # type: ignore[arg-type]


TEXTS = [
    "how tall is mount everest",
    "mount everest",
    "who invented the light bulb",
    "the light",
    "",
    "[PAD] the light",
]


def with_phrases(table: TokenTable) -> TokenTable:
    ids = [table.tokenizer.encode(text, add_special_tokens=False).ids for text in ("mount everest", "the light")]
    query = table.tokenizer.encode("who invented the light bulb", add_special_tokens=False).ids
    rows = np.random.default_rng(1).standard_normal((3, 24)).astype(np.float32)
    return table.with_phrases(ids, [query], rows)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_a_vector_is_the_unit_sum_of_tokens_left_and_phrases_found(dtype: str) -> None:
    table = with_phrases(made_table(dtype, skip_ids=[0]))
    phrases = table.phrases
    assert phrases is not None
    scales = np.ones(3) if phrases.scales is None else phrases.scales
    rows = phrases.rows.astype(np.float64) * scales[:, None]
    encoder, plain = QueryEncoder(table), QueryEncoder(replace(table, phrases=None))
    start = table[table.tokenizer.encode("how tall is", add_special_tokens=False).ids].astype(np.float64).sum(axis=0)
    sums = np.stack([start + rows[0], rows[0], rows[2], rows[1], np.zeros(24), rows[1]])
    expected = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
    few = encoder.encode(TEXTS)
    many = encoder.encode((TEXTS * BATCH)[:BATCH])
    np.testing.assert_allclose(few.dense, expected, atol=1e-6)
    np.testing.assert_allclose(many.dense[: len(TEXTS)], expected, atol=1e-6)
    assert few.sparse is not None and plain.encode_sparse(TEXTS) is not None
    np.testing.assert_array_equal(few.sparse.to_dense(), plain.encode_sparse(TEXTS).to_dense())


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_phrases_are_stored_with_their_table(tmp_path: Path, dtype: str) -> None:
    table = with_phrases(made_table(dtype))
    table.save(tmp_path / "table")
    loaded = TokenTable.load(tmp_path / "table")
    assert table.phrases is not None and loaded.phrases is not None
    assert isinstance(loaded.phrases.rows, np.memmap)
    assert (len(loaded.phrases), loaded.phrases.whole, loaded.hash) == (3, 1, table.hash)
    assert replace(loaded.phrases).sha256 == table.phrases.sha256  # counted anew, not as noted
    encoded = QueryEncoder(loaded).encode_dense(TEXTS)
    np.testing.assert_array_equal(encoded, QueryEncoder(table).encode_dense(TEXTS))
    np.testing.assert_array_equal(
        QueryEncoder(loaded).encode_dense(TEXTS * BATCH), QueryEncoder(table).encode_dense(TEXTS * BATCH)
    )


def test_the_hash_covers_phrases() -> None:
    table = made_table()
    other = table.with_phrases([[5, 6]], [], np.ones((1, 24), np.float32))
    hashes = {
        table.hash,
        with_phrases(table).hash,
        other.hash,
        table.with_phrases([[5, 7]], [], np.ones((1, 24), np.float32)).hash,
        table.with_phrases([], [[5, 6]], np.ones((1, 24), np.float32)).hash,
        table.with_phrases([[5, 6]], [], np.full((1, 24), 2, np.float32)).hash,
    }
    assert len(hashes) == 6
    assert table.with_phrases([], [], np.empty((0, 24), np.float32)).hash == table.hash


def test_phrases_follow_their_table_to_fewer_columns_and_other_dtypes() -> None:
    table = with_phrases(made_table())
    short = QueryEncoder(table.truncated(7)).encode_dense(TEXTS)
    full = QueryEncoder(table).encode_dense(TEXTS)[:, :7]
    np.testing.assert_allclose(short[:4], full[:4] / np.linalg.norm(full[:4], axis=1, keepdims=True), atol=1e-6)
    axes = np.linalg.qr(np.random.default_rng(5).normal(size=(24, 24)))[0][:, :9].astype(np.float32)
    turned = QueryEncoder(table).encode_dense(TEXTS)[:4] @ axes
    np.testing.assert_allclose(
        QueryEncoder(table.rotated(axes)).encode_dense(TEXTS)[:4],
        turned / np.linalg.norm(turned, axis=1, keepdims=True),
        atol=1e-6,
    )
    eight = table.converted("int8")
    assert eight.phrases is not None and eight.phrases.scales is not None and eight.phrases.rows.dtype == np.int8
    assert eight.hash == with_phrases(made_table("int8")).hash
    assert (QueryEncoder(eight).encode_dense(TEXTS[:4]) * QueryEncoder(table).encode_dense(TEXTS[:4])).sum(
        1
    ).min() > 0.999


@pytest.mark.parametrize(
    ("phrases", "queries", "rows", "message"),
    [
        ([[5]], [], np.ones((1, 24)), "two tokens or more"),
        ([], [[]], np.ones((1, 24)), "two tokens or more"),
        ([[5, 6], [5, 6]], [], np.ones((2, 24)), "phrase 1 comes twice"),
        ([], [[5], [6], [5]], np.ones((3, 24)), "phrase 2 comes twice"),
        ([[5, V]], [], np.ones((1, 24)), "outside"),
        ([[5, 6]], [], np.ones((2, 24)), "give one for each"),
        ([[5, 6]], [], np.ones((1, 23)), r"\[P, 24\] is needed"),
        ([[5, 6]], [], np.full((1, 24), np.nan), "not finite"),
    ],
)
def test_impossible_phrases_are_refused(phrases: list, queries: list, rows: np.ndarray, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        made_table().with_phrases(phrases, queries, rows)


def test_one_query_needs_no_compiler(tmp_path: Path) -> None:
    with_phrases(made_table()).save(tmp_path / "table")
    program = f"""
import sys
from lightretriever import QueryEncoder
assert QueryEncoder.load({str(tmp_path / "table")!r}).encode("mount everest").dense.any()
assert "numba" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)
