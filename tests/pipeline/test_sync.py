"""An index follows its files: what is new, changed and gone, and nothing else, is touched."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from pipeline.test_build import make_docs, options_of

from lightretriever import DocumentEncoder, Index
from lightretriever.errors import InputError, UsageError
from lightretriever.pipeline.build import build_index
from lightretriever.pipeline.documents import SourceOptions, Tally
from lightretriever.pipeline.sync import Synced, sync_index
from lightretriever.pipeline.walk import WalkOptions


def counts(synced: Synced) -> tuple[int, int, int, int]:
    return synced.new, synced.changed, synced.gone, synced.unchanged


class Counting:
    """A tower that counts what it encodes."""

    def __init__(self, tower: DocumentEncoder) -> None:
        self._tower, self.encoded = tower, list[str]()

    def __getattr__(self, name: str) -> object:
        return getattr(self._tower, name)

    def encode(self, documents: object, progress: object = None) -> object:
        self.encoded += [document.id for document in documents]  # type: ignore[attr-defined]
        return self._tower.encode(documents, progress)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def loaded(tower: Path) -> DocumentEncoder:
    return DocumentEncoder.load(tower, sparse="none")


def passages_of(index: Index) -> dict[str, tuple[str, str]]:
    return {document.id: (document.title, document.text) for document in index.documents()}


def test_an_index_follows_its_files(tower: Path, loaded: DocumentEncoder, tmp_path: Path) -> None:
    docs = make_docs(tmp_path / "docs")
    build_index(tmp_path / "i", [docs], options=options_of(tower, sparse="bm25"))
    counting = Counting(loaded)
    with Index.open(tmp_path / "i", counting) as index:  # type: ignore[arg-type]
        assert counts(sync_index(index)) == (0, 0, 0, 8) and not counting.encoded
        (docs / "f0.md").write_text("# Changed\n\nthe light of the river")
        (docs / "f1.md").unlink()
        (docs / "deep").mkdir()
        (docs / "deep" / "new.txt").write_text("snow in the land")
        os.utime(docs / "f2.md")
        assert counts(sync_index(index)) == (1, 1, 1, 6)
        assert set(counting.encoded) == {"f0.md#0", "deep/new.txt#0"}
        assert {hit.id for hit in index.search("the", 50)} == {
            "f0.md",
            "deep/new.txt",
            *(f"f{i}.md" for i in range(2, 8)),
        }
        assert next(hit.text for hit in index.search("light river", 50) if hit.id == "f0.md").endswith("of the river")
        assert counts(sync_index(index)) == (0, 0, 0, 8)
    build_index(tmp_path / "anew", [docs], options=options_of(tower, sparse="bm25"))
    with Index.open(tmp_path / "i") as one, Index.open(tmp_path / "anew") as other:
        assert passages_of(one) == passages_of(other)


@pytest.mark.parametrize("seed", range(3))
def test_whatever_changes_it_holds_what_the_files_hold(
    tower: Path, loaded: DocumentEncoder, tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    docs = make_docs(tmp_path / "docs")
    build_index(tmp_path / "i", [docs], options=options_of(tower, sparse="bm25"))
    with Index.open(tmp_path / "i", loaded) as index:
        for _ in range(4):
            for _ in range(rng.randrange(6)):
                path = docs / f"f{rng.randrange(12)}.md"
                match rng.randrange(4):
                    case 0:
                        path.unlink(missing_ok=True)
                    case 1:
                        path.write_bytes(b"\0\1\2" * 99)  # no text any more
                    case 2:
                        path.write_text(f"the {rng.random()}")
                    case _:
                        path.write_text("# A\n\n" + "the river is long. " * rng.randrange(1, 90))
            sync_index(index)
            titles = {document.id.rpartition("#")[0] for document in index.documents()}
            readable = {path.name for path in docs.iterdir() if b"\0" not in path.read_bytes()}
            assert titles == readable
    built = build_index(tmp_path / "anew", [docs], options=options_of(tower, sparse="bm25"))
    assert isinstance(built.tally, Tally)
    with Index.open(tmp_path / "i") as one, Index.open(tmp_path / "anew") as other:
        assert passages_of(one) == passages_of(other)


def test_an_interrupted_sync_goes_on(
    tower: Path, loaded: DocumentEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docs = make_docs(tmp_path / "docs")
    build_index(tmp_path / "i", [docs], options=options_of(tower, sparse="bm25"))
    for i in range(4, 100):
        (docs / f"f{i}.md").write_text(f"the river number {i}")
    with Index.open(tmp_path / "i", loaded) as index:
        with monkeypatch.context() as patched:
            noted = index.note_files
            calls = iter([noted, noted])  # what a batch claims, and what it held

            def once(*arguments: object, **named: object) -> None:
                if (call := next(calls, None)) is None:
                    raise KeyboardInterrupt
                call(*arguments, **named)  # type: ignore[arg-type]

            patched.setattr(index, "note_files", once)
            with pytest.raises(KeyboardInterrupt):
                sync_index(index)
        left = sync_index(index)
        assert left.new + left.changed == 100 - 4 - 64
        assert len({document.id.rpartition("#")[0] for document in index.documents()}) == 100


def test_the_model_is_loaded_only_for_what_is_encoded(tower: Path, loaded: DocumentEncoder, tmp_path: Path) -> None:
    docs = make_docs(tmp_path / "docs", 3)
    build_index(tmp_path / "i", [docs], options=options_of(tower, sparse="bm25"))
    (docs / "f2.md").unlink()
    with Index.open(tmp_path / "i") as index:
        times = 0

        def load() -> None:
            nonlocal times
            times += 1
            index.model = loaded

        assert counts(sync_index(index, load=load)) == (0, 0, 1, 2) and not times
        (docs / "f3.md").write_text("the snow")
        with pytest.raises(UsageError, match="1 file to encode"):
            sync_index(index)
        assert counts(sync_index(index, load=load)) == (1, 0, 0, 2) and times == 1


def test_sources_that_cannot_be_followed(tower: Path, tmp_path: Path) -> None:
    docs = make_docs(tmp_path / "docs", 2)
    (tmp_path / "rows.jsonl").write_text('{"_id": "1", "text": "the river"}\n')
    build_index(tmp_path / "rows", [tmp_path / "rows.jsonl"], options=options_of(tower))
    build_index(tmp_path / "i", [docs], options=options_of(tower))
    with Index.open(tmp_path / "rows") as index, pytest.raises(UsageError, match="name them"):
        sync_index(index)
    with Index.open(tmp_path / "i") as index:
        with pytest.raises(UsageError, match="rows"):
            sync_index(index, [tmp_path / "rows.jsonl"])
        docs.rename(tmp_path / "elsewhere")
        with pytest.raises(InputError, match="does not exist"):
            sync_index(index)
        assert index.count
        assert counts(sync_index(index, [tmp_path / "elsewhere"])) == (0, 0, 0, 2)
        assert index.settings.sources == (str(tmp_path / "elsewhere"),)


def test_patterns_are_kept_until_others_are_given(tower: Path, loaded: DocumentEncoder, tmp_path: Path) -> None:
    docs = make_docs(tmp_path / "docs", 3)
    (docs / "draft.txt").write_text("the snow")
    only = SourceOptions(WalkOptions(include=("*.md",)))
    build_index(tmp_path / "i", [docs], options=options_of(tower, sparse="bm25", sources=only))
    with Index.open(tmp_path / "i", loaded) as index:
        assert counts(sync_index(index)) == (0, 0, 0, 3)
        assert counts(sync_index(index, options=SourceOptions(WalkOptions(exclude=("f0.md",))))) == (1, 0, 1, 2)
        assert counts(sync_index(index)) == (0, 0, 0, 3)
        assert {hit.id for hit in index.search("the", 9)} == {"f1.md", "f2.md", "draft.txt"}


def test_what_cannot_be_read_now_stays_as_it_was(
    tower: Path, loaded: DocumentEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docs = make_docs(tmp_path / "docs", 3)
    build_index(tmp_path / "i", [docs], options=options_of(tower, sparse="bm25"))
    (docs / "f0.md").write_text("the light")

    def refused(path: Path) -> str:
        raise InputError(f"{path}: it cannot be read: Permission denied")

    with Index.open(tmp_path / "i", loaded) as index:
        before = passages_of(index)
        with monkeypatch.context() as patched:
            patched.setattr("lightretriever.pipeline.documents.digest_of", refused)
            assert len(sync_index(index).tally.unreadable) == 1
        assert passages_of(index) == before
        assert counts(sync_index(index)) == (0, 1, 0, 2)
        assert passages_of(index)["f0.md#0"][1] == "the light"


def test_nothing_is_deleted_where_files_may_only_be_out_of_reach(
    tower: Path, loaded: DocumentEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docs = make_docs(tmp_path / "docs", 3)
    (docs / "deep").mkdir()
    (docs / "deep" / "a.md").write_text("the snow")
    build_index(tmp_path / "i", [docs], options=options_of(tower, sparse="bm25"))
    with Index.open(tmp_path / "i", loaded) as index:
        scandir = os.scandir

        def refused(path: str) -> object:
            if str(path).endswith("deep"):
                raise PermissionError
            return scandir(path)

        with monkeypatch.context() as patched:
            patched.setattr("lightretriever.pipeline.walk.os.scandir", refused)
            synced = sync_index(index)
        assert (counts(synced), synced.kept) == ((0, 0, 0, 3), 1)
        assert "deep/a.md" in {hit.id for hit in index.search("snow", 9)}
        docs.rename(tmp_path / "elsewhere")
        docs.mkdir()
        with pytest.raises(InputError, match="none of 4 files is there any more: nothing was changed"):
            sync_index(index)
        assert index.count


def test_an_index_that_keeps_tenants_apart_is_followed(tower: Path, loaded: DocumentEncoder, tmp_path: Path) -> None:
    docs = make_docs(tmp_path / "docs", 3)
    build_index(tmp_path / "i", [docs], options=options_of(tower, sparse="bm25", tenant="type"))
    (docs / "f0.md").unlink()
    (docs / "f1.md").write_text("the snow")
    with Index.open(tmp_path / "i", loaded) as index:
        assert counts(sync_index(index)) == (0, 1, 1, 1)
        assert {hit.id for hit in index.search("the", 9, filter={"type": "markdown"})} == {"f1.md", "f2.md"}


def test_documents_of_another_origin_are_not_touched(tower: Path, loaded: DocumentEncoder, tmp_path: Path) -> None:
    docs = make_docs(tmp_path / "docs", 2)
    (docs / "all.mbox").write_text(
        "".join(f"From a@b Sat Jan  1 00:00:00 2022\nSubject: {n}\n\nthe river {n}\n\n" for n in "abc")
    )
    (docs / "all.mbox#2").write_text("the light of another")
    (tmp_path / "rows.jsonl").write_text('{"_id": "f0.md", "text": "the snow of a row"}\n')
    sources = [docs, tmp_path / "rows.jsonl"]
    build_index(tmp_path / "i", sources, options=options_of(tower, sparse="bm25"))
    with Index.open(tmp_path / "i", loaded) as index:
        before = passages_of(index)
        assert before["f0.md#0"][1] == "the snow of a row"
        assert sync_index(index).tally.repeated == 2
        assert passages_of(index) == before
        (docs / "f0.md").unlink()
        (docs / "all.mbox#2").unlink()
        sync_index(index)
        assert passages_of(index) == before
        (docs / "all.mbox#2").write_text("the light of another")
        (docs / "all.mbox").unlink()
        sync_index(index)
        sync_index(index)
        now = passages_of(index)
        assert now["all.mbox#2#0"][1] == "the light of another" and "all.mbox#1#0" not in now
        assert now["f0.md#0"][1] == "the snow of a row"
        assert index.delete(["f0.md", "all.mbox#2", "nobody"]) == 2
