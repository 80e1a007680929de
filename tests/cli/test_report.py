"""``fit --report``: with judged queries, without, and without a model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lightretriever import TokenTable

pytestmark = pytest.mark.filterwarnings("ignore")
Verb = Callable[..., Any]
PNG = b"\x89PNG\r\n"


def done(outcome: Any) -> Any:
    assert outcome.code == 0, outcome.err
    return outcome


def test_judged_queries(verb: Verb, tower: Path, folder: Path, tmp_path: Path) -> None:
    options = ("--texts", folder, "--l2", "0.1", "--data", folder, "--split", "test")
    outcome = done(verb("fit", tower, *options, "-o", tmp_path / "t", "--report", tmp_path / "r"))
    assert "of the full model's nDCG@10 the look-up keeps" in outcome.err
    card = (tmp_path / "r/README.md").read_text(encoding="utf-8")
    for line in ("| dense | nDCG@10 |", "| hybrid | nDCG@10 |", "| sparse | R@100 |", "![", "3 of tiny's split test"):
        assert line in card
    assert (tmp_path / "r/queries.png").read_bytes().startswith(PNG)
    found = json.loads((tmp_path / "r/report.json").read_text(encoding="utf-8"))
    assert found["table"] == TokenTable.load(tmp_path / "t").hash
    assert set(found["per_query"]["symmetric dense"]) == {"q1", "q2", "q3"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r", "t"]


def test_vectors_of_another_corpus_and_without_a_model(verb: Verb, tower: Path, folder: Path, tmp_path: Path) -> None:
    done(verb("encode", folder, "--model", tower, "-o", tmp_path / "v"))
    rest = ("--l2", "0.1", "--data", folder, "--split", "test")
    given = ("fit", "--vectors", tmp_path / "v")
    done(verb(*given, *rest, "-o", tmp_path / "t", "--report", tmp_path / "r"))
    assert "full model's" not in (tmp_path / "r/README.md").read_text(encoding="utf-8").split("## Retention")[1]
    assert not (tmp_path / "r/queries.png").exists()
    (tmp_path / "other.jsonl").write_text('{"_id": "x", "text": "the light bulb"}\n', encoding="utf-8")
    done(verb("encode", tmp_path / "other.jsonl", "--model", tower, "-o", tmp_path / "w"))
    refused = verb("fit", "--vectors", tmp_path / "w", *rest, "-o", tmp_path / "t2", "--report", tmp_path / "r2")
    assert refused.code == 1
    assert "none of the documents that --data judges" in refused.err
    assert not (tmp_path / "r2").exists()


def test_without_judgements_sentences_are_kept_from_the_fit(verb: Verb, tower: Path, tmp_path: Path) -> None:
    lines = [f"the mountain {number} is {number * 7} meters tall" for number in range(60)]
    (tmp_path / "texts.txt").write_text("\n".join(lines), encoding="utf-8")
    options = ("--texts", tmp_path / "texts.txt", "--l2", "0.1")
    done(verb("fit", tower, *options, "-o", tmp_path / "t", "--report", tmp_path / "r"))
    assert TokenTable.load(tmp_path / "t").fitted["sentences_used"] == 54
    card = (tmp_path / "r/README.md").read_text(encoding="utf-8")
    assert "6 sentences kept from the fit" in card
    found = json.loads((tmp_path / "r/report.json").read_text(encoding="utf-8"))
    assert found["means"]["symmetric dense"]["nDCG@10"] == pytest.approx(1)
    assert 0 < found["means"]["dense"]["nDCG@10"] <= 1
    rows = "".join(json.dumps({"_id": str(number), "text": line}) + "\n" for number, line in enumerate(lines))
    (tmp_path / "texts.jsonl").write_text(rows, encoding="utf-8")
    done(verb("encode", tmp_path / "texts.jsonl", "--model", tower, "-o", tmp_path / "v"))
    given = ("--vectors", tmp_path / "v", "--l2", "1")
    done(verb("fit", tower, *given, "-o", tmp_path / "t2", "--report", tmp_path / "r2"))
    (tmp_path / "few.txt").write_text("the tall mountain", encoding="utf-8")
    refused = verb("fit", tower, "--texts", tmp_path / "few.txt", "-o", tmp_path / "t3", "--report", tmp_path / "r3")
    assert refused.code == 1
    assert "too few to keep any" in refused.err


def test_what_would_fail_after_the_fit_fails_before(verb: Verb, tower: Path, folder: Path, tmp_path: Path) -> None:
    given = ("fit", tower, "--texts", folder, "-o", tmp_path / "t")
    (tmp_path / "r").mkdir()
    assert verb(*given, "--report", tmp_path / "r").code == 1
    assert "no split 'dve'" in verb(*given, "--report", tmp_path / "x", "--data", folder, "--split", "dve").err
    refused = verb("fit", "--vectors", tmp_path, "-o", tmp_path / "t", "--report", tmp_path / "x")
    assert refused.code == 2
    assert "--report needs a MODEL" in refused.err
    assert "name where to write it with --report" in verb(*given, "--data", folder).err
    assert not (tmp_path / "t").exists()


@pytest.mark.usefixtures("no_matplotlib")
def test_without_matplotlib_nothing_is_fitted(verb: Verb, tower: Path, folder: Path, tmp_path: Path) -> None:
    given = ("fit", tower, "--texts", folder, "-o", tmp_path / "t")
    refused = verb(*given, "--report", tmp_path / "x")
    assert "pip install 'lightretriever[eval]'" in refused.err
    assert not (tmp_path / "t").exists()
