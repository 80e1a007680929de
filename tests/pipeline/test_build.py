"""Files and corpora into an index in one call: split, encoded, a table fitted; and interrupted, it goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lightretriever import Index
from lightretriever.document.options import TowerOptions
from lightretriever.errors import InputError, MismatchError
from lightretriever.passages.options import PassageOptions
from lightretriever.pipeline import build
from lightretriever.pipeline.build import BuildOptions, build_index
from lightretriever.pipeline.documents import SourceOptions
from lightretriever.pipeline.walk import WalkOptions
from lightretriever.vectors.encode import encode_corpus

WORDS = "the mountain is high and the river is long in this wide land of snow and light".split()


def make_docs(folder: Path, files: int = 8) -> Path:
    folder.mkdir()
    for i in range(files):
        parts = [
            f"## Part {part} of {WORDS[i % 8]}\n\n"
            + " ".join(WORDS[(i + part + step) % len(WORDS)] for step in range(60))
            + f". The {WORDS[(i * part) % 8]} of number {i}."
            for part in range(1 + i % 3)
        ]
        (folder / f"f{i}.md").write_text(f"# Title {i}\n\n" + "\n\n".join(parts))
    return folder


def options_of(tower: Path, **others: object) -> BuildOptions:
    others = {"passages": PassageOptions(40, 8), "sentences": 200, **others}
    return BuildOptions(tower=TowerOptions(str(tower)), **others)  # type: ignore[arg-type]


def test_a_folder_becomes_an_index(tower: Path, tmp_path: Path) -> None:
    docs = make_docs(tmp_path / "docs")
    (docs / "bad.pdf").write_bytes(b"%PDF-1.4 nothing")
    (docs / "photo.png").write_bytes(b"\x89PNG")
    built = build_index(tmp_path / "i", [docs], options=options_of(tower))
    tally = built.tally
    assert (tally.files, tally.documents) == (8, 8)
    assert (
        dict(tally.left_out) == {"not a document": 1}
        and len(tally.unreadable) == 1
        and "bad.pdf" in tally.unreadable[0]
    )
    with Index.open(tmp_path / "i") as index:
        assert index.count == built.stored.documents > 8
        assert index.settings.passages == PassageOptions(40, 8)
        hits = index.search("number 3", 8)
        assert len({hit.id for hit in hits}) == 8
        assert all(hit.location.startswith(hit.id) and hit.metadata["type"] == "markdown" for hit in hits)
        assert {name: file.documents for name, file in index.files.items() if file.documents} == {
            f"f{i}.md": (f"f{i}.md",) for i in range(8)
        }
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["docs", "i"]
    again = build_index(tmp_path / "i", [docs], options=options_of(tmp_path / "no-model"))
    assert again.stored.complete_before and again.stored.documents == built.stored.documents
    other = options_of(tmp_path / "no-model", passages=PassageOptions(50, 8))
    with pytest.raises(MismatchError, match="splits documents otherwise"):
        build_index(tmp_path / "i", [docs], options=other)
    (docs / "f3.md").unlink()
    with pytest.raises(MismatchError, match="made of other documents"):
        build_index(tmp_path / "i", [docs], options=options_of(tower))
    (docs / "f3.md").write_text("the snow")
    with pytest.raises(MismatchError, match="other documents: `sync` or `add`"):
        build_index(tmp_path / "i", [docs], options=options_of(tower))


def test_files_and_corpora_together_each_id_once(tower: Path, tmp_path: Path) -> None:
    docs = make_docs(tmp_path / "docs", 3)
    rows = [{"_id": "r1", "text": "the river is long"}, {"_id": "docs/f0.md", "text": "the snow is high"}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "note.txt").write_text("light in the land")
    built = build_index(
        tmp_path / "i", [docs, tmp_path / "rows.jsonl", tmp_path / "note.txt"], options=options_of(tower)
    )
    assert (built.tally.documents, built.tally.repeated) == (5, 1)
    with Index.open(tmp_path / "i") as index:
        found = {hit.id for hit in index.search("the river", 20)}
        assert found == {"r1", "docs/f0.md", "docs/f1.md", "docs/f2.md", "note.txt"}
        assert index.settings.sources == (str(docs), str(tmp_path / "note.txt"))


def test_of_rows_that_stay_whole_the_last_of_each_id_is_kept(tower: Path, tmp_path: Path) -> None:
    rows = [{"_id": "a", "text": "the river"}, {"_id": "b", "text": "the snow"}, {"_id": "a", "text": "the light"}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    built = build_index(tmp_path / "i", [tmp_path / "rows.jsonl"], options=options_of(tower, passages=None))
    assert not built.split and built.stored.duplicates == 1
    with Index.open(tmp_path / "i") as index:
        assert {document.id: document.text for document in index.documents()} == {"a": "the light", "b": "the snow"}
    again = build_index(tmp_path / "i", [tmp_path / "rows.jsonl"], options=options_of(tower, passages=None))
    assert again.stored.complete_before
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write('{"_id": "c", "text": "the land"}\n')
    with pytest.raises(MismatchError, match="lacks some of these"):
        build_index(tmp_path / "i", [tmp_path / "rows.jsonl"], options=options_of(tower, passages=None))


def test_documents_may_stay_whole(tower: Path, tmp_path: Path) -> None:
    docs = make_docs(tmp_path / "docs", 4)
    build_index(tmp_path / "i", [docs], options=options_of(tower, passages=PassageOptions(0)))
    with Index.open(tmp_path / "i") as index:
        assert index.count == 4 and index.settings.passages is None
        assert {hit.id for hit in index.search("the", 10)} == {f"f{i}.md" for i in range(4)}


def test_a_table_that_is_given_is_taken(tower: Path, tmp_path: Path) -> None:
    docs = make_docs(tmp_path / "docs", 4)
    build_index(tmp_path / "a", [docs], options=options_of(tower))
    table = tmp_path / "a" / "table"
    build_index(tmp_path / "b", [docs], options=options_of(tower, table=table))
    with Index.open(tmp_path / "a") as one, Index.open(tmp_path / "b") as other:
        assert one.encoder.table.hash == other.encoder.table.hash
        for query in ("the river", "snow and light"):
            # Which of two passages comes first may hang on the rounding of the batches that they were in.
            scores = [{hit.id: hit.score for hit in index.search(query)} for index in (one, other)]
            assert scores[0] == pytest.approx(scores[1], abs=0.02)


@pytest.mark.parametrize("step", ["encode_corpus", "_fit", "ingest_vectors"])
def test_what_was_interrupted_goes_on(tower: Path, tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    docs = make_docs(tmp_path / "docs")
    build_index(tmp_path / "whole", [docs], options=options_of(tower))

    def interrupted(*arguments: object, **named: object) -> None:
        if step == "encode_corpus":
            rows = list(arguments[0])[:5]  # type: ignore[call-overload]

            def some() -> object:
                yield from rows
                raise KeyboardInterrupt

            encode_corpus(some(), *arguments[1:], **named)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(build, step, interrupted)
        with pytest.raises(KeyboardInterrupt):
            build_index(tmp_path / "i", [docs], options=options_of(tower))
    assert (tmp_path / "i.building").exists()
    build_index(tmp_path / "i", [docs], options=options_of(tower))
    assert not (tmp_path / "i.building").exists()
    with Index.open(tmp_path / "i") as one, Index.open(tmp_path / "whole") as other:
        for query in ("the river", "snow and light", "number 5"):
            assert [hit.passage for hit in one.search(query)] == [hit.passage for hit in other.search(query)]


def test_what_was_begun_with_other_documents_is_refused(
    tower: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docs = make_docs(tmp_path / "docs")

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(build, "_fit", stopped)
        with pytest.raises(KeyboardInterrupt):
            build_index(tmp_path / "i", [docs], options=options_of(tower))
    (docs / "f0.md").write_text("the light")
    with pytest.raises(MismatchError):
        build_index(tmp_path / "i", [docs], options=options_of(tower))


def test_sources_without_documents_are_refused_before_a_model_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.png").write_bytes(b"1")
    no_model = options_of(tmp_path / "no-model")
    with pytest.raises(InputError, match=r"holds no documents \(left out: 1 not a document\)"):
        build_index(tmp_path / "i", [tmp_path / "docs"], options=no_model)
    with pytest.raises(InputError, match="does not exist"):
        build_index(tmp_path / "i", [tmp_path / "nowhere"], options=no_model)
    (tmp_path / "docs" / "b.pdf").write_bytes(b"%PDF-1.4 x")
    with pytest.raises(InputError, match=r"b\.pdf"):
        build_index(tmp_path / "i", [tmp_path / "docs"], options=no_model)
    only = SourceOptions(WalkOptions(include=("*.rst",)))
    with pytest.raises(InputError, match="holds no documents"):
        build_index(tmp_path / "i", [tmp_path / "docs"], options=options_of(tmp_path / "no-model", sources=only))
    assert not (tmp_path / "i").exists()
