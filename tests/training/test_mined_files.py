"""A run's mined files: made once, used again where they would be the same, and nothing beside them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_tokenizers import wordpiece

from lightretriever import Encoded, Index, QueryEncoder, TokenTable, TrainingConfig
from lightretriever.errors import ArtifactError, InputError, UsageError
from lightretriever.text.tokenizer import id_count
from lightretriever.training.example import Example, Passage, write_lines
from lightretriever.training.example_file import ExampleFile
from lightretriever.training.mined_files import describe_mined, mine_files
from lightretriever.training.mining import MiningConfig
from lightretriever.training.sampling import DataConfig, DataFile
from lightretriever.training.tower import ModelConfig

TEXTS = {"a": "a mountain of the world", "b": "a csv file", "c": "who invented the light bulb", "d": "one thread"}


@pytest.fixture
def index(tmp_path: Path) -> Path:
    rows = np.random.default_rng(0).normal(size=(id_count(wordpiece()), 16)).astype(np.float32)
    encoder = QueryEncoder(TokenTable.from_rows(rows, wordpiece(), model="m", revision="r", skip_ids=[0]))
    with Index.create(tmp_path / "the.index", encoder, sparse="bm25") as index:
        index.add(
            list(TEXTS), Encoded(encoder.encode_dense(list(TEXTS.values()))), [{"text": t} for t in TEXTS.values()]
        )
    return tmp_path / "the.index"


@pytest.fixture
def config(tmp_path: Path) -> TrainingConfig:
    """Three questions, one of which cannot be used."""
    examples = [Example(f"which {text}", (Passage(text, docid=name),)) for name, text in list(TEXTS.items())[:2]]
    write_lines(tmp_path / "q.jsonl", [*examples, Example("", (Passage("x"),))])
    data = DataConfig((DataFile(str(tmp_path / "q.jsonl")),))
    return TrainingConfig(str(tmp_path / "out"), ModelConfig("m"), data, mining=MiningConfig(ratio=0))


def test_what_was_mined_is_used_again_and_told(tmp_path: Path, config: TrainingConfig, index: Path) -> None:
    told: list[str] = []
    mined = mine_files(config, index, notice=told.append)
    place = tmp_path / "out.mined" / "q.jsonl"
    assert mined.data.files == (DataFile(str(place), name="q"),)
    assert len(told) == 1
    assert "q.jsonl: 2 examples, 6 negatives" in told[0]
    assert "of 3 lines, 1 skipped with an empty query" in told[0]
    assert describe_mined(place) == told[0].removeprefix(f"{place}: ")
    assert json.loads(place.with_name("q.mined.json").read_text())["counts"]["source"]["no_query"] == 1
    before = place.stat()
    assert mine_files(config, index, notice=told.append) == mined
    assert place.stat().st_mtime_ns == before.st_mtime_ns
    assert "is there and used" in told[1]
    assert "1 skipped with an empty query" in told[1]


def test_files_that_were_not_mined_have_nothing_told(tmp_path: Path) -> None:
    assert describe_mined(tmp_path / "q.jsonl") == ""
    for text in ("{}", "[]", "broken"):
        (tmp_path / "q.mined.json").write_text(text)
        assert describe_mined(tmp_path / "q.jsonl") == ""


def test_what_was_mined_otherwise_is_refused(tmp_path: Path, config: TrainingConfig, index: Path) -> None:
    mine_files(config, index)
    place = tmp_path / "out.mined" / "q.jsonl"
    other = replace(config, mining=MiningConfig(ratio=0, negatives=2))
    with pytest.raises(
        UsageError, match=r"q\.jsonl was mined with mining\.negatives = 15, now it is 2: set it back, or"
    ):
        mine_files(other, index)
    with pytest.raises(UsageError, match=r"data\.max_examples = None, now it is 1"):
        mine_files(replace(config, data=replace(config.data, max_examples=1)), index)
    with Index.open(index) as opened:
        opened.delete(["d"])
    with pytest.raises(UsageError, match="documents of the index = 4, now it is 3"):
        mine_files(config, index)
    place.unlink()
    mine_files(config, index)
    write_lines(tmp_path / "q.jsonl", [Example("which one", (Passage("a"),))])
    with pytest.raises(UsageError, match="its source's SHA-256"):
        mine_files(config, index)


def test_another_process_uses_what_the_first_mined(
    config: TrainingConfig, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mined = mine_files(config, index)
    monkeypatch.setenv("RANK", "1")
    assert mine_files(config, index) == mined
    with pytest.raises(UsageError, match=r"mining\.keep = False, now it is True"):
        mine_files(replace(config, mining=MiningConfig(ratio=0, keep=True)), index)


def test_only_as_many_are_mined_as_are_trained_on(tmp_path: Path, config: TrainingConfig, index: Path) -> None:
    mine_files(replace(config, data=replace(config.data, max_examples=1)), index)
    assert len(ExampleFile.open(tmp_path / "out.mined" / "q.jsonl")) == 1


def test_what_a_killed_process_left_is_made_anew_or_removed(
    tmp_path: Path, config: TrainingConfig, index: Path
) -> None:
    folder = tmp_path / "out.mined"
    folder.mkdir()
    for name in (".q.jsonl.abc", ".q.mined.json.abc", "q.jsonl", ".other.jsonl.abc"):
        (folder / name).write_text("half")
    mine_files(config, index)
    assert {path.name for path in folder.iterdir()} == {"q.jsonl", "q.mined.json", ".other.jsonl.abc"}
    assert len(ExampleFile.open(folder / "q.jsonl")) == 2


@pytest.mark.parametrize("name", ["../evil", "a/b", "a\\b", ".", "..", ".hidden", "a\0b"])
def test_a_name_that_leads_elsewhere_is_refused(config: TrainingConfig, index: Path, name: str) -> None:
    files = tuple(replace(file, name=name) for file in config.data.files)
    with pytest.raises(UsageError, match="cannot be a mined file's"):
        mine_files(replace(config, data=replace(config.data, files=files)), index)


def test_what_there_is_not_is_named(tmp_path: Path, config: TrainingConfig, index: Path) -> None:
    with pytest.raises(ArtifactError, match="nowhere"):
        mine_files(config, tmp_path / "nowhere")
    (tmp_path / "q.jsonl").unlink()
    with pytest.raises(InputError, match=r"q\.jsonl cannot be read \(No such file"):
        mine_files(config, index)
