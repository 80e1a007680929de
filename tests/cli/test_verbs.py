"""Every verb on a tiny random tower: what it writes, what it says, and what it refuses."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightretriever import Encoded, Index, TokenTable
from lightretriever.artifact import sha256_file
from lightretriever.cli.info import describe
from lightretriever.errors import ArtifactError
from lightretriever.text.trec import read_run
from lightretriever.vectors.folder import VectorsWriter
from lightretriever.vectors.provider import read_provider_vectors

Verb = Callable[..., Any]  # gives .code, .out, .err; see conftest


def done(outcome: Any) -> Any:
    """The outcome, if it is a success."""
    assert outcome.code == 0, outcome.err
    return outcome


@pytest.fixture
def table(verb: Verb, tower: Path, tmp_path: Path) -> Path:
    done(verb("cache", tower, "-o", tmp_path / "table", "--prompt", "find:"))
    return tmp_path / "table"


@pytest.fixture
def index(verb: Verb, tower: Path, folder: Path, table: Path, tmp_path: Path) -> Path:
    path = tmp_path / "the.index"
    done(verb("index", folder, "--model", tower, "--table", table, "-o", path, "--sparse", "bm25"))
    return path


def test_cache(verb: Verb, tower: Path, table: Path, tmp_path: Path) -> None:
    made = TokenTable.load(table)
    assert (made.prompt, made.dtype, made.dim) == ("find:", "float32", 32)
    done(verb("cache", tower, "-o", tmp_path / "small", "--dtype", "int8", "--dim", "8"))
    small = TokenTable.load(tmp_path / "small")
    assert (small.dtype, small.dim, len(small)) == ("int8", 8, len(made))
    refused = verb("cache", tower, "-o", table)
    assert refused.code == 1
    assert "exists already" in refused.err


@pytest.mark.filterwarnings("ignore")
def test_fit_to_texts_to_vectors_and_to_both(verb: Verb, tower: Path, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_text("read a csv file\nhow tall is the mountain\n")
    texts = ("--texts", folder, tmp_path / "more.txt", folder / "queries.jsonl")
    outcome = done(verb("fit", tower, *texts, "-o", tmp_path / "t1", "--l2", "0.1", "--dim", "16"))
    fitted = TokenTable.load(tmp_path / "t1")
    assert fitted.dim == 16
    assert fitted.fitted["l2"] == 0.1
    assert "fitted to" in outcome.err
    done(verb("encode", folder, "--model", tower, "-o", tmp_path / "vectors"))
    done(verb("fit", "--vectors", tmp_path / "vectors", "-o", tmp_path / "t2", "--l2", "0.1"))
    tokenizer = ("--tokenizer", tower / "tokenizer.json")
    done(verb("fit", "--vectors", tmp_path / "vectors", *tokenizer, "-o", tmp_path / "t4", "--l2", "0.1"))
    done(verb("fit", tower, "--vectors", tmp_path / "vectors", *texts, "-o", tmp_path / "t3", "--l2", "0.1"))
    assert TokenTable.load(tmp_path / "t2").revision == TokenTable.load(tmp_path / "t3").revision == fitted.revision


def test_a_fit_to_nothing_is_a_general_table(verb: Verb, tower: Path, tmp_path: Path) -> None:
    outcome = done(verb("fit", tower, "-o", tmp_path / "t", "--dim", "8"))
    assert "a general table" in outcome.err and TokenTable.load(tmp_path / "t").dim == 8
    done(verb("fit", tower, "-o", tmp_path / "two", "--prompt", "a: ", "--prompt", "b: "))
    assert [TokenTable.load(tmp_path / "two" / name).prompt for name in "12"] == ["a: ", "b: "]
    for wrong in (("--prior", "zero"), ("--rotate", "--dim", "8"), ("--l2", "0.1")):
        assert "text" in verb("fit", tower, "-o", tmp_path / "u", *wrong).err
    assert not (tmp_path / "u").exists()


@pytest.mark.filterwarnings("ignore")
def test_a_fit_to_vectors_says_where_unseen_tokens_have_their_rows_from(
    verb: Verb, tower: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIGHTRETRIEVER_CACHE", str(tmp_path / "user"))
    model = shutil.copytree(tower, tmp_path / "passing")
    done(verb("encode", folder, "--model", model, "-o", tmp_path / "vectors"))
    fit = ("fit", "--vectors", tmp_path / "vectors", "--l2", "0.1")
    shutil.move(model, tmp_path / "away")
    gone = done(verb(*fit, "-o", tmp_path / "gone"))
    assert "warning: tokens that no text holds get no row" in gone.err
    assert "passing, is not at hand (it is not on this machine)" in gone.err
    assert verb(*fit, "--prior", "model", "-o", tmp_path / "none").code == 1
    shutil.move(tmp_path / "away", model)
    found = done(verb(*fit, "-o", tmp_path / "found"))
    assert "running the vocabulary: " in found.err
    assert "rows of tokens that no text holds come from passing" in found.err
    assert "no row" not in found.err
    shutil.rmtree(model)  # its rows are kept
    kept = done(verb(*fit, "-o", tmp_path / "kept"))
    assert "running the vocabulary: " not in kept.err
    assert TokenTable.load(tmp_path / "kept").hash == TokenTable.load(tmp_path / "found").hash
    zero = done(verb(*fit, "--prior", "zero", "-o", tmp_path / "zero"))
    assert "come from" not in zero.err


@pytest.mark.filterwarnings("ignore")
def test_vectors_of_a_provider(verb: Verb, tower: Path, folder: Path, tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).standard_normal((4, 24)).astype(np.float32)
    np.save(tmp_path / "bought.npy", vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    given = ("--vectors", tmp_path / "bought.npy", "--tokenizer", tower / "tokenizer.json", "--l2", "0.01")
    done(verb("fit", *given, "--corpus", folder, "-o", tmp_path / "t1"))
    done(verb("fit", *given, "--texts", folder, "-o", tmp_path / "t2"))
    assert TokenTable.load(tmp_path / "t1").hash == TokenTable.load(tmp_path / "t2").hash
    refused = verb("fit", *given, "-o", tmp_path / "t3")
    assert refused.code == 2
    assert "--corpus" in refused.err
    source = (tmp_path / "bought.npy", "--corpus", folder, "--table", tmp_path / "t1")
    done(verb("index", *source, "-o", tmp_path / "index"))
    found = done(verb("search", tmp_path / "index", "highest mountain", "-k", "1", "--json", "--mode", "sparse"))
    assert json.loads(found.out)["id"] == "everest"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bought.npy", "index", "t1", "t2"]


@pytest.mark.filterwarnings("ignore")
def test_provider_vectors_leave_nothing_to_be_mixed(verb: Verb, table: Path, folder: Path, tmp_path: Path) -> None:
    """A killed run's leftovers, of a wrong corpus, are not paired with the right one; a failed run leaves none."""
    np.save(tmp_path / "v.npy", np.eye(4, 32, dtype=np.float32))
    lines = (folder / "corpus.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "wrong.jsonl").write_text("".join(lines[::-1]), encoding="utf-8")
    (tmp_path / "short.jsonl").write_text("".join(lines[:3]), encoding="utf-8")
    rest = ("--table", table, "-o", tmp_path / "i")
    assert verb("index", tmp_path / "v.npy", "--corpus", tmp_path / "short.jsonl", *rest).code == 1
    assert not (tmp_path / "i.vectors").exists()
    kept = VectorsWriter.open(
        tmp_path / "i.vectors",
        model=TokenTable.load(table).model,
        revision=TokenTable.load(table).revision,
        dim=32,
        settings={"provider_vectors": sha256_file(tmp_path / "v.npy")},
        width=None,
        dtype="float32",
    )
    for documents, encoded in read_provider_vectors(tmp_path / "v.npy", tmp_path / "wrong.jsonl"):
        kept.append(documents, encoded)
    kept.finish()
    done(verb("index", tmp_path / "v.npy", "--corpus", folder, *rest))
    assert not (tmp_path / "i.vectors").exists()
    with Index.open(tmp_path / "i") as index:
        (hits,) = index.search_encoded(Encoded(np.eye(1, 32, dtype=np.float32)), 1, "dense")
    assert hits[0].id == "everest"


def test_index_from_corpus_or_vectors_finds_the_same(
    verb: Verb, tower: Path, folder: Path, table: Path, tmp_path: Path
) -> None:
    shards = [done(verb("encode", folder, "--model", tower, "-o", tmp_path / "v", "--shard", f"{i}/2")) for i in (2, 1)]
    assert all("2 documents encoded" in outcome.err for outcome in shards)
    answers = []
    for source, name in ((folder, "a"), (tmp_path / "v", "b")):
        model = ("--model", tower) if name == "a" else ()
        done(verb("index", source, *model, "--table", table, "-o", tmp_path / name))
        found = done(verb("search", tmp_path / name, "who invented the bulb", "--json"))
        answers.append([json.loads(line) for line in found.out.splitlines()])
    assert [hit["id"] for hit in answers[0]] == [hit["id"] for hit in answers[1]]
    scores = [[hit["score"] for hit in answer] for answer in answers]
    assert scores[0] == pytest.approx(scores[1], abs=5e-3)  # float16 in the vectors folder
    assert done(verb("info", tmp_path / "a", "--json")).out.find('"sparse": "lm"') > 0


def test_index_again_does_nothing_and_other_documents_are_refused(
    verb: Verb, tower: Path, folder: Path, table: Path, index: Path, tmp_path: Path
) -> None:
    same = ("--model", tower, "--table", table, "-o", index, "--sparse", "bm25")
    assert "complete already" in done(verb("index", folder, *same)).err
    (tmp_path / "other.jsonl").write_text('{"_id": "1", "text": "other"}\n')
    refused = verb("index", tmp_path / "other.jsonl", *same)
    assert refused.code == 1
    assert "other documents" in refused.err
    unnamed = verb("index", folder, "--table", table, "-o", tmp_path / "new")
    assert unnamed.code == 2
    assert "--model" in unnamed.err


def test_index_says_what_is_missing_or_too_much(verb: Verb, tower: Path, folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.eye(4, 32, dtype=np.float32))
    done(verb("encode", folder, "--model", tower, "-o", tmp_path / "v"))
    rest = ("--table", tmp_path / "nowhere", "-o", tmp_path / "i")
    for arguments, message in (
        ((tmp_path / "v.npy",), "name their documents with --corpus"),
        ((tmp_path / "v.npy", "--model", tower), "name their documents with --corpus"),
        ((tmp_path / "v", "--corpus", folder), "brings its own documents: leave --corpus and --columns out"),
        ((folder, "--model", tower, "--sparse", "foo"), "--sparse foo: choose one of lm, bm25, none"),
    ):
        refused = verb("index", *arguments, *rest)
        assert refused.code == 2
        assert message in refused.err


def test_an_index_made_of_vectors_knows_its_model(
    verb: Verb, tower: Path, folder: Path, table: Path, tmp_path: Path
) -> None:
    done(verb("encode", folder, "--model", tower, "-o", tmp_path / "v", "--max-length", "64"))
    done(verb("index", tmp_path / "v", "--table", table, "-o", tmp_path / "i"))
    (tmp_path / "new.jsonl").write_text('{"_id": "new", "text": "one"}\n')
    assert "1 added" in done(verb("add", tmp_path / "i", tmp_path / "new.jsonl")).err


def test_an_index_of_no_known_model_asks_for_it(verb: Verb, tower: Path, folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.eye(4, 32, dtype=np.float32))
    given = ("--tokenizer", tower / "tokenizer.json", "--l2", "0.01", "--corpus", folder)
    done(verb("fit", "--vectors", tmp_path / "v.npy", *given, "-o", tmp_path / "t"))
    rest = ("--corpus", folder, "--table", tmp_path / "t", "-o", tmp_path / "i")
    done(verb("index", tmp_path / "v.npy", *rest))
    (tmp_path / "new.jsonl").write_text('{"_id": "new", "text": "one"}\n')
    refused = verb("add", tmp_path / "i", tmp_path / "new.jsonl")
    assert refused.code == 2
    assert "does not know its document model: name it with --model" in refused.err


def test_search_for_people_and_as_json(verb: Verb, index: Path) -> None:
    shown = done(verb("search", index, "read a csv file", "-k", "4")).out
    assert [shown.count(name) for name in ("dense ", "sparse ", "fused ")] == [4, 4, 4]
    assert len(shown.split("\n\n")) == 4
    alone = done(verb("search", index, "read a csv file", "--mode", "dense")).out
    assert "sparse" not in alone
    cosines = [float(value) for value in re.findall(r"dense +([-\d.]+)", alone)]
    between = str((cosines[0] + cosines[1]) / 2)
    assert done(verb("search", index, "read a csv file", "--min-dense", between)).out.count("dense ") == 1
    assert "min_dense" in verb("search", index, "read", "--min-dense", "nan").err
    hits = [json.loads(line) for line in done(verb("search", index, "read a csv file", "--json")).out.splitlines()]
    assert [hit["rank"] for hit in hits] == [1, 2, 3, 4]
    best = next(hit for hit in hits if hit["sparse_rank"] == 1)
    assert (best["id"], best["metadata"]) == ("csv", {"lang": "en"})
    assert set(best) == {
        *(
            "query",
            "rank",
            "id",
            "score",
            "title",
            "text",
            "metadata",
            "location",
            "snippet",
            "spans",
            "passage",
            "place",
        ),
        *("dense_score", "dense_rank", "sparse_score", "sparse_rank"),
    }
    sparse = done(verb("search", index, "read a csv file", "--mode", "sparse", "--json"))
    assert json.loads(sparse.out.splitlines()[0])["dense_score"] is None
    assert done(verb("search", index, "")).out == "no hits\n"


def test_filters_in_search_and_run(verb: Verb, index: Path, folder: Path, tmp_path: Path) -> None:
    def found(conditions: str) -> set[str]:
        shown = done(verb("search", index, "read a csv file", "--json", "--filter", conditions))
        return {json.loads(line)["id"] for line in shown.out.splitlines()}

    assert found('{"lang": "en"}') == {"csv"}
    assert found('{"lang": {"$in": ["de", "en"]}, "$not": {"lang": "de"}}') == {"csv"}
    assert found('{"lang": {"$ne": "en"}}') == {"everest", "bulb", "café"}
    rest = ("--queries", folder / "queries.jsonl", "--output", tmp_path / "r", "--filter")
    done(verb("run", index, *rest, '{"lang": {"$exists": true}}'))
    assert {name for scores in read_run(tmp_path / "r").scores.values() for name in scores} == {"csv"}
    for conditions, message in (
        ("{lang: en}", "not JSON"),
        ('{"lang": {"$like": "e"}}', "'$like'"),
        ('{"lang": {"$gt": "e"}}', "'lang': $gt is 'e'"),
    ):
        for arguments in (("search", index, "csv", "--filter"), ("run", index, *rest)):
            refused = verb(*arguments, conditions)
            assert refused.code == 2
            assert message in refused.err


def test_an_index_of_tenants(verb: Verb, tower: Path, table: Path, tmp_path: Path) -> None:
    lines = [{"_id": str(i), "text": "read a csv file", "team": f"t{i % 2}"} for i in range(4)]
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    path = tmp_path / "tenants.index"
    built = ("--model", tower, "--table", table, "-o", path, "--sparse", "bm25", "--tenant", "team")
    done(verb("index", tmp_path / "corpus.jsonl", *built))
    found = done(verb("search", path, "csv", "--json", "--filter", '{"team": "t1"}')).out.splitlines()
    assert {json.loads(line)["id"] for line in found} == {"1", "3"}
    refused = verb("search", path, "csv")
    assert refused.code == 2
    assert "'team'" in refused.err
    (tmp_path / "new.jsonl").write_text('{"_id": "stray", "text": "one"}\n')
    refused = verb("add", path, tmp_path / "new.jsonl")
    assert refused.code == 1
    assert "document stray has no single value in 'team'" in refused.err


@pytest.mark.parametrize(("option", "value"), [("-k", "0"), ("-k", "-3"), ("--mode", "fuzzy")])
def test_search_refuses_what_makes_no_sense(verb: Verb, index: Path, option: str, value: str) -> None:
    refused = verb("search", index, "query", option, value)
    assert refused.code == 2
    assert value in refused.err


def test_run_and_eval_agree(verb: Verb, index: Path, folder: Path, tmp_path: Path) -> None:
    evaluated = done(verb("eval", index, "--data", folder, "--json"))
    means = {system: result["means"] for system, result in json.loads(evaluated.out).items()}
    assert list(means) == ["dense", "sparse", "hybrid"]
    for mode in means:
        path = tmp_path / f"{mode}.run"
        done(verb("run", index, "--queries", folder / "queries.jsonl", "--output", path, "--mode", mode))
        assert set(read_run(path).scores) <= {"q1", "q2", "q3"}
        by_file = done(verb("eval", path, "--qrels", folder / "qrels" / "test.tsv", "--json"))
        assert json.loads(by_file.out)[path.name]["means"] == means[mode]
    assert means["sparse"]["RR@10"] == 1.0


def test_eval_against_the_full_model(verb: Verb, index: Path, tower: Path, folder: Path) -> None:
    asked = ("eval", index, "--data", folder, "--against", "symmetric", "--measures", "RR@10 R@1")
    shown = done(verb(*asked, "--model", tower)).out.splitlines()
    assert shown[0].split() == ["RR@10", "R@1"]
    assert [line.split("  ")[0] for line in shown[1:7]] == [
        *("dense", "sparse", "hybrid"),
        *("symmetric dense", "symmetric hybrid"),
        "",  # then the pairs
    ]
    assert "%)" in shown[1]
    assert done(verb(*asked)).out.splitlines() == shown  # the index knows its model's folder


def test_eval_names_what_is_missing(verb: Verb, index: Path, folder: Path) -> None:
    refused = verb("eval", index, "--data", folder, "--split", "train")
    assert refused.code == 1
    assert "no split 'train': there are dev, test" in refused.err


def test_add_and_delete(verb: Verb, index: Path, tmp_path: Path) -> None:
    (tmp_path / "new.jsonl").write_text(
        '{"_id": "csv", "text": "a csv file again"}\n{"_id": "new", "text": "one"}\n{"_id": "new", "text": "two"}\n'
    )
    added = done(verb("add", index, tmp_path / "new.jsonl"))
    assert "1 added, 1 replaced, 5 documents now" in added.err
    assert "1 document with an id that came again" in added.err
    assert "40% of the documents changed since BM25 counted them" in added.err
    assert "changed" not in done(verb("add", index, tmp_path / "new.jsonl", "--refresh")).err
    deleted = done(verb("delete", index, "new", "nobody"))
    assert "1 deleted, 1 not there, 4 documents left" in deleted.err
    with Index.open(index) as opened:
        texts = {document.id: document.text for document in opened.documents()}
    assert texts["csv"] == "a csv file again"
    assert "new" not in texts


@pytest.mark.filterwarnings("ignore")
def test_words_that_the_fit_never_saw_are_counted_as_they_are_added(
    verb: Verb, tower: Path, folder: Path, tmp_path: Path
) -> None:
    index = tmp_path / "i"
    done(verb("fit", tower, "--texts", folder, "-o", tmp_path / "t", "--l2", "0.1"))
    done(verb("index", folder, "--model", tower, "--table", tmp_path / "t", "-o", index, "--sparse", "bm25"))
    known, new = tmp_path / "known.jsonl", tmp_path / "new.jsonl"
    known.write_text('{"_id": "known", "text": "The highest mountain of the world."}\n')
    new.write_text('{"_id": "new", "text": "slow threadworld mountaincsv"}\n')
    assert "tokens added" not in done(verb("add", index, known)).err
    warned = done(verb("add", index, new)).err
    assert "of the tokens added are of words that no text of the table's fit had" in warned
    assert "set-table" in warned
    added = json.loads(done(verb("info", index, "--json")).out)["added"]
    assert added["tokens"] > 6
    assert 0 < added["unknown_to_table"] < 0.6


def test_the_parts_of_an_index_are_replaced(
    verb: Verb, index: Path, tower: Path, folder: Path, table: Path, tmp_path: Path
) -> None:
    done(verb("cache", tower, "-o", tmp_path / "other", "--prompt", "another:"))
    assert "4 as they were" in done(verb("add", index, folder / "corpus.jsonl")).err
    changed = tmp_path / "corpus.jsonl"
    changed.write_text((folder / "corpus.jsonl").read_text(encoding="utf-8").replace(".", "!"), encoding="utf-8")
    done(verb("add", index, changed))
    assert "4 documents, 8 written or removed since all was built" in done(verb("optimise", index)).err
    assert "queries are encoded by" in done(verb("index", "set-table", index, tmp_path / "other")).err
    assert json.loads(done(verb("info", index, "--json")).out)["table"]["prompt"] == "another:"
    done(verb("set-table", index, table))
    assert verb("set-table", index, tmp_path / "nowhere").code == 1
    done(verb("reindex", index, "--model", tower, "--table", tmp_path / "other", "--sparse", "lm"))
    facts = json.loads(done(verb("info", index, "--json")).out)
    assert (facts["table"]["prompt"], facts["sparse"], facts["documents"]) == ("another:", "lm", 4)
    assert done(verb("search", index, "how tall is everest")).out


def test_a_snapshot_and_back(verb: Verb, index: Path, tmp_path: Path) -> None:
    before = done(verb("search", index, "how tall is everest", "--json")).out
    assert "4 documents" in done(verb("snapshot", index, "-o", tmp_path / "file")).err
    assert verb("snapshot", index, "-o", tmp_path / "file").code == 1
    assert "4 documents" in done(verb("restore", tmp_path / "file", "-o", tmp_path / "again.index")).err
    assert done(verb("search", tmp_path / "again.index", "how tall is everest", "--json")).out == before
    (tmp_path / "file").write_bytes((tmp_path / "file").read_bytes()[:1000])
    refused = verb("restore", tmp_path / "file", "-o", tmp_path / "third.index")
    assert (refused.code, "damaged" in refused.err) == (1, True)


def test_rows_for_phrases_and_for_the_queries_of_a_log(verb: Verb, tower: Path, tmp_path: Path) -> None:
    log, texts = tmp_path / "log.txt", tmp_path / "texts.txt"
    log.write_text("tall mountain\nlight bulb\ntall mountain\n", encoding="utf-8")
    texts.write_text("".join(f"how tall is mount everest {n}\n" for n in range(40)), encoding="utf-8")
    limits = ("--phrases", 6, "--queries-log", log)
    outcome = verb("fit", tower, "--texts", texts, "-o", tmp_path / "fitted", *limits)
    assert outcome.code == 0, outcome.err
    assert "2 for whole queries" in outcome.err
    outcome = verb("cache", tower, "-o", tmp_path / "cached", *limits)
    assert outcome.code == 0, outcome.err
    assert "0 rows for phrases, 2 for whole queries" in outcome.err
    for name, most in (("fitted", 4), ("cached", 0)):
        facts = json.loads(verb("info", tmp_path / name, "--json").out)
        assert facts["whole queries"] == 2 and facts["phrases"] <= most
    assert verb("cache", tower, "-o", tmp_path / "more", "--phrases", 6).code == 2
    assert verb("fit", tower, "--texts", texts, "-o", tmp_path / "more", "--queries-log", log).code == 2
    assert not (tmp_path / "more").exists()


def test_info_on_everything(verb: Verb, index: Path, table: Path, tower: Path, folder: Path, tmp_path: Path) -> None:
    done(verb("encode", folder, "--model", tower, "-o", tmp_path / "v"))
    kinds = {}
    for path in (index, table, tmp_path / "v", tower):
        assert done(verb("info", path)).out
        kinds[path.name] = json.loads(done(verb("info", path, "--json")).out)
    assert [facts["kind"] for facts in kinds.values()] == ["index", "table", "vectors", "model"]
    assert kinds["the.index"]["bm25"]["stale"] is False
    assert kinds["table"]["prompt"] == "find:"
    assert kinds["v"]["documents"] == 4
    assert kinds["tiny-bert"]["architecture"] == "BertForMaskedLM"
    for path in (folder, tmp_path / "nowhere"):
        assert verb("info", path).code == 1


def test_verbs_search_and_write_an_index_that_is_open_elsewhere(verb: Verb, index: Path, tmp_path: Path) -> None:
    (tmp_path / "new.jsonl").write_text('{"_id": "new", "text": "a thread of the world"}\n')
    with Index.open(index) as opened:
        assert "1 added" in done(verb("add", index, tmp_path / "new.jsonl")).err
        assert "new" in {hit.id for hit in opened.search("thread", 5)}
        opened.delete(["csv"])
        found = done(verb("search", index, "read a csv file", "--json")).out
        assert "csv" not in {json.loads(line)["id"] for line in found.splitlines()}
        assert "4 documents, 2 written or removed" in done(verb("optimise", index)).err
        assert opened.info()["segments"] == [4]


def test_verbs_take_relative_paths(verb: Verb, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "new.jsonl").write_text('{"_id": "new", "text": "one"}\n')
    name = index.relative_to(tmp_path)
    assert "1 added" in done(verb("add", name, "new.jsonl")).err
    done(verb("snapshot", name, "-o", "saved"))
    assert "5 documents" in done(verb("restore", "saved", "-o", "back")).err
    done(verb("check", "back"))
    assert "5 documents, 1 written" in done(verb("optimise", "back")).err


def test_info_says_in_words_what_is_built_and_what_not(verb: Verb, index: Path, tmp_path: Path) -> None:
    def told() -> dict[str, str]:
        lines = done(verb("info", index)).out.splitlines()
        return {name: rest.strip() for name, _, rest in (line.partition(" ") for line in lines)}

    keys = {"engine", "segments", "fresh", "unoptimised", "damaged", "bytes", "format version", "documents"}
    facts = json.loads(done(verb("info", index, "--json")).out)
    assert keys <= set(facts)
    assert (facts["engine"], facts["segments"], facts["fresh"], facts["damaged"]) == ("local", [4], 0, {})
    assert (told()["segments"], told()["fresh"], told()["damaged"]) == ("1 of 4 documents", "0", "none")
    (tmp_path / "new.jsonl").write_text('{"_id": "new", "text": "one"}\n{"_id": "csv", "text": "two"}\n')
    done(verb("add", index, tmp_path / "new.jsonl"))
    assert told()["fresh"] == "2 in no segment yet, searched one by one"
    assert told()["unoptimised"] == "3 written or removed since all was built"
    next(index.glob("segments/*/dense.hi.bin")).write_bytes(b"")
    assert told()["damaged"] == "1 segment: `lightretriever check` says why"
    assert "damaged" in next(iter(json.loads(done(verb("info", index, "--json")).out)["damaged"].values()))


def test_an_index_without_its_own_table_is_refused(verb: Verb, index: Path, tower: Path, tmp_path: Path) -> None:
    done(verb("cache", tower, "-o", tmp_path / "other", "--prompt", "another:"))
    shutil.rmtree(index / "table")
    shutil.copytree(tmp_path / "other", index / "table")
    refused = verb("search", index, "query")
    assert refused.code == 1
    assert "table" in refused.err
    assert "table" in verb("check", index).out
    shutil.rmtree(index / "table")
    assert verb("search", index, "query").code == 1


def test_bad_corpora_are_refused_before_anything_is_written(
    verb: Verb, tower: Path, table: Path, tmp_path: Path
) -> None:
    cases = {
        "missing.jsonl": (None, "does not exist"),
        "empty.jsonl": ("", "holds no documents"),
        "broken.jsonl": ('{"_id": "1", "text": "a"}\n{oops\n', "broken.jsonl:2: not JSON"),
        "noid.jsonl": ('{"text": "a"}\n', "noid.jsonl:1: the document has no id"),
        "notext.jsonl": ('{"_id": "1"}\n', "notext.jsonl:1: document 1 has no text"),
        "long.jsonl": (json.dumps({"_id": "x" * 10_000, "text": "a"}), "10,000 bytes"),
    }
    for name, (content, message) in cases.items():
        path = tmp_path / name
        if content is not None:
            path.write_text(content)
        refused = verb("index", path, "--model", tower, "--table", table, "-o", tmp_path / f"{name}.index")
        assert refused.code == 1
        assert message in refused.err
        assert refused.err.count("\n") == 1
        assert verb("search", tmp_path / f"{name}.index", "query").code == 1


@pytest.mark.filterwarnings("ignore")
def test_a_table_turned_to_axes(verb: Verb, tower: Path, folder: Path, tmp_path: Path) -> None:
    done(verb("encode", folder, "--model", tower, "-o", tmp_path / "vectors"))
    options = ("--vectors", tmp_path / "vectors", "--l2", "0.1", "-o", tmp_path / "t")
    refused = verb("fit", *options, "--rotate")
    assert refused.code == 2
    assert "rotate needs a dim" in refused.err
    done(verb("fit", *options, "--dim", "3", "--rotate"))
    assert "32 to 3 dimensions" in done(verb("info", tmp_path / "t")).out
    done(verb("index", tmp_path / "vectors", "--table", tmp_path / "t", "-o", tmp_path / "i"))
    found = done(verb("eval", tmp_path / "i", "--data", folder, "--against", "symmetric", "--model", tower, "--json"))
    assert {"dense", "symmetric dense"} <= set(json.loads(found.out))
    done(verb("add", tmp_path / "i", folder, "--model", tower))


@pytest.mark.filterwarnings("ignore")
def test_an_interrupted_fit_goes_on_from_its_cache(
    verb: Verb, tower: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lightretriever import DocumentEncoder

    (tmp_path / "texts.txt").write_text("".join(f"read {i} csv files\n" for i in range(2500)), encoding="utf-8")
    whole = DocumentEncoder.encode_queries
    encoded: list[int] = []

    def count(self: DocumentEncoder, texts: Any, prompt: str | None = None) -> Any:
        if sum(encoded) >= limit:
            raise KeyboardInterrupt
        encoded.append(len(texts))
        return whole(self, texts, prompt)

    monkeypatch.setattr(DocumentEncoder, "encode_queries", count)
    options = ("fit", tower, "--texts", tmp_path / "texts.txt", "-o", tmp_path / "t", "--l2", "1")
    limit = 1000
    stopped = verb(*options, "--cache", tmp_path / "cache")
    assert stopped.code == 130
    assert "what is done is kept, run the same command again" in stopped.err
    encoded.clear()
    assert "nothing was written" in verb(*options).err
    assert not (tmp_path / "t").exists()
    encoded.clear()
    limit = 10_000
    done(verb(*options, "--cache", tmp_path / "cache"))
    assert sum(encoded) == 2500 - 1024


@pytest.mark.filterwarnings("ignore")
def test_a_fit_from_a_table_and_under_two_prompts(verb: Verb, tower: Path, folder: Path, tmp_path: Path) -> None:
    done(verb("cache", tower, "-o", tmp_path / "cached", "--prompt", "find: "))
    given = ("fit", tower, "--texts", folder, "--l2", "0.1")
    done(verb(*given, "-o", tmp_path / "one", "--prior", tmp_path / "cached", "--prompt", "find: "))
    hashed = TokenTable.load(tmp_path / "cached").hash
    assert TokenTable.load(tmp_path / "one").fitted["prior"] == f"table {hashed}"
    done(verb(*given, "-o", tmp_path / "two", "--prompt", "find: ", "--prompt", "like: ", "--prior", "zero"))
    tables = [TokenTable.load(tmp_path / "two" / name) for name in ("1", "2")]
    assert [(table.prompt, table.fitted["prior"]) for table in tables] == [("find: ", "zero"), ("like: ", "zero")]
    assert verb(*given, "-o", tmp_path / "three", "--prompt", "a", "--prompt", "a").code == 2


@pytest.mark.skipif(os.name == "nt", reason="links are another thing on Windows")
@pytest.mark.parametrize("name", ["manifest.json", "table.json"])
def test_info_says_why_a_manifest_cannot_be_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).symlink_to(name)  # permissions would not stop a test that runs as root
    with pytest.raises(ArtifactError, match=rf"{name} cannot be read.*Too many levels"):
        describe(tmp_path)
