"""Queries by look-up: the method's formulas computed plainly, against one query at a time and against batches."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_tokenizers import LINES, llama, wordpiece
from tokenizers import Tokenizer

from lightretriever import QueryEncoder, TokenTable
from lightretriever.errors import UsageError
from lightretriever.text.memo import BATCH
from lightretriever.text.tokenizer import id_count

TEXTS = [*LINES, "", "everest", "the the the", "  spaced   query ", "世界最高峰", "a\0b", "\ud800", "[PAD] of [PAD]"]


def make_table(tokenizer: Tokenizer, dtype: str = "float32", **options: object) -> TokenTable:
    rows = np.random.default_rng(0).standard_normal((id_count(tokenizer) + 3, 24)).astype(np.float32)
    return TokenTable.from_rows(rows, tokenizer, model="made", dtype=dtype, **options)  # type: ignore[arg-type]


def plain_ids(table: TokenTable, text: str, space: str = "") -> list[int]:
    text = text.replace("\ud800", "\ufffd")
    ids = table.tokenizer.encode(space + text, add_special_tokens=False).ids if text else []
    return ids[: table.max_length]


def plain_dense(table: TokenTable, text: str) -> np.ndarray:
    ids = [i for i in plain_ids(table, text) if i not in table.skip_ids]
    mean = table[ids].astype(np.float64).mean(axis=0) if ids else np.zeros(table.dim)
    return mean / (np.linalg.norm(mean) or 1)


def batched(encoder: QueryEncoder, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Through the compiled path: enough copies, the first of each returned."""
    encoded = encoder.encode((texts * BATCH)[: max(BATCH, len(texts))])
    assert encoded.sparse is not None
    return encoded.dense[: len(texts)], encoded.sparse.to_dense()[: len(texts)]


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
@pytest.mark.parametrize("make", [wordpiece, llama])
def test_dense_is_the_unit_mean_of_rows(make, dtype: str) -> None:
    table = make_table(make(), dtype, skip_ids=[0])
    encoder = QueryEncoder(table)
    expected = np.stack([plain_dense(table, text) for text in TEXTS])
    few = encoder.encode(TEXTS).dense
    assert few.dtype == np.float32
    np.testing.assert_allclose(few, expected, atol=1e-6)
    np.testing.assert_allclose(batched(encoder, TEXTS)[0], expected, atol=1e-6)
    np.testing.assert_array_equal(encoder.encode_dense(TEXTS), few)
    np.testing.assert_array_equal(encoder.encode_dense(TEXTS[0]), few[:1])


@pytest.mark.parametrize("counts", ["sum", "bow"])
@pytest.mark.parametrize("make", [wordpiece, llama])
def test_sparse_counts_tokens(make, counts: str) -> None:
    table = make_table(make(), skip_ids=[0])
    encoder = QueryEncoder(table, counts)
    expected = np.zeros((len(TEXTS), len(table)), dtype=np.float32)
    for i, text in enumerate(TEXTS):
        for token, count in Counter(plain_ids(table, text, " " if table.leading_space else "")).items():
            expected[i, token] = count if counts == "sum" else 1
    few = encoder.encode(TEXTS).sparse
    assert few is not None
    np.testing.assert_array_equal(few.to_dense(), expected)
    np.testing.assert_array_equal(encoder.encode_sparse(TEXTS).to_dense(), expected)
    np.testing.assert_array_equal(batched(encoder, TEXTS)[1], expected)
    assert all((np.diff(few.row(i)[0]) > 0).all() for i in range(len(few)))


def test_byte_level_queries_carry_a_leading_space_on_the_sparse_side_only() -> None:
    encoder = QueryEncoder(make_table(llama()))
    assert encoder.table.leading_space
    assert not QueryEncoder(make_table(wordpiece())).table.leading_space
    ids, _ = encoder.tokenize(["everest"])
    assert ids.tolist() == plain_ids(encoder.table, "everest")
    assert encoder.encode_sparse("everest").indices.tolist() == sorted(plain_ids(encoder.table, "everest", " "))


def test_truncation_counts_query_tokens_and_is_said_once() -> None:
    encoder = QueryEncoder(make_table(wordpiece(), max_length=5))
    long = "how tall is mount everest the highest mountain"
    with pytest.warns(UserWarning, match="1 of 2 queries are longer than 5 tokens"):
        ids, offsets = encoder.tokenize([long, "tall"])
    assert np.diff(offsets).tolist() == [5, 1]
    assert ids.tolist()[:5] == plain_ids(encoder.table, long)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder.encode([long] * BATCH)
        encoder.encode(long)
    assert encoder.truncated == 1 + BATCH + 1


def test_truncation_is_counted_once_a_query_whichever_side_is_asked() -> None:
    encoder = QueryEncoder(make_table(llama(), max_length=3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        encoder.encode(LINES[0])
        encoder.encode_sparse(LINES[0])
        encoder.encode_dense(LINES[0])
        encoder.encode_sparse([LINES[0]] * BATCH)
    assert encoder.truncated == 3 + BATCH


def test_a_longer_query_than_the_limit_is_cut_alike_one_by_one_and_in_batches() -> None:
    table = make_table(llama(), max_length=4)
    encoder = QueryEncoder(table)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        few = encoder.encode(TEXTS)
        dense, sparse = batched(encoder, TEXTS)
    assert few.sparse is not None
    np.testing.assert_allclose(dense, few.dense, atol=1e-6)
    np.testing.assert_array_equal(sparse, few.sparse.to_dense())
    assert few.sparse.values.sum() <= 4 * len(TEXTS)


def test_first_dimensions_are_normalised_anew(tmp_path: Path) -> None:
    table = make_table(wordpiece())
    table.save(tmp_path / "table")
    encoder = QueryEncoder.load(tmp_path / "table", dim=7)
    whole = plain_dense(table, LINES[0])[:7]
    np.testing.assert_allclose(encoder.encode_dense(LINES[0])[0], whole / np.linalg.norm(whole), atol=1e-6)
    assert encoder.dim == 7
    with pytest.raises(UsageError, match="dim is 25"):
        QueryEncoder.load(tmp_path / "table", dim=25)


@settings(max_examples=50)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=12))
def test_rows_are_unit_or_zero(texts: list[str]) -> None:
    encoded = QueryEncoder(make_table(wordpiece(), "int8")).encode(texts)
    assert encoded.sparse is not None
    assert len(encoded) == len(encoded.sparse) == len(texts)
    norms = np.linalg.norm(encoded.dense, axis=1)
    assert (np.isclose(norms, 1, atol=1e-5) | (norms == 0)).all()
    assert ((norms == 0) == (np.diff(encoded.sparse.indptr) == 0)).all()


def test_no_query_gives_no_row() -> None:
    encoded = QueryEncoder(make_table(wordpiece())).encode([])
    assert encoded.sparse is not None
    assert encoded.dense.shape == (0, 24)
    assert len(encoded.sparse) == 0


def test_unknown_counts_are_refused() -> None:
    with pytest.raises(UsageError, match="'sum' or 'bow'"):
        QueryEncoder(make_table(wordpiece()), counts="tf")


def test_the_query_path_loads_no_torch_and_one_query_no_numba(tmp_path: Path) -> None:
    make_table(wordpiece()).save(tmp_path / "table")
    program = f"""
import sys
from lightretriever import QueryEncoder
encoder = QueryEncoder.load({str(tmp_path / "table")!r})
encoder.encode(["how tall is everest"])
assert "numba" not in sys.modules
encoder.encode(["how tall is everest"] * {BATCH})
assert not {{"torch", "transformers", "sentence_transformers"}} & set(sys.modules), "the query path loaded torch"
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_importing_the_package_loads_nothing() -> None:
    program = """
import sys, time
start = time.perf_counter()
import lightretriever
assert time.perf_counter() - start < 0.1
assert "numpy" not in sys.modules
assert set(lightretriever.__all__) <= set(dir(lightretriever))
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_golden_queries(golden: Path) -> None:
    """Look-up vectors and counts that an independent implementation computed from its own table."""
    import json

    for folder in ("llama-tiny", "checkpoint_llama-tiny_golden"):
        texts = json.loads((golden / folder / "tokenization.json").read_text())
        dense, counts = (np.load(golden / folder / f"queries_{side}.npz") for side in ("dense", "sparse"))
        tokenizer = Tokenizer.from_file(
            str(golden / "checkpoint_llama-tiny_golden" / "edited_tokenizer" / "tokenizer.json")
        )
        table = TokenTable.from_rows(
            dense["table_fp32"],
            tokenizer,
            model=folder,
            skip_ids=[int(dense["padding_idx"])],
            max_length=texts["max_len_query"],
        )
        encoder = QueryEncoder(table)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # one of them is meant to be cut
            ids, offsets = encoder.tokenize(texts["queries"])
            encoded, once = encoder.encode(texts["queries"]), QueryEncoder(table, "bow").encode(texts["queries"])
        np.testing.assert_array_equal(ids, dense["bag_input_ids"])
        np.testing.assert_array_equal(offsets[:-1], dense["bag_offsets"])
        np.testing.assert_allclose(encoded.dense, dense["query_normalized_fp32"], atol=1e-5)
        assert encoded.sparse is not None
        assert once.sparse is not None
        np.testing.assert_array_equal(encoded.sparse.to_dense(), counts["query_counts_sum"])
        np.testing.assert_array_equal(once.sparse.to_dense(), counts["query_counts_bow"])


@pytest.mark.parametrize("wrong", [None, 5, b"everest", [None], ["everest", 5], {"everest": 1}, {"everest"}])
def test_what_is_no_query_is_said(wrong: object) -> None:
    encoder = QueryEncoder(make_table(wordpiece()))
    for encode in (encoder.encode, encoder.encode_dense, encoder.encode_sparse, encoder.tokenize):
        with pytest.raises(UsageError, match=r"(is|are) of type"):
            encode(wrong)  # type: ignore[operator]
    with pytest.raises(UsageError, match=r"QueryEncoder\.load opens a table's folder"):
        QueryEncoder("table")  # type: ignore[arg-type]


def test_queries_come_in_any_sequence() -> None:
    encoder = QueryEncoder(make_table(wordpiece()))
    expected = encoder.encode(["everest", "the"]).dense
    for texts in (("everest", "the"), np.array(["everest", "the"]), iter(["everest", "the"])):
        assert (encoder.encode(texts).dense == expected).all()  # type: ignore[arg-type]
