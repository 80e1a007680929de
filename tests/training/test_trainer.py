"""Whole runs on tiny models: they learn, they go on where they were killed, and two processes are one."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("accelerate")

from safetensors.numpy import load_file

from lightretriever import DocumentEncoder, QueryEncoder, cache_table, train
from lightretriever.errors import TrainingError, UsageError
from lightretriever.evaluation.measures import evaluate
from lightretriever.training.config import ValidationConfig, read_config
from lightretriever.training.sampling import DataConfig, DataFile, TrainingData
from lightretriever.training.trainer import last_checkpoint
from lightretriever.training.validation import hold_out, open_validation
from lightretriever.types import Run

Settings = Callable[..., Path]
Judged = Callable[..., Path]
EXACT = ("model.dropout=0.0",)


def test_a_run_stays_in_its_folders_when_the_working_folder_changes(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = read_config(settings(), ["trainer.max_steps=4", "validation.every=2"])
    (file,) = config.data.files
    relative = replace(
        config,
        output="run",
        model=replace(config.model, base=os.path.relpath(config.model.base, tmp_path)),
        data=replace(config.data, files=(replace(file, path=os.path.relpath(file.path, tmp_path)),)),
    )
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    found = train(relative, progress=lambda *_: os.chdir(tmp_path / "elsewhere"))
    assert not list((tmp_path / "elsewhere").iterdir())
    assert found.folder == tmp_path / "run"
    assert {"adapter_config.json", "history.json", "README.md", "checkpoint-4"} <= {
        path.name for path in found.folder.iterdir()
    }
    assert (found.folder / "README.md").read_text().count("# run\n") == 1
    for folder in (found.folder, found.folder / "checkpoint-4"):  # they lead to the base from where they are
        assert DocumentEncoder.load(folder, device="cpu").backbone.base is not None


def losses(history: tuple[Mapping[str, float], ...]) -> dict[int, float]:
    return {int(line["step"]): line["loss"] for line in history if "loss" in line}


def test_a_run_learns_and_tells_what_it_does(settings: Settings) -> None:
    told: list[str] = []
    seen: list[tuple[int, int | None]] = []
    logged: list[dict[str, float]] = []
    config = read_config(settings(), ["trainer.max_steps=12", "validation.every=4"])
    found = train(config, progress=lambda done, of: seen.append((done, of)), logged=logged.append, notice=told.append)
    values = list(losses(found.history).values())
    assert len(values) == 12
    assert np.mean(values[-3:]) < np.mean(values[:3])
    assert seen == [(step, 12) for step in range(1, 13)]
    assert "1 skipped without a positive passage" in told[0]
    assert "1 with fewer negatives than asked" in told[0]
    assert "54 to train on, 6 held out" in told[0]
    line = next(line for line in logged if line.get("step") == 12 and "loss" in line)
    assert {"dense", "sparse", "flops", "grad_norm", "learning_rate", "tokens_per_second", "peak_memory_gb"} <= set(
        line
    )
    assert line["loss"] == pytest.approx(line["dense"] + line["sparse"] + line["flops"], rel=1e-4)
    assert line["tokens_per_second"] > 0
    assert line["peak_memory_gb"] > 0
    measured = [line for line in logged if "eval_hybrid_ndcg@10" in line]
    assert [line["step"] for line in measured] == [0, 4, 8, 12]
    best = max(measured[1:], key=lambda line: line["eval_hybrid_ndcg@10"])
    assert found.best_step == best["step"]
    assert dict(found.measures) == {arm: best[f"eval_{arm}_ndcg@10"] for arm in ("dense", "sparse", "hybrid")}
    kept = load_file(found.folder / f"checkpoint-{found.best_step}" / "adapter_model.safetensors")
    written = load_file(found.folder / "adapter_model.safetensors")
    assert all(np.array_equal(kept[name], value) for name, value in written.items())


@pytest.mark.parametrize("kind", ["base", "encoder_base"])
def test_what_is_measured_is_what_the_written_folder_gives(
    settings: Settings, kind: str, request: pytest.FixtureRequest
) -> None:
    """The invariant, end to end: cache, look-up, encode and fuse by the package's other half give the same nDCG."""
    base: Path = request.getfixturevalue(kind)
    config = read_config(settings(model=base), [*EXACT, "trainer.max_steps=4", "validation.every=2"])
    found = train(config)
    data = TrainingData.open(config.data, config.batch, seed=config.seed)
    validation, _ = open_validation(config.validation, data)
    assert validation is not None
    tower = DocumentEncoder.load(found.folder, base=base, device="cpu", max_length=config.model.passage_max_length)
    table = cache_table(tower, max_length=config.model.query_max_length)
    queries = QueryEncoder(table).encode([text for text, _ in validation.queries])
    documents = tower.encode([passage.input for passage in validation.documents])
    assert queries.sparse is not None
    assert documents.sparse is not None
    both = {
        "dense": queries.dense @ documents.dense.T,
        "sparse": queries.sparse.to_dense() @ documents.sparse.to_dense().T,
    }
    qrels = {str(i): {str(place): 1 for place in own} for i, own in enumerate(validation.relevant)}
    for arm, scores in both.items():
        run = {str(i): {str(j): float(score) for j, score in enumerate(row)} for i, row in enumerate(scores)}
        expected = evaluate(Run(run), qrels, ["nDCG@10"]).means["nDCG@10"]
        assert found.measures[arm] == pytest.approx(expected, abs=1e-6)


def test_a_killed_run_goes_on_to_the_same_losses(settings: Settings) -> None:
    """Killed at step 5, two steps after its last checkpoint, while dropout draws from the random state."""
    whole = train(read_config(settings("whole")))
    path = settings("killed")
    program = f"""
import os, signal
from lightretriever import train
from lightretriever.training.config import read_config
def kill(line):
    if line["step"] == 5:
        os.kill(os.getpid(), signal.SIGKILL)
train(read_config({str(path)!r}), logged=kill)
"""
    killed = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    config = read_config(path)
    folder = Path(config.output)
    assert not (folder / "adapter_config.json").exists()
    cut_short = folder / "checkpoint-4"
    cut_short.mkdir()
    (cut_short / "trainer_state.json").write_text('{"global_st')
    assert last_checkpoint(folder) == folder / "checkpoint-3"
    told: list[str] = []
    rest = train(config, resume=True, notice=told.append)
    assert any("checkpoint-3" in line for line in told)
    assert losses(rest.history) == losses(whole.history)
    ours, theirs = (load_file(run.folder / "adapter_model.safetensors") for run in (rest, whole))
    assert all(np.array_equal(ours[name], value) for name, value in theirs.items())


PLAIN = ("-m", "lightretriever")
ON_CPUS = (str(Path(__file__).with_name("fsdp_on_cpus.py")),)  # which fails where it is not FSDP


def launch(
    path: Path, processes: int, *more: str, program: tuple[str, ...] = PLAIN
) -> subprocess.CompletedProcess[str]:
    port = 20_000 + os.getpid() % 20_000
    start = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--master-port", str(port)]
    command = [sys.executable, *start, *program, "train", str(path), *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.mark.slow  # a quick test of two processes is in test_gather.py
def test_two_processes_are_one(settings: Settings) -> None:
    more = [part for setting in EXACT for part in ("--set", setting)]
    done = launch(settings("two"), 2, *more)
    assert done.returncode == 0, done.stderr
    alone = train(read_config(settings("one"), EXACT))
    folder = Path(read_config(settings("two")).output)
    history = json.loads((folder / "history.json").read_text())["log"]
    assert losses(history) == pytest.approx(losses(alone.history), rel=1e-4)
    for line, other in zip(history, alone.history, strict=True):
        for name, value in other.items():
            if name.endswith("_ndcg@10"):
                assert line[name] == pytest.approx(value, abs=1e-6)
    ours, theirs = (load_file(place / "adapter_model.safetensors") for place in (folder, alone.folder))
    assert all(np.allclose(ours[name], value, atol=2e-5) for name, value in theirs.items())
    last = next(line for line in reversed(history) if "loss" in line)
    assert last["peak_memory_gb/0"] > 0
    assert last["peak_memory_gb/1"] > 0
    assert done.stderr.count("held out to measure on") == 1  # the first process alone speaks


EXAMPLES = Path(__file__).parents[2] / "examples" / "training"
LAYERS = {"base": "LlamaDecoderLayer", "encoder_base": "BertLayer"}


def fsdp(kind: str) -> str:
    told = json.loads((EXAMPLES / "fsdp.json").read_text()) | {"transformer_layer_cls_to_wrap": [LAYERS[kind]]}
    return f"fsdp = true\nfsdp_config = {{ {', '.join(f'{name} = {json.dumps(told[name])}' for name in told)} }}\n"


@pytest.fixture
def still_encoder_base(encoder_base: Path, tmp_path: Path) -> Path:
    """Without the dropout that a BERT brings: two processes draw other numbers than one."""
    folder = tmp_path / "still"
    shutil.copytree(encoder_base, folder)
    told = json.loads((folder / "config.json").read_text())
    told |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(told))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("how", ["fsdp", "fsdp and a tied head", "deepspeed-zero2", "deepspeed-zero3"])
def test_two_processes_that_share_the_weights_are_one(
    settings: Settings, how: str, base: Path, still_encoder_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Resumed once: the same losses as one process, and the best step's weights, gathered, in a folder that loads."""
    if how.startswith("fsdp"):
        base, kind = (base, "base") if how == "fsdp" else (still_encoder_base, "encoder_base")
        more, program = fsdp(kind), ON_CPUS
    else:
        pytest.importorskip("deepspeed")
        monkeypatch.setenv("DS_ACCELERATOR", "cpu")
        told = json.loads((EXAMPLES / f"{how}.json").read_text())
        if "stage3_param_persistence_threshold" in told["zero_optimization"]:
            told["zero_optimization"]["stage3_param_persistence_threshold"] = 0  # these weights are small: share all
        (tmp_path / "deepspeed.json").write_text(json.dumps(told))
        more, program = f"deepspeed = {json.dumps(str(tmp_path / 'deepspeed.json'))}\n", PLAIN
    path = settings("shared", model=base, more=more)
    exact = [part for setting in EXACT for part in ("--set", setting)]
    done = launch(path, 2, *exact, program=program)
    assert done.returncode == 0, done.stderr
    folder = Path(read_config(path).output)
    whole = losses(json.loads((folder / "history.json").read_text())["log"])
    shutil.rmtree(folder / "checkpoint-6")
    resumed = launch(path, 2, *exact, "--resume", program=program)
    assert resumed.returncode == 0, resumed.stderr
    assert "going on from" in resumed.stderr
    alone = train(read_config(settings("one", model=base), EXACT))
    history = json.loads((folder / "history.json").read_text())
    assert losses(history["log"]) == pytest.approx(losses(alone.history), rel=1e-4)
    assert whole == pytest.approx(losses(alone.history), rel=1e-4)
    assert history["best_step"] == alone.best_step
    names = {path.name for path in alone.folder.glob("*.safetensors")}
    assert names == {path.name for path in folder.glob("*.safetensors")}
    for name in names:
        ours, theirs = (load_file(place / name) for place in (folder, alone.folder))
        assert ours.keys() == theirs.keys()
        assert all(np.allclose(ours[part], value, atol=2e-5) for part, value in theirs.items()), name
    texts = ["a small river", "the old bulb"]
    ours, theirs = (
        DocumentEncoder.load(place, base=base, device="cpu").encode(texts) for place in (folder, alone.folder)
    )
    assert np.allclose(ours.dense, theirs.dense, atol=1e-4)
    assert np.allclose(ours.sparse.to_dense(), theirs.sparse.to_dense(), atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["base", "encoder_base"])
def test_sharded_weights_in_bf16(settings: Settings, kind: str, base: Path, still_encoder_base: Path) -> None:
    """An LM head, and a tied one: the losses are float32, and those of one process as far as bfloat16 goes."""
    model = base if kind == "base" else still_encoder_base
    path = settings("shared", model=model, more=f"bf16 = true\n{fsdp(kind)}")
    done = launch(path, 2, *(part for setting in EXACT for part in ("--set", setting)), program=ON_CPUS)
    assert done.returncode == 0, done.stderr
    alone = train(read_config(settings("one", model=model), EXACT))
    history = json.loads((Path(read_config(path).output) / "history.json").read_text())["log"]
    assert losses(history) == pytest.approx(losses(alone.history), rel=2e-2)
    DocumentEncoder.load(Path(read_config(path).output), base=model, device="cpu").encode(["a small river"])


def test_accumulated_and_chunked_steps(settings: Settings) -> None:
    plain = train(read_config(settings("plain"), [*EXACT, "trainer.max_steps=3"]))
    chunked = train(read_config(settings("chunked"), [*EXACT, "trainer.max_steps=3", "model.chunk=5"]))
    assert losses(chunked.history) == pytest.approx(losses(plain.history), rel=1e-5)
    parts = train(read_config(settings("parts"), ["trainer.max_steps=3", "trainer.gradient_accumulation_steps=2"]))
    assert len(losses(parts.history)) == 3


@pytest.mark.parametrize(
    "overrides",
    [
        ["trainer.bf16=true", "trainer.gradient_checkpointing=true"],
        ["model.adapter=full", "trainer.dataloader_num_workers=1"],
        ["loss.symmetric=true", "loss.distil_dense=true", "loss.distil_sparse=true", "loss.matryoshka=[16, 32]"],
        ["loss.sparse=false", "model.sparse_head=tied", "validation.every=0", "trainer.save_steps=1"],
    ],
    ids=["bf16", "full", "teacher", "dense alone"],
)
def test_other_ways_to_train(settings: Settings, overrides: list[str]) -> None:
    found = train(read_config(settings(), ["trainer.max_steps=2", *overrides]))
    assert all(np.isfinite(value) for value in losses(found.history).values())
    assert len(losses(found.history)) == 2
    if "validation.every=0" in overrides:
        assert not found.measures
        assert found.best_step == 2


def test_a_loss_that_is_no_number_stops_the_run(settings: Settings) -> None:
    config = read_config(settings(), ["trainer.learning_rate=1e30", "trainer.warmup_steps=0", "trainer.save_steps=3"])
    with pytest.raises(
        TrainingError, match=r"(is (nan|inf) at|NaN or infinity after) step \d.*no checkpoint was written yet"
    ):
        train(config)
    assert not (Path(config.output) / "adapter_config.json").exists()
    config = read_config(settings("later"), ["trainer.max_steps=4", "validation.every=1"])
    train(config)
    worse = read_config(settings("later"), ["trainer.max_steps=9", "validation.every=1", "trainer.learning_rate=1e30"])
    with pytest.raises(TrainingError, match=r"checkpoint-\d+ is the last good checkpoint"):
        train(worse, resume=True)
    assert (Path(config.output) / "adapter_config.json").is_file()


def test_a_run_is_resumed_with_its_own_settings_only(settings: Settings) -> None:
    config = read_config(settings(), ["trainer.max_steps=2", "validation.every=2"])
    train(config)
    with pytest.raises(UsageError, match=r"begun with model\.rank = 4, now it is 8"):
        train(read_config(settings(), ["model.rank=8"]), resume=True)
    with pytest.raises(UsageError, match=r"begun with data\.files\.0\.weight = 1\.0, now it is 2\.0: set it back"):
        train(read_config(settings(), ["data.files.0.weight=2"]), resume=True)
    for name, was, now in (
        ("validation.examples", "6", "4"),  # which examples are trained on hangs on it
        ("validation.every", "2", "0"),  # on this too
        ("validation.data", "''", "'elsewhere'"),
        ("validation.arm", "'hybrid'", "'dense'"),
        ("trainer.gradient_accumulation_steps", "1", "2"),
    ):
        with pytest.raises(UsageError, match=rf"begun with {re.escape(f'{name} = {was}, now it is {now}')}: set"):
            train(read_config(settings(), [f"{name}={now}"]), resume=True)
    more = ["trainer.max_steps=4", "validation.every=1", "validation.split=test", "validation.arm=hybrid"]
    more += ["model.chunk=4", "trainer.logging_steps=1"]  # none of which changes a result
    longer = train(read_config(settings(), more), resume=True)
    assert longer.steps == 4
    assert sorted(losses(longer.history)) == [1, 2, 3, 4]


def test_a_run_that_is_no_longer_measured_keeps_its_last_step(settings: Settings, judged: Judged) -> None:
    more = [f"validation.data={judged('q d9 1')}", "trainer.max_steps=2"]
    begun = train(read_config(settings(), [*more, "validation.every=1"]))
    assert begun.measures
    for name, now in (("split", "'test'"), ("documents", "9")):
        with pytest.raises(UsageError, match=rf"begun with validation\.{name} = .*, now it is {now}: set it back"):
            train(read_config(settings(), [*more, f"validation.{name}={now}"]), resume=True)
    told: list[str] = []
    longer = [*more, "validation.every=0", "trainer.max_steps=4"]  # the data are the same without
    rest = train(read_config(settings(), longer), resume=True, notice=told.append)
    assert (rest.steps, rest.best_step, dict(rest.measures)) == (4, 4, {})
    assert not [line for line in told if "better than" in line]
    card = (rest.folder / "README.md").read_text()
    assert "| steps | 4; the weights are those of step 4 |" in card
    assert "These weights were not measured" in card
    places = (rest.folder / "checkpoint-4", rest.folder)
    kept, written = (load_file(place / "adapter_model.safetensors") for place in places)
    assert all(np.array_equal(kept[name], value) for name, value in written.items())


def test_dimensions_that_a_shortened_base_lacks_are_refused_before_anything_is_written(
    settings: Settings, base: Path, tmp_path: Path
) -> None:
    short = tmp_path / "short"
    shutil.copytree(base, short)
    (short / "model_args.yaml").write_text("dense_shrink_dim: 16\n")
    config = read_config(settings(model=short), ["loss.matryoshka=[8, 32]"])
    with pytest.raises(UsageError, match=r"loss\.matryoshka asks for 32 dimensions, .* have 16"):
        train(config)
    assert not (Path(config.output) / "training.toml").exists()


def test_more_steps_than_asked_for_are_told(settings: Settings) -> None:
    train(read_config(settings(), ["trainer.max_steps=2", "validation.every=0"]))
    told: list[str] = []
    fewer = read_config(settings(), ["trainer.max_steps=1", "validation.every=0"])
    found = train(fewer, resume=True, notice=told.append)
    assert "2 steps are taken already, trainer.max_steps is 1: no more are" in told
    assert found.steps == 2
    assert "| steps | 2; the weights are those of step 2 |" in (found.folder / "README.md").read_text()


def test_where_nothing_was_kept_a_run_begins_anew_with_other_settings(settings: Settings) -> None:
    config = read_config(settings(), ["trainer.learning_rate=1e30", "trainer.warmup_steps=0", "validation.every=0"])
    with pytest.raises(TrainingError, match="no checkpoint was written yet"):
        train(config)
    other = ["model.rank=8", "trainer.max_steps=1"]
    told: list[str] = []
    found = train(read_config(settings(), other), resume=True, notice=told.append)
    assert any("no complete checkpoint: starting at the beginning" in line for line in told)
    assert found.steps == 1
    shutil.rmtree(found.folder / "checkpoint-1")  # what is finished is still not another run's to overwrite
    with pytest.raises(UsageError, match=r"begun with model\.rank = 8, now it is 4"):
        train(read_config(settings()), resume=True)


def test_held_out_examples_are_not_trained_on(settings: Settings) -> None:
    config = read_config(settings())
    data = TrainingData.open(config.data, 8)
    rest, held = hold_out(data, 5)
    aside = {held[0][i].query for i in range(len(held[0]))}
    assert len(aside) == 5
    seen = {row.query for step in range(40) for row in rest.draw(step).rows}
    assert len(seen) == 55
    assert not seen & aside
    _, most = hold_out(data, 1000)
    assert len(most[0]) == 6  # a tenth


def test_all_lines_of_a_held_out_query_are_held_out(tmp_path: Path) -> None:
    files = []
    for name, numbers in (("one", range(40)), ("two", range(20, 60))):
        lines = [
            {"query": f"q{number}", "positive_passages": [{"text": f"{name} {number} {turn}"}]}
            for number in numbers
            for turn in range(3)
        ]
        files.append(DataFile(str(tmp_path / f"{name}.jsonl")))
        Path(files[-1].path).write_text("".join(json.dumps(line) + "\n" for line in lines))
    data = TrainingData.open(DataConfig(tuple(files)), 4)
    rest, held = hold_out(data, 12)
    aside, left = ({file[i].query for file in some for i in range(len(file))} for some in (held, rest.files))
    assert len(aside) >= 2
    assert not aside & left
    assert sum(map(len, held)) + sum(map(len, rest.files)) == 240
    fewer = {file[i].query for file in hold_out(data, 6)[1] for i in range(len(file))}
    assert fewer < aside
    validation, _ = open_validation(ValidationConfig(every=1, examples=12), data)
    assert validation is not None
    assert len(validation.queries) == len(aside)
    assert all(len(judged) in (3, 6) for judged in validation.relevant)


def test_held_out_queries_have_their_files_prompt_and_their_own_positives(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "twice.jsonl"
    passages = [{"text": "A river"}, {"text": "a RIVER!"}]
    rows = [
        {"query": f"q{i}", "positive_passages": passages, "negative_passages": [{"text": f"a lake {i}"}]}
        for i in range(20)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = settings(more="")
    config = read_config(given, [f"data.files.0.path={path}", "data.files.0.instruction=ask: "])
    validation, _ = open_validation(config.validation, TrainingData.open(config.data, 8))
    assert validation is not None
    assert {prompt for _, prompt in validation.queries} == {"ask: "}
    for judged in validation.relevant:
        assert [validation.documents[place].text for place in judged] == ["A river"]


def test_cross_encoder_scores_must_be_whole(settings: Settings) -> None:
    with pytest.raises(UsageError, match=r"questions\.jsonl: .* of .* examples have passages without ce_score"):
        train(read_config(settings(), ["loss.cross_encoder=true"]))


def test_a_collection_to_measure_on(settings: Settings, judged: Judged) -> None:
    overrides = [f"validation.data={judged('q d9 1')}", "validation.documents=4", "trainer.max_steps=1"]
    config = read_config(settings(), overrides)
    validation, data = open_validation(config.validation, TrainingData.open(config.data, 8))
    assert validation is not None
    assert [passage.docid for passage in validation.documents] == ["d0", "d1", "d2", "d9"]
    assert len(data.files[0]) == 60
    assert set(train(config).measures) == {"dense", "sparse", "hybrid"}
