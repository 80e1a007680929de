"""``eval --suite``: sets found, measured once, averaged as papers do, and what cannot be."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lightretriever.evaluation.suite import SetResult, average, suite_table

pytestmark = pytest.mark.filterwarnings("ignore")
Verb = Callable[..., Any]


def done(outcome: Any) -> Any:
    assert outcome.code == 0, outcome.err
    return outcome


def test_many_sets_are_measured_once_and_averaged(verb: Verb, tower: Path, folder: Path, tmp_path: Path) -> None:
    for name in ("tiny", "forums/one", "forums/two"):
        shutil.copytree(folder, tmp_path / "sets" / name)
    (tmp_path / "sets/forums/two/qrels/test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\tcsv\t1\n")
    done(verb("cache", tower, "-o", tmp_path / "table"))
    given = ("--model", tower, "--table", tmp_path / "table", "--work", tmp_path / "work", "--sparse", "bm25")
    asked = ("eval", "--suite", tmp_path / "sets", *given, "--against", "symmetric", "--diagnose")
    shown = done(verb(*asked, "-o", tmp_path / "r"))
    for line in ("forums/one", "kept of the full model", "dense less sparse"):
        assert line in shown.out
    found = json.loads((tmp_path / "r/results.json").read_text(encoding="utf-8"))
    sets = found["sets"]
    assert {name: values["queries"] for name, values in sets.items()} == {"forums/one": 3, "forums/two": 1, "tiny": 3}
    for system in ("dense", "sparse", "hybrid", "symmetric dense", "symmetric hybrid"):
        value = {name: values["means"][system]["nDCG@10"] for name, values in sets.items()}
        of_papers = ((value["forums/one"] + value["forums/two"]) / 2 + value["tiny"]) / 2
        assert found["average"][system]["nDCG@10"] == pytest.approx(of_papers)
    text = (tmp_path / "r/results.md").read_text(encoding="utf-8")
    for line in ("## R@100", "| average |", "| dense – symmetric dense |", "## Dense or sparse?"):
        assert line in text
    assert (tmp_path / "r/bars.png").is_file()
    assert (tmp_path / "r/sets/forums/two/runs/hybrid.run").is_file()

    again = done(verb(*asked, "--json"))
    assert again.err.count("measured before") == 3
    assert json.loads(again.out)["tiny"]["means"] == sets["tiny"]["means"]
    (tmp_path / "sets/tiny/qrels/test.tsv").write_text("query-id\tcorpus-id\tscore\nq3\tcsv\t1\n")
    changed = done(verb(*asked, "--json"))
    assert changed.err.count("measured before") == 2
    assert json.loads(changed.out)["tiny"]["queries"] == 1

    (tmp_path / "sets/tiny/qrels/test.tsv").unlink()
    refused = verb(*asked)
    assert refused.code == 1
    assert "tiny has no split 'test': there are dev" in refused.err
    assert "forums/one" not in refused.err


def test_wrong_usage_is_named(verb: Verb, folder: Path, tmp_path: Path) -> None:
    given = ("--model", "x", "--table", "y", "--work", tmp_path / "w")
    assert "holds no folder with qrels/" in verb("eval", "--suite", folder, *given).err
    assert "unknown measure 'nDGC'" in verb("eval", "--suite", folder, *given, "--measures", "nDGC").err
    assert "--suite needs --model MODEL" in verb("eval", "--suite", folder, "--model", "x").err
    assert "leave INDEX, --data and --qrels out" in verb("eval", folder, "--suite", folder, *given).err
    assert "are for a --suite" in verb("eval", folder, "--data", folder, "--work", folder).err
    assert verb("eval").code == 2


def test_an_interrupted_suite_says_that_it_goes_on(
    verb: Verb, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lightretriever.cli.suite.measure_suite", interrupt)
    given = ("--model", "x", "--table", "y", "--work", tmp_path / "w")
    stopped = verb("eval", "--suite", folder, *given)
    assert stopped.code == 130
    assert "run the same command again" in stopped.err


def test_a_table_leaves_out_what_was_not_measured() -> None:
    results = [
        SetResult("a", 10, {"dense": {"AP": 0.5}, "symmetric dense": {"AP": 0.625}}, None),
        SetResult("b", 20, {"dense": {"AP": 0.25}, "symmetric dense": {"AP": 0.375}, "sparse": {"AP": 1.0}}, None),
    ]
    header, rows = suite_table(results, "AP")
    assert header == ["set", "queries", "dense", "symmetric dense", "sparse"]
    assert rows[0] == ["a", "10", "50.0", "62.5", ""]
    assert rows[2:] == [["average", "", "37.5", "50.0", ""], ["kept of the full model", "", "75.0%", "", ""]]
    assert average(results, "sparse", "AP") is None
