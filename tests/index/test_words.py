"""A sparse side that counts words: chosen, counted, searched, moved, and kept apart from the model's tokens."""

from __future__ import annotations

import multiprocessing
import pickle
import shutil
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from index.conftest import RandomTower, make_encoder, unit_rows

from lightretriever import Encoded, Index, QueryEncoder
from lightretriever.errors import ArtifactError, MismatchError, UsageError
from lightretriever.index import migrate, terms
from lightretriever.index.bm25 import BM25
from lightretriever.index.engines.local.check import check_index
from lightretriever.index.folder import load_settings
from lightretriever.index.ingest import index_corpus
from lightretriever.index.migrate import migrate_index
from lightretriever.index.novelty import NOTHING, Novelty
from lightretriever.index.store.database import Database, create
from lightretriever.index.store.schema import VERSION, statements
from lightretriever.index.store.state import read_state
from lightretriever.index.terms import Terms
from lightretriever.progress import Progress
from lightretriever.text.analysers.analyser import CJK, PIECES, Analyser
from lightretriever.text.analysers.words import Words
from lightretriever.text.corpus import Document

ENGLISH = Analyser(language="english")
TEXTS = ["The studies of the sea", "She studied a seal in the Arctic", "Café in Paris", "Running with patients’ dogs"]


def add(index: Index, texts: Sequence[str], first: int = 0) -> None:
    dense = unit_rows(np.random.default_rng(first), len(texts))
    index.add([str(first + i) for i in range(len(texts))], Encoded(dense), [{"text": text} for text in texts])


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    with Index.create(tmp_path / "index", make_encoder(), sparse="bm25", analyser=ENGLISH) as index:
        add(index, TEXTS)
        yield index


def ids(index: Index, query: str) -> list[str]:
    return [hit.id for hit in index.search(query, mode="sparse")]


def test_inflected_words_accents_and_case_are_one_word(index: Index) -> None:
    assert set(ids(index, "study")) == {"0", "1"}
    assert ids(index, "CAFES") == ids(index, "café's") == ["2"]
    assert ids(index, "run patient dog") == ["3"]
    assert ids(index, "the of in with a") == ids(index, "unheard words") == []


def test_scores_are_bm25_of_the_terms(index: Index) -> None:
    words = Words(ENGLISH)
    counted = [Counter(filter(None, map(words.term, words.split(text)))) for text in TEXTS]
    lengths = np.array([sum(one.values()) for one in counted], float)
    for query in ("study", "study sea seal", "run dogs and dogs"):
        wanted = np.zeros(len(TEXTS))
        for term in filter(None, map(words.term, words.split(query))):
            tf = np.array([one[term] for one in counted], float)
            df = (tf > 0).sum()
            idf = np.log(1 + (len(TEXTS) - df + 0.5) / (df + 0.5))
            wanted += idf * tf / (tf + 0.9 * (0.25 + 0.75 * lengths / lengths.mean()))
        found = {hit.id: hit.sparse_score for hit in index.search(query, mode="sparse")}
        assert found == pytest.approx({str(i): score for i, score in enumerate(wanted) if score > 0}, rel=1e-4)


def test_batches_and_single_queries_are_counted_alike(index: Index) -> None:
    queries = [*(f"{word} study {word} unheard{i} the" for i, word in enumerate(["sea", "dog", "café", ""] * 40)), ""]
    many = index.encoder.encode_sparse(queries)
    ones = [index.encoder.encode_sparse([query]) for query in queries]
    for row, one in enumerate(ones):
        for a, b in zip(many.row(row), one.row(0), strict=True):
            assert a.tolist() == b.tolist()
    whole = index.encoder.encode(queries)
    assert whole.sparse is not None
    assert whole.sparse.values.tolist() == many.values.tolist()
    once = QueryEncoder(index.encoder.table, "bow", index.sparse_side.terms).encode_sparse(["dog dog sea"])
    assert once.values.tolist() == [1, 1]


def test_the_first_documents_choose(tmp_path: Path) -> None:
    with Index.create(tmp_path / "index", make_encoder(), sparse="bm25") as index:
        assert index.info()["analyser"] is None
        assert index.search("nothing yet") == []
        add(index, ["Der Hund und die Katzen sind in den Häusern"])
        assert index.info()["analyser"] == "words (german)"
        add(index, ["the cats are in the house of the dog"] * 3, first=1)
        assert index.info()["analyser"] == "words (german)"
        assert "0" in ids(index, "Katze")
    with Index.open(tmp_path / "index") as index:
        assert ids(index, "Haus") == ["0"]


def test_an_empty_index_that_was_built_chooses_later(tmp_path: Path) -> None:
    with Index.create(tmp_path / "index", make_encoder(), sparse="bm25") as index:
        index.optimise()
        index.refresh_bm25()
        add(index, ["the only one of them"])
        assert ids(index, "ones") == ["0"]
    with Index.create(tmp_path / "tokens", make_encoder(), sparse="bm25", analyser=Analyser(PIECES)) as index:
        index.optimise()
        add(index, ["w37"])
        assert ids(index, "w37") == ["0"]


def test_chinese_is_found_by_pairs_of_characters(tmp_path: Path) -> None:
    with Index.create(tmp_path / "index", make_encoder(), sparse="bm25") as index:
        add(index, ["珠穆朗玛峰是世界上最高的山峰", "长江是亚洲最长的河流"])
        assert index.info()["analyser"] == "cjk"
        assert ids(index, "最高的山") == ["0"]
        assert ids(index, "河流") == ["1"]
        hit = index.search("世界上", mode="sparse")[0]
        assert [hit.snippet[start:end] for start, end in hit.spans] == ["世界上"]


def test_the_models_tokens_may_be_counted_instead(tmp_path: Path) -> None:
    with Index.create(tmp_path / "index", make_encoder(), sparse="bm25", analyser=Analyser(PIECES)) as index:
        add(index, ["w01 w02", "w01s w03"])
        assert ids(index, "w01") == ["0"]
        assert list(index.term_pages()) == []
        assert index.sparse_side.terms is None


def test_an_analyser_where_there_can_be_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"for the sparse side bm25, and it is 'lm': leave words \(english\) out"):
        Index.create(tmp_path / "a", make_encoder(), sparse="lm", analyser=ENGLISH)
    with pytest.raises(UsageError, match="a server's collection counts the model's tokens, not cjk: choose pieces"):
        Index.create(tmp_path / "b", make_encoder(), "bm25", engine="http://localhost:6333/c", analyser=Analyser(CJK))
    assert not list(tmp_path.iterdir())


def test_queries_that_were_counted_otherwise_are_refused(index: Index, tmp_path: Path) -> None:
    with pytest.raises(MismatchError, match="counted in the document model's tokens, the index in words of its own"):
        index.search_encoded(make_encoder().encode(["study"]))
    with Index.create(tmp_path / "other", make_encoder(), sparse="bm25", analyser=ENGLISH) as other:
        add(other, TEXTS)
        with pytest.raises(MismatchError, match="counted in another index's words"):
            index.search_encoded(other.encoder.encode(["study"]))
        assert index.search_encoded(other.encoder.encode(["study"]), mode="dense")
    with (
        Index.create(tmp_path / "pieces", make_encoder(), sparse="bm25", analyser=Analyser(PIECES)) as pieces,
        pytest.raises(MismatchError, match="counted in another index's words, the index in the document model's"),
    ):
        pieces.search_encoded(index.encoder.encode(["study"]))
    with pytest.raises(UsageError, match="counts by its database: pass the index's path"):
        pickle.dumps(index.encoder)


def test_words_that_another_process_writes_are_found_at_once(index: Index) -> None:
    encoder = index.encoder
    assert ids(index, "walruses") == []
    process = multiprocessing.get_context("spawn").Process(target=_add_walrus, args=(index.path,))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert [hit.id for hit in index.search_encoded(encoder.encode(["walruses"]), mode="sparse")[0]] == ["w"]
    assert ids(index, "walruses") == ["w"]


def _add_walrus(path: Path) -> None:
    with Index.open(path) as index:
        index.add(["w"], Encoded(unit_rows(np.random.default_rng(5), 1)), [{"text": "a walrus"}])


def test_writers_side_by_side_give_no_number_twice(index: Index) -> None:
    def write(number: int) -> None:
        for i in range(20):
            add(index, [f"shared{i} own{number}x{i} the shared{i + 1}"], first=1000 * (number + 1) + i)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    terms = [pair for page in index.term_pages() for pair in page]
    assert len({term for term, _ in terms}) == len({number for _, number in terms}) == len(terms)
    assert len(index.search("shared7", mode="sparse", k=100)) == 8
    assert ids(index, "own2x13") == ["3013"]
    assert list(check_index(index.path)) == []


def test_words_that_were_forgotten_are_counted_as_before(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    queries = [f"{word} of the study {word}" for word in ("sea", "seal", "Paris", "dogs", "café")] * 20
    wanted = index.encoder.encode_sparse(queries)
    monkeypatch.setattr(terms, "_MOST", 3)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(index.encoder.encode_sparse, [queries] * 16):
            assert found.indices.tolist() == wanted.indices.tolist()
            assert found.width == wanted.width == 1 + max(wanted.indices.tolist())
        ones = list(pool.map(ids, [index] * 40, ["study sea"] * 40))
    assert all(one == ones[0] for one in ones)


def test_a_number_that_was_not_committed_is_not_remembered(tmp_path: Path) -> None:
    create(tmp_path / "index.db", statements(), VERSION)
    database = Database(tmp_path / "index.db")
    with database.reading() as connection:
        identity = read_state(connection).identity
    terms = Terms(database, identity, ENGLISH)
    with pytest.raises(ZeroDivisionError), database.writing():
        assert terms.count_new(["lost words"]).indices.tolist() == [1, 2]
        raise ZeroDivisionError
    assert terms.count(["lost words"]).indices.tolist() == []
    assert terms.count_new(["other things", "lost"]).indices.tolist() == [1, 2, 3]
    assert terms.count(["lost things"]).indices.tolist() == [2, 3]
    database.close()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(st.sampled_from("abcé 世界' .\x1e"), max_size=20), max_size=8))
def test_documents_and_queries_are_counted_alike(texts: list[str]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        create(Path(folder) / "index.db", statements(), VERSION)
        database = Database(Path(folder) / "index.db")
        with database.reading() as connection:
            identity = read_state(connection).identity
        stored = Terms(database, identity, ENGLISH).count_new(texts)
        asked = Terms(database, identity, ENGLISH).count(texts)
        words = Words(ENGLISH)
        for row, text in enumerate(texts):
            counts = Counter(filter(None, map(words.term, words.split(text))))
            assert sorted(counts.values()) == sorted(stored.row(row)[1].tolist())
            assert stored.row(row)[0].tolist() == asked.row(row)[0].tolist()
        database.close()


def test_statistics_of_fewer_terms_than_there_are_by_now(index: Index) -> None:
    before = index.bm25
    assert before is not None
    known = BM25(before.documents, before.mean_length, before.frequency[:2])
    counts = index.sparse_side.counts([Document("x", "studies of the sea near Paris")])
    impacts = known.impacts(counts)
    assert (impacts.values > 0).all()
    assert BM25.unpack(known.pack(), before.frequency.size).frequency.tolist() == known.frequency.tolist()
    with pytest.raises(ValueError, match="they count 2 tokens, the index has 1"):
        BM25.unpack(known.pack(), 1)


def test_it_is_the_same_when_built_snapshot_restored_and_migrated(index: Index, tmp_path: Path) -> None:
    queries = ["study sea", "café", "patient dogs run", "Arctic seals of Paris"]
    wanted = [[(hit.id, hit.sparse_score) for hit in hits] for hits in index.search_many(queries)]

    def found(path: Path) -> list[list[tuple[str, float | None]]]:
        with Index.open(path) as other:
            return [[(hit.id, hit.sparse_score) for hit in hits] for hits in other.search_many(queries)]

    index.snapshot(tmp_path / "snapshot")
    index.optimise()
    assert found(index.path) == [[(i, pytest.approx(s, rel=1e-4)) for i, s in hits] for hits in wanted]
    Index.restore(tmp_path / "snapshot", tmp_path / "restored")
    assert found(tmp_path / "restored") == wanted
    migrate_index(index.path, "local", tmp_path / "moved")
    assert found(tmp_path / "moved") == [[(i, pytest.approx(s, rel=1e-4)) for i, s in hits] for hits in wanted]
    with Index.open(tmp_path / "moved") as moved:
        add(moved, ["penguins"], first=50)
        assert ids(moved, "penguin") == ["50"]


def test_a_restored_snapshot_is_another_index(index: Index, tmp_path: Path) -> None:
    index.snapshot(tmp_path / "snapshot")
    Index.restore(tmp_path / "snapshot", tmp_path / "restored")
    add(index, ["a zebra"], first=10)
    with Index.open(tmp_path / "restored") as other:
        add(other, ["a tiger"], first=20)
        with pytest.raises(MismatchError, match="another index's words"):
            other.search_encoded(index.encoder.encode(["zebra"]), mode="sparse")
    shutil.move(index.path, tmp_path / "away")
    shutil.move(tmp_path / "restored", index.path)
    assert (ids(index, "zebra"), ids(index, "tiger")) == ([], ["20"])


def test_a_copy_in_its_place_is_counted_by_its_own_terms(index: Index, tmp_path: Path) -> None:
    shutil.copytree(index.path, tmp_path / "copy")
    add(index, ["a zebra"], first=10)
    with Index.open(tmp_path / "copy") as other:
        add(other, ["a tiger"], first=20)
    assert ids(index, "zebra") == ["10"]
    shutil.move(index.path, tmp_path / "away")
    shutil.move(tmp_path / "copy", index.path)
    assert (ids(index, "tiger"), ids(index, "zebra")) == (["20"], [])
    add(index, ["zebra stripes"], first=30)
    assert (ids(index, "zebra"), ids(index, "tiger")) == (["30"], ["20"])


def test_words_counted_for_an_index_that_is_gone_are_not_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Index.create(tmp_path / "index", make_encoder(), sparse="bm25", analyser=ENGLISH) as index:
        add(index, ["alpha beta"])

        def replaced(*_: object) -> Novelty:
            Index.create(tmp_path / "index", make_encoder(), "bm25", analyser=ENGLISH, overwrite=True).close()
            return NOTHING

        with monkeypatch.context() as patch:
            patch.setattr("lightretriever.index.writing.measure_novelty", replaced)
            with pytest.raises(MismatchError, match="another index took this one's place"):
                add(index, ["delta epsilon"], first=1)
        add(index, ["delta epsilon"], first=2)
        assert ids(index, "epsilon") == ["2"]
        assert list(check_index(index.path)) == []


def test_the_first_documents_with_a_text_choose(tmp_path: Path) -> None:
    with Index.create(tmp_path / "index", make_encoder(), sparse="bm25") as index:
        add(index, ["", " \n"])
        index.optimise()
        assert index.info()["analyser"] is None
        add(index, ["The studies of the sea and of the sky"], first=2)
        assert index.info()["analyser"] == "words (english)"
        assert ids(index, "study") == ["2"]
        assert list(check_index(index.path)) == []
    documents = [Document(str(i), text) for i, text in enumerate(["Introduction", *["the study of the sea"] * 20])]
    index_corpus(tmp_path / "built", documents, RandomTower(), make_encoder(), "bm25")
    with Index.open(tmp_path / "built") as built:
        assert built.info()["analyser"] == "words (english)"


def test_an_index_of_the_models_own_vectors_has_none_to_copy(index: Index, tmp_path: Path) -> None:
    index.reindex(make_encoder(4, "lm", "r3"), RandomTower(name="lm", revision="r3"), sparse="lm")
    migrate_index(index.path, "local", tmp_path / "moved")
    assert load_settings(tmp_path / "moved").analyser is None


def test_what_is_no_analyser_leaves_what_there_is(index: Index) -> None:
    index.close()
    for wrong in ("english", {"kind": "words"}):
        with pytest.raises(UsageError, match=r"the analyser is of type (str|dict): give one"):
            Index.create(index.path, make_encoder(), "bm25", analyser=wrong, overwrite=True)  # type: ignore[arg-type]
    with Index.open(index.path) as again:
        assert ids(again, "café") == ["2"]


def test_words_that_are_new_while_it_is_copied_are_copied_too(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = migrate._Migrating.copy

    def written_meanwhile(self: migrate._Migrating, progress: Progress) -> tuple[int, int]:
        add(index, ["a zebra in the meantime"], first=40)
        return copy(self, progress)

    monkeypatch.setattr(migrate._Migrating, "copy", written_meanwhile)
    assert migrate_index(index.path, "local", tmp_path / "moved").documents == 5
    with Index.open(tmp_path / "moved") as moved:
        assert ids(moved, "zebras") == ["40"]


def test_another_document_model_takes_it_over(index: Index) -> None:
    index.reindex(make_encoder(3, "other", "r2"), RandomTower(name="other", revision="r2"))
    assert set(ids(index, "study")) == {"0", "1"}
    index.reindex(make_encoder(4, "lm", "r3"), RandomTower(name="lm", revision="r3"), sparse="lm")
    assert index.info()["analyser"] is None
    index.reindex(make_encoder(5, "back", "r4"), RandomTower(name="back", revision="r4"), sparse="bm25")
    assert index.info()["analyser"] == "words (english)"
    assert set(ids(index, "study")) == {"0", "1"}
    assert list(check_index(index.path)) == []


def test_an_index_of_a_model_counts_words_from_a_reindex_on(tmp_path: Path) -> None:
    documents = [Document("a", "the w01 studies of the sea"), Document("b", "w02 and a dog in the house")]
    index_corpus(tmp_path / "index", documents, RandomTower(), make_encoder())
    with Index.open(tmp_path / "index") as index:
        index.reindex(make_encoder(), RandomTower(), sparse="bm25")
        assert index.info()["analyser"] == "words (english)"
        assert ids(index, "dogs") == ["b"]


def test_a_build_goes_on_with_its_own_analyser_alone(tmp_path: Path) -> None:
    documents = [Document("a", "the sea and the sky"), Document("b", "a dog in the house")]

    def build(analyser: Analyser | None) -> None:
        index_corpus(tmp_path / "index", documents, RandomTower(), make_encoder(), "bm25", analyser=analyser)

    build(None)
    build(None)
    build(ENGLISH)
    with pytest.raises(MismatchError, match="analyser"):
        build(Analyser(language="german"))


def test_a_damaged_term_is_named(index: Index) -> None:
    path = index.path
    index.close()
    database = sqlite3.connect(path / "index.db")
    database.execute("UPDATE terms SET term = 'sean' WHERE term = 'sea'")
    database.commit()
    database.close()
    assert [line.partition(": ")[2] for line in check_index(path)] == [
        "the term of number 2 in the index's database is damaged: restore a snapshot"
    ]
    with Index.open(path) as index, pytest.raises(ArtifactError, match="the term of number 2"):
        index.search("sean")
