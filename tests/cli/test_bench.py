"""``bench`` on a tiny tower: all its parts run for real, and what it writes can be shown again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lightretriever.bench.report import load

pytestmark = pytest.mark.filterwarnings("ignore")
Verb = Callable[..., Any]


def test_a_quick_run_measures_everything(verb: Verb, tower: Path, folder: Path, tmp_path: Path) -> None:
    given = ("--queries", folder / "queries.jsonl", "--queries-log", folder / "queries.jsonl")
    sizes = ("--documents", "30", "--documents", "6", "--turns", "1")
    outcome = verb("bench", tower, "--corpus", folder, *given, *sizes, "--device", "cpu", "-o", tmp_path / "b.json")
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith("So many times as long as by look-up")
    assert "qwen2-0.5b" in outcome.out  # named as what was not measured
    assert (tmp_path / "b.png").read_bytes().startswith(b"\x89PNG")
    found = load(tmp_path / "b.json")
    assert {"look-up", "tiny-bert"} <= {timing.system for timing in found.encoding}
    ways = [f"{kind}, {way}" for kind in ("8 words", "given") for way in ("one at a time", "batches of 32")]
    assert set(ways) <= {timing.way for timing in found.encoding}
    assert all(0 < timing.p50 <= timing.p99 and timing.per_second > 0 for timing in (*found.encoding, *found.searching))
    searched = [(timing.system, timing.way, timing.batch) for timing in found.searching if timing.batch == 1]
    assert searched == [
        (system, f"{size} documents, one at a time", 1) for size in (6, 30) for system in ("look-up", "tiny-bert")
    ]
    assert [(built.documents, built.made) for built in found.built] == [(6, 2), (30, 26)]
    assert all(sum(built.bytes.values()) > built.bytes["dense codes"] > 0 for built in found.built)
    assert {rate.unit for rate in found.rates} == {"rows", "tokens"}
    assert set(found.table) == {"float32", "float16", "int8"}
    assert found.log is not None
    assert found.log.queries == 3
    assert found.difference < 1e-5
    assert len(found.memory) == 5
    assert all(memory.resident > 1e7 for memory in found.memory)

    again = verb("bench", "--show", tmp_path / "b.json")
    assert again.out == outcome.out
    as_json = verb("bench", "--show", tmp_path / "b.json", "--json")
    assert json.loads(as_json.out) == json.loads((tmp_path / "b.json").read_text())
    assert as_json.out.count("\n") == 1
    page = verb("bench", "--show", tmp_path / "b.json", "--markdown")
    assert page.out.count("| --- |") == 7
    assert "| --- |" not in outcome.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--vectors", "v", "--corpus", "c"], "--corpus"),
        (["-o", "results.txt"], ".json"),
        (["--shape", "gpt-5"], "qwen2-0.5b"),
        (["--documents", "1"], "--documents"),
        (["--turns", "0"], "--turns"),
        (["--json", "--markdown"], "--markdown"),
    ],
)
def test_bad_arguments(verb: Verb, arguments: list[str], message: str) -> None:
    outcome = verb("bench", *arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert message in outcome.err
    assert outcome.err.count("\n") == 1


def test_what_does_not_belong_together_is_refused(verb: Verb, tower: Path, folder: Path, tmp_path: Path) -> None:
    for path, message in ((tmp_path / "nowhere.json", "does not exist"), (folder / "queries.jsonl", "as JSON")):
        outcome = verb("bench", "--show", path)
        assert outcome.code == 1
        assert f"{path} " in outcome.err
        assert message in outcome.err
        assert "give a file that `lightretriever bench -o` wrote" in outcome.err
        assert outcome.err.count("\n") == 1
    assert verb("encode", folder, "--model", tower, "-o", tmp_path / "v").code == 0
    manifest = tmp_path / "v" / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "model": "another"}))
    outcome = verb("bench", tower, "--vectors", tmp_path / "v", "--device", "cpu")
    assert outcome.code == 1
    assert "is of another, not of tiny-bert" in outcome.err
    assert verb("cache", tower, "-o", tmp_path / "t", "--dim", "8").code == 0
    outcome = verb("bench", tower, "--corpus", folder, "--table", tmp_path / "t", "--device", "cpu")
    assert outcome.code == 1
    assert "8 dimensions, the passages 32" in outcome.err
