"""How much of a query a fitted table understands: counted, added up plainly and compiled, stored, and used."""

from __future__ import annotations

from dataclasses import replace
from math import log
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_tokenizers import gpt2, llama, qwen, unigram, wordpiece
from numpy.typing import NDArray

from lightretriever import QueryEncoder, TokenTable
from lightretriever.artifact import load_tensors, save_tensors
from lightretriever.errors import ArtifactError
from lightretriever.query.evidence import Evidence, gather_evidence
from lightretriever.query.phrases import PhraseTable
from lightretriever.text.tokenizer import id_count, inner_tokens

INNER = np.array([False, False, False, True, True])
TEXTS = [[0, 1], [0, 2, 3], [0, 2, 3, 2, 3], [1, 4, 4]]


def flat(rows: list[list[int]]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    lengths = [len(row) for row in rows]
    return np.array([i for row in rows for i in row], dtype=np.int32), np.cumsum([0, *lengths]).astype(np.int64)


def gather(rows: list[list[int]], prior: float = 0.0) -> Evidence:
    return gather_evidence(*flat(rows), INNER, prior)


def trust_of(evidence: Evidence, ids: list[int]) -> float:
    total, sure = evidence.add_up(ids)
    return sure / total if total > 0 else 1.0


def trust_many(evidence: Evidence, queries: list[list[int]]) -> list[float]:
    total, sure = evidence.add_up_many(*flat(queries))
    return [float(s / t) if t > 0 else 1.0 for s, t in zip(sure, total, strict=True)]


def test_texts_are_counted_once_for_each_token_and_pair_of_pieces() -> None:
    evidence = gather(TEXTS)
    assert evidence.texts == 4
    assert evidence.frequency.tolist() == [3, 2, 2, 2, 1]
    assert evidence.pairs.tolist() == [1 * 5 + 4, 2 * 5 + 3, 4 * 5 + 4]
    assert evidence.pair_frequency.tolist() == [1, 2, 1]


def test_no_pair_reaches_from_one_text_into_the_next() -> None:
    assert gather([[0, 2], [3, 3]]).pairs.tolist() == [3 * 5 + 3]
    assert len(gather([[0], []]).pairs) == 0


def test_trust_by_hand() -> None:
    evidence = gather(TEXTS)

    def weight(count: int) -> float:
        return log(5 / (count + 0.5))

    known = weight(3) * 3 / 4 + weight(2) * 2 / 3 + weight(2) * 2 / 3  # the pair 2, 3 is in two texts
    assert trust_of(evidence, [0, 2, 3]) == pytest.approx(known / (weight(3) + 2 * weight(2)), rel=1e-5)
    # Both pieces are known, together they never were.
    unknown = weight(2) * 2 / 3 / (weight(2) + weight(0))
    assert trust_of(evidence, [1, 3]) == pytest.approx(unknown, rel=1e-5)
    assert trust_of(evidence, []) == 1.0


def test_a_prior_counts_where_texts_say_nothing() -> None:
    rows = [[0, 1]]
    assert trust_of(gather(rows), [2]) == 0.0
    assert trust_of(gather(rows, prior=0.5), [2]) == pytest.approx(0.5)
    assert trust_of(gather(rows, prior=0.5), [2, 3]) == pytest.approx(0.5)
    assert trust_of(gather(rows, prior=1.0), [0, 2]) == pytest.approx(1.0)


IDS = st.lists(st.integers(0, len(INNER) - 1), max_size=12)


@settings(max_examples=60, deadline=None)
@given(st.lists(IDS, max_size=8), st.lists(IDS, min_size=1, max_size=8), st.sampled_from([0.0, 0.3]))
def test_compiled_trust_is_the_plain_one(texts: list[list[int]], queries: list[list[int]], prior: float) -> None:
    evidence = gather(texts, prior)
    plain = [trust_of(evidence, query) for query in queries]
    np.testing.assert_allclose(trust_many(evidence, queries), plain, atol=1e-6)
    assert all(0.0 <= trust <= 1.0 for trust in plain)


@pytest.mark.parametrize("make", [wordpiece, qwen, llama, gpt2, unigram])
def test_pieces_within_words_are_told_from_beginnings(make) -> None:
    tokenizer = make()
    inner = inner_tokens(tokenizer)
    assert len(inner) == id_count(tokenizer)
    for text in ("everest mountain", "highest invented", "slow threads"):
        encoding = tokenizer.encode(text, add_special_tokens=False)
        for i, (start, _) in enumerate(encoding.offsets):
            begins = i == 0 or text[start] == " " or text[start - 1] == " "
            assert begins or inner[encoding.ids[i]] or not text[start].isalnum(), (text, encoding.tokens)
            assert i == 0 or not (text[start] == " " and inner[encoding.ids[i]]), (text, encoding.tokens)


def test_scripts_without_spaces_have_no_words_to_be_within() -> None:
    tokenizer = qwen()
    inner = inner_tokens(tokenizer)
    for text in ("世界最高峰", "ที่ไหน"):
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert not inner[ids].any()


def fitted_table(prior: float = 0.0) -> TokenTable:
    tokenizer = wordpiece()
    texts = ["tall mountain", "highest mountain in the world", "who invented the light bulb"]
    rows = [encoding.ids for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]
    evidence = gather_evidence(*flat(rows), inner_tokens(tokenizer), prior)
    vectors = np.random.default_rng(3).standard_normal((id_count(tokenizer), 6)).astype(np.float32)
    return TokenTable.from_rows(vectors, tokenizer, model="made", evidence=evidence)


def test_an_encoder_says_how_much_of_each_query_it_understands() -> None:
    encoded = QueryEncoder(fitted_table()).encode(["tall mountain", "tall zebra", "zzz", ""])
    assert encoded.trust is not None and encoded.trust.dtype == np.float32
    both, one, none, empty = encoded.trust
    assert both > one > none == 0.0 and empty == 1.0
    assert encoded.unknown is not None
    known, strange, most, nothing = encoded.unknown
    assert 0 < known < strange and most > known and nothing == 0.0
    assert encoded.dense[0].any() and encoded.dense[1].any()
    assert not encoded.dense[2].any(), "what no text spoke of has no vector"


def test_a_large_batch_says_the_same() -> None:
    encoder = QueryEncoder(fitted_table())
    queries = ["tall mountain", "tall zebra", "zzz", ""] * 600
    one_by_one = np.concatenate([encoder.encode(query).trust for query in queries[:4]])
    unknown = np.concatenate([encoder.encode(query).unknown for query in queries[:4]])
    many = encoder.encode(queries)
    np.testing.assert_allclose(many.trust, np.tile(one_by_one, 600), atol=1e-6)
    np.testing.assert_allclose(many.unknown, np.tile(unknown, 600), atol=1e-5)
    assert not many.dense[2].any()


def test_a_query_that_has_a_row_of_its_own_is_understood() -> None:
    table = fitted_table()
    ids = table.tokenizer.encode("zzz", add_special_tokens=False).ids
    table = table.with_phrases([], [ids], np.ones((1, 6), np.float32))
    encoder = QueryEncoder(table)
    assert encoder.encode(["zzz", "zzz zzz"]).trust.tolist() == [1.0, 0.0]
    assert encoder.encode(["zzz", "zzz zzz"] * 1200).trust[:2].tolist() == [1.0, 0.0]


def test_a_large_batch_is_searched_for_phrases_once(monkeypatch: pytest.MonkeyPatch) -> None:
    table = fitted_table()
    ids = table.tokenizer.encode("tall zebra", add_special_tokens=False).ids
    encoder = QueryEncoder(table.with_phrases([], [ids], np.ones((1, 6), np.float32)))
    match, searched = PhraseTable.match, list[int]()

    def count(phrases: PhraseTable, ids: NDArray, offsets: NDArray, width: int) -> tuple[NDArray, NDArray]:
        searched.append(len(offsets) - 1)  # threads share a batch out
        return match(phrases, ids, offsets, width)

    monkeypatch.setattr(PhraseTable, "match", count)
    queries = ["tall zebra", "tall mountain", "", "zzz"] * 1000
    encoded = encoder.encode(queries)
    assert sum(searched) == len(queries)
    np.testing.assert_array_equal(encoded.trust, np.tile(encoder.encode(queries[:4]).trust, 1000))
    np.testing.assert_array_equal(encoded.dense, encoder.encode_dense(queries) * (encoded.trust > 0)[:, None])


def test_a_table_whose_rows_are_all_alike_is_trusted() -> None:
    assert QueryEncoder(replace(fitted_table(), evidence=None)).encode("zebra").trust is None


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_evidence_is_stored_with_its_table(tmp_path: Path, dtype: str) -> None:
    table = fitted_table(prior=0.25).converted(dtype).truncated(4)
    table.save(tmp_path / "table")
    again = TokenTable.load(tmp_path / "table")
    queries = ["tall zebra", "mountain", "zzz"]
    assert again.hash == table.hash
    assert QueryEncoder(again).encode(queries).trust.tolist() == QueryEncoder(table).encode(queries).trust.tolist()
    assert again.hash != replace(table, evidence=None).hash


@pytest.mark.parametrize(
    "wrong",
    [
        {"frequency": np.zeros(3, np.uint32)},
        {"frequency": np.zeros(3, np.float32)},
        {"pairs": np.array([5, 4], np.int64), "pair_frequency": np.ones(2, np.uint32)},
        {"pairs": np.array([-1], np.int64), "pair_frequency": np.ones(1, np.uint32)},
        {"pairs": np.array([10**12], np.int64), "pair_frequency": np.ones(1, np.uint32)},
        {"texts": np.array([0], np.int64)},
        {"texts": np.array([], np.int64)},
        {"prior": np.array([np.nan])},
        {"prior": np.array([2.0])},
    ],
)
def test_damaged_evidence_is_refused(tmp_path: Path, wrong: dict[str, np.ndarray]) -> None:
    file = tmp_path / "evidence.safetensors"
    gather(TEXTS).save(file)
    save_tensors(file, load_tensors(file) | wrong)
    with pytest.raises(ArtifactError, match="make the table again"):
        Evidence.load(file, len(INNER))


def test_other_evidence_than_the_tables_is_refused(tmp_path: Path) -> None:
    fitted_table().save(tmp_path / "table")
    fitted_table(prior=0.5).evidence.save(tmp_path / "table" / "evidence.safetensors")
    with pytest.raises(ArtifactError, match=r"evidence\.safetensors"):
        TokenTable.load(tmp_path / "table")
