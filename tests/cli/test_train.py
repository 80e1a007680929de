"""``train`` from the command line: one line for whatever is wrong, and what it says when nothing is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("accelerate")

Verb = Callable[..., Any]  # gives .code, .out, .err; see conftest
WORDS = ("mountain", "river", "bulb", "file", "thread", "world", "meter", "history")


@pytest.fixture
def config(tower: Path, tmp_path: Path) -> Path:
    """Settings of a run of two steps on the tiny tower, over eight questions."""
    lines = [
        {
            "query": f"which {word}",
            "positive_passages": [{"text": f"It is the {word}."}],
            "negative_passages": [{"text": f"No {other}."} for other in WORDS if other != word],
        }
        for word in WORDS
    ]
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "run.toml").write_text(
        f"""
output = "{tmp_path / "out"}"
batch = 4
model = {{ base = "{tower}", rank = 2, passage_max_length = 24 }}
data = {{ passages = 3, files = [{{ path = "{tmp_path / "questions.jsonl"}" }}] }}
validation = {{ every = 2, data = "", examples = 0 }}
trainer = {{ use_cpu = true, max_steps = 2, warmup_steps = 0, logging_steps = 1, dataloader_pin_memory = false }}
"""
    )
    return tmp_path / "run.toml"


def test_a_run_a_merged_folder_and_all_that_follows(verb: Verb, config: Path, folder: Path, tmp_path: Path) -> None:
    outcome = verb("train", config, "--set", f"validation.data={folder}", "--merge", tmp_path / "merged")
    assert outcome.code == 0, outcome.err
    assert outcome.out == ""
    lines = outcome.err.splitlines()
    assert not [line for line in lines if "nothing is measured" in line]
    assert "questions (LightRetriever): 8 lines; 8 to train on" in lines
    assert any(line.startswith("step 0: nDCG@10 dense ") for line in lines)
    assert any("tokens/s, peak memory " in line and line.startswith("step 1: loss ") for line in lines)
    assert any(line.startswith(f"{tmp_path / 'out'}: the weights of step 2, nDCG@10 dense ") for line in lines)
    assert any(line.startswith(f"{tmp_path / 'merged'}: a plain model folder") for line in lines)
    assert not [line for line in lines if line.startswith("warning")]
    for model in ("out", "merged"):
        assert verb("cache", tmp_path / model, "-o", tmp_path / f"{model}.table").code == 0
        index = tmp_path / f"{model}.index"
        made = verb("index", folder, "--model", tmp_path / model, "--table", tmp_path / f"{model}.table", "-o", index)
        assert made.code == 0, made.err
        assert verb("search", index, "read a csv file").code == 0
        assert verb("info", tmp_path / model).code == 0
    again = verb("train", config, "--set", f"validation.data={folder}")
    assert again.code == 1
    assert "go on with --resume" in again.err
    mined = verb("train", config, "--set", f"output={tmp_path / 'second'}", "--mine", tmp_path / "out.index")
    assert mined.code == 0, mined.err
    assert (tmp_path / "second.mined" / "questions.jsonl").is_file()
    assert "questions.jsonl: 8 examples" in mined.err
    assert "; mined: 8 examples" in (tmp_path / "second" / "README.md").read_text()
    without = verb("train", config, "--set", f"output={tmp_path / 'second'}", "--resume")
    assert without.code == 2
    assert "was begun with data.files.0.path = " in without.err
    assert ": give --mine as then, or choose another output" in without.err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["absent.toml"], 1, "absent.toml does not exist"),
        (["RUN", "--set", "model.rnak=3"], 2, "run.toml: model.rnak is no setting: did you mean rank?"),
        (["RUN", "--set", "model.rank"], 2, "--set model.rank: name=value is needed"),
        (["RUN", "--set", "batch=0"], 2, "batch is 0"),
        (["RUN", "--set", "data.files.0.path=nowhere.jsonl"], 1, "nowhere.jsonl does not exist"),
        (["RUN", "--set", "model.base=./nowhere"], 1, "folder './nowhere' does not exist: let model.base name"),
        (["RUN", "--set", "model.base=no/where"], 1, "HF_HUB_OFFLINE): let model.base name a folder that holds it"),
        (["RUN", "--resume"], 1, "holds no run"),
        (["RUN", "--set", "output=/proc/nothing"], 1, "/proc/nothing cannot be written"),
        (["RUN", "--set", "validation.data=nowhere"], 1, "nowhere is no folder"),
        (["RUN", "--mine", "nowhere.index"], 1, "nowhere.index"),
        (["RUN", "--set", "loss.matryoshka=[999]"], 2, "999"),
        (["RUN", "--set", "seed=5000000000"], 2, "seed is 5000000000"),
        (["RUN", "--set", "trainer.report_to=foo"], 2, "[trainer]: foo is not supported"),
        (["RUN", "--set", "trainer.dataloader_num_workers=-1"], 2, "[trainer]: num_workers option should be"),
        (["RUN", "--set", "trainer.max_steps=99999999999999999999999"], 2, "trainer.max_steps is 99999999999999999999"),
        (["RUN", "--set", "trainer.learning_rate=1e30", "--set", "validation.every=0"], 1, "no checkpoint was written"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line(
    verb: Verb, config: Path, arguments: list[str], code: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    outcome = verb("train", *[config if argument == "RUN" else argument for argument in arguments])
    assert outcome.code == code, outcome.err
    last = outcome.err.splitlines()[-1]
    assert last.startswith("lightretriever: ")
    assert message in last
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize(
    ("where", "options", "message"),
    [
        (
            "mined_files.mine_files",
            ["--mine", "i"],
            "nothing is trained yet, mined files that are complete are kept: run",
        ),
        ("run.find_folder", [], "nothing is trained yet\n"),
        (
            "run.LookupTrainer.train",
            [],
            "what is trained up to the last checkpoint is kept, --resume goes on from there",
        ),
    ],
)
def test_interrupted_it_says_what_is_kept(
    verb: Verb, config: Path, where: str, options: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"lightretriever.training.{where}", interrupt)
    outcome = verb("train", config, *options)
    assert outcome.code == 130
    assert f"lightretriever: interrupted: {message}" in outcome.err


def test_a_setting_that_the_model_refuses_does_not_bar_the_output(verb: Verb, config: Path, tmp_path: Path) -> None:
    refused = verb("train", config, "--set", "loss.matryoshka=[999]")
    assert refused.code == 2
    assert "loss.matryoshka asks for 999 dimensions" in refused.err
    assert not list((tmp_path / "out").iterdir())
    done = verb("train", config, "--set", "trainer.max_steps=1")
    assert done.code == 0
    assert "validation.examples is 0: nothing is measured; name a BEIR folder" in done.err


def test_a_malformed_line_is_named(verb: Verb, config: Path, tmp_path: Path) -> None:
    with (tmp_path / "questions.jsonl").open("a") as file:
        file.write('{"query": "which", "positive_passages": "none"}\n')
    outcome = verb("train", config)
    assert outcome.code == 1
    assert "questions.jsonl:9: positive_passages is str, not a list of passages" in outcome.err
    assert not (tmp_path / "out" / "training.toml").exists()
