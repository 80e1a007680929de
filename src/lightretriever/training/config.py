"""What a training run is: one TOML file, read into frozen dataclasses (METHOD "Training losses" has the defaults)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal, get_args, get_type_hints

from lightretriever.errors import LightRetrieverError, MissingExtraError, UsageError
from lightretriever.training.losses import LossConfig
from lightretriever.training.mining import MiningConfig
from lightretriever.training.sampling import DataConfig
from lightretriever.training.toml import as_tables, build, convert, read_tables, write_tables
from lightretriever.training.tower import ModelConfig

if TYPE_CHECKING:
    from transformers import TrainingArguments

ARMS = ("dense", "sparse", "hybrid")
_COSINE = "cosine_with_min_lr"
_LARGEST_SEED = 2**32 - 1  # of NumPy's older generator, which transformers seeds too
_MOST_STEPS = 10**12  # counted in 64 bits, times what is accumulated

TRAINER_DEFAULTS: Mapping[str, object] = {
    "max_steps": 12_000,
    "learning_rate": 2e-5,
    "lr_scheduler_type": _COSINE,
    "warmup_steps": 100,
    "weight_decay": 0.01,
    "max_grad_norm": 1.0,
    "optim": "adamw_torch",
    "logging_steps": 10,
    "logging_first_step": True,
    "save_steps": 500,
    "save_total_limit": 2,
    "report_to": "tensorboard",
    "dataloader_num_workers": 0,
    "hub_strategy": "end",
    "ddp_find_unused_parameters": False,
}
"""Of the [trainer] table, where they differ from transformers' own."""

# Fields of TrainingArguments that another setting decides, and which.
_DECIDED: Mapping[str, str] = {
    "output_dir": "set output",
    "seed": "set seed",
    "data_seed": "set seed",
    "per_device_train_batch_size": "set batch, the queries of a step over all processes",
    "auto_find_batch_size": "the batch is part of the loss: set model.chunk to bound memory",
    "num_train_epochs": "set trainer.max_steps",
    "eval_strategy": "set validation.every",
    "eval_steps": "set validation.every",
    "load_best_model_at_end": "set validation.every: the best checkpoint is what is written",
    "metric_for_best_model": "set validation.arm",
    "greater_is_better": "set validation.arm",
    "ignore_data_skip": "a resumed run begins at its step by itself",
    "resume_from_checkpoint": "run with --resume",
    "do_train": "leave it out",
    "do_eval": "set validation.every",
    "do_predict": "leave it out",
    "disable_tqdm": "progress is shown by the command line",
    "remove_unused_columns": "leave it out",
    "local_rank": "start with torchrun",
    "hub_token": "it would be written into the settings: set HF_TOKEN in the environment, or run hf auth login",
    "save_only_model": "a checkpoint without its optimizer cannot be resumed",
}


@dataclass(frozen=True, slots=True)
class ValidationConfig:
    """How a run is judged while it goes on: nDCG@10 on the look-up path.

    Attributes:
        data: a BEIR folder; "" for training examples held out.
        split: which of its qrels.
        documents: of its corpus at most so many: those judged, then others in order. 0 for all.
        examples: held out of training where there is no ``data``, at most a tenth of each file's.
        every: steps between two measurements; each is followed by a checkpoint. 0 for none.
        arm: whose nDCG@10 decides which checkpoint is best: dense, sparse or hybrid; "" for hybrid where both
            sides are trained, else the one that is.
        batch: texts in one forward pass.
    """

    data: str = ""
    split: str = "dev"
    documents: int = 0
    examples: int = 128
    every: int = 500
    arm: Literal["", "dense", "sparse", "hybrid"] = ""
    batch: int = 32

    def __post_init__(self) -> None:
        for name in ("documents", "examples", "every"):
            if getattr(self, name) < 0:
                raise UsageError(f"validation.{name} is {getattr(self, name)}: 0 or more is needed")
        if self.batch < 1:
            raise UsageError(f"validation.batch is {self.batch}: 1 or more is needed")


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """All settings of a run.

    Attributes:
        output: the folder to write.
        model, data, loss, validation: see there.
        mining: what ``--mine`` takes of a search.
        seed: of everything drawn: initial adapters, examples, dropout.
        batch: queries of a step, over all processes.
        head_learning_rate: of a sparse head that the base lacked and starts from nothing; all else has the trainer's.
        trainer: fields of ``transformers.TrainingArguments`` by their own names; `TRAINER_DEFAULTS` else.

    Raises:
        UsageError: a value that makes no sense; the message names the setting.
    """

    output: str
    model: ModelConfig
    data: DataConfig
    loss: LossConfig = field(default_factory=LossConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    mining: MiningConfig = field(default_factory=MiningConfig)
    seed: int = 42
    batch: int = 128
    head_learning_rate: float = 1e-3
    trainer: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.output:
            raise UsageError("output is empty: name the folder to write")
        if self.batch < 1:
            raise UsageError(f"batch is {self.batch}: a positive number is needed")
        if not 0 <= self.seed <= _LARGEST_SEED:
            raise UsageError(f"seed is {self.seed}: 0 to {_LARGEST_SEED} is needed")
        if not self.head_learning_rate > 0:
            raise UsageError(f"head_learning_rate is {self.head_learning_rate}: a positive number is needed")
        if not (self.loss.dense or self.loss.sparse):
            raise UsageError("loss.dense and loss.sparse are both false: nothing would be trained")
        if self.loss.sparse and self.model.sparse_head == "none":
            raise UsageError(
                "loss.sparse is true, model.sparse_head 'none': set the one to false or the other to 'auto'"
            )
        if self.arm not in self.arms:
            raise UsageError(f"validation.arm is {self.arm!r}: what is trained is {', '.join(self.arms)}")
        for name in self.trainer:
            if name in _DECIDED:
                raise UsageError(f"trainer.{name} is not for you to set here: {_DECIDED[name]}")
        if self.trainer.get("hub_strategy", "end") != "end":
            raise UsageError(
                f"trainer.hub_strategy is {self.trainer['hub_strategy']!r}: only 'end' is supported, an upload in "
                "between would carry pickles"
            )

    @property
    def arms(self) -> tuple[str, ...]:
        """What is measured: the sides that are trained, and both together."""
        trained = tuple(arm for arm in ("dense", "sparse") if getattr(self.loss, arm))
        return (*trained, "hybrid") if len(trained) == 2 else trained

    @property
    def arm(self) -> str:
        """Whose nDCG@10 decides which checkpoint is best."""
        return self.validation.arm or self.arms[-1]

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole run."""
        return int(str({**TRAINER_DEFAULTS, **self.trainer}["max_steps"]))

    def text(self) -> str:
        """The settings as TOML, defaults written out; `read_config` gives the same config for it."""
        return write_tables(as_tables(self))


def read_config(path: str | Path, overrides: Iterable[str] = ()) -> TrainingConfig:
    """Read a run's settings.

    Args:
        path: a TOML file.
        overrides: ``a.b=value`` each, values as TOML writes them, quotes around text being optional.

    Raises:
        InputError: no TOML; the message names the line.
        UsageError: a setting that is unknown, absent, of another type or senseless; the message names it.
    """
    try:
        config = build(TrainingConfig, read_tables(path, overrides))
        _check_trainer(config.trainer)
        return replace(config, trainer={**config.trainer})
    except UsageError as error:
        message = str(error)
        raise UsageError(message if message.startswith("--set") else f"{path}: {message}") from None


@lru_cache(maxsize=1)
def _argument_types() -> dict[str, Any]:
    try:
        from transformers import TrainingArguments
    except ImportError:
        raise MissingExtraError("training", "train") from None
    try:
        return get_type_hints(TrainingArguments)
    except (NameError, TypeError):  # annotations of a package that is not installed
        return {each.name: each.type for each in fields(TrainingArguments)}


def _check_trainer(given: Mapping[str, object]) -> None:
    known = _argument_types()
    for name, value in given.items():
        if name not in known:
            from difflib import get_close_matches

            close = get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]}?" if close else "its fields are those of transformers.TrainingArguments"
            raise UsageError(f"trainer.{name} is no setting: {hint}")
        kinds = [kind for kind in get_args(known[name]) or (known[name],) if kind is not NoneType]
        if len(kinds) == 1 and kinds[0] in (int, float, bool):
            convert(kinds[0], value, f"trainer.{name}")


@contextmanager
def refusals_told() -> Iterator[None]:
    """What transformers refuses of [trainer], as a `UsageError` of one line."""
    from torch import OutOfMemoryError

    try:
        yield
    except (LightRetrieverError, OutOfMemoryError):
        raise
    except (ValueError, TypeError, ImportError, RuntimeError, OSError, OverflowError) as error:
        raise UsageError(f"[trainer]: {' '.join(str(error).split())[:300]}") from None


def training_arguments(config: TrainingConfig) -> TrainingArguments:
    """What ``transformers.Trainer`` is told, the batch shared out to the processes that were started.

    Raises:
        UsageError: a batch that cannot be shared out evenly, or fields that contradict each other.
        MissingExtraError: accelerate or TensorBoard is not installed.
    """
    wanted = ["accelerate", "transformers", "matplotlib", "ir_measures"]
    wanted += ["tensorboard"] * ("report_to" not in config.trainer)
    if any(find_spec(name) is None for name in wanted):
        raise MissingExtraError("training", "train")
    from torch import accelerator
    from transformers import TrainingArguments

    _check_trainer(config.trainer)
    # Without an accelerator a CPU is what is used anyway; said, bf16 is not refused there.
    given = {"use_cpu": not accelerator.is_available(), **TRAINER_DEFAULTS, **config.trainer}
    if given["lr_scheduler_type"] == _COSINE:
        given.setdefault("lr_scheduler_kwargs", {"min_lr_rate": 0.1})
    rate = given["learning_rate"]
    if not isinstance(rate, int | float) or not rate >= 0:
        raise UsageError(f"trainer.learning_rate is {rate}: a number from 0 on is needed")
    every = config.validation.every
    if every:
        saved = config.trainer.get("save_steps", every)
        if saved != every or "save_strategy" in config.trainer:
            raise UsageError(
                f"every measurement is followed by a checkpoint, validation.every ({every}) decides when: leave out "
                "trainer.save_steps and trainer.save_strategy, or set validation.every to 0"
            )
        given |= {
            "eval_strategy": "steps",
            "eval_steps": every,
            "save_strategy": "steps",
            "save_steps": every,
            "load_best_model_at_end": True,
            "metric_for_best_model": f"eval_{config.arm}_ndcg@10",
            "greater_is_better": True,
        }
        given.setdefault("eval_on_start", True)
    accumulation = int(str(given.get("gradient_accumulation_steps", 1)))
    if accumulation < 1:
        raise UsageError(f"trainer.gradient_accumulation_steps is {accumulation}: at least 1 is needed")
    if config.steps < 1:
        raise UsageError(f"trainer.max_steps is {config.steps}: at least 1 is needed, a run is as long as this says")
    if config.steps > _MOST_STEPS:
        raise UsageError(f"trainer.max_steps is {config.steps}: at most {_MOST_STEPS} can be counted")
    # The tower does this itself, see ModelConfig; Trainer would look for methods of its own models.
    for name in ("gradient_checkpointing", "activation_checkpointing"):
        given.pop(name, None)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if config.batch % (world * accumulation):
        shares = f"{world} processes" + (f" of {accumulation} accumulated parts" if accumulation > 1 else "")
        raise UsageError(f"batch is {config.batch}: it must be a multiple of {world * accumulation}, for {shares}")
    own: dict[str, Any] = {
        "output_dir": str(Path(config.output).absolute()),
        "seed": config.seed,
        "data_seed": config.seed,
        "per_device_train_batch_size": config.batch // (world * accumulation),
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "ignore_data_skip": True,
        "log_level": "error",
        "log_level_replica": "error",
    }
    with refusals_told():
        arguments = TrainingArguments(**given, **own)
    if not arguments.use_cpu and arguments.n_gpu > 1 and world == 1:
        # One process for several devices would be DataParallel, under which the losses see parts of a batch.
        arguments._n_gpu = 1
    return arguments
