"""An index that splits its documents: each is found once, by its best passage, and goes with all of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from index.conftest import WORDS, RandomTower, make_encoder

from lightretriever import Index
from lightretriever.errors import InputError
from lightretriever.index.hits import first_of_documents
from lightretriever.passages.options import PassageOptions
from lightretriever.text.corpus import Document
from lightretriever.types import Hit

OPTIONS = PassageOptions(tokens=16, overlap=4)


def long_documents(n: int, seed: int = 0) -> list[Document]:
    """Of one passage and of many, under headings."""
    rng = np.random.default_rng(seed)
    texts = []
    for i in range(n):
        sections = [
            f"# part {s}\n\n" + "\n\n".join(". ".join(rng.choice(WORDS, 9)) + "." for _ in range(rng.integers(1, 4)))
            for s in range(int(rng.integers(1, 5)))
        ]
        texts.append(Document(f"d{i}", "\n\n".join(sections), f"title {i}", {"group": i % 3}))
    return texts


@pytest.fixture(params=["lm", "bm25"])
def index(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Index]:
    with Index.create(
        tmp_path / "i", make_encoder(), sparse=request.param, model=RandomTower(), passages=OPTIONS
    ) as made:
        made.add_documents(long_documents(40))
        yield made


def documents_of(hits: list[Hit]) -> list[str]:
    return list(dict.fromkeys(hit.id.rpartition("#")[0] for hit in hits))


@pytest.mark.parametrize("mode", ["dense", "sparse"])
@pytest.mark.parametrize("k", [1, 10, 39, 100])
def test_the_best_documents_are_those_of_the_best_passages(index: Index, mode: str, k: int) -> None:
    for query in ("w01 w02", "w07", "w11 w12 w13"):
        passages = index.search(query, 10_000, mode, group=False)
        hits = index.search(query, k, mode)
        assert [hit.id for hit in hits] == documents_of(passages)[:k]
        first = {hit.id.rpartition("#")[0]: hit for hit in reversed(passages)}
        for hit in hits:
            assert (hit.passage, hit.score, hit.text) == (first[hit.id].id, first[hit.id].score, first[hit.id].text)


@pytest.mark.parametrize("k", [1, 10, 40])
def test_a_hybrid_search_gives_as_many_documents_as_there_are(index: Index, k: int) -> None:
    hits = index.search("w01 w02 w03", k)
    assert len(hits) == len({hit.id for hit in hits}) == k
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_many_queries_find_what_each_finds_alone(index: Index) -> None:
    queries = [f"{one} {other}" for one in WORDS[:12] for other in WORDS[5:11]]
    for k in (3, 30):
        together = index.search_many(queries, k)
        for query, hits in zip(queries, together, strict=True):
            alone = index.search(query, k)
            assert [(hit.id, hit.passage) for hit in hits] == [(hit.id, hit.passage) for hit in alone]
        without = index.search_many(queries, k, texts=False)
        assert [[(hit.id, hit.passage) for hit in hits] for hits in without] == [
            [(hit.id, hit.passage) for hit in hits] for hits in together
        ]


def test_a_hit_says_where_it_is_and_shows_the_words(index: Index) -> None:
    texts = {document.id: document for document in long_documents(40)}
    for hit in index.search("w05 w06", 20):
        document = texts[hit.id]
        assert (hit.title, dict(hit.metadata)) == (document.title, dict(document.metadata))
        assert hit.place is not None and document.text[hit.place.start : hit.place.end] == hit.text
        assert hit.location == ", ".join(filter(None, (hit.id, " > ".join(hit.place.headings))))
        assert hit.snippet.strip("…") in hit.text
        assert {hit.snippet[start:end] for start, end in hit.spans} <= {"w05", "w06"}
        assert bool(hit.spans) == ("w05" in hit.text or "w06" in hit.text)
        assert hit.as_dict()["snippet"] == hit.snippet


def test_filters_hold(index: Index) -> None:
    hits = index.search("w01 w02", 40, filter={"group": 1})
    assert {hit.id for hit in hits} == {f"d{i}" for i in range(40) if i % 3 == 1}


def test_a_least_cosine_holds_for_passages(index: Index) -> None:
    for mode in ("hybrid", "dense"):
        every = index.search("w01 w02", 40, mode)
        least = sorted(hit.dense_score or -1.0 for hit in every)[20]
        hits = index.search("w01 w02", 40, mode, min_dense=least)
        assert 0 < len(hits) == len({hit.id for hit in hits})
        assert all(hit.dense_score is not None and hit.dense_score >= least for hit in hits)


def test_a_document_is_replaced_with_all_its_passages(index: Index) -> None:
    index.add_documents([{"id": "d3", "text": "w01 w02"}, {"id": "d4", "text": "w03. " * 200}])
    ids = {document.id for document in index.documents()}
    assert {name for name in ids if name.startswith("d3#")} == {"d3#0"}
    many = sorted(int(name[3:]) for name in ids if name.startswith("d4#"))
    assert many == list(range(len(many))) and len(many) > 30
    index.add_documents([{"id": "d4", "text": "w03"}])
    assert {document.id for document in index.documents() if document.id.startswith("d4#")} == {"d4#0"}


def test_what_is_as_it_was_is_not_encoded_again(index: Index) -> None:
    tower = index.model
    assert isinstance(tower, RandomTower)
    calls, count = tower.calls, index.count
    added = index.add_documents(long_documents(40))
    assert (tower.calls, added.documents, added.unchanged, index.count) == (calls, 0, count, count)
    changed = [*long_documents(40)[:-1], Document("d39", "w01 w02", "title 39")]
    added = index.add_documents(changed)
    assert (tower.calls, added.documents) == (calls + 1, 1)
    assert {document.id for document in index.documents() if document.id.startswith("d39#")} == {"d39#0"}


def test_a_document_is_deleted_with_all_its_passages(index: Index) -> None:
    index.add_documents([{"id": "long", "text": "w01 w02. " * 300}, {"id": "long#1", "text": "w01"}])
    removed = index.delete(["long", "d0", "none"])
    ids = {document.id for document in index.documents()}
    assert removed == 2 and not any(name.rpartition("#")[0] in ("long", "d0") for name in ids)
    assert "long#1#0" in ids
    assert "long#1" in [hit.id for hit in index.search("w01", 50)]


def test_what_is_added_to_it_are_passages(index: Index) -> None:
    encoded = RandomTower().encode([Document("x", "w01")])
    with pytest.raises(InputError, match="'x' is no passage"):
        index.add(["x"], encoded, [{"text": "w01"}])
    with pytest.raises(InputError, match="'_document', which passages keep"):
        index.add_documents([{"id": "x", "text": "w01", "_document": "y"}])


def test_it_is_kept(index: Index) -> None:
    before = [(hit.id, hit.passage) for hit in index.search("w01 w02", 20)]
    index.optimise()
    assert [(hit.id, hit.passage) for hit in index.search("w01 w02", 20)] == before
    with Index.open(index.path, model=RandomTower()) as again:  # type: ignore[arg-type]
        assert again.settings.passages == OPTIONS
        assert [(hit.id, hit.passage) for hit in again.search("w01 w02", 20)] == before


@given(st.lists(st.lists(st.sampled_from([*(f"{d}#{n}" for d in "ab#" for n in range(4)), None]))), st.integers(1, 4))
def test_the_first_of_each_document(lists: list[list[str | None]], k: int) -> None:
    ids = [name for some in lists for name in some]
    starts = np.cumsum([0, *map(len, lists)])
    kept = first_of_documents(starts, ids, k)
    for some, start in zip(lists, starts.tolist(), strict=False):
        chosen = [name for i, name in enumerate(some) if kept[start + i] and name is not None]
        wanted = list({name.rpartition("#")[0]: name for name in reversed(some) if name is not None}.values())
        assert sorted(chosen) == sorted(wanted) if len(wanted) <= k else len(chosen) == k
        assert [name.rpartition("#")[0] for name in chosen] == list(
            dict.fromkeys(name.rpartition("#")[0] for name in some if name is not None)
        )[:k]
