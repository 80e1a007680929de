"""Queries by the full model over the vectors that look-up searches, fusion for one search, and why a hit is there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from index.conftest import WORDS, RandomTower, make_documents, make_encoder, payload

from lightretriever import Encoded, Index, PassageOptions
from lightretriever.errors import MismatchError, UsageError
from lightretriever.fusion import Fusion
from lightretriever.index.earned import earned_words
from lightretriever.text.corpus import Document


@dataclass
class Reader(RandomTower):
    """Reads a query as it reads a document of the same text."""

    asked: int = 0

    def encode_queries(self, texts: Sequence[str], prompt: str | None = None) -> np.ndarray:
        self.asked += len(texts)
        return self.encode([Document("q", (prompt or "") + text) for text in texts]).dense


def test_a_model_reads_the_query_where_one_is_named(searchable: tuple[Index, list[Document], Encoded]) -> None:
    index, documents, _ = searchable
    reader = Reader()
    for document in documents[:20]:
        best = index.search(document.input, 1, "dense", encoder=reader)[0]
        assert best.id == document.id and best.dense_score == pytest.approx(1, abs=1e-3)
        assert best.snippet
    many = index.search_many([d.input for d in documents[:20]], 1, "dense", encoder=reader)
    assert [hits[0].id for hits in many] == [d.id for d in documents[:20]]
    assert reader.asked == 40
    assert index.search(documents[0].input, 1, "dense")[0].dense_score != pytest.approx(1, abs=1e-3)


def test_its_hybrid_search_has_the_same_sparse_arm(searchable: tuple[Index, list[Document], Encoded]) -> None:
    index, documents, _ = searchable
    query = documents[3].text
    look_up = {hit.id: hit.sparse_score for hit in index.search(query, 300, "hybrid")}
    full = {hit.id: hit.sparse_score for hit in index.search(query, 300, "hybrid", encoder=Reader())}
    shared = look_up.keys() & full.keys()
    assert len(shared) > 50
    assert all(look_up[name] == pytest.approx(full[name]) for name in shared)


def test_a_model_that_does_not_fit_is_refused(searchable: tuple[Index, list[Document], Encoded]) -> None:
    index = searchable[0]
    with pytest.raises(UsageError, match="8 dimensions, the index 16"):
        index.search("w01", encoder=Reader(dim=8))
    with pytest.raises(UsageError, match="of type str: DocumentEncoder"):
        index.search("w01", encoder="minilm")  # type: ignore[arg-type]

    class Short(Reader):
        def encode_queries(self, texts: Sequence[str], prompt: str | None = None) -> np.ndarray:
            return super().encode_queries(texts, prompt)[:0]

    with pytest.raises(MismatchError, match="for 1 queries"):
        index.search("w01", encoder=Short())


def test_one_search_may_fuse_otherwise(searchable: tuple[Index, list[Document], Encoded]) -> None:
    index = searchable[0]
    query = " ".join(WORDS[:4])
    before = index.fusion
    dense = index.search(query, 10, fusion=Fusion(dense=1, sparse=0))
    sparse = index.search(query, 10, fusion=Fusion(dense=0, sparse=1))
    assert [h.id for h in dense] == [h.id for h in index.search(query, 10, "dense")]
    assert [h.id for h in sparse] == [h.id for h in index.search(query, 10, "sparse")]
    assert index.fusion == before
    ranks = index.search_encoded(index.encoder.encode(query), 5, fusion=Fusion("rrf"))[0]
    assert ranks[0].score <= 2 / 61
    with pytest.raises(UsageError, match="fusion is of type dict"):
        index.search(query, fusion={"dense": 1})  # type: ignore[arg-type]


@pytest.mark.parametrize("sparse", ["lm", "bm25"])
def test_a_hit_says_which_words_earned_its_sparse_score(filled: Callable, sparse: str) -> None:
    index, _, _ = filled(60, sparse)
    with index:
        query = f"{WORDS[3]} {WORDS[5].upper()} {WORDS[3]} nowhere"
        hits = index.search(query, 10, "sparse")
        assert hits
        for hit, earned in zip(hits, earned_words(index, query, hits), strict=True):
            assert sum(share for _, share in earned) == pytest.approx(hit.sparse_score, rel=1e-3)
            assert {word.lower() for word, _ in earned} <= {WORDS[3], WORDS[5], "[unk]"}
            assert [share for _, share in earned] == sorted((share for _, share in earned), reverse=True)
        assert earned_words(index, "", hits) == [[] for _ in hits]
        gone = [hits[0]._replace(id="nobody")]
        assert earned_words(index, query, gone) == [[]]


def test_documents_are_got_by_id(filled: Callable) -> None:
    index, documents, _ = filled(20)
    with index:
        found = index.get(["d3", "nobody", "d3", "d1"])
        assert found == {"d3": [documents[3]], "d1": [documents[1]]}
        assert index.get("d4", filter={"group": 4}) == {"d4": [documents[4]]}
        assert index.get("d4", filter={"group": 5}) == {}


def test_of_a_split_document_all_passages_are_got_in_order(tmp_path: Path) -> None:
    long = " ".join(f"{word} {word}." for word in WORDS * 3)
    options = PassageOptions(tokens=20, overlap=0)
    with Index.create(tmp_path / "i", make_encoder(), "none", RandomTower(), passages=options) as index:
        index.add_documents([{"id": "a#b", "title": "A", "text": long}, {"id": "c", "text": "w01"}])
        passages = index.get(["a#b"])["a#b"]
        assert len(passages) > 3
        assert [p.id for p in passages] == [f"a#b#{number}" for number in range(len(passages))]
        assert len(index.get(["a#b", "c"])) == 2


def test_a_tenants_document_is_got_by_that_tenant_alone(tmp_path: Path) -> None:
    document = make_documents(1)[0]
    encoded = RandomTower().encode([document])
    with Index.create(tmp_path / "i", make_encoder(), tenant="owner") as index:
        row = payload(document) | {"metadata": {"owner": "ann"}}
        index.add([document.id], encoded, [row])
        assert list(index.get([document.id], filter={"owner": "ann"})) == [document.id]
        assert index.get([document.id], filter={"owner": "bob"}) == {}
        with pytest.raises(UsageError, match="keeps tenants apart"):
            index.get([document.id])
