"""``eval`` of an index: systems, pairs, the folder of results, and input that does not fit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lightretriever.evaluation.measures import evaluate
from lightretriever.text.trec import read_qrels, read_run, write_qrels

ir_measures = pytest.importorskip("ir_measures")
pytestmark = pytest.mark.filterwarnings("ignore")
Verb = Callable[..., Any]
PNG = b"\x89PNG\r\n"
MEASURES = ("nDCG@10", "R@100", "RR@10")


def done(outcome: Any) -> Any:
    assert outcome.code == 0, outcome.err
    return outcome


@pytest.fixture
def table(verb: Verb, tower: Path, tmp_path: Path) -> Path:
    done(verb("cache", tower, "-o", tmp_path / "table"))
    return tmp_path / "table"


@pytest.fixture
def index(verb: Verb, tower: Path, folder: Path, table: Path, tmp_path: Path) -> Path:
    """An index with the model's own sparse side, so that BM25 is another system."""
    done(verb("index", folder, "--model", tower, "--table", table, "-o", tmp_path / "i", "--sparse", "lm"))
    return tmp_path / "i"


def test_results_are_written_and_the_runs_give_the_same_digits(
    verb: Verb, index: Path, folder: Path, tmp_path: Path
) -> None:
    asked = ("eval", index, "--data", folder, "--against", "symmetric,bm25")
    shown = done(verb(*asked, "-o", tmp_path / "r"))
    found = json.loads((tmp_path / "r/results.json").read_text(encoding="utf-8"))
    systems = ["dense", "sparse", "hybrid", "symmetric dense", "symmetric hybrid", "bm25"]
    assert list(found["systems"]) == systems
    assert found["measures"] == list(MEASURES)
    assert found["systems"]["bm25"]["means"]["RR@10"] == 1.0
    write_qrels(tmp_path / "test.qrels", read_qrels(folder / "qrels/test.tsv"))
    asked_for = [ir_measures.parse_measure(name) for name in MEASURES]
    for system in systems:
        path = tmp_path / "r/runs" / f"{system.replace(' ', '-')}.run"
        judged, run = (
            ir_measures.read_trec_qrels(str(tmp_path / "test.qrels")),
            ir_measures.read_trec_run(str(path)),
        )
        other = ir_measures.calc_aggregate(asked_for, list(judged), list(run))
        means = {str(measure): value for measure, value in other.items()}
        assert means == pytest.approx(found["systems"][system]["means"], abs=1e-12)
        again = evaluate(path, folder / "qrels" / "test.tsv", MEASURES)
        assert again.per_query == found["systems"][system]["per_query"]
        assert again.means == found["systems"][system]["means"]
        assert read_run(path).tag == path.stem
    pair = found["systems"]["dense"]["against"]["symmetric dense"]["nDCG@10"]
    assert pair["better"] + pair["equal"] + pair["worse"] == 3
    assert 0 < pair["randomisation"] <= 1
    means = [found["systems"][name]["means"]["nDCG@10"] for name in ("dense", "symmetric dense")]
    assert pair["kept"] == pytest.approx(means[0] / means[1])
    assert pair["difference"] == pytest.approx(means[0] - means[1])
    text = (tmp_path / "r/results.md").read_text(encoding="utf-8")
    for line in ("| symmetric hybrid | ", "| dense – bm25 | R@100 | ", "![dense: each query"):
        assert line in text
    for name in ("bars.png", "dense-queries.png", "hybrid-queries.png"):
        assert (tmp_path / "r" / name).read_bytes().startswith(PNG)
    assert "hybrid – bm25" in shown.out
    refused = verb(*asked, "-o", tmp_path / "r")
    assert refused.code == 1
    assert "exists already" in refused.err


def test_bm25_beside_an_index_is_bm25_in_an_index(
    verb: Verb, index: Path, tower: Path, folder: Path, table: Path, tmp_path: Path
) -> None:
    done(verb("index", folder, "--model", tower, "--table", table, "-o", tmp_path / "b", "--analyser", "pieces"))
    done(verb("eval", index, "--data", folder, "--against", "bm25", "-o", tmp_path / "r1"))
    told = done(verb("eval", tmp_path / "b", "--data", folder, "--against", "bm25", "-o", tmp_path / "r2"))
    assert "its sparse side is BM25 already" in told.err
    assert not (tmp_path / "r2/runs/bm25.run").exists()
    beside, inside = read_run(tmp_path / "r1/runs/bm25.run").scores, read_run(tmp_path / "r2/runs/sparse.run").scores
    for query, scores in inside.items():
        assert beside[query] == pytest.approx(scores, rel=1e-5)


def test_own_ids_can_be_ignored(verb: Verb, index: Path, folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(folder, data)
    rows = [{"_id": "bulb", "text": "who invented the light bulb"}]
    (data / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (data / "qrels/test.tsv").write_text("query-id\tcorpus-id\tscore\nbulb\tcsv\t1\n")
    asked = ("eval", index, "--data", data, "--measures", "R@3", "-k", "3", "-o")
    done(verb(*asked, tmp_path / "with"))
    done(verb(*asked, tmp_path / "without", "--ignore-own-ids"))
    assert "bulb" in read_run(tmp_path / "with/runs/hybrid.run").scores["bulb"]
    for mode in ("dense", "hybrid"):
        assert set(read_run(tmp_path / f"without/runs/{mode}.run").scores["bulb"]) == {"everest", "csv", "café"}
    (data / "qrels/test.tsv").write_text("query-id\tcorpus-id\tscore\nbulb\tbulb\t1\n")
    told = done(verb("eval", index, "--data", data, "--ignore-own-ids"))
    assert "1 query with the document of the same id judged relevant" in told.err


def test_input_that_does_not_fit_is_named(verb: Verb, index: Path, folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(folder, data)
    qrels, header = data / "qrels/test.tsv", "query-id\tcorpus-id\tscore\n"
    qrels.write_text(header + "q1\teverest\t1\nq1\tmissing\t1\nq8\tcsv\t1\n")
    outcome = done(verb("eval", index, "--data", data))
    assert "1 of 3 judged documents are not in the collection" in outcome.err
    assert "1 query judged but without text" in outcome.err
    qrels.write_text(header + "q1\tx\t1\nq1\ty\t1\n")
    refused = verb("eval", index, "--data", data)
    assert refused.code == 1
    assert "the index has none of the 2 documents judged (x, y …)" in refused.err
    qrels.write_text(header + "z\tcsv\t1\n")
    assert "(judged is 'z', the queries have 'q1')" in verb("eval", index, "--data", data).err
    assert "only symmetric and bm25 are known" in verb("eval", index, "--data", folder, "--against", "bm26").err
    (tmp_path / "other.run").write_text("q7 Q0 csv 1 2.0 x\nq9 Q0 csv 1 2.0 x\n")
    refused = verb("eval", tmp_path / "other.run", "--qrels", folder / "qrels/test.tsv")
    assert "the run has 'q7', 'q9', the qrels have 'q1', 'q2', 'q3'" in refused.err
    assert (
        "--output, --diagnose and --filter are for an index"
        in verb("eval", tmp_path / "other.run", "--qrels", qrels, "-o", data).err
    )


@pytest.mark.usefixtures("no_matplotlib")
def test_a_folder_of_results_needs_matplotlib(verb: Verb, index: Path, folder: Path, tmp_path: Path) -> None:
    refused = verb("eval", index, "--data", folder, "-o", tmp_path / "r")
    assert "pip install 'lightretriever[eval]'" in refused.err


def test_what_cannot_be_more_than_zero_is_said(verb: Verb, index: Path, folder: Path, tmp_path: Path) -> None:
    data, header = tmp_path / "data", "query-id\tcorpus-id\tscore\n"
    shutil.copytree(folder, data)
    (data / "qrels/test.tsv").write_text(header + "q1\teverest\t1\nq2\tbulb\t0\n")
    told = done(verb("eval", index, "--data", data))
    assert "1 of 2 queries have no document judged relevant and count zero" in told.err
    (tmp_path / "others.run").write_text("q1 Q0 x1 1 2.0 x\nq2 Q0 x2 1 2.0 x\n")
    told = done(verb("eval", tmp_path / "others.run", "--qrels", data / "qrels/test.tsv"))
    assert "none of the 2 documents found is judged for any query" in told.err
    (data / "qrels/dev.tsv").write_text(header + "q1\teverest\t0\n")
    refused = verb("tune", index, "--data", data)
    assert refused.code == 1
    assert "the split dev judges no document relevant" in refused.err


def test_a_filter_is_kept_by_every_system(verb: Verb, index: Path, folder: Path, tmp_path: Path) -> None:
    where = '{"lang": "en"}'
    asked = ("eval", index, "--data", folder, "--against", "symmetric,bm25", "--filter", where)
    told = done(verb(*asked, "-o", tmp_path / "r"))
    assert "the filter leaves out 2 of 3 judged documents: they count as missed" in told.err
    for run in (tmp_path / "r/runs").iterdir():
        assert {name for found in read_run(run).scores.values() for name in found} == {"csv"}
    found = json.loads((tmp_path / "r/results.json").read_text(encoding="utf-8"))
    assert found["settings"]["filter"] == where
    assert found["systems"]["bm25"]["means"]["R@100"] == found["systems"]["dense"]["means"]["R@100"]
    for wrong in ("{", '{"lang": {"$like": "e"}}'):
        assert verb("eval", index, "--data", folder, "--filter", wrong).code == 2
    assert verb("tune", index, "--filter", where).code == 2
    refused = verb("tune", index, "--data", folder, "--filter", '{"lang": "de"}')
    assert "no query has a judged document among its hits" in refused.err


def test_an_index_of_tenants_is_measured_for_one(
    verb: Verb, tower: Path, folder: Path, table: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(folder, data)
    rows = [json.loads(line) for line in (folder / "corpus.jsonl").read_text(encoding="utf-8").splitlines()]
    lines = [json.dumps({**row, "owner": "us" if row["_id"] in ("csv", "bulb") else "them"}) for row in rows]
    (data / "corpus.jsonl").write_text("".join(f"{line}\n" for line in lines))
    made = ("--model", tower, "--table", table, "-o", tmp_path / "t", "--sparse", "bm25", "--tenant", "owner")
    done(verb("index", data, *made))
    refused = verb("eval", tmp_path / "t", "--data", data)
    assert refused.code == 2
    assert "keeps tenants apart by 'owner'" in refused.err
    done(verb("eval", tmp_path / "t", "--data", data, "--filter", '{"owner": "us"}', "-o", tmp_path / "r"))
    assert set(read_run(tmp_path / "r/runs/hybrid.run").scores["q1"]) <= {"csv", "bulb"}


def test_a_diagnosis_says_which_arm_wins_where(verb: Verb, index: Path, folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(folder, data)
    texts = {f"q{i}": ["how tall is everest", "who did not invent the bulb", "привет мир"][i % 3] for i in range(12)}
    rows = [{"_id": query, "text": text} for query, text in texts.items()]
    (data / "queries.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    judged = "".join(f"{query}\t{['everest', 'bulb', 'café'][i % 3]}\t1\n" for i, query in enumerate(texts))
    (data / "qrels/test.tsv").write_text("query-id\tcorpus-id\tscore\n" + judged)
    asked = ("eval", index, "--data", data, "--diagnose")
    shown = done(verb(*asked, "-o", tmp_path / "r", "--measures", "RR@10 nDCG@10"))
    assert "query tokens that no document holds: " in shown.out
    found = json.loads((tmp_path / "r/results.json").read_text(encoding="utf-8"))
    told = found["diagnosis"]
    assert told["measure"] == "RR@10"
    groups = {group["name"]: group for group in told["groups"]}
    assert groups["all queries"]["queries"] == 12
    assert groups["Cyrillic"]["queries"] == groups["with negation"]["queries"] == 4
    values = found["systems"]["dense"]["per_query"]["RR@10"]
    assert groups["Cyrillic"]["means"]["dense"] == pytest.approx(values["q2"])
    assert groups["all queries"]["means"]["sparse"] == pytest.approx(found["systems"]["sparse"]["means"]["RR@10"])
    run = read_run(tmp_path / "r/runs/dense.run")
    firsts = sorted(max(scores.values()) for scores in run.scores.values())
    assert told["scores"]["dense"]["score at place 1"][2] == pytest.approx((firsts[5] + firsts[6]) / 2)
    text = (tmp_path / "r/results.md").read_text(encoding="utf-8")
    for line in ("## Diagnosis", "| script | Cyrillic | 4 |", "| sparse | score at place 1 |"):
        assert line in text
    by_json = json.loads(done(verb(*asked, "--json", "--measures", "RR@10 nDCG@10")).out)
    assert by_json["diagnosis"] == told
