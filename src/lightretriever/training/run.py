"""A whole training run: settings in, a folder that `cache`, `encode` and `index` load out."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from lightretriever.artifact import new_file
from lightretriever.document.folder import MINILM, find_folder
from lightretriever.document.transformer import quiet
from lightretriever.errors import UsageError
from lightretriever.index.bm25 import inverse_frequencies
from lightretriever.progress import Progress
from lightretriever.scratch import new_folder
from lightretriever.training.batch import Collator
from lightretriever.training.config import TrainingConfig, refusals_told, training_arguments
from lightretriever.training.example_file import ExampleFile, describe_counts
from lightretriever.training.output import (
    HISTORY,
    SETTINGS,
    Summary,
    check_output,
    check_same_run,
    publish,
    write_summary,
)
from lightretriever.training.sampling import TrainingData
from lightretriever.training.tower import ModelConfig, TrainableTower
from lightretriever.training.tower_folder import write_merged
from lightretriever.training.trainer import LookupTrainer, last_checkpoint
from lightretriever.training.validation import Validation, open_validation

Notice = Callable[[str], None]
_STAGED = ".finished"
_IDF_PASSAGES = 4096
_NO_BASE = ": let model.base name a folder that holds it, or fetch it once where there is a network"


@dataclass(frozen=True, slots=True)
class Trained:
    """What a run came to.

    Attributes:
        folder: what it wrote, absolute.
        steps: taken in all.
        best_step: whose weights were written.
        measures: nDCG@10 of each arm at that step; empty if nothing was measured.
        history: all that was logged, by step.
    """

    folder: Path
    steps: int
    best_step: int
    measures: Mapping[str, float] = field(default_factory=dict)
    history: tuple[Mapping[str, float], ...] = ()


def train(
    config: TrainingConfig,
    *,
    resume: bool = False,
    progress: Progress | None = None,
    logged: Callable[[dict[str, float]], None] | None = None,
    notice: Notice | None = None,
) -> Trained:
    """Train a document tower for look-up queries; under ``torchrun`` every process calls this.

    Args:
        config: all settings.
        resume: go on from the last complete checkpoint in the output folder.
        progress: called with steps done and their number.
        logged: called with each line of the log, names to numbers, ``step`` among them.
        notice: called with one line for what a person should know: examples skipped, where it goes on. These three
            are called in the first process alone.

    Returns:
        What came of it; the folder holds the weights of the best step (of the last, if nothing was measured).

    Raises:
        UsageError: settings that make no sense, or, resumed, others than those of the beginning.
        InputError: a training file or a collection cannot be read; the message names file and line.
        ModelError: the base model cannot be loaded.
        ArtifactError: the output cannot be written, or holds something.
        TrainingError: the loss is no number any more, and the last good checkpoint is kept; or the hub refuses.
        MissingExtraError: the ``train`` extra is not installed.
    """
    started = time.monotonic()
    output = Path(config.output).absolute()  # settings keep paths as they were typed; the working folder may change
    check_output(output, resume)
    checkpoint = last_checkpoint(output) if resume else None
    if checkpoint is not None or (output / HISTORY).is_file():  # else nothing is there to be the same as
        check_same_run(config, output)
    with quiet(errors=True):
        arguments = training_arguments(config)
        is_first = arguments.process_index == 0
        tell: Notice = notice if notice is not None and is_first else lambda _: None
        base = find_folder(config.model.base, _NO_BASE)  # before the data are read, which may take long
        data, validation, held = _open_data(config, arguments, tell)
        if validation is None:  # asked for, perhaps, but there is nothing to measure on
            arguments = training_arguments(replace(config, validation=replace(config.validation, every=0)))
        transformers.set_seed(config.seed)  # the adapters' first values are drawn
        with _whole_weights(arguments):
            tower = TrainableTower.load(_model_config(config), _seen_from(output, config.model.base))
        _check_dimensions(config, tower.backbone.dim)
        parameters = [parameter.numel() for parameter in tower.parameters() if parameter.requires_grad]
        counts = (sum(parameters), sum(parameter.numel() for parameter in tower.parameters()))
        collator = make_collator(tower, config)
        with refusals_told():
            trainer = LookupTrainer(tower, arguments, config, data, collator, validation, progress, logged)
            trainer.get_train_dataloader()  # what it refuses it refuses before anything is written
        trainer.wait()  # all have seen the output as it was
        if is_first:
            shutil.rmtree(output / _STAGED, ignore_errors=True)
            with new_file(output / SETTINGS) as file:
                file.write_text(config.text(), encoding="utf-8")
        if checkpoint is not None:
            arguments.eval_on_start = False
            tell(f"going on from {checkpoint}")
            done = int(checkpoint.name.rpartition("-")[2])
            if done > config.steps:
                tell(f"{done:,} steps are taken already, trainer.max_steps is {config.steps:,}: no more are")
        elif resume:
            tell(f"{output} holds no complete checkpoint: starting at the beginning")
        if checkpoint is None and tower.tied is not None and tower.new_head:
            tower.tied.set_idf(torch.from_numpy(_inverse_frequencies(data, collator, tower.vocab_size)))
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))

        state = trainer.state
        # A state that was resumed may name a best step where nothing is measured any more, and none is gone back to.
        chosen = arguments.load_best_model_at_end and state.best_model_checkpoint
        summary = Summary(
            config=config,
            name=output.name,
            base=base.name,
            data=data,
            held_out=held,
            validation=validation.name if validation else "",
            history=state.log_history,
            steps=state.global_step,
            best_step=state.best_global_step if chosen else state.global_step,
            parameters=counts,
            processes=arguments.world_size,
            device=_device_name(arguments.device),
            seconds=time.monotonic() - started,
        )
        untrained = summary.measured_at(0).get(config.arm)
        if untrained is not None and summary.measures.get(config.arm, float("inf")) <= untrained:
            tell(f"no step was better than the untrained tower, whose {config.arm} nDCG@10 is {untrained:.4f}")
        trainer.save_whole(output / _STAGED)
        if is_first:
            write_summary(output / _STAGED, summary)
            publish(output / _STAGED, output)
        trainer.wait()
        if arguments.push_to_hub:
            trainer.upload()
    return Trained(output, state.global_step, summary.best_step, summary.measures, tuple(state.log_history))


def merge_tower(config: TrainingConfig, folder: Path) -> None:
    """Write a finished run's tower as a plain model folder, the trained weights merged into the base's.

    Raises:
        ArtifactError: ``folder`` exists.
        ModelError: the run's output is no finished one, or the base is not there any more.
    """
    base = config.model.base if config.model.adapter == "lora" else None
    with quiet(errors=True), new_folder(folder) as temporary:
        write_merged(Path(config.output), temporary, base)


def make_collator(tower: TrainableTower, config: TrainingConfig) -> Collator:
    """What makes tensors of a run's examples: lengths as the tower reads, full queries where a loss needs them."""
    return Collator(
        tower.specials,
        tower.prompt,
        document_prompt=tower.document_prompt,
        passage_max_length=tower.settings.passage_max_length,
        query_max_length=tower.settings.query_max_length,
        full_queries=config.loss.needs_full_queries,
    )


def _model_config(config: TrainingConfig) -> ModelConfig:
    """The model's settings: gradient checkpointing may be asked for under [trainer] too, as Trainer has it, and a
    sparse head is left out that no loss would train."""
    names = ("gradient_checkpointing", "activation_checkpointing")
    wanted = config.model.gradient_checkpointing or any(config.trainer.get(name) for name in names)
    head = config.model.sparse_head if config.loss.needs_sparse else "none"
    return replace(config.model, gradient_checkpointing=wanted, sparse_head=head)


def _seen_from(output: Path, base: str) -> str:
    """The base's name as it leads there from the output: a relative path was typed in a folder that nobody will know
    any more. From a checkpoint inside the output it does too, since adapters look around their own folder."""
    path = Path(base)
    if base == MINILM or path.is_absolute() or not path.is_dir():
        return base
    try:
        return Path(os.path.relpath(path.resolve(), output.resolve())).as_posix()
    except ValueError:  # they are on two drives
        return path.resolve().as_posix()


def _check_dimensions(config: TrainingConfig, width: int) -> None:
    """Before anything is written: a loss would find it out only in the first step."""
    wrong = [dim for dim in config.loss.matryoshka if dim > width]
    if wrong:
        raise UsageError(
            f"loss.matryoshka asks for {wrong[0]} dimensions, the vectors of {config.model.base} have {width}: "
            "name no more than that"
        )


def _open_data(
    config: TrainingConfig, arguments: transformers.TrainingArguments, tell: Notice
) -> tuple[TrainingData, Validation | None, list[int]]:
    """What is trained on, what is measured on, and how many examples of each file were held out for that."""
    each = arguments.per_device_train_batch_size
    whole = TrainingData.open(config.data, each, arguments.world_size, config.seed)
    validation, data = open_validation(config.validation, whole)
    held = [len(before) - len(after) for before, after in zip(whole.files, data.files, strict=True)]
    for number, (file, options) in enumerate(zip(data.files, config.data.files, strict=True)):
        if config.loss.cross_encoder:
            _check_scores(file)
        kept = f", {held[number]:,} held out to measure on" if held[number] else ""
        tell(f"{options.label} ({file.kind.name}): {describe_counts(file.counts)}; {len(file):,} to train on{kept}")
        if data.schedule.share(number) < each:
            smaller = data.schedule.share(number) * arguments.world_size
            tell(f"{options.label}: fewer examples than batch = {config.batch}: its steps have {smaller} queries")
    if validation is not None and validation.absent:
        tell(f"{validation.name}: {validation.absent}; they count as not found")
    if config.validation.every and validation is None:
        why = "too few examples to hold any out" if config.validation.examples else "validation.examples is 0"
        tell(f"{why}: nothing is measured; name a BEIR folder under validation.data")
    return data, validation, held


def _check_scores(file: ExampleFile) -> None:
    counts = file.counts
    if counts.unscored:
        raise UsageError(
            f"{file.path}: {counts.unscored:,} of {counts.usable:,} examples have passages without ce_score, and "
            "loss.cross_encoder learns from all: score them, or set loss.cross_encoder to false"
        )
    if 0 < counts.no_negative < counts.usable:  # others' passages stand for them, which nobody scored for this query
        raise UsageError(
            f"{file.path}: {counts.no_negative:,} of {counts.usable:,} examples have no negatives, and "
            "loss.cross_encoder needs scored ones: give them some, or leave these examples out"
        )


def _inverse_frequencies(data: TrainingData, collator: Collator, width: int) -> NDArray[np.float32]:
    """BM25's idf of every token, float32 [V], over some of the training passages."""
    found = np.zeros(width, dtype=np.int64)
    passages = step = 0
    while passages < _IDF_PASSAGES and step < _IDF_PASSAGES:
        for rank in range(data.schedule.world):  # of all, in all: they must agree, however many they are
            batch = collator(data.draw(step, rank))
            for ids, length in zip(batch.passage_ids, batch.passage_lengths, strict=True):
                found[np.unique(ids[:length].numpy())] += 1
            passages += len(batch.passage_lengths)
        step += 1
    return inverse_frequencies(passages, found).astype(np.float32)


@contextmanager
def _whole_weights(arguments: transformers.TrainingArguments) -> Iterator[None]:
    """Without ZeRO-3's way to load a model in parts: a tower looks at its weights while it is made. They are shared out
    when training begins."""
    held = getattr(arguments, "hf_deepspeed_config", None)
    if held is None:
        yield
        return
    from transformers.integrations.deepspeed import set_hf_deepspeed_config, unset_hf_deepspeed_config

    unset_hf_deepspeed_config()
    try:
        yield
    finally:
        set_hf_deepspeed_config(held)


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()
