"""New words in a live index: the sparse list decides where the table understands nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lightretriever import Index, QueryEncoder, TokenTable
from lightretriever.errors import UsageError
from lightretriever.fusion import Fusion
from lightretriever.query.evidence import gather_evidence
from lightretriever.types import Encoded

from .conftest import DIM, WORDS, unit_rows, word_tokenizer

KNOWN = WORDS[:30]
NEW = WORDS[30:]


@pytest.fixture
def index(tmp_path: Path):
    """Documents of known words, and one of new ones; rows of new words are pure noise."""
    random = np.random.default_rng(5)
    tokenizer = word_tokenizer()
    texts = [" ".join(random.choice(KNOWN, 6)) for _ in range(300)]
    ids = [tokenizer.encode(text).ids for text in texts]
    offsets = np.cumsum([0, *map(len, ids)]).astype(np.int64)
    evidence = gather_evidence(np.concatenate(ids), offsets, np.zeros(len(WORDS) + 2, dtype=bool))
    rows = unit_rows(random, len(WORDS) + 2)
    table = TokenTable.from_rows(rows, tokenizer, model="tiny", evidence=evidence)
    dense = QueryEncoder(replace(table, evidence=None)).encode(texts).dense
    with Index.create(tmp_path / "index", QueryEncoder(table), sparse="bm25") as index:
        index.add([f"old-{i}" for i in range(len(texts))], Encoded(dense), [{"text": text} for text in texts])
        index.add(["new"], Encoded(unit_rows(random, 1)), [{"text": f"{NEW[0]} {NEW[1]} {KNOWN[0]} {KNOWN[1]}"}])
        yield index


def test_a_document_of_new_words_is_found(index: Index) -> None:
    query = f"{NEW[0]} {KNOWN[0]} {NEW[1]}"
    encoded = index.encoder.encode([query])
    assert encoded.dense.shape == (1, DIM) and encoded.trust is not None and encoded.trust[0] < 0.5
    assert index.search(query, k=1)[0].id == "new"
    blind = index.search_encoded(replace(encoded, trust=None, unknown=None), k=1)[0]
    assert blind[0].id != "new", "without its trust the noise of the new words' rows decides"


def test_a_query_of_new_words_alone_has_no_dense_list(index: Index) -> None:
    hits = index.search(f"{NEW[0]} {NEW[1]}", k=5)
    assert hits[0].id == "new" and all(hit.dense_rank is None for hit in hits)
    assert index.search(NEW[0], mode="dense") == []


def test_known_words_are_fused_as_ever(index: Index) -> None:
    encoded = index.encoder.encode([" ".join(KNOWN[:4])])
    assert encoded.trust is not None and encoded.trust[0] > 0.9
    weights = [hit.score for hit in index.search_encoded(encoded, k=5)[0]]
    assert weights == pytest.approx(
        [hit.score for hit in index.search_encoded(replace(encoded, trust=None, unknown=None), k=5)[0]], abs=0.05
    )


def test_reciprocal_ranks_listen_too(index: Index) -> None:
    index.set_fusion(Fusion(method="rrf"))
    assert index.search(f"{NEW[0]} {KNOWN[0]} {NEW[1]}", k=1)[0].id == "new"


def test_a_least_dense_score_leaves_out_what_is_not_alike(index: Index) -> None:
    query = " ".join(KNOWN[:3])
    everything = index.search(query, k=400, mode="dense")
    cosines = {hit.id: hit.dense_score for hit in everything}
    limit = (everything[20].score + everything[21].score) / 2
    for mode in ("hybrid", "dense", "sparse"):
        hits = index.search(query, k=300, mode=mode, min_dense=limit)
        assert hits and all(hit.dense_score is not None and hit.dense_score >= limit - 1e-6 for hit in hits)
        assert all(hit.dense_score == pytest.approx(cosines[hit.id], abs=1e-3) for hit in hits)
    assert len(index.search(query, k=300, mode="dense", min_dense=limit)) == 21
    found = {hit.id for hit in index.search(query, k=300, mode="sparse")} & {hit.id for hit in everything[:21]}
    assert {hit.id for hit in index.search(query, k=300, mode="sparse", min_dense=limit)} == found
    assert index.search(query, min_dense=1.1) == []
    assert len(index.search(query, k=7, min_dense=-1.0)) == 7


@pytest.mark.parametrize("wrong", [True, "0.5", float("nan"), float("inf")])
def test_a_least_dense_score_is_a_number(index: Index, wrong: object) -> None:
    with pytest.raises(UsageError, match="min_dense"):
        index.search("w01", min_dense=wrong)  # type: ignore[arg-type]


def test_words_that_no_document_holds_leave_the_dense_list_its_weight(index: Index) -> None:
    """The sparse list found the query's common words alone: that is no reason to listen to it."""
    known = " ".join(KNOWN[:2])
    first = index.search(known, k=1, mode="dense")[0].id
    encoded = index.encoder.encode([f"{known} {NEW[5]} {NEW[6]} {NEW[7]}"])
    assert encoded.trust is not None and encoded.unknown is not None and encoded.trust[0] < 0.6
    encoded = replace(encoded, dense=index.encoder.encode([known]).dense)
    assert index.search_encoded(encoded, k=1)[0][0].id == first
