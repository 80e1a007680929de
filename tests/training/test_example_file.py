"""Training files: what is read, counted, refused, written, and left out."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightretriever.errors import InputError
from lightretriever.training.collection import write_examples
from lightretriever.training.example import Example, Passage, write_lines
from lightretriever.training.example_file import ExampleFile, describe_counts
from lightretriever.training.exclusion import Exclusion
from lightretriever.training.lines import parse_example
from lightretriever.training.text_keys import normalise


def line(query: str = "q", positives: int = 1, negatives: int = 2, **fields: object) -> str:
    row: dict[str, object] = {
        "query": query,
        "positive_passages": [{"docid": f"p{i}", "title": "t", "text": f"yes {i}"} for i in range(positives)],
        "negative_passages": [{"docid": f"n{i}", "text": f"no {i}"} for i in range(negatives)],
    }
    return json.dumps(row | fields, ensure_ascii=False)


def write(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "train.jsonl"
    path.write_bytes("\n".join(lines).encode())
    return path


def make_collection(folder: Path, split: str = "train") -> Path:
    (folder / "qrels").mkdir(parents=True)
    documents = [{"_id": f"d{i}", "title": "t" if i % 2 else "", "text": f"text {i}"} for i in range(6)]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in documents))
    queries = [{"_id": f"q{i}", "text": f"Query {i}?"} for i in range(4)]
    (folder / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in queries))
    judged = [("q0", "d0", 1), ("q0", "d1", 2), ("q1", "d2", 1), ("q2", "d3", 0), ("q3", "gone", 1), ("q9", "d1", 1)]
    rows = "".join(f"{query}\t{document}\t{grade}\n" for query, document, grade in judged)
    (folder / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\n" + rows)
    return folder


def test_reads_every_field(tmp_path: Path) -> None:
    row = {
        "query": "who?",
        "instruction": "Answer: ",
        "positive_passages": [{"docid": 7, "title": "T", "text": "A", "ce_score": 2}],
        "negative_passages": [{"text": "B", "title": None, "ce_score": -1.5}],
        "source": "ignored",
    }
    example = ExampleFile.open(write(tmp_path, json.dumps(row)))[0]
    assert example == Example("who?", (Passage("A", "T", "7", 2.0),), (Passage("B", ce_score=-1.5),), "Answer: ")
    assert [p.input for p in (*example.positives, *example.negatives)] == ["T A", "B"]


def test_reads_in_any_order_and_from_another_process(tmp_path: Path) -> None:
    path = write(tmp_path, "\ufeff" + line("erste"), "", line("zweite – π"), "   ", line("dritte\u2028"))
    file = pickle.loads(pickle.dumps(ExampleFile.open(path)))
    assert len(file) == 3
    assert [file[i].query for i in (2, 0, 1)] == ["dritte\u2028", "erste", "zweite – π"]
    assert file.offsets.nbytes == 24


def test_counts_what_is_skipped_and_what_lacks(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        line(),
        line(positives=0),
        line(" "),
        line(negatives=0),
        line(negatives=7),
        json.dumps({"query": "no lists"}),
        json.dumps({"query": "scored", "positive_passages": [{"text": "a", "ce_score": 1}]}),
    )
    file = ExampleFile.open(path, passages=8)
    counts = file.counts
    assert len(file) == 4
    assert (counts.lines, counts.no_query, counts.no_positive) == (7, 1, 2)
    assert (counts.no_negative, counts.few_negatives, counts.unscored) == (2, 1, 3)
    assert describe_counts(counts) == (
        "7 lines, 1 skipped with an empty query, 2 skipped without a positive passage, 2 without negatives, "
        "1 with fewer negatives than asked"
    )
    assert len(ExampleFile.open(path, limit=2)) == 2


def test_passages_without_text_are_left_out_and_counted(tmp_path: Path) -> None:
    empty, full = {"text": " "}, {"text": "", "title": "a title"}
    rows = [
        {"query": "some", "positive_passages": [empty, full], "negative_passages": [full, empty]},
        {"query": "none", "positive_passages": [empty], "negative_passages": [full]},
    ]
    file = ExampleFile.open(write(tmp_path, *map(json.dumps, rows)))
    assert [(file[0].positives, file[0].negatives)] == [((Passage("", "a title"),),) * 2]
    assert (file.counts.no_positive, file.counts.empty_passages) == (1, 3)
    assert "3 passages left out for having no text" in describe_counts(file.counts)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("{", "not JSON"),
        ("[1]", "a JSON object is needed, this is a list"),
        ('{"text": "a"}', "no query"),
        ('{"query": 3}', "query is int, not a string"),
        ('{"query": "a", "positive_passages": {"text": "a"}}', "positive_passages is dict, not a list"),
        ('{"query": "a", "positive_passages": ["a"]}', r"positive_passages\[0\] is str, not an object"),
        ('{"query": "a", "negative_passages": [{"text": "a"}, {"title": "b"}]}', r"negative_passages\[1\] has no text"),
        ('{"query": "a", "negative_passages": [{"text": 1}]}', r"negative_passages\[0\].text is int"),
        ('{"query": "a", "negative_passages": [{"text": "a", "docid": []}]}', "docid is list"),
        ('{"query": "a", "negative_passages": [{"text": "a", "ce_score": "1"}]}', "ce_score is str, not a number"),
        ('{"query": "a", "instruction": 1}', "instruction is int"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_names_file_and_line_of_a_malformed_line(tmp_path: Path, bad: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        ExampleFile.open(write(tmp_path, line(), "", bad, line()))
    assert f"{tmp_path / 'train.jsonl'}:3: " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_names_the_line_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(line().encode() + b'\n{"query": "\xff"}\n')
    with pytest.raises(InputError, match=r"train.jsonl:2: not UTF-8 text \(byte 0xff at column 12\)"):
        ExampleFile.open(path)


def test_refuses_what_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        ExampleFile.open(tmp_path / "absent.jsonl")
    with pytest.raises(InputError, match="decompress it"):
        ExampleFile.open(tmp_path / "train.jsonl.gz")
    with pytest.raises(InputError, match="no usable example: 0 lines"):
        ExampleFile.open(write(tmp_path, ""))
    with pytest.raises(InputError, match="no usable example: 1 line, 1 skipped without a positive"):
        ExampleFile.open(write(tmp_path, line(positives=0)))
    with pytest.raises(InputError, match="cannot be read"):
        ExampleFile.open(tmp_path)


def test_notices_that_the_file_has_changed(tmp_path: Path) -> None:
    path = write(tmp_path, line("one"), line("two"))
    file = ExampleFile.open(path)
    path.write_text("x" + path.read_text())
    with pytest.raises(InputError, match="has changed since it was opened"):
        file[1]
    path.unlink()
    with pytest.raises(InputError, match="has changed since it was opened"):
        file[0]


def test_makes_text_safe_and_scores_finite() -> None:
    example = parse_example(
        b'{"query": "a\\u0000b\\ud800", "positive_passages": [{"text": "x", "ce_score": NaN}]}', "here"
    )
    assert example.query == "a\ufffdb\ufffd"
    assert example.positives[0].ce_score is None


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
scores = st.none() | st.floats(allow_nan=False, allow_infinity=False)
passages = st.builds(Passage, texts, texts, texts, scores).filter(lambda passage: passage.input.strip())
examples = st.builds(
    Example,
    texts.filter(str.strip),
    st.lists(passages, min_size=1, max_size=3).map(tuple),
    st.lists(passages, max_size=3).map(tuple),
    st.none() | texts,
)


@settings(max_examples=40)
@given(st.lists(examples, min_size=1, max_size=8))
def test_reads_what_it_writes(tmp_path_factory: pytest.TempPathFactory, written: list[Example]) -> None:
    path = tmp_path_factory.mktemp("written") / "train.jsonl"
    assert write_lines(path, written) == len(written)
    file = ExampleFile.open(path)
    assert [file[i] for i in range(len(file))] == written


def test_writes_a_training_file_from_a_collection(tmp_path: Path) -> None:
    folder, output = make_collection(tmp_path / "set"), tmp_path / "out.jsonl"
    counts = write_examples(folder, "train", output, {"q0": ["d4", "d1", "gone", "d4"], "q1": ["d5"]})
    assert (counts.examples, counts.textless, counts.no_positive) == (2, 1, 2)
    assert (counts.missing, counts.own_negatives) == (1, 1)
    file = ExampleFile.open(output)
    assert file[0] == Example(
        "Query 0?", (Passage("text 0", "", "d0"), Passage("text 1", "t", "d1")), (Passage("text 4", "", "d4"),)
    )
    assert file[1].negatives == (Passage("text 5", "t", "d5"),)
    with pytest.raises(InputError, match="no split 'dev'"):
        write_examples(folder, "dev", output)


def test_leaves_out_what_an_evaluation_set_holds(tmp_path: Path) -> None:
    exclusion = Exclusion.of([make_collection(tmp_path / "set", "test")])

    def example(query: str, positives: list[str], negatives: list[str]) -> str:
        return Example(query, tuple(map(Passage, positives)), tuple(map(Passage, negatives))).line().strip()

    path = write(
        tmp_path,
        example("QUERY\u3000０", ["free"], []),
        example("other", ["TEXT: 0!"], []),
        example("other", ["t. Text 1", "free"], ["text  1", "text 5", "more"]),
        example("Query 10", ["free"], []),
    )
    file = ExampleFile.open(path, exclusion=exclusion)
    assert len(file) == 2
    assert (file.counts.excluded, file.counts.excluded_passages) == (2, 2)
    assert [passage.text for passage in file[0].negatives] == ["text 5", "more"]
    assert [passage.text for passage in file[0].positives] == ["free"]
    only_queries = Exclusion.of([tmp_path / "set"], passages=False)
    assert ExampleFile.open(path, exclusion=only_queries).counts.excluded == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [("What is  BM25 ?", "what is bm25"), ("ＡＢＣ", "abc"), ("naïve—x", "Naïve x"), ("Straße", "STRASSE")],
)
def test_normalises_case_white_space_punctuation_and_forms(one: str, other: str) -> None:
    assert normalise(one) == normalise(other) != ""


def test_keeps_apart_what_reads_differently() -> None:
    assert normalise("a b") != normalise("ab")
    assert normalise("résumé") != normalise("resume")
    assert normalise("दिन") != normalise("दीन")  # day and poor: only the vowel signs differ
    assert normalise("love ❤\ufe0f") == normalise("love ❤")


def test_texts_of_punctuation_are_not_equal(tmp_path: Path) -> None:
    exclusion = Exclusion.of([make_collection(tmp_path / "set", "test")])
    assert not exclusion.has_query("???")
    assert not exclusion.has_passage(Passage("", "t"))
    assert exclusion.has_passage(Passage("text 1"))
