"""Runs and qrels: what is written reads back exactly, has no ties, and what is malformed is named."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightretriever.errors import InputError
from lightretriever.text.trec import rank, read_qrels, read_run, run_from_hits, write_qrels, write_run
from lightretriever.types import Hit, Run

words = st.text(min_size=1, max_size=8).filter(lambda text: text.split() == [text] and "\0" not in text)
finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
score_lists = st.dictionaries(words, finite | st.sampled_from([0.0, -0.0, 1.0]), min_size=1, max_size=20)


def test_a_run_file_looks_as_trec_wants_it(tmp_path: Path) -> None:
    path = tmp_path / "a.run"
    write_run(path, Run({"q1": {"d1": 0.5, "d2": 1.25}, "q2": {"d1": -3e-9}}, tag="mine"))
    assert path.read_text() == "q1 Q0 d2 1 1.25 mine\nq1 Q0 d1 2 0.5 mine\nq2 Q0 d1 1 -3e-09 mine\n"
    assert read_run(path) == Run({"q1": {"d2": 1.25, "d1": 0.5}, "q2": {"d1": float(np.float32(-3e-9))}}, "mine")


@given(score_lists)
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
        ("q 0 d 0.5\n", r"x:1: the relevance '0\.5' is not an integer"),
        ("q 0 d 1\nq 0 d 2\n", r"x:2: document d is judged twice for query q, differently"),
    ],
)
def test_malformed_qrels_are_named_with_their_line(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "x").write_text(content)
    with pytest.raises(InputError, match=message):
        read_qrels(tmp_path / "x")


@pytest.mark.parametrize("name", ["a b", "", "a\u00a0b", "tab\t", "line\n"])
def test_ids_that_columns_cannot_hold_are_refused_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    path = tmp_path / "out"
    for run in (Run({name: {"d": 1.0}}), Run({"q": {"c": 2.0, name: 1.0}}), Run({"q": {"d": 1.0}}, tag=name)):
        with pytest.raises(InputError, match="is empty or holds white space"):
            write_run(path, run)
    with pytest.raises(InputError, match=r"document id .* is empty or holds white space"):
        write_qrels(path, {"q": {name: 1}})
    assert list(tmp_path.iterdir()) == []


def test_missing_files(tmp_path: Path) -> None:
    for read in (read_run, read_qrels):
        with pytest.raises(InputError, match="nowhere does not exist"):
            read(tmp_path / "nowhere")
