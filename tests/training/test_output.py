"""The folder that a run leaves: it loads, tells what was done, holds no pickle, and is never half of one."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("accelerate")

from lightretriever import DocumentEncoder, cache_table, train
from lightretriever.artifact import sha256_file
from lightretriever.errors import ArtifactError, TrainingError
from lightretriever.training.config import TrainingConfig, read_config
from lightretriever.training.output import check_output, publish
from lightretriever.training.run import merge_tower

Settings = Callable[..., Path]
TEXTS = ["This river is tall, as a river may be.", "a", "which bulb"]


@pytest.fixture(scope="module", params=["base", "encoder_base"])
def run(request: pytest.FixtureRequest, questions: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainingConfig:
    """The settings of a finished run of two steps: a causal LM, and an encoder that was given a sparse head."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "run.toml").write_text(
        f"""
output = "{folder / "tower"}"
batch = 8
model = {{ base = "{request.getfixturevalue(request.param)}", rank = 4, prompt = "find: ", passage_max_length = 32 }}
data = {{ passages = 3, files = [{{ path = "{questions}", name = "small questions" }}] }}
validation = {{ every = 1, examples = 6 }}
trainer = {{ use_cpu = true, max_steps = 2, warmup_steps = 0, learning_rate = 1e-2, dataloader_pin_memory = false }}
"""
    )
    config = read_config(folder / "run.toml")
    train(config)
    return config


def test_it_loads_as_a_tower_and_its_checkpoints_do(run: TrainingConfig) -> None:
    folder = Path(run.output)
    tower = DocumentEncoder.load(folder, base=run.model.base, device="cpu", max_length=32)
    assert tower.default_prompt == "find: "
    assert tower.has_sparse
    found = tower.encode(TEXTS)
    untrained = DocumentEncoder.load(run.model.base, device="cpu", max_length=32).encode(TEXTS)
    assert not np.allclose(found.dense, untrained.dense, atol=1e-3)
    assert cache_table(tower).prompt == "find: "
    last = DocumentEncoder.load(folder / "checkpoint-2", base=run.model.base, device="cpu", max_length=32)
    assert last.encode(TEXTS).dense.shape == found.dense.shape


def test_it_names_its_base_so_that_none_need_be_given(run: TrainingConfig) -> None:
    named = DocumentEncoder.load(run.output, device="cpu").encode(TEXTS)
    given = DocumentEncoder.load(run.output, base=run.model.base, device="cpu").encode(TEXTS)
    assert np.array_equal(named.dense, given.dense)


def test_a_merged_folder_gives_the_same_vectors(run: TrainingConfig, tmp_path: Path) -> None:
    merge_tower(run, tmp_path / "merged")
    ours = DocumentEncoder.load(run.output, base=run.model.base, device="cpu", max_length=32)
    merged = DocumentEncoder.load(tmp_path / "merged", device="cpu", max_length=32)
    assert not (tmp_path / "merged" / "adapter_config.json").exists()
    assert merged.default_prompt == ours.default_prompt
    one, other = ours.encode(TEXTS), merged.encode(TEXTS)
    assert one.sparse is not None
    assert other.sparse is not None
    assert np.allclose(one.dense, other.dense, atol=1e-5)
    assert np.allclose(one.sparse.to_dense(), other.sparse.to_dense(), atol=1e-4)
    with pytest.raises(ArtifactError, match="exists already"):
        merge_tower(run, tmp_path / "merged")


def test_it_tells_what_was_done(run: TrainingConfig, questions: Path) -> None:
    folder = Path(run.output)
    card = (folder / "README.md").read_text()
    assert sha256_file(questions) in card
    assert "| small questions | 1 | LightRetriever: 61 lines, 1 skipped without a positive passage" in card
    assert "54 trained on, 6 held out |" in card
    assert "| batch | 8 queries × 3 passages |" in card
    assert "LoRA, r 4, alpha 32, dropout 0.1" in card
    assert "nDCG@10 of look-up queries on 6 training examples held out" in card
    assert str(questions.parent) not in card
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert tomllib.loads((folder / "training.toml").read_text())["model"]["rank"] == 4
    assert read_config(folder / "training.toml") == run
    assert list((folder / "runs").rglob("events.out.tfevents*"))


def test_a_card_tells_the_batches_that_there_were(settings: Settings, questions: Path, tmp_path: Path) -> None:
    few, bare = tmp_path / "few.jsonl", tmp_path / "bare.jsonl"
    lines = questions.read_text().splitlines(keepends=True)
    few.write_text("".join(lines[:3]))
    bare.write_text("".join(json.dumps({**json.loads(line), "negative_passages": []}) + "\n" for line in lines[10:30]))
    more = ["trainer.max_steps=1", "validation.every=0"]
    alone = read_config(
        settings("alone"), [*more, f"data.files.0.path={bare}", "trainer.gradient_accumulation_steps=2"]
    )
    train(alone)
    card = (Path(alone.output) / "README.md").read_text()
    assert "| batch | 8 queries × 1 passage, in 2 accumulated parts |" in card
    assert "a batch |" not in card
    files = "".join(f"[[data.files]]\npath = {json.dumps(str(path))}\n" for path in (questions, few, bare))
    path = settings("three", more=files)
    path.write_text("".join(line for line in path.read_text().splitlines(True) if not line.startswith("files = ")))
    several = read_config(path, more)
    train(several)
    card = (Path(several.output) / "README.md").read_text()
    assert "| batch | that of the data set, see there |" in card
    assert "; 60 trained on; 8 queries × 3 passages a batch |" in card
    assert "3 lines; 3 trained on; 3 queries × 3 passages a batch |" in card
    assert "20 lines, 20 without negatives; 20 trained on; 8 queries × 1 passage a batch |" in card


def test_no_pickle_and_nothing_temporary_lies_in_it(run: TrainingConfig) -> None:
    files = [path for path in Path(run.output).iterdir() if path.is_file()]
    assert {path.suffix for path in files} <= {".json", ".safetensors", ".yaml", ".toml", ".md", ".png", ".jinja"}
    assert not [path.name for path in Path(run.output).iterdir() if path.name.startswith(".")]


class Hub:
    """In place of the hub's client: keeps what would be uploaded."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.made, self.sent = folder, "", set[str]()

    def create_repo(self, name: str, **_: object) -> SimpleNamespace:
        self.made = name
        return SimpleNamespace(repo_id=name)

    def upload_folder(self, *, folder_path: str, ignore_patterns: list[str], **_: object) -> None:
        files = [path.relative_to(folder_path) for path in Path(folder_path).rglob("*") if path.is_file()]
        self.sent = {str(path) for path in files if not any(path.match(pattern) for pattern in ignore_patterns)}
        self.sent = {name for name in self.sent if not name.startswith("checkpoint-")}
        assert (Path(folder_path) / "README.md").read_text().count("## Data") == 1


def test_the_finished_folder_is_uploaded_with_its_card(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    config = read_config(settings(), ["trainer.max_steps=1", "trainer.push_to_hub=true", "trainer.hub_model_id=me/it"])
    hub = Hub(Path(config.output))
    monkeypatch.setattr("transformers.trainer.hf_api", lambda: hub)
    train(config)
    assert hub.made == "me/it"
    assert {"README.md", "curves.png", "adapter_config.json", "adapter_model.safetensors", "training.toml"} <= hub.sent
    assert not [name for name in hub.sent if name.endswith((".bin", ".pt", ".pth"))]


def test_a_hub_that_cannot_be_reached_is_told_before_the_work(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr("transformers.trainer.hf_api", refuse)
    with pytest.raises(TrainingError, match=r"the hub cannot be written to \(no route\)"):
        train(read_config(settings(), ["trainer.push_to_hub=true"]))


def test_an_output_is_checked_before_the_work(tmp_path: Path) -> None:
    check_output(tmp_path / "new" / "deep", resume=False)
    assert (tmp_path / "new" / "deep").is_dir()
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ArtifactError, match="choose another output"):
            check_output(path, resume=False)
    with pytest.raises(ArtifactError, match="holds something already: remove it"):
        check_output(tmp_path, resume=False)
    with pytest.raises(ArtifactError, match="holds no run"):
        check_output(tmp_path, resume=True)
    (tmp_path / "training.toml").write_text("")
    with pytest.raises(ArtifactError, match="go on with --resume, remove it or"):
        check_output(tmp_path, resume=False)
    check_output(tmp_path, resume=True)


def test_what_makes_it_a_model_is_moved_in_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    staged = tmp_path / ".finished"
    (staged / "part").mkdir(parents=True)
    names = ["adapter_config.json", "a.json", "part/config.json", "z.safetensors"]
    for name in names:
        (staged / name).write_text(name)
    moved: list[str] = []
    replace = Path.replace
    monkeypatch.setattr(Path, "replace", lambda self, target: (moved.append(self.name), replace(self, target))[1])
    publish(staged, tmp_path)
    assert moved[:2] == ["a.json", "z.safetensors"]
    assert sorted(moved[2:]) == ["adapter_config.json", "config.json"]
    assert all((tmp_path / name).read_text() == name for name in names)
    assert not staged.exists()
