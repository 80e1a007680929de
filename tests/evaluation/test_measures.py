"""Measures: by hand, against ir-measures itself, and what is counted."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest

from lightretriever.errors import InputError, MissingExtraError, UsageError
from lightretriever.evaluation.measures import evaluate
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
        "1 queries of the run are not in the qrels and are left out",
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


def test_without_ir_measures_the_error_names_the_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ir_measures", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'lightretriever\[eval\]'"):
        evaluate(RUN, QRELS)
