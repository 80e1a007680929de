"""``run``: ids that a TREC file's columns cannot hold as they are, and what is refused before any query is asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lightretriever.index.index import Index
from lightretriever.text.trec import read_run, write_qrels

pytestmark = pytest.mark.filterwarnings("ignore")
Verb = Callable[..., Any]
NOTES = {
    "travel plans/in may.md": "the highest mountain of the world",
    "100% done.txt": "who invented the light bulb",
    "plain.txt": "read a csv file with one thread",
}
JUDGED = {"first q": {"travel plans/in may.md": 1}, "q\u3000two": {"100% done.txt": 1}, "q3": {"plain.txt": 1}}
ASKED = {"first q": "the highest mountain", "q\u3000two": "the light bulb", "q3": "csv file"}


def done(outcome: Any) -> Any:
    assert outcome.code == 0, outcome.err
    return outcome


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of text files whose names, and queries whose ids, hold white space and %; as a BEIR folder too."""
    folder = tmp_path_factory.mktemp("notes")
    for name, text in NOTES.items():
        (folder / "files" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "files" / name).write_text(text)
    (folder / "data/qrels").mkdir(parents=True)
    for name, rows in (("corpus", NOTES), ("queries", ASKED)):
        lines = [json.dumps({"_id": key, "text": text}) for key, text in rows.items()]
        (folder / f"data/{name}.jsonl").write_text("".join(f"{line}\n" for line in lines))
    write_qrels(folder / "data/qrels/test.tsv", JUDGED)
    return folder


@pytest.fixture
def index(verb: Verb, tower: Path, notes: Path, tmp_path: Path) -> Path:
    done(verb("cache", tower, "-o", tmp_path / "table"))
    made = ("--model", tower, "--table", tmp_path / "table", "-o", tmp_path / "i", "--sparse", "bm25")
    done(verb("index", notes / "files", *made))
    return tmp_path / "i"


def test_ids_with_white_space_are_written_and_read_back(verb: Verb, index: Path, notes: Path, tmp_path: Path) -> None:
    asked = ("run", index, "--queries", notes / "data/queries.jsonl", "-o", tmp_path / "a.run", "--mode", "sparse")
    told = done(verb(*asked, "--tag", "my first run"))
    assert "5 ids with white space, percent-encoded" in told.err
    lines = (tmp_path / "a.run").read_text().splitlines()
    assert lines[0].startswith("first%20q Q0% travel%20plans/in%20may.md 1 ")
    assert {len(line.split()) for line in lines} == {6}
    run = read_run(tmp_path / "a.run")
    assert run.tag == "my first run"
    assert {query: next(iter(found)) for query, found in run.scores.items()} == {
        query: next(iter(found)) for query, found in JUDGED.items()
    }
    for qrels in (notes / "data/qrels/test.tsv", tmp_path / "test.qrels"):
        write_qrels(tmp_path / "test.qrels", JUDGED)
        shown = done(verb("eval", tmp_path / "a.run", "--qrels", qrels, "--json"))
        assert json.loads(shown.out)["a.run"]["means"]["RR@10"] == 1.0


def test_results_of_such_ids_are_written(verb: Verb, index: Path, notes: Path, tmp_path: Path) -> None:
    told = done(verb("eval", index, "--data", notes / "data", "-o", tmp_path / "r"))
    assert told.err.count("percent-encoded") == 1
    assert "percent-encoded in the runs" in (tmp_path / "r/results.md").read_text(encoding="utf-8")
    found = json.loads((tmp_path / "r/results.json").read_text(encoding="utf-8"))["systems"]["sparse"]
    assert found["per_query"]["RR@10"] == dict.fromkeys(JUDGED, 1.0)
    again = done(verb("eval", tmp_path / "r/runs/sparse.run", "--qrels", notes / "data/qrels/test.tsv", "--json"))
    assert json.loads(again.out)["sparse.run"]["means"] == found["means"]


@pytest.fixture
def no_search(monkeypatch: pytest.MonkeyPatch) -> None:
    def search(*_: Any, **__: Any) -> None:
        raise AssertionError("the work has begun")

    monkeypatch.setattr(Index, "search_encoded", search)
    monkeypatch.setattr(Index, "open", search)


@pytest.mark.usefixtures("no_search")
def test_what_cannot_be_written_is_refused_before_the_work(
    verb: Verb, index_less: Path, notes: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    given = ("run", index_less, "--queries", notes / "data", "-o")
    for output, options, code, message in (
        (tmp_path, (), 1, "is a folder: name a file to write"),
        (tmp_path / "file/deep/a.run", (), 1, "file is no folder: choose another output"),
        (tmp_path / "a.run", ("--tag", ""), 2, "--tag is empty"),
        (tmp_path / "a.run", ("-k", "123456789012"), 2, "-k 123456789012: from 1 to 1,000,000 hits"),
        (tmp_path / "a.run", ("-k", "0"), 2, "-k 0: from 1 to"),
    ):
        refused = verb(*given, output, *options)
        assert (refused.code, refused.err.count("\n")) == (code, 1), refused.err
        assert message in refused.err
    measured = ("eval", index_less, "--data", notes / "data")
    for options, code, message in (
        (("-o", tmp_path), 1, "exists already"),
        (("-o", tmp_path / "file/r"), 1, "file is no folder"),
        (("--measures", "nDCG@88888888888"), 2, "is cut off at 88888888888"),
        (("--measures", "nDCG@10 P(rel=0)@5"), 2, "P(rel=0)@5"),
        (("--measures", "nDGC@10"), 2, "unknown measure 'nDGC@10'"),
        (("-k", "-4"), 2, "-k -4: from 1 to"),
    ):
        refused = verb(*measured, *options)
        assert (refused.code, refused.err.count("\n")) == (code, 1), refused.err
        assert message in refused.err


@pytest.fixture
def index_less(tmp_path: Path) -> Path:
    """Where an index would be: none is opened."""
    (tmp_path / "i").mkdir()
    return tmp_path / "i"


def test_a_grade_that_is_none_is_named_by_every_verb(verb: Verb, index: Path, notes: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "qrels").mkdir(parents=True)
    for name in ("corpus", "queries"):
        (data / f"{name}.jsonl").write_bytes((notes / f"data/{name}.jsonl").read_bytes())
    for split in ("test", "dev"):
        content = "query-id\tcorpus-id\tscore\nq3\tplain.txt\t1\nfirst q\tplain.txt\t1577836800\n"
        (data / f"qrels/{split}.tsv").write_text(content)
    (tmp_path / "a.run").write_text("q3 Q0 plain.txt 1 0.5 x\n")
    for asked in (
        ("eval", tmp_path / "a.run", "--qrels", data / "qrels/test.tsv"),
        ("eval", index, "--data", data),
        ("tune", index, "--data", data),
        ("eval", "--suite", tmp_path, "--model", "m", "--table", "t", "--work", tmp_path / "w"),
    ):
        refused = verb(*asked)
        assert refused.code == 1
        assert ".tsv:3: the relevance 1577836800 lies outside -1000 to 1000" in refused.err
