"""Measures: by hand, against ir-measures itself, and what is counted."""

from __future__ import annotations

import math
import sys
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from lightretriever.errors import InputError, MissingExtraError, UsageError
from lightretriever.evaluation.measures import check_measures, depth_of, evaluate
from lightretriever.text.trec import write_qrels, write_run
from lightretriever.types import Run

ir_measures = pytest.importorskip("ir_measures")

QRELS = {"q1": {"a": 1, "b": 2}, "q2": {"c": 1}, "q3": {"d": 1}}
RUN = Run({"q1": {"a": 0.9, "x": 0.8, "b": 0.7}, "q2": {"y": 1.0, "c": 0.5}})


def test_values_by_hand_and_queries_without_hits_count_zero() -> None:
    result = evaluate(RUN, QRELS, ["nDCG@10", "R@2", "RR@10"])
    ideal = 2 + 1 / math.log2(3)
    assert result.per_query["nDCG@10"] == pytest.approx(
        {"q1": (1 + 2 / math.log2(4)) / ideal, "q2": 1 / math.log2(3), "q3": 0.0}
    )
    assert result.per_query["R@2"] == {"q1": 0.5, "q2": 1.0, "q3": 0.0}
    assert result.means["RR@10"] == pytest.approx((1 + 0.5 + 0) / 3)
    assert result.queries == 3
    assert result.warnings == ("1 of 3 queries have no hits and count zero",)


def test_a_query_with_an_empty_list_is_one_without_hits() -> None:
    scores = {**RUN.scores, "q3": {}}
    assert evaluate(Run(scores), QRELS) == evaluate(RUN, QRELS)


def test_what_nobody_judged_is_counted() -> None:
    run = Run({**RUN.scores, "q3": {"d": 1.0}, "q9": {"a": 1.0}})
    result = evaluate(run, QRELS, documents={"a", "b", "c"})
    assert result.warnings == (
        "1 query of the run not in the qrels, left out",
        "1 of 4 judged documents are not in the collection",
    )


def test_files_give_the_digits_that_memory_gives_and_that_other_tools_give(tmp_path: Path) -> None:
    # Ties everywhere, some only in float32: exactly what tools disagree about.
    scores = {f"q{q}": {f"d{d}": round(math.sin(q * d), 1) + d * 1e-11 for d in range(40)} for q in range(30)}
    qrels = {f"q{q}": {f"d{d}": (q * d) % 3 for d in range(0, 40, 3)} for q in range(30)}
    measures = ["nDCG@10", "R@100", "RR@10", "AP", "P@5"]
    write_run(tmp_path / "a.run", Run(scores))
    write_qrels(tmp_path / "test.tsv", qrels)
    write_qrels(tmp_path / "test.qrels", qrels)
    memory = evaluate(Run(scores), qrels, measures)
    assert evaluate(tmp_path / "a.run", tmp_path / "test.tsv", measures) == memory
    other = ir_measures.calc_aggregate(
        [ir_measures.parse_measure(name) for name in measures],
        list(ir_measures.read_trec_qrels(str(tmp_path / "test.qrels"))),
        list(ir_measures.read_trec_run(str(tmp_path / "a.run"))),
    )
    assert {str(measure): value for measure, value in other.items()} == pytest.approx(memory.means, abs=1e-12)
    backwards = [line.split() for line in (tmp_path / "a.run").read_text().splitlines()][::-1]
    by_score = sorted(backwards, key=lambda line: -float(line[4]))  # a tool that keeps the file's order in ties
    for query in scores:
        lines = [line for line in by_score if line[0] == query]
        assert [int(line[3]) for line in lines] == list(range(1, 41))


def test_an_empty_run_counts_zero_everywhere(tmp_path: Path) -> None:
    (tmp_path / "empty.run").write_text("")
    result = evaluate(tmp_path / "empty.run", QRELS)
    assert set(result.means.values()) == {0.0}
    assert result.warnings == ("3 of 3 queries have no hits and count zero",)


def test_a_run_of_other_queries_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"answers none of the qrels' 3 queries \(the run has 'z', the qrels have 'q1'"
    ):
        evaluate(Run({"z": {"a": 1.0}}), QRELS)
    with pytest.raises(InputError, match="qrels are empty"):
        evaluate(RUN, {})


@pytest.mark.parametrize("name", ["nDCG@0", "R@-1", "P", "nonsense@10", "nDCG@", "nDCG(depth=3)", "", "R@1.5"])
def test_unknown_measures_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="measure"):
        evaluate(RUN, QRELS, ["AP", name])


@pytest.mark.parametrize(
    "name",
    [
        *("R@88888888888", "P@0", "nDCG@-3", "P(rel=0)@5", "P(rel=88888888888)@5", "nDCG(gains={1:70000000})@5"),
        *("IPrec@3", "SetF(beta=0)", "RBP(p=0.8)"),
    ],
)
def test_what_the_tools_cannot_compute_is_refused_before_any_work_in_one_line(name: str) -> None:
    with pytest.raises(UsageError) as refused:
        check_measures([name])
    assert name in str(refused.value)
    assert "\n" not in str(refused.value)


def test_grades_of_numpy_and_whole_floats_are_grades() -> None:
    plain = evaluate(RUN, QRELS)
    for kind in (np.int64, np.uint8, np.float32, np.float64, float, Decimal, np.array):
        given = {query: {name: kind(value) for name, value in of.items()} for query, of in QRELS.items()}
        assert evaluate(RUN, given) == plain
    binary = evaluate(RUN, {"q1": {"a": np.bool_(True), "x": False}, "q2": {"c": True}})
    assert binary == evaluate(RUN, {"q1": {"a": 1, "x": 0}, "q2": {"c": 1}})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (1700000000, "the relevance 1700000000 lies outside -1000 to 1000"),
        (-1001, "the relevance -1001 lies outside"),
        (2**70, "the relevance 1180591620717411303424 lies outside"),
        (np.float64(5e9), r"the relevance 5e\+09 lies outside"),
        (0.5, r"the relevance '0\.5' \(float\) is not an integer"),
        (math.nan, r"the relevance 'nan' \(float\)"),
        (Decimal("0.5"), r"the relevance '0\.5' \(Decimal\)"),
        ("1", r"the relevance '1' \(str\)"),
        (None, r"the relevance 'None' \(NoneType\)"),
        (np.array([1]), r"the relevance '\[1\]' \(ndarray\)"),
    ],
)
def test_other_grades_are_refused_by_query_document_and_value(value: object, message: str) -> None:
    with pytest.raises(InputError, match=f"query q1, document b: {message}"):
        evaluate(RUN, {"q1": {"a": 1, "b": value}})  # type: ignore[dict-item]


def test_grades_at_the_bounds_count_and_those_below_one_do_not() -> None:
    run = Run({"q": {"b": 3.0, "c": 2.0, "a": 1.0}})
    found = evaluate(run, {"q": {"a": 1000, "b": -1000, "c": -2}}, ["nDCG@10", "R@2", "R@3", "RR@10"]).means
    assert found == pytest.approx({"nDCG@10": 0.5, "R@2": 0, "R@3": 1, "RR@10": 1 / 3})
    assert evaluate(run, {"q": {}}, ["AP"]).means == {"AP": 0.0}


@pytest.mark.parametrize("name", ["", "half\ud83d", "nul\0", 7])
def test_ids_that_the_tools_would_not_survive_are_refused(name: object) -> None:
    for run, qrels in (
        (RUN, {**QRELS, name: {"a": 1}}),
        (RUN, {"q1": {"a": 1, name: 1}}),
        (Run({**RUN.scores, name: {"a": 1.0}}), QRELS),
        (Run({"q1": {"a": 1.0, name: 0.5}}), QRELS),
    ):
        with pytest.raises(InputError, match=r"is empty|a lone surrogate|holds NUL|is of type int"):
            evaluate(run, qrels)


@pytest.mark.parametrize("score", [math.nan, math.inf, 1e39, 10**400, "1", None, Decimal(1)])
def test_scores_that_are_none_are_refused(score: object) -> None:
    with pytest.raises(InputError, match="the run's query q1: document x has the score"):
        evaluate(Run({"q1": {"a": 0.5, "x": score}}), QRELS)  # type: ignore[dict-item]


def test_a_run_with_encoded_ids_is_read_by_the_ids_that_the_qrels_have(tmp_path: Path) -> None:
    qrels = {"q 1": {"my file.txt": 1, "100%25": 1}, "q2": {"a%20b": 1}}
    run = Run({"q 1": {"my file.txt": 2.0, "other file": 1.5, "100%25": 1.0}, "q2": {"a%20b": 1.0, "a b": 0.5}})
    write_run(tmp_path / "own.run", run)
    memory = evaluate(run, qrels)
    assert memory.means["nDCG@10"] < 1
    assert evaluate(tmp_path / "own.run", qrels) == memory
    write_qrels(tmp_path / "own.qrels", qrels)
    other = ir_measures.calc_aggregate(
        [ir_measures.parse_measure("nDCG@10")],
        list(ir_measures.read_trec_qrels(str(tmp_path / "own.qrels"))),
        list(ir_measures.read_trec_run(str(tmp_path / "own.run"))),
    )
    assert list(other.values()) == pytest.approx([memory.means["nDCG@10"]])
    (tmp_path / "other.run").write_text("q%201 Q0 my%20file.txt 1 2.0 x\nq2 Q0 a%20b 1 1.0 x\n")
    found = evaluate(tmp_path / "other.run", qrels, ["RR@10"])
    assert found.per_query["RR@10"] == {"q 1": 1.0, "q2": 1.0}
    assert "2 ids of the run read percent-decoded" in found.warnings[-1]
    assert evaluate(Run({"q2": {"a b": 1.0}, "q 1": {"my%20file.txt": 1.0}}), qrels, ["RR@10"]).means == {"RR@10": 0}


def test_without_ir_measures_the_error_names_the_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ir_measures", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'lightretriever\[eval\]'"):
        evaluate(RUN, QRELS)


def test_plain_dicts_and_names_in_one_string_are_taken() -> None:
    assert evaluate(RUN.scores, QRELS, "nDCG@10 R@5") == evaluate(RUN, QRELS, ["nDCG@10", "R@5"])


def test_tables_in_memory_are_refused_in_one_line() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"query": ["q1", "q2"], "document": ["a", "c"], "value": [1, 1]})
    with pytest.raises(InputError, match=r"^the qrels: a DataFrame was given: a path, or query id to .*relevance\)$"):
        evaluate(RUN, frame)
    with pytest.raises(InputError, match=r"^the run: a DataFrame was given: a path, or query id to .*score\)$"):
        evaluate(frame, QRELS)


def test_hits_are_needed_as_deep_as_the_measures_look() -> None:
    assert depth_of(check_measures(["nDCG@10", "R@100", "RR@10"])) == 100
    assert depth_of(check_measures(["P@5"])) == 5
    assert depth_of(check_measures(["nDCG@10", "AP"])) == 1_000
