"""Runs and qrels: what is written reads back exactly, has no ties, and what is malformed is named."""

from __future__ import annotations

import contextlib
import gzip
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lightretriever.errors import InputError
from lightretriever.text.trec import rank, read_qrels, read_run, run_from_hits, write_qrels, write_run
from lightretriever.types import Hit, Run

words = st.text(min_size=1, max_size=8).filter(lambda text: text.split() == [text] and "\0" not in text)
MOST = float(np.finfo(np.float32).max)
finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
score_lists = st.dictionaries(words, finite | st.sampled_from([0.0, -0.0, 1.0]), min_size=1, max_size=20)


def test_a_run_file_looks_as_trec_wants_it(tmp_path: Path) -> None:
    path = tmp_path / "a.run"
    write_run(path, Run({"q1": {"d1": 0.5, "d2": 1.25}, "q2": {"d1": -3e-9}}, tag="mine"))
    assert path.read_text() == "q1 Q0 d2 1 1.25 mine\nq1 Q0 d1 2 0.5 mine\nq2 Q0 d1 1 -3e-09 mine\n"
    assert read_run(path) == Run({"q1": {"d2": 1.25, "d1": 0.5}, "q2": {"d1": float(np.float32(-3e-9))}}, "mine")


@given(score_lists)
@example({"a": -MOST, "b": -MOST, "c": float(np.nextafter(np.float32(-MOST), np.float32(0)))})
def test_ranked_scores_fall_strictly_and_are_float32(scores: dict[str, float]) -> None:
    ranked = rank(scores)
    values = np.array([score for _, score in ranked])
    assert (np.diff(values) < 0).all()
    assert (values == values.astype(np.float32)).all()
    assert dict(rank(dict(ranked))) == dict(ranked)
    order = sorted(scores, key=lambda document: (scores[document], document), reverse=True)
    assert [document for document, _ in ranked] == order


def test_ties_stay_ties_of_one_part_in_ten_million() -> None:
    ranked = rank({"a": 0.7, "b": 0.7, "c": 0.7 + 1e-12, "d": 0.1})
    assert [document for document, _ in ranked] == ["c", "b", "a", "d"]
    assert max(abs(score - 0.7) for _, score in ranked[:3]) < 3e-7
    assert ranked[3] == ("d", float(np.float32(0.1)))


@pytest.mark.parametrize("score", [float("nan"), float("inf"), 1e300])
def test_scores_that_no_file_can_hold_are_refused(score: float) -> None:
    with pytest.raises(InputError, match="document b has the score"):
        rank({"a": 1.0, "b": score})


def test_a_run_from_hits_keeps_their_order() -> None:
    hits = [[Hit("a", 2.0), Hit("c", 1.0), Hit("b", 1.0), Hit("d", 1.0)], []]
    run = run_from_hits(["1", "2"], hits, "tag")
    assert [document for document, _ in rank(run.scores["1"])] == ["a", "c", "b", "d"]
    assert run.scores["2"] == {}
    assert run.tag == "tag"
    with pytest.raises(ValueError, match="zip"):
        run_from_hits(["1"], hits)


@settings(max_examples=50)
@given(scores=st.dictionaries(words, score_lists, min_size=1, max_size=3), tag=words)
def test_runs_round_trip(tmp_path_factory: pytest.TempPathFactory, scores: dict, tag: str) -> None:
    path = tmp_path_factory.mktemp("run") / "a.run"
    ranked = Run({query: dict(rank(found)) for query, found in scores.items()}, tag)
    write_run(path, Run(scores, tag))
    assert read_run(path) == ranked


@settings(max_examples=50)
@given(qrels=st.dictionaries(words, st.dictionaries(words, st.integers(-2, 9), min_size=1), min_size=1))
@example(qrels={',"': {"0": 0}})
def test_qrels_round_trip(tmp_path_factory: pytest.TempPathFactory, qrels: dict[str, dict[str, int]]) -> None:
    folder = tmp_path_factory.mktemp("qrels")
    for name in ("test.tsv", "test.qrels"):
        write_qrels(folder / name, qrels)
        assert read_qrels(folder / name) == qrels


@pytest.mark.parametrize(
    "content",
    [
        "query-id\tcorpus-id\tscore\nq 1\td 1\t1\nq 1\td2\t0\n",
        "q 1\td 1\t1\nq 1\td2\t0\n",
        "query-id\tcorpus-id\tscore\r\nq 1\td 1\t1.0\r\nq 1\td2\t0\r\nq 1\td2\t0\r\n\r\n",
    ],
)
def test_beir_qrels_with_and_without_header(tmp_path: Path, content: str) -> None:
    path = tmp_path / "test.tsv.gz"
    path.write_bytes(gzip.compress(content.encode()))
    assert read_qrels(path) == {"q 1": {"d 1": 1, "d2": 0}}


@pytest.mark.parametrize(
    "content",
    [
        "score\tcorpus-id\tquery-id\n1\td1\t7\n-1\td2\t7\n",
        "corpus_id\tnote\tRelevance\tquery_id\nd1\t0\t1\t7\nd2\tx y\t-1\t7\n",
        "docid,rel,qid\nd1,1,7\nd2,-1.0,7\n",
        'score,"corpus-id","query-id"\n1,"d1","7"\n-1,d2,7\n',
        "7,d1,1\n7,d2,-1\n",
        'rel;"docid";qid\n1;"d1";7\n-1;d2;7\n',
        "topic|docno|grade\n7|d1|1\n7|d2|-1\n",
        "7;d1;1\n7;d2;-1\n",
        "query-id corpus-id score\n7 d1 1\n7 d2 -1\n",
        "7\tQ0\td1\t+1\n7\tQ0\td2\t-1\n",
        "\n7 0 d1 001\n7 0 d2 -1\n",
    ],
)
def test_the_names_of_a_header_decide_and_columns_without_one_are_told(tmp_path: Path, content: str) -> None:
    (tmp_path / "x").write_text(content)
    assert read_qrels(tmp_path / "x") == {"7": {"d1": 1, "d2": -1}}


@pytest.mark.parametrize(
    "content",
    [
        '[{"qid": "7", "docid": "d1", "rel": 1},\n {"qid": 7, "docid": "d2", "rel": "-1"}]',
        '{"qid": "7", "docid": "d1", "rel": 1}\n\n{"qid": "7", "docid": "d2", "rel": -1}\n',
        '{"7": {"d1": 1, "d2": -1}}',
        '{\n  "7": {\n    "d1": 1,\n    "d2": -1.0\n  }\n}\n',
        '{"7": {"d1": 1, "d2": -1}\n}',
    ],
)
def test_judgements_in_json(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_text(content)
    assert read_qrels(tmp_path / "x.json") == {"7": {"d1": 1, "d2": -1}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"7": {"d1": "much"}}', "x.json: query '7': the relevance 'much' is not an integer"),
        ('{"7": ["d1"]}', "x.json: the columns 7 lack"),
        ('{"7": {"d1": 1', "x.json: not JSON"),
        ("{}", "holds no judgements"),
    ],
)
def test_other_json_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(InputError, match=message):
        read_qrels(tmp_path / "x.json")


def test_judgements_in_parquet_have_ids_and_grades_as_writers_type_them(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    ids = pyarrow.array([b"caf\xc3\xa9", b"q2"], pyarrow.binary())
    grades = pyarrow.array([Decimal("2.00"), Decimal("0.00")], pyarrow.decimal128(5, 2))
    parquet.write_table(pyarrow.table({"qid": ids, "docid": ids, "rel": grades}), tmp_path / "x.parquet")
    assert read_qrels(tmp_path / "x.parquet") == {"café": {"café": 2}, "q2": {"q2": 0}}
    ids = pyarrow.array([b"q1", b"\xff"], pyarrow.binary())
    parquet.write_table(pyarrow.table({"qid": ids, "docid": ids, "rel": grades}), tmp_path / "x.parquet")
    with pytest.raises(InputError, match="row 2: an id is bytes that are not UTF-8"):
        read_qrels(tmp_path / "x.parquet")


def test_tables_of_judgements(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = {"score": [1.0, 0.0, 2.0], "corpus-id": ["d 1", "d2", "d1"], "query-id": [7, 7, 8]}
    parquet.write_table(pyarrow.table(rows), tmp_path / "x.parquet")
    assert read_qrels(tmp_path / "x.parquet") == {"7": {"d 1": 1, "d2": 0}, "8": {"d1": 2}}
    for column, values, message in (
        ("score", [1.0, 0.5, 2.0], "row 2: the relevance '0.5'"),
        ("score", [1.0, None, 2.0], "row 2: the relevance 'None'"),
        ("score", [1, 2**40, 2], "row 2: the relevance 1099511627776 lies outside"),
        ("corpus-id", [1.5, 2.0, 3.0], "row 1: the document id '1.5' is of type float"),
    ):
        parquet.write_table(pyarrow.table({**rows, column: values}), tmp_path / "bad.parquet")
        with pytest.raises(InputError, match=rf"bad\.parquet: {message}"):
            read_qrels(tmp_path / "bad.parquet")
    lines = '{"query-id": "7", "corpus-id": "a\\tb", "score": 1}\n{"query-id": "7", "corpus-id": "c", "score": "0"}\n'
    (tmp_path / "x.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    assert read_qrels(tmp_path / "x.jsonl.gz") == {"7": {"a\tb": 1, "c": 0}}


shreds = st.lists(
    st.sampled_from(["q", "d", "0", "Q0", "Q0%", "0%", "%E2", "1", "-2", "1e9", "nan", "\t", ",", " ", "\n", '"', "\r"])
    | st.sampled_from(
        ["query-id", "corpus-id", "score", "{", "}", "\ufeff", "\0", "9" * 30, '{"score": 1}', "q Q0 d 1 1 t"]
    )
).map(lambda parts: "".join(parts).encode())


@settings(max_examples=150)
@given(content=st.binary(max_size=60) | shreds, name=st.sampled_from(["x", "x.tsv", "x.csv", "x.jsonl", "x.parquet"]))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes, name: str) -> None:
    path = tmp_path_factory.mktemp("any") / name
    path.write_bytes(content)
    for read in (read_qrels, read_run):
        with contextlib.suppress(InputError):
            read(path)


def test_trec_qrels_with_any_spacing(tmp_path: Path) -> None:
    path = tmp_path / "qrels.txt"
    path.write_text("1 0 d1 2\n1\t0\td2\t-1\n  2  Q0  d\u00a01   0 \n", encoding="utf-8")
    assert read_qrels(path) == {"1": {"d1": 2, "d2": -1}, "2": {"d\u00a01": 0}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("q Q0 d 1 0.5\n", r"x:1: 5 columns, a run has 6"),
        ("q Q0 d 1 0.5 t\n\nq Q0 e 2 high t\n", r"x:3: the score 'high' is not a finite number"),
        ("q Q0 d 1 nan t\n", r"x:1: the score 'nan'"),
        ("q Q0 d 1 1e300 t\n", r"x:1: the score '1e300'"),
        ("q Q0 d 1 1_0 t\n", r"x:1: the score '1_0' is not a finite number"),
        ("q Q0 d 1 -inf t\n", r"x:1: the score '-inf'"),
        ("q Q0 d 0.25 3 t\n", r"x:1: the rank '0\.25' is not an integer"),
        ("q Q0 d 1 0.5 t\nq Q0 d\0 2 0.4 t\n", r"x:2: the document id .* holds NUL"),
        ("q Q0 d 1 0.5 t\nq Q0 d 2 0.4 t\n", r"x:2: document d is there twice for query q"),
    ],
)
def test_malformed_runs_are_named_with_their_line(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "x").write_text(content)
    with pytest.raises(InputError, match=message):
        read_run(tmp_path / "x")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"x holds no judgements"),
        ("query-id\tcorpus-id\tscore\n", r"x holds no judgements"),
        ("query-id\tcorpus-id\tscore\nq\td\tyes\n", r"x:2: the relevance 'yes' is not an integer"),
        ("q\td\t1\nq\td\n", r"x:2: 2 columns: qrels have 3 between tabs"),
        ("q d 1\n", r"x:1: 3 columns: qrels have"),
        ("q\td\t1\nq\te\t1672531200\n", r"x:2: the relevance 1672531200 lies outside -1000 to 1000"),
        ("q 0 d -1672531200\n", r"x:1: the relevance -1672531200 lies outside"),
        ("q\td\t1\nq\te\t" + "9" * 5000 + "\n", r"x:2: the relevance 9{40}… lies outside"),
        ("q\td\t1_0\n", r"x:1: the relevance '1_0' is not an integer"),
        ("q\td\t1\nq\te\t\u0664\n", r"x:2: the relevance '\u0664' is not an integer"),
        ("q\td\t1\nq\te\t\n", r"x:2: the relevance '' is not an integer"),
        ("q\td\t1\nq\t\t1\n", r"x:2: the document id is empty"),
        ("q\td\t1\nq\te\0\t1\n", r"x:2: the document id 'e\\x00' holds NUL"),
        ("query-id\tpaper\tscore\nq\td\t1\n", r"x:1: the columns query-id, paper, score lack corpus-id"),
        ("person\tpaper\tstars\nq\td\t1\n", r"x:1: the relevance 'stars' is not an integer, and the line is no head"),
        ("qid\tdocid\tscore\trel\nq\td\t1\t2\n", r"x:1: the columns score and rel could both be meant"),
        ("query-id\tcorpus-id\tscore\nq\td\t1\t2\n", r"x:2: 4 columns: the header has 3"),
        ("q 0 d 0.5\n", r"x:1: the relevance '0\.5' is not an integer"),
        ("q 0 d 1\nq 0 d 2\n", r"x:2: document d is judged twice for query q, differently"),
    ],
)
def test_malformed_qrels_are_named_with_their_line(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "x").write_text(content)
    with pytest.raises(InputError, match=message):
        read_qrels(tmp_path / "x")


anything = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8)
spaced = st.sampled_from(
    ["a b", "a%20b", "100%", "%", "%2520", "\u3000x", "x\u00a0", "a\tb", "\ufeffq", "l\n", "\u2028", " ", "caf%C3%A9"]
)
ids = anything | spaced


@settings(max_examples=100)
@given(scores=st.dictionaries(ids, st.dictionaries(ids, finite, min_size=1, max_size=5), min_size=1), tag=ids)
def test_runs_of_any_ids_round_trip(tmp_path_factory: pytest.TempPathFactory, scores: dict, tag: str) -> None:
    path = tmp_path_factory.mktemp("run") / "a.run"
    write_run(path, Run(scores, tag))
    assert read_run(path) == Run({query: dict(rank(found)) for query, found in scores.items()}, tag)
    assert {len(line.split()) for line in path.read_text(encoding="utf-8").splitlines()} == {6}


@settings(max_examples=100)
@given(qrels=st.dictionaries(ids, st.dictionaries(ids, st.integers(-2, 9), min_size=1), min_size=1))
def test_qrels_of_any_ids_round_trip(tmp_path_factory: pytest.TempPathFactory, qrels: dict) -> None:
    path = tmp_path_factory.mktemp("qrels") / "a.qrels"
    write_qrels(path, qrels)
    assert read_qrels(path) == qrels


def test_ids_with_white_space_are_encoded_and_other_files_stay_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "a.run"
    assert write_run(path, Run({"q 1": {"my file.txt": 2.0, "50%": 1.0}}, "t")) == 2
    assert path.read_text() == "q%201 Q0% my%20file.txt 1 2.0 t\nq%201 Q0% 50%25 2 1.0 t\n"
    assert write_run(path, Run({"q": {"my%20file.txt": 2.0, "50%": 1.0}}, "t")) == 0
    assert path.read_text() == "q Q0 my%20file.txt 1 2.0 t\nq Q0 50% 2 1.0 t\n"
    assert read_run(path).scores == {"q": {"my%20file.txt": 2.0, "50%": 1.0}}
    path.write_text("q Q0% %FF 1 2.0 t\n")
    with pytest.raises(InputError, match=r"a\.run:1: '%FF' is not percent-encoded UTF-8"):
        read_run(path)


@pytest.mark.parametrize("name", ["", "nul\0", "half\ud83d"])
def test_ids_that_no_file_can_hold_are_refused_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    path = tmp_path / "out"
    for run in (Run({name: {"d": 1.0}}), Run({"q": {"c": 2.0, name: 1.0}}), Run({"q": {"d": 1.0}}, tag=name)):
        with pytest.raises(InputError, match=r"is empty|holds NUL|holds a lone surrogate"):
            write_run(path, run)
    with pytest.raises(InputError, match=r"is empty|holds NUL|holds a lone surrogate"):
        write_qrels(path, {"q": {name: 1}})
    assert list(tmp_path.iterdir()) == []


def test_columns_between_tabs_hold_spaces_and_no_tabs(tmp_path: Path) -> None:
    write_qrels(tmp_path / "test.tsv", {"a question": {"some paper": 1}})
    assert (tmp_path / "test.tsv").read_text() == "query-id\tcorpus-id\tscore\na question\tsome paper\t1\n"
    for name in ("a\tb", " a", "a\n"):
        with pytest.raises(InputError, match="does not fit between tabs"):
            write_qrels(tmp_path / "other.tsv", {"q": {name: 1}})


def test_missing_files(tmp_path: Path) -> None:
    for read in (read_run, read_qrels):
        with pytest.raises(InputError, match="nowhere does not exist"):
            read(tmp_path / "nowhere")
