"""Settings: TOML to dataclasses and back, every misfit named, and what Trainer is told of them."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path

import pytest

pytest.importorskip("accelerate")

from hypothesis import given, settings
from hypothesis import strategies as st

from lightretriever import TrainingConfig
from lightretriever.errors import InputError, UsageError
from lightretriever.training.config import TRAINER_DEFAULTS, read_config, training_arguments
from lightretriever.training.mining import MiningConfig
from lightretriever.training.toml import write_tables

LEAST = """
output = "out"
[model]
base = "minilm"
[[data.files]]
path = "a.jsonl"
"""


def write(folder: Path, text: str = LEAST) -> Path:
    (folder / "run.toml").write_text(text, encoding="utf-8")
    return folder / "run.toml"


def test_the_least_that_can_be_said_gives_the_method(tmp_path: Path) -> None:
    config = read_config(write(tmp_path))
    assert (config.batch, config.data.passages, config.steps) == (128, 8, 12_000)
    assert (config.model.rank, config.model.alpha, config.model.dropout) == (16, 32, 0.1)
    assert (config.loss.temperature, config.loss.flops, config.loss.flops_ramp_steps) == (0.02, 1e-3, 4000)
    assert config.arms == ("dense", "sparse", "hybrid")
    assert config.arm == "hybrid"
    expected = {
        "learning_rate": 2e-5,
        "warmup_steps": 100,
        "weight_decay": 0.01,
        "max_grad_norm": 1.0,
        "lr_scheduler_type": "cosine_with_min_lr",
    }
    assert {name: TRAINER_DEFAULTS[name] for name in expected} == expected


def test_settings_are_written_as_they_are_read(tmp_path: Path) -> None:
    overrides = ["data.files.0.weight=2.5", "loss.matryoshka=[16, 32]", "trainer.fsdp_config={version = 2}", "seed=7"]
    config = read_config(write(tmp_path), overrides)
    assert config.data.files[0].weight == 2.5
    assert config.loss.matryoshka == (16, 32)
    assert config.trainer == {"fsdp_config": {"version": 2}}
    again = read_config(write(tmp_path, config.text()))
    assert again == config


_KEYS = st.text(min_size=1, max_size=6)
_VALUES = st.recursive(
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(_KEYS.filter(lambda key: not any("\ud800" <= c <= "\udfff" for c in key)), _VALUES, max_size=4))
@settings(max_examples=200)
def test_any_tables_survive_being_written(tables: dict[str, object]) -> None:
    assert tomllib.loads(write_tables(tables)) == tables


def test_one_setting_of_mining_leaves_the_others_as_they_are(tmp_path: Path) -> None:
    assert read_config(write(tmp_path)).mining.ratio == 0.95
    assert read_config(write(tmp_path), ["mining.depth=30"]).mining == MiningConfig(depth=30, ratio=0.95)
    unlimited = read_config(write(tmp_path), ["mining.ratio=0"])
    assert not unlimited.mining.is_limited
    assert read_config(write(tmp_path, unlimited.text())) == unlimited
    with pytest.raises(UsageError, match=r"ratio is 1\.5: a number from 0 to 1 is needed, 0 for no such limit"):
        read_config(write(tmp_path), ["mining.ratio=1.5"])


def test_a_value_that_is_no_toml_is_text(tmp_path: Path) -> None:
    assert read_config(write(tmp_path), ["model.base=some/name"]).model.base == "some/name"
    assert read_config(write(tmp_path), ["model.prompt="]).model.prompt == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("model.rnak=8", "model.rnak is no setting: did you mean rank?"),
        ("nonsense=8", "nonsense is no setting: there are output"),
        ("data.files.0.wieght=1", "data.files.0.wieght is no setting: did you mean weight?"),
        ("model.rank=eight", "model.rank is 'eight': a whole number is needed"),
        ("model.rank=true", "model.rank is True: a whole number is needed"),
        ("model.adapter=dora", "model.adapter is 'dora': choose one of lora, full"),
        ("loss.dense=1", "loss.dense is 1: true or false is needed"),
        ("loss.matryoshka=[8, 0]", "loss.matryoshka is [8, 0]: positive numbers are needed"),
        ("loss.matryoshka=[-4]", "loss.matryoshka is [-4]"),
        ("loss.matryoshka=8", "loss.matryoshka is 8: a list is needed"),
        ("validation=no", "validation is 'no': a table is needed"),
        ("batch=0", "batch is 0"),
        ("seed=-1", "seed is -1"),
        ("seed=5000000000", "seed is 5000000000: 0 to 4294967295 is needed"),
        ("head_learning_rate=0.0", "head_learning_rate is 0.0"),
        ("loss.temperature=0", "loss.temperature is 0.0"),
        ("data.max_examples=0", "data.max_examples is 0"),
        ("trainer.save_total_limit=two", "trainer.save_total_limit is 'two'"),
        ("validation.every=-1", "validation.every is -1"),
        ("validation.arm=both", "validation.arm is 'both'"),
        ("trainer.lerning_rate=1.0", "trainer.lerning_rate is no setting: did you mean learning_rate?"),
        ("trainer.max_steps=many", "trainer.max_steps is 'many': a whole number is needed"),
        ("trainer.per_device_train_batch_size=8", "set batch"),
        ("trainer.num_train_epochs=3", "set trainer.max_steps"),
        ("trainer.hub_strategy=every_save", "only 'end' is supported"),
        ("output=", "output is empty"),
    ],
)
def test_what_is_wrong_is_named_with_the_file(tmp_path: Path, change: str, message: str) -> None:
    path = write(tmp_path)
    with pytest.raises(UsageError) as caught:
        read_config(path, [change])
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


def test_settings_that_contradict_each_other(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing would be trained"):
        read_config(write(tmp_path), ["loss.dense=false", "loss.sparse=false"])
    with pytest.raises(UsageError, match="what is trained is dense"):
        read_config(write(tmp_path), ["loss.sparse=false", "validation.arm=hybrid"])
    with pytest.raises(UsageError, match=r"model\.sparse_head"):
        read_config(write(tmp_path), ["model.sparse_head=none"])


def test_what_is_no_toml_and_no_override(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"run\.toml cannot be read as TOML .*line 3"):
        read_config(write(tmp_path, 'output = "x"\n\nbroken\n'))
    with pytest.raises(InputError, match="does not exist"):
        read_config(tmp_path / "absent.toml")
    for override in ("model.rank", "=3", "model..rank=3", "output.deep=3", "data.files.7.weight=1"):
        with pytest.raises(UsageError, match=f"^--set {override}"):
            read_config(write(tmp_path), [override])
    with pytest.raises(UsageError, match="output is not set"):
        read_config(write(tmp_path, LEAST.replace('output = "out"', "")))


def arguments(config: TrainingConfig, tmp_path: Path):  # type: ignore[no-untyped-def]
    from dataclasses import replace

    return training_arguments(replace(config, output=str(tmp_path / "out")))


def test_bf16_needs_no_more_to_be_said_on_a_cpu(tmp_path: Path) -> None:
    import torch

    told = arguments(read_config(write(tmp_path), ["trainer.bf16=true"]), tmp_path)
    assert told.bf16
    assert told.use_cpu is not torch.accelerator.is_available()


def test_trainer_is_told_the_method(tmp_path: Path) -> None:
    import torch
    from transformers import get_scheduler

    config = read_config(write(tmp_path), ["trainer.use_cpu=true"])
    told = arguments(config, tmp_path)
    assert told.per_device_train_batch_size == 128
    assert (told.eval_steps, told.save_steps, told.load_best_model_at_end) == (500, 500, True)
    assert told.metric_for_best_model == "eval_hybrid_ndcg@10"
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = get_scheduler(
        told.lr_scheduler_type,
        optimizer,
        told.get_warmup_steps(12_000),
        12_000,
        scheduler_specific_kwargs=told.lr_scheduler_kwargs,
    )
    # METHOD's schedule, of which the golden folder holds these values too.
    for step, factor in ((0, 0.0), (50, 0.5), (100, 1.0), (1000, 0.9873576072685665), (12_000, 0.1)):
        assert math.isclose(schedule.lr_lambdas[0](step), factor, abs_tol=1e-9)


def test_a_batch_is_shared_out_to_processes_and_accumulation(tmp_path: Path) -> None:
    overrides = ["trainer.use_cpu=true", "batch=12", "trainer.gradient_accumulation_steps=3"]
    config = read_config(write(tmp_path), overrides)
    assert arguments(config, tmp_path).per_device_train_batch_size == 4
    with pytest.raises(UsageError, match="multiple of 5"):
        arguments(read_config(write(tmp_path), [*overrides[:2], "trainer.gradient_accumulation_steps=5"]), tmp_path)
    for more in ("trainer.save_steps=1000", "trainer.save_strategy=no"):
        with pytest.raises(UsageError, match=r"validation.every \(500\) decides when"):
            arguments(read_config(write(tmp_path), [*overrides, more]), tmp_path)
    for name in ("gradient_accumulation_steps", "max_steps"):
        with pytest.raises(UsageError, match=f"trainer.{name} is 0: at least 1"):
            arguments(read_config(write(tmp_path), [*overrides, f"trainer.{name}=0"]), tmp_path)
    with pytest.raises(UsageError, match=r"\[trainer\].*bf16"):
        arguments(read_config(write(tmp_path), [*overrides, "trainer.bf16=true", "trainer.fp16=true"]), tmp_path)


def test_examples_of_settings_are_settings() -> None:
    folder = Path(__file__).parents[2] / "examples" / "training"
    config = read_config(folder / "tower.toml")
    assert config.model.base
    assert [file.weight for file in config.data.files] == [3, 1]
