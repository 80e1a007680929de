"""``tune``: what is chosen on which queries, what the index says of it, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lightretriever import Index
from lightretriever.fusion import Fusion

Verb = Callable[..., Any]


def done(outcome: Any) -> Any:
    assert outcome.code == 0, outcome.err
    return outcome


def info(verb: Verb, index: Path) -> Any:
    return json.loads(done(verb("info", index, "--json")).out)


@pytest.fixture
def index(verb: Verb, tower: Path, folder: Path, tmp_path: Path) -> Path:
    done(verb("cache", tower, "-o", tmp_path / "table"))
    made = ("--model", tower, "--table", tmp_path / "table", "-o", tmp_path / "i", "--sparse", "bm25")
    done(verb("index", folder, *made))
    return tmp_path / "i"


def test_tune(verb: Verb, index: Path, folder: Path, tmp_path: Path) -> None:
    refused = verb("tune", index, "--data", folder)
    assert refused.code == 1
    assert "1 query with a judged document among the hits, too few for 5 folds" in refused.err
    missing = verb("tune", index, "--data", folder, "--split", "validation")
    assert missing.code == 1
    assert "no split 'validation'" in missing.err
    assert verb("tune", index, "--data", folder, "--split", "test").code == 2
    data = shutil.copytree(folder, tmp_path / "data")
    (data / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\n" + "q1\teverest\t1\nq2\tbulb\t1\n")
    with (data / "qrels" / "train.tsv").open("a") as qrels, (data / "queries.jsonl").open("a") as queries:
        for number in range(10):
            qrels.write(f"more{number}\tcsv\t1\n")
            queries.write(json.dumps({"_id": f"more{number}", "text": "read csv"}) + "\n")
    tried = done(verb("tune", index, "--data", data, "--split", "train", "--dry-run", "--json"))
    found = json.loads(tried.out)
    assert set(found["means"]) == {"0.7/0.3", "0.5/0.5", "one weight", "by query"}
    assert found["queries"] == 12
    tuned = done(verb("tune", index, "--data", data, "--split", "train"))
    assert f"{index} is changed: weights " in tuned.err
    with Index.open(index) as opened:
        assert opened.fusion.describe() == found["fusion"]
    assert info(verb, index)["fusion"] == found["fusion"]
    assert found["fusion"]["chosen"] == "learned on data, train"
    assert verb("tune", index, "--weight", "0.4", "--data", data).code == 2
    assert verb("tune", index, "--weight", "1.5").code == 2
    done(verb("tune", index, "--weight", "0.4"))
    with Index.open(index) as opened:
        assert (opened.fusion.dense, opened.fusion.sparse) == (0.4, 0.6)
    assert "weights by query" in done(verb("tune", index)).err
    with Index.open(index) as opened:
        assert opened.fusion.describe()["weights"] == "by query"
    told = done(verb("tune", index, "--weight", "0.7")).err
    assert f"{index} is changed: weights 0.7 dense, 0.3 sparse (default)" in told
    assert "before: by query (without judged queries, by the package's network" in told


def test_info_shows_the_weights_in_force_and_no_others(verb: Verb, index: Path) -> None:
    default = {"method": "linear", "weights": "fixed", "dense": 0.7, "sparse": 0.3, "tied": "best", "chosen": "default"}
    assert info(verb, index)["fusion"] == default
    done(verb("tune", index))
    by_query = info(verb, index)["fusion"]
    assert not {"dense", "sparse"} & by_query.keys()
    assert by_query["chosen"].startswith("without judged queries")
    with Index.open(index) as opened:
        opened.set_fusion(Fusion(method="rrf"))
    assert info(verb, index)["fusion"] == {"method": "rrf", "rrf_k": 60.0, "tied": "best", "chosen": "given"}


def test_only_a_test_split_can_be_cross_validated_and_the_index_says_so(
    verb: Verb, index: Path, folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("ir_measures")
    data = shutil.copytree(folder, tmp_path / "only")
    (data / "qrels/dev.tsv").unlink()
    judged = [f"t{number}" for number in range(12)]
    asked = "".join(json.dumps({"_id": query, "text": "the light bulb"}) + "\n" for query in judged)
    (data / "queries.jsonl").write_text(asked)
    (data / "qrels/test.tsv").write_text("".join(f"{query}\tbulb\t1\n" for query in judged))
    for asked_for in (("tune", index, "--data", data), ("tune", index, "--data", data, "--split", "test")):
        refused = verb(*asked_for)
        assert refused.code == 2
        assert "--cross-validate" in refused.err
    assert verb("tune", index, "--cross-validate").code == 2
    tried = json.loads(done(verb("tune", index, "--data", data, "--cross-validate", "--dry-run", "--json")).out)
    assert tried["stored"] is False
    assert info(verb, index)["fusion"]["chosen"] == "default"
    best = tried["means"][tried["chosen"]]
    told = done(verb("tune", index, "--data", data, "--cross-validate"))
    assert f"warning: chosen by cross-validation on only, test: report {best:.4f}" in told.err
    assert info(verb, index)["fusion"] == tried["fusion"]
    assert "by cross-validation on only, test" in tried["fusion"]["chosen"]
    assert "tuned on these queries" in done(verb("eval", index, "--data", data)).err
    assert "tuned on" not in done(verb("eval", index, "--data", folder)).err


def test_eval_says_that_the_fusion_was_tuned_on_what_it_measures(
    verb: Verb, index: Path, folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("ir_measures")
    data = shutil.copytree(folder, tmp_path / "data")
    texts = {f"a{number}": f"who invented bulb {number}" for number in range(10)}
    again = {f"b{number}": f"  Who invented BULB {number}" for number in range(10)}  # the same, under other ids
    fresh = {f"c{number}": f"the highest mountain {number}" for number in range(30)}
    rows = [{"_id": query, "text": text} for query, text in {**texts, **again, **fresh}.items()]
    (data / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    splits = {
        "dev": [*texts],
        "same": [*texts],
        "copied": [*again],
        "mixed": [*list(texts)[:3], *fresh],
        "new": [*fresh],
    }
    for name, judged in splits.items():
        (data / f"qrels/{name}.tsv").write_text("".join(f"{query}\tbulb\t1\n" for query in judged))
    done(verb("tune", index, "--data", data, "--split", "dev"))

    def warned(split: str, where: Path = data) -> list[str]:
        lines = done(verb("eval", index, "--data", where, "--split", split)).err.splitlines()
        return [line for line in lines if "tuned on" in line]

    whole = ["warning: the fusion was tuned on these queries: hybrid looks better than it is"]
    assert warned("dev") == warned("same") == warned("copied") == whole
    assert warned("same", shutil.copytree(data, tmp_path / "moved")) == whole
    assert warned("mixed") == [whole[0].replace("these queries", "3 of these 33 queries")]
    assert warned("new") == []
    done(verb("tune", index, "--weight", "0.5"))
    assert warned("dev") == []
