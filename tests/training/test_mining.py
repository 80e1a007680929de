"""Hard negatives: what a search finds, less positives, copies, what is too close and what is evaluated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_tokenizers import wordpiece

from lightretriever import Encoded, Hit, Index, QueryEncoder, TokenTable
from lightretriever.errors import InputError, UsageError
from lightretriever.evaluation.collection import read_collection
from lightretriever.evaluation.lexical import search_bm25
from lightretriever.text.corpus import Document, read_corpus
from lightretriever.text.tokenizer import id_count
from lightretriever.training.collection import write_examples
from lightretriever.training.example import Example, Passage, write_lines
from lightretriever.training.example_file import ExampleFile
from lightretriever.training.exclusion import Exclusion
from lightretriever.training.mining import MiningConfig, describe_mining, mine_negatives
from lightretriever.training.searches import Search, bm25_search, index_search, vector_search
from lightretriever.training.text_keys import normalise, text_key


def passages(*texts: str) -> tuple[Passage, ...]:
    return tuple(Passage(text, docid=text.split()[0]) for text in texts)


def write(path: Path, *examples: Example) -> Path:
    write_lines(path, examples)
    return path


def listed(*hits: tuple[str, float]) -> Search:
    """A search that finds the same for every query: texts whose first word is the id ("id = text" for others)."""

    def search(queries: list[str], k: int) -> list[list[Hit]]:
        return [[Hit(text.split()[0], score, "", text.split(" = ")[-1]) for text, score in hits[:k]] for _ in queries]

    return search


def mined(
    tmp_path: Path, search: Search, config: MiningConfig, exclusion: Exclusion | None = None, own: Sequence[str] = ()
) -> tuple[list[str], str]:
    """Negatives of the query "q", whose positives are "p" and "z", and what is said of the counts."""
    source = write(tmp_path / "in.jsonl", Example("q", passages("p yes", "z other"), passages(*own), "I: "))
    counts = mine_negatives(source, tmp_path / "out.jsonl", search, config, exclusion)
    example = ExampleFile.open(tmp_path / "out.jsonl")[0]
    assert (example.query, example.positives, example.instruction) == ("q", passages("p yes", "z other"), "I: ")
    return [passage.docid for passage in example.negatives], describe_mining(counts)


HITS = (
    ("a one", 1.2),
    ("p yes", 1.0),
    ("b two", 0.96),
    ("c three", 0.9),
    ("copy = P: yes!", 0.8),
    ("d four", 0.5),
    ("e", 0.1),
)


@pytest.mark.parametrize(
    ("config", "negatives", "said"),
    [
        (MiningConfig(ratio=0), "abcde", "5 negatives, hits dropped: 1 as positives"),
        (MiningConfig(negatives=2, ratio=0), "ab", "2 negatives, hits dropped: 1 as positives"),
        (MiningConfig(depth=4, ratio=0), "abc", "3 negatives, hits dropped: 1 as positives"),
        (MiningConfig(), "cde", "2 as too close to the positive"),
        (MiningConfig(negatives=2), "cd", "2 as too close to the positive"),
        (MiningConfig(ratio=1.0), "bcde", "1 as too close"),
        (MiningConfig(margin=0.05, ratio=0), "cde", "2 as too close"),
        (MiningConfig(margin=0.01), "cde", "2 as too close"),
        (MiningConfig(margin=0.5), "de", "3 as too close"),
        (MiningConfig(margin=0.01, ratio=0.6), "de", "3 as too close"),
        (MiningConfig(margin=3), "", "5 as too close to the positive, 1 without any"),
    ],
)
def test_keeps_the_best_below_the_positive(tmp_path: Path, config: MiningConfig, negatives: str, said: str) -> None:
    found, text = mined(tmp_path, listed(*HITS), config)
    assert found == list(negatives)
    assert said in text


def test_a_copy_of_a_positive_or_of_a_negative_is_dropped(tmp_path: Path) -> None:
    found, said = mined(tmp_path, listed(*HITS, ("f THREE", 0.0), ("g = c, three!", 0.0)), MiningConfig(ratio=0))
    assert found == ["a", "b", "c", "d", "e", "f"]
    assert "hits dropped: 1 as positives, 2 as copies" in said
    hits = [Hit("one", 1, "", "P: Yes!"), Hit("two", 1, "p", "yes"), Hit("three", 1, "any", "p yes"), Hit("p", 1)]
    found, said = mined(tmp_path, lambda queries, _: [hits for _ in queries], MiningConfig(ratio=0))
    assert found == []
    assert "hits dropped: 1 as positives, 3 as copies" in said


def test_the_query_itself_is_no_negative(tmp_path: Path) -> None:
    found, said = mined(tmp_path, listed(("copy = Q?", 2.0), *HITS), MiningConfig())
    assert found == ["c", "d", "e"]
    assert "2 as copies" in said


def test_ids_that_lead_to_other_texts_are_counted(tmp_path: Path) -> None:
    _, said = mined(tmp_path, listed(("p = no", 1.0), ("z other", 0.9), ("a", 0.1)), MiningConfig())
    assert "hits dropped: 2 as positives, " in said
    assert "1 hit with a positive's id and another text" in said
    assert "another text" not in mined(tmp_path, listed(*HITS), MiningConfig())[1]


def test_without_the_positive_among_the_hits_a_limit_leaves_none(tmp_path: Path) -> None:
    search = listed(("a", 3), ("b", 2))
    assert mined(tmp_path, search, MiningConfig(ratio=0.9))[0] == []
    found, said = mined(tmp_path, search, MiningConfig(ratio=0))
    assert found == ["a", "b"]
    assert "1 query without a positive among the hits, 1 with fewer negatives than asked" in said


def test_no_ratio_lets_in_what_scores_above_a_positive_below_zero() -> None:
    assert MiningConfig(ratio=0.95).limit(-0.5) == pytest.approx(-0.525)
    assert MiningConfig(ratio=0.95).limit(0.5) == pytest.approx(0.475)
    assert MiningConfig(ratio=1).limit(-0.5) == -0.5
    assert MiningConfig(ratio=0).limit(-0.5) == float("inf")


def test_the_best_of_several_positives_sets_the_limit(tmp_path: Path) -> None:
    found, _ = mined(
        tmp_path, listed(("p yes", 1.0), ("a", 0.8), ("z other", 0.5), ("b", 0.4)), MiningConfig(ratio=0.9)
    )
    assert found == ["a", "b"]


def test_own_negatives_stay_only_if_asked(tmp_path: Path) -> None:
    assert mined(tmp_path, listed(*HITS), MiningConfig(negatives=2, ratio=0), own=["m mine"])[0] == ["a", "b"]
    config = MiningConfig(negatives=2, ratio=0, keep=True)
    assert mined(tmp_path, listed(*HITS), config, own=["m mine", "a one"])[0] == ["m", "a", "b", "c"]
    assert mined(tmp_path, listed(*HITS), config, own=["a one"])[0] == ["a", "b", "c"]


def test_what_is_evaluated_is_left_out(tmp_path: Path) -> None:
    exclusion = Exclusion(frozenset({text_key("Gone?")}), frozenset({text_key("b two")}))
    source = write(tmp_path / "in.jsonl", Example("gone", passages("p yes")), Example("stays", passages("p yes")))
    counts = mine_negatives(source, source, listed(*HITS), MiningConfig(ratio=0), exclusion)
    file = ExampleFile.open(source)
    assert [file[i].query for i in range(len(file))] == ["stays"]
    assert [passage.docid for passage in file[0].negatives] == ["a", "c", "d", "e"]
    assert (counts.examples, counts.excluded, counts.same_text) == (1, 1, 1)


def test_says_what_the_source_held_and_keeps_to_the_limit(tmp_path: Path) -> None:
    rows = [Example("one", passages("p yes")), Example("", passages("p yes")), Example("two", ())]
    source = write(tmp_path / "in.jsonl", *rows, Example("three", passages("p yes")), Example("four", passages("p")))
    counts = mine_negatives(source, tmp_path / "out.jsonl", listed(*HITS), limit=2)
    file = ExampleFile.open(tmp_path / "out.jsonl")
    assert [file[i].query for i in range(len(file))] == ["one", "three"]
    said = describe_mining(counts)
    assert said.startswith("2 examples, ")
    assert "; of 4 lines, 1 skipped with an empty query, 1 skipped without a positive passage" in said


def test_an_interrupted_run_leaves_the_old_file(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", *(Example(f"q{i}", passages("p yes")) for i in range(70)))
    before = source.read_bytes()
    calls = []

    def failing(queries: list[str], k: int) -> list[list[Hit]]:
        calls.append(len(queries))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return listed(*HITS)(queries, k)

    with pytest.raises(KeyboardInterrupt):
        mine_negatives(source, source, failing)
    assert calls == [64, 6]
    assert source.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_progress_is_told(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", *(Example(f"q{i}", passages("p yes")) for i in range(70)))
    told: list[tuple[int, int | None]] = []
    mine_negatives(source, tmp_path / "out.jsonl", listed(*HITS), progress=lambda done, of: told.append((done, of)))
    assert told == [(64, 70), (70, 70)]


@pytest.mark.parametrize(
    "options",
    [{"depth": 0}, {"negatives": 0}, {"margin": -1.0}, {"margin": float("nan")}, {"ratio": -0.1}, {"ratio": 1.1}],
)
def test_refuses_what_makes_no_sense(options: dict) -> None:
    with pytest.raises(UsageError):
        MiningConfig(**options)


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text("{}\n")
    with pytest.raises(InputError, match=r"in\.jsonl:1: the example has no query"):
        mine_negatives(tmp_path / "in.jsonl", tmp_path / "out.jsonl", listed(*HITS))


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.sampled_from("abcdpz"), st.floats(-2, 2)), max_size=12),
    st.none() | st.floats(0, 1),
    st.just(0.0) | st.floats(0.1, 1),
    st.integers(1, 4),
)
def test_no_negative_is_a_positive_a_copy_or_above_the_limit(
    tmp_path_factory: pytest.TempPathFactory,
    found: list[tuple[str, float]],
    margin: float | None,
    ratio: float,
    negatives: int,
) -> None:
    folder = tmp_path_factory.mktemp("mined")
    hits = sorted(((f"{i}{name} {name}", score) for i, (name, score) in enumerate(found)), key=lambda hit: -hit[1])
    source = write(folder / "in.jsonl", Example("q", (Passage("p"), Passage("z"))))
    texts = {identifier: text for text, _ in hits for identifier in [text.split()[0]]}

    def search(queries: list[str], k: int) -> list[list[Hit]]:
        return [[Hit(text.split()[0], score, "", text.split()[1]) for text, score in hits[:k]] for _ in queries]

    config = MiningConfig(negatives=negatives, margin=margin, ratio=ratio)
    counts = mine_negatives(source, folder / "out.jsonl", search, config)
    mined = ExampleFile.open(folder / "out.jsonl")[0].negatives
    scores = {text.split()[0]: score for text, score in hits}
    own = [score for text, score in hits if text[-1] in "pz"]
    assert len(mined) <= negatives
    assert len({passage.text for passage in mined}) == len(mined)
    for passage in mined:
        assert passage.text not in ("p", "z")
        assert texts[passage.docid].endswith(passage.text)
        assert margin is None or scores[passage.docid] <= max(own) - margin
        assert ratio == 0 or max(own) - scores[passage.docid] >= (1 - ratio) * abs(max(own)) - 1e-9
    assert counts.negatives == len(mined)
    assert counts.unranked == (not own)


DOCUMENTS = [
    Document("1", "mount everest is the highest mountain of the world", "everest"),
    Document("2", "the history of its name", "mountain"),
    Document("3", "a csv file with one thread is slow"),
    Document("4", "who invented the light bulb", "light bulb"),
    Document("5", ""),
]
QUERIES = ["how tall is mount everest", "light bulb light", "zzz", ""]


@pytest.fixture
def encoder() -> QueryEncoder:
    rows = np.random.default_rng(0).normal(size=(id_count(wordpiece()), 16)).astype(np.float32)
    return QueryEncoder(TokenTable.from_rows(rows, wordpiece(), model="m", revision="r", skip_ids=[0]))


@pytest.fixture
def index(tmp_path: Path, encoder: QueryEncoder) -> Index:
    documents = DOCUMENTS[:4]
    dense = encoder.encode_dense([document.input for document in documents])
    index = Index.create(tmp_path / "i.index", encoder, sparse="bm25")
    index.add(
        [document.id for document in documents],
        Encoded(dense),
        [{"title": document.title, "text": document.text} for document in documents],
    )
    return index


def test_every_search_finds_what_an_index_does(index: Index, encoder: QueryEncoder) -> None:
    vectors = encoder.encode_dense([document.input for document in DOCUMENTS[:4]])
    with index:
        in_index = index_search(index, "dense")(QUERIES[:2], 3)
        run = search_bm25(index, dict(enumerate(QUERIES)), 3)  # type: ignore[arg-type]
    in_memory = vector_search(DOCUMENTS[:4], vectors, encoder.encode_dense)(QUERIES[:2], 3)
    for one, other in zip(in_index, in_memory, strict=True):
        assert [hit.id for hit in one] == [hit.id for hit in other]
        assert [(hit.title, hit.text) for hit in one] == [(hit.title, hit.text) for hit in other]
        np.testing.assert_allclose([hit.score for hit in one], [hit.score for hit in other], atol=1e-5)
    lexical = bm25_search(DOCUMENTS[:4], wordpiece())(QUERIES, 3)
    for expected, found in zip(run.scores.values(), lexical, strict=True):
        np.testing.assert_allclose([hit.score for hit in found], list(expected.values()), rtol=1e-5)
        assert [hit.id for hit in found] == list(expected)
    assert [len(found) for found in bm25_search(DOCUMENTS, wordpiece())(QUERIES, 1)][:2] == [1, 1]


def test_mines_with_an_index(tmp_path: Path, index: Index) -> None:
    first = DOCUMENTS[0]
    source = write(tmp_path / "in.jsonl", Example(QUERIES[0], (Passage(first.text, first.title, first.id),)))
    with index:
        counts = mine_negatives(source, tmp_path / "out.jsonl", index_search(index), MiningConfig(negatives=2, ratio=0))
    negatives = ExampleFile.open(tmp_path / "out.jsonl")[0].negatives
    assert len(negatives) == 2
    assert {(p.docid, p.title, p.text) for p in negatives} <= {(d.id, d.title, d.text) for d in DOCUMENTS[1:4]}
    assert (counts.positives, counts.unranked) == (1, 0)


def test_one_vector_each_is_needed(encoder: QueryEncoder) -> None:
    with pytest.raises(UsageError, match="5 documents and 4 vectors"):
        vector_search(DOCUMENTS, np.zeros((4, 16), np.float32), encoder.encode_dense)


def test_a_search_of_nothing_finds_nothing(encoder: QueryEncoder) -> None:
    assert vector_search([], np.zeros((0, 16), np.float32), encoder.encode_dense)(["a"], 3) == [[]]
    assert bm25_search([], wordpiece())(["a"], 3) == [[]]


@pytest.mark.slow
def test_a_real_collection(collection: Callable[[str], Path], tmp_path: Path) -> None:
    folder = collection("scifact")
    source, output = tmp_path / "train.jsonl", tmp_path / "mined.jsonl"
    written = write_examples(folder, "train", source)
    assert (written.examples, written.missing, written.textless) == (809, 0, 0)
    exclusion = Exclusion.of([folder])
    search = bm25_search(list(read_corpus(folder)), wordpiece())
    counts = mine_negatives(source, output, search, MiningConfig(depth=30, negatives=7, ratio=0.95), exclusion)
    file = ExampleFile.open(output)
    test = read_collection(folder, "test")
    asked = {normalise(text) for text in test.queries.values()}
    judged = {name for names in test.qrels.values() for name in names}
    assert counts.examples == len(file) < 809
    assert counts.negatives > 5 * len(file) - 5 * counts.no_negative > 0
    for i in range(len(file)):
        example = file[i]
        positives = {passage.docid for passage in example.positives}
        assert normalise(example.query) not in asked
        assert positives.isdisjoint(judged)
        assert positives.isdisjoint(passage.docid for passage in example.negatives)
        assert judged.isdisjoint(passage.docid for passage in example.negatives)
