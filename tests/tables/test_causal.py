"""Tables fitted to causal language models: from a cached table, under a prompt, and under several at once."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from made_models import causal_folder

from lightretriever import DocumentEncoder, FitOptions, QueryEncoder, TokenTable, cache_table, fit_table, fit_tables
from lightretriever.errors import MismatchError, UsageError
from lightretriever.tables.teacher import encode_cached

PROMPTS = ["Instruct: find what answers the query\nQuery: ", "Which passage is like this one? "]
WORDS = "mount everest the highest mountain world about meters tall leading trailing spaces naive".split()


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few texts for the vocabulary, and words in many pieces
        yield


@pytest.fixture(scope="module")
def tower(tmp_path_factory: pytest.TempPathFactory) -> DocumentEncoder:
    return DocumentEncoder.load(causal_folder(tmp_path_factory.mktemp("llama"), "llama"), device="cpu", sparse="none")


def texts(count: int, seed: int = 0) -> list[str]:
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS, 5)) for _ in range(count)]


def cosine(table: TokenTable, tower: DocumentEncoder, queries: list[str], prompt: str) -> float:
    full = tower.encode_queries(queries, prompt)
    return float(np.einsum("nd,nd->n", QueryEncoder(table).encode_dense(queries), full).mean())


def test_a_fit_from_the_cached_table_comes_nearer_to_the_symmetric_queries(tower: DocumentEncoder) -> None:
    new, prompt = texts(60, seed=9), PROMPTS[0]
    cached = cache_table(tower, prompt)
    fitted = fit_table(tower, texts(400), prior=cached, prompt=prompt)
    assert fitted.prompt == prompt
    assert fitted.fitted["prior"] == f"table {cached.hash}"
    assert cosine(fitted, tower, new, prompt) > cosine(cached, tower, new, prompt) + 0.05
    unseen = tower.tokenizer.token_to_id("</s>")  # occurs in no text: its row is the cached one
    np.testing.assert_array_equal(fitted[unseen], cached[unseen])


def test_several_prompts_give_what_each_gives_alone(tower: DocumentEncoder, tmp_path: Path) -> None:
    given = texts(200)
    tables = fit_tables(tower, iter(given), PROMPTS, options=FitOptions(l2=0.1), cache=tmp_path)
    assert [table.prompt for table in tables] == PROMPTS
    assert tables[0].hash != tables[1].hash
    for table, prompt in zip(tables, PROMPTS, strict=True):
        alone = fit_table(tower, given, prompt=prompt, l2=0.1, cache=tmp_path)
        np.testing.assert_allclose(table[:], alone[:], atol=1e-4)
        assert dict(table.fitted) == dict(alone.fitted)
    assert cosine(tables[0], tower, given, PROMPTS[0]) > cosine(tables[1], tower, given, PROMPTS[0])
    for wrong in ([], [PROMPTS[0], PROMPTS[0]]):
        with pytest.raises(UsageError, match="one prompt"):
            fit_tables(tower, given, wrong)


def test_several_prompts_read_texts_and_documents_once(tower: DocumentEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    documents = texts(50, seed=3)
    vectors = tower.encode(documents).dense
    encoded: list[str] = []
    plain = DocumentEncoder.encode_queries
    monkeypatch.setattr(
        DocumentEncoder,
        "encode_queries",
        lambda self, given, prompt=None: encoded.append(prompt) or plain(self, given, prompt),
    )
    given = iter(documents), vectors
    tables = fit_tables(tower, iter(texts(80)), PROMPTS, given, options=FitOptions(l2=0.1))
    assert encoded == PROMPTS  # an iterator gives nothing a second time: all was read once
    assert [table.fitted["documents_used"] for table in tables] == [50, 50]


def test_a_prior_of_another_model_s_tokens_is_refused(tower: DocumentEncoder, tmp_path: Path) -> None:
    other = DocumentEncoder.load(causal_folder(tmp_path, "llama", bos=None), device="cpu", sparse="none")
    with pytest.raises(MismatchError, match="another tokenizer"):
        fit_table(tower, texts(50), prior=cache_table(other, PROMPTS[0]), prompt=PROMPTS[0], l2=0.1)


@pytest.mark.parametrize("release", [False, True])
def test_golden_teacher_and_prior(golden: Path, release: bool) -> None:
    base = golden / "models/llama-tiny"
    numbers = golden / ("checkpoint_llama-tiny_golden" if release else "llama-tiny")
    told = json.loads((numbers / "tokenization.json").read_text(encoding="utf-8"))
    model = golden / "checkpoint_llama-tiny" if release else base
    tower = DocumentEncoder.load(model, base if release else None, device="cpu", max_length=64, sparse="none")
    taught = encode_cached(tower, told["queries"], told["prompt"])
    stored = np.load(numbers / "queries_symmetric_dense.npz")["dense_normalized"]
    assert np.abs(taught - stored).max() < 1e-5
    rows = np.load(numbers / "queries_dense.npz")["table_fp32"]
    cached = cache_table(tower)
    stiff = fit_table(tower, told["queries"], prior=cached, l2=1e6)  # so strong a pull leaves the table as it was
    assert np.abs(stiff[np.arange(len(rows))] - rows).max() < 1e-3
    free = fit_table(tower, told["queries"], prior=cached, l2=1e-4)
    queries = [query for query in dict.fromkeys(told["queries"]) if query.strip()]
    assert cosine(free, tower, queries, told["prompt"]) > cosine(cached, tower, queries, told["prompt"]) + 0.02
