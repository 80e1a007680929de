"""Phrases chosen from texts, their corrections fitted and tried on other texts, whole queries exact."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from made_bags import made_bags
from made_query_towers import QueryTower
from made_tokenizers import llama, wordpiece
from numpy.typing import NDArray
from tokenizers import Tokenizer

from lightretriever import QueryEncoder, TokenTable
from lightretriever.errors import UsageError
from lightretriever.tables.bags import Bags
from lightretriever.tables.fit import fit_table
from lightretriever.tables.options import FitOptions
from lightretriever.tables.phrases import (
    add_queries,
    frequent_phrases,
    frequent_queries,
    held_out_shares,
    phrase_index,
)
from lightretriever.tables.ridge import solve_ridge
from lightretriever.text.tokenizer import id_count

WORDS = "tall mount everest highest mountain world who invented light bulb read csv file thread slow use".split()
WIDTH, DIM = id_count(wordpiece()), 24


def made_texts(count: int, seed: int = 0) -> list[str]:
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS, random.integers(3, 9))) + f" {row}" for row in range(count)]


def ids_of(text: str, tokenizer: Tokenizer | None = None) -> list[int]:
    return (tokenizer or wordpiece()).encode(text, add_special_tokens=False).ids


@dataclass
class MadeTower(QueryTower):
    """The mean of made rows, and an own vector wherever "light bulb" stands: no sum of token rows gives that."""

    dim: int = DIM
    max_length: int = 64
    skip_ids: tuple[int, ...] = (0,)
    encoded: list[str] = field(default_factory=list)

    def encode_queries(self, texts: list[str], prompt: str | None = None) -> NDArray[np.float32]:
        assert prompt == ""
        self.encoded.extend(texts)
        rows = np.random.default_rng(1).normal(size=(WIDTH + 1, DIM)).astype(np.float32)
        vectors = made_bags(texts, wordpiece(), WIDTH, 62).multiply(rows[:WIDTH])
        vectors[["light bulb" in text for text in texts]] += rows[WIDTH] * 3
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def test_phrases_are_the_word_sequences_of_most_texts() -> None:
    texts = [
        "the light bulb, the light",
        "a light bulb",
        "light bulb it is",
        "read a csv file",
        "a csv file",
        "a csv file",
    ]
    found = frequent_phrases(texts, wordpiece(), 99, 62)
    assert found[0] == tuple(ids_of("light bulb")) or found[0] == tuple(ids_of("csv file"))
    assert set(found) == {tuple(ids_of(phrase)) for phrase in ("light bulb", "csv file", "a csv", "a csv file")}
    assert frequent_phrases(texts, wordpiece(), 1, 62) == found[:1]
    bulb = ids_of("light bulb")
    assert tuple(bulb) not in frequent_phrases(texts, wordpiece(), 99, 62, skip_ids=bulb[:1])
    assert frequent_phrases([], wordpiece(), 9, 62) == frequent_phrases(["a", ""], wordpiece(), 9, 62) == []


@pytest.mark.parametrize("make", [wordpiece, llama])
def test_counts_are_those_of_a_plain_count(make) -> None:  # type: ignore[no-untyped-def]
    tokenizer, texts = make(), [*made_texts(200), "tall mount, everest", "mount-everest tall"]
    counts: Counter[tuple[int, ...]] = Counter()
    for text in texts:
        encoding = tokenizer.encode(text, add_special_tokens=False)
        words, seen = encoding.word_ids, set()
        for start in range(len(words)):
            for end in range(start + 2, min(start + 8, len(words)) + 1):
                inside = words[start:end]
                at_edges = (start == 0 or words[start - 1] != words[start]) and (
                    end == len(words) or words[end] != words[end - 1]
                )
                names = [tokenizer.id_to_token(i) for i in encoding.ids[start:end]]
                if at_edges and len(set(inside)) <= 3 and all(any(c.isalnum() for c in name) for name in names):
                    seen.add(tuple(encoding.ids[start:end]))
        counts.update(seen)
    expected = {phrase: count for phrase, count in counts.items() if count >= 3}
    found = frequent_phrases(texts, tokenizer, 100_000, 62)
    assert set(found) == set(expected)
    ordered = [expected[phrase] for phrase in found]
    assert ordered == sorted(ordered, reverse=True)


def test_bags_count_phrases_beside_their_tokens() -> None:
    index = phrase_index([ids_of("light bulb"), ids_of("the light bulb")], WIDTH)
    bags = made_bags(["light bulb the light bulb", "the light", ""], wordpiece(), WIDTH, 62, phrases=index)
    tokens = made_bags(["light bulb the light bulb", "the light", ""], wordpiece(), WIDTH, 62)
    assert bags.width == WIDTH + 2
    kept = bags.ids < WIDTH
    np.testing.assert_array_equal(bags.ids[kept], tokens.ids)
    np.testing.assert_array_equal(bags.weights[kept], tokens.weights)
    assert bags.ids[~kept].tolist() == [WIDTH, WIDTH + 1]
    np.testing.assert_allclose(bags.weights[~kept], 1 / len(ids_of("light bulb the light bulb")))


def test_shares_are_what_leaving_each_text_out_says() -> None:
    random = np.random.default_rng(0)
    texts, width, count, dim, l2 = 30, 5, 4, 6, 0.3
    dense = random.random((texts, width + count)) * (random.random((texts, width + count)) < 0.5)
    indptr = np.concatenate([[0], np.cumsum((dense > 0).sum(axis=1))]).astype(np.int64)
    rows_, ids = np.nonzero(dense)
    bags = Bags(indptr, ids.astype(np.int32), dense[rows_, ids].astype(np.float32), width + count)
    targets = random.standard_normal((texts, dim)).astype(np.float32)
    targets += np.outer(dense[:, width], random.standard_normal(dim) * 3).astype(np.float32)  # the first phrase tells
    rows = solve_ridge(bags, targets, np.zeros((width + count, dim), np.float32), l2, iterations=200, tolerance=1e-9)
    shares = held_out_shares(bags, targets, rows, l2, width)
    for phrase in range(count):
        weights, others = dense[:, width + phrase], rows.copy()
        others[width + phrase] = 0
        rest = targets - dense @ others
        top = bottom = 0.0
        for text in np.flatnonzero(weights):
            left = np.delete(np.arange(texts), text)
            without = weights[left] @ rest[left] / ((weights[left] ** 2).sum() + l2)
            top += weights[text] * rest[text] @ without
            bottom += weights[text] ** 2 * without @ without
        assert shares[phrase] == pytest.approx(np.clip(top / bottom, 0, 1), abs=1e-4)
    assert shares[0] > 0.5


def fitted(phrases: int, queries_log: Sequence[str] = (), dim: int | None = None) -> TokenTable:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few texts for the vocabulary
        how = FitOptions(phrases=phrases, dim=dim, rotate=dim is not None)
        return fit_table(MadeTower(), made_texts(400), prior="zero", options=how, queries_log=queries_log)  # type: ignore[arg-type]


def agreement(table: TokenTable, texts: list[str]) -> float:
    return float((QueryEncoder(table).encode_dense(texts) * MadeTower().encode_queries(texts, "")).sum(axis=1).mean())


def test_phrases_bring_the_table_nearer_to_the_tower() -> None:
    plain, table = fitted(0), fitted(40)
    assert plain.phrases is None and table.phrases is not None
    assert 0 < len(table.phrases) <= 40 and table.phrases.whole == 0
    fresh = [text for text in made_texts(400, seed=7) if "light bulb" in text]
    assert agreement(table, fresh) > agreement(plain, fresh) + 0.02
    kept = [tuple(table.phrases.sequence(number)) for number in range(len(table.phrases))]
    assert tuple(ids_of("light bulb")) in kept
    assert ((table.phrases.shares > 0) & (table.phrases.shares <= 1)).all()
    assert fitted(40).hash == table.hash


def test_a_phrase_that_its_tokens_explain_keeps_almost_nothing() -> None:
    texts = [text.replace("light bulb", "light") for text in made_texts(300)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = fit_table(MadeTower(), texts, prior="zero", l2=1e-3)
        table = fit_table(MadeTower(), texts, prior="zero", options=FitOptions(l2=1e-3, phrases=40))
    fresh = [text.replace("light bulb", "light") for text in made_texts(200, seed=9)]
    assert agreement(table, fresh) > agreement(plain, fresh) - 1e-3


def test_head_queries_of_a_log_are_exact() -> None:
    log = ["who invented the light bulb"] * 5 + ["mount everest"] * 3 + ["Mount  Everest"] + ["", " "] + ["tall"] * 2
    table = fitted(30, queries_log=log)
    assert table.phrases is not None and table.phrases.whole == 3 and len(table.phrases) <= 30
    heads = ["who invented the light bulb", "mount everest", "tall"]
    np.testing.assert_allclose(
        QueryEncoder(table).encode_dense(heads), MadeTower().encode_queries(heads, ""), atol=1e-6
    )
    assert frequent_queries(log, 2) == heads[:2]
    only = fitted(2, queries_log=log).phrases
    assert only is not None and only.whole == len(only) == 2


def test_phrases_and_queries_are_turned_with_their_table() -> None:
    heads = ["mount everest", "tall"]
    table = fitted(20, queries_log=heads, dim=DIM - 2)
    assert table.phrases is not None and table.rotation is not None and table.phrases.whole == 2
    wanted = MadeTower().encode_queries(heads, "") @ table.rotation
    np.testing.assert_allclose(
        QueryEncoder(table).encode_dense(heads), wanted / np.linalg.norm(wanted, axis=1, keepdims=True), atol=1e-5
    )


def test_queries_join_any_table_and_leave_its_phrases() -> None:
    table, tower = fitted(20), MadeTower()
    queries = ["tall mount", "TALL mount", "[PAD] mount", " ", "mount " * 600]
    more = add_queries(table, tower, queries)  # type: ignore[arg-type]
    assert table.phrases is not None and more.phrases is not None
    assert tower.encoded == ["tall mount"]
    assert (more.phrases.whole, len(more.phrases)) == (1, len(table.phrases) + 1)
    texts = made_texts(50, seed=3)
    np.testing.assert_array_equal(QueryEncoder(more).encode_dense(texts), QueryEncoder(table).encode_dense(texts))
    again = add_queries(more, tower, ["mount everest"]).phrases  # type: ignore[arg-type]
    assert again is not None and again.whole == 1
    with pytest.raises(UsageError, match="use the table's own tower"):
        add_queries(table, MadeTower(dim=DIM - 1), queries)  # type: ignore[arg-type]


def test_what_cannot_be_made_is_refused() -> None:
    with pytest.raises(UsageError, match="phrases is -1"):
        fitted(-1)
    with pytest.raises(UsageError, match="encoded by the tower"):
        fit_table(
            vectors=(made_texts(9), np.ones((9, 4))),
            tokenizer=wordpiece(),
            options=FitOptions(phrases=5),
            queries_log=["mount everest"],
        )
