"""``transformers.Trainer`` with this package's batches, losses, validation and folders; all the rest is its own.

So torchrun, FSDP, DeepSpeed, bf16, checkpoints, TensorBoard and uploads work as its users know them.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from math import isnan
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.distributed.tensor import DTensor
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import Trainer, TrainerCallback, TrainerControl, TrainingArguments
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from transformers.trainer_callback import PrinterCallback

from lightretriever.errors import TrainingError, UsageError
from lightretriever.progress import Progress
from lightretriever.training.batch import Batch, Collator
from lightretriever.training.config import TrainingConfig
from lightretriever.training.gather import gather
from lightretriever.training.losses import regularisation, total_loss
from lightretriever.training.meter import Meter
from lightretriever.training.sampling import TrainingData
from lightretriever.training.tower import TrainableTower, represent
from lightretriever.training.validation import Processes, Validation, measure

STATE = "trainer_state.json"
"""What Trainer writes last into a checkpoint: one without it was cut short."""


class Steps(Dataset[dict[str, Batch]]):
    """The batch that this process sees in every step, by the step's number."""

    def __init__(self, data: TrainingData, collator: Collator, rank: int, total: int) -> None:
        self._data, self._collator, self._rank, self._total = data, collator, rank, total

    def __len__(self) -> int:
        return self._total

    def __getitem__(self, step: int) -> dict[str, Batch]:
        return {"batch": self._collator(self._data.draw(step, self._rank))}


class _FromHere(Sampler[int]):
    """Numbers of the steps still to be taken; where that begins is known only when a checkpoint has been read."""

    def __init__(self, done: Callable[[], int], total: int) -> None:
        self._done, self._total = done, total

    def __len__(self) -> int:
        return self._total

    def __iter__(self) -> Iterator[int]:
        return iter(range(self._done(), self._total))


def _without_threads(_: int) -> None:
    """In a forked worker: the tokenizer's threads were not forked with it, and waiting for them never ends."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


class _Watch(TrainerCallback):
    """Tells somebody how far the run is and what is logged; keeps ``epoch``, the share done, right when resumed."""

    def __init__(self, progress: Progress | None, logged: Callable[[dict[str, float]], None] | None) -> None:
        self._progress, self._logged = progress, logged

    def on_step_end(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        state.epoch = state.global_step / state.max_steps
        if state.global_step >= state.max_steps and args.eval_strategy != "no":
            control.should_evaluate = True  # the last step may be the best
        if self._progress is not None and state.is_world_process_zero:
            self._progress(state.global_step, state.max_steps)

    def on_log(self, args: TrainingArguments, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        del args, control
        if self._logged is not None and state.is_world_process_zero and logs:
            self._logged({**logs, "step": state.global_step})


class LookupTrainer(Trainer):
    """Trains a tower for look-up queries.

    Args:
        tower: what is trained.
        arguments: see `training_arguments`.
        config: losses, validation and the head's learning rate.
        data: what each step sees.
        collator: makes tensors of it.
        validation: what to measure on; None for nothing.
        progress: called with steps done and their number, on the first process.
        logged: called with what is logged, on the first process.
    """

    control: TrainerControl

    def __init__(
        self,
        tower: TrainableTower,
        arguments: TrainingArguments,
        config: TrainingConfig,
        data: TrainingData,
        collator: Collator,
        validation: Validation | None,
        progress: Progress | None = None,
        logged: Callable[[dict[str, float]], None] | None = None,
    ) -> None:
        self.tower, self.config, self.collator, self.validation = tower, config, collator, validation
        self._accumulation = arguments.gradient_accumulation_steps
        total = arguments.max_steps * self._accumulation
        super().__init__(
            model=tower,
            args=arguments,
            train_dataset=Steps(data, collator, arguments.process_index, total),
            eval_dataset=validation,  # that there is one is all that is looked at
            callbacks=[_Watch(progress, logged)],
        )
        self._refine_precision()
        self.remove_callback(PrinterCallback)
        self._meter = Meter(arguments.device)
        self._several = len(data.files) > 1

    def _refine_precision(self) -> None:
        """FSDP with bf16 or fp16 rounds a model's results too; the tower's are float32, as the losses need them.

        A tied head's weights it must not round either: a bias near -8 would go by 1/32. Then all weights are gathered
        in float32, and autocast computes with them as it does without FSDP.
        """
        plugin = getattr(self.accelerator.state, "fsdp_plugin", None)
        policy = getattr(plugin, "mixed_precision_policy", None)
        if plugin is not None and isinstance(policy, MixedPrecisionPolicy):
            tied = self.tower.tied is not None
            plugin.mixed_precision_policy = MixedPrecisionPolicy() if tied else replace(policy, output_dtype=None)

    @property
    def _is_sharded(self) -> bool:
        return bool(self.is_fsdp_enabled or self.is_deepspeed_enabled)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Each process makes its own batches: there is nothing to share out."""
        total = len(self.train_dataset)
        workers = self.args.dataloader_num_workers
        return DataLoader(
            self.train_dataset,
            batch_size=None,
            sampler=_FromHere(lambda: self.state.global_step * self._accumulation, total),
            num_workers=workers,
            worker_init_fn=_without_threads,
            prefetch_factor=self.args.dataloader_prefetch_factor if workers else None,
            pin_memory=self.args.dataloader_pin_memory and self.args.device.type == "cuda",
            generator=torch.Generator().manual_seed(self.args.seed),  # the default one belongs to dropout
        )

    def _prepare_inputs(self, inputs: Any) -> Any:
        return {"batch": inputs["batch"].to(self.args.device)}

    def compute_loss(
        self, model: nn.Module, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The sum of the losses asked for, over the batch of all processes.

        Raises:
            TrainingError: it is not finite.
            UsageError: several prompts in a step, with weights that are shared out.
        """
        del return_outputs, num_items_in_batch
        self._meter.begin()
        batch: Batch = inputs["batch"]
        losses = self.config.loss
        self._refuse_several_prompts(batch)
        vectors = represent(
            model,
            batch,
            lookups=losses.dense,
            sparse=losses.needs_sparse,
            sparse_queries=losses.symmetric_sparse,
        )
        if not losses.cross_encoder:  # which a file may have for some passages only, and devices then differ
            vectors = vectors._replace(ce_scores=None)
        found = gather(vectors)
        loss, terms = total_loss(found, losses, regularisation(self.state.global_step, losses.flops_ramp_steps))
        self._refuse_infinite(loss.detach(), "loss", batch)
        self._meter.add(terms, batch.tokens)
        if self._several:
            self._meter.add({f"dataset/{batch.dataset}": loss.detach()})
        return loss

    def _refuse_several_prompts(self, batch: Batch) -> None:
        """Each prompt is a run of the model of its own; with sharded weights devices must run it equally often."""
        sharded = self.is_fsdp_enabled or is_deepspeed_zero3_enabled()
        if not sharded or self.args.world_size == 1 or not self.config.loss.dense:
            return
        length = max(len(prompt) for prompt in batch.prompts)
        told = torch.tensor([len(batch.prompts), length, -length], device=self.args.device)
        torch.distributed.all_reduce(told, torch.distributed.ReduceOp.MAX)
        if told[0] > 1 or told[1] != -told[2]:
            raise UsageError(
                f"data set {batch.dataset} has several prompts in one step, and weights are shared out to devices: "
                "make it a data set for each prompt, or train without FSDP and ZeRO-3"
            )

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm)
        if isinstance(norm, DTensor):  # FSDP: each process holds a part of it
            norm = norm.full_tensor()
        if not self.args.fp16:  # whose scaler steps over an overflow by itself
            self._refuse_infinite(torch.as_tensor(norm, device=self.args.device), "gradient's norm", None)
        return norm

    def _refuse_infinite(self, value: Tensor, what: str, batch: Batch | None) -> None:
        """Stop every process before a value that is not finite reaches the weights."""
        finite = torch.isfinite(value).float()
        if self.args.world_size > 1:
            torch.distributed.all_reduce(finite, torch.distributed.ReduceOp.MIN)
        if not finite.item():
            where = f" (data set {batch.dataset})" if batch is not None else ""
            raise self._stopped(f"the {what} is {float(value):g} at step {self.state.global_step + 1}{where}")

    def _stopped(self, reason: str) -> TrainingError:
        last = last_checkpoint(Path(self.args.output_dir))
        kept = f"{last} is the last good checkpoint" if last else "no checkpoint was written yet"
        return TrainingError(f"{reason}; {kept}. Lower trainer.learning_rate and run again with --resume")

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """AdamW as Trainer makes it, a sparse head that starts from nothing having its own learning rate."""
        made = self.optimizer is None
        optimizer = super().create_optimizer(model)
        tied = self.tower.tied
        if not made or tied is None or not self.tower.new_head:
            return optimizer
        own = {id(parameter) for parameter in tied.parameters()}
        for group in list(optimizer.param_groups):
            mine = [parameter for parameter in group["params"] if id(parameter) in own]
            if mine:
                group["params"] = [parameter for parameter in group["params"] if id(parameter) not in own]
                optimizer.add_param_group({**group, "params": mine, "lr": self.config.head_learning_rate})
        return optimizer

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """What Trainer logs, with every loss by its name, tokens per second, and each device's memory."""
        if "loss" in logs:
            logs = {**logs, **self._meter.drain()}
        super().log(logs, start_time)

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """nDCG@10 of the look-up path, dense, sparse and hybrid as far as they are trained."""
        del eval_dataset, ignore_keys
        assert self.validation is not None
        started = time.monotonic()
        model: nn.Module = self.model_wrapped if self._is_sharded else self.model
        model.eval()
        found = measure(
            model,
            self.validation,
            self.collator,
            self.tower.vocab_size,
            self.config.arms,
            self.config.validation.batch,
            self.args.device,
            Processes(self.args.process_index, self.args.world_size),
        )
        model.train()
        if any(isnan(value) for value in found.values()):
            raise self._stopped(f"the tower's vectors hold NaN or infinity after step {self.state.global_step}")
        seconds = time.monotonic() - started
        self._meter.pause(seconds)
        metrics = {f"{metric_key_prefix}_{arm}_ndcg@10": value for arm, value in found.items()}
        metrics[f"{metric_key_prefix}_seconds"] = seconds
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        if self.args.should_save:
            self.tower.save(Path(output_dir or self.args.output_dir), state_dict)

    def save_whole(self, folder: Path) -> None:
        """Save the weights at hand, gathered from all processes; every one must call it."""
        if self.is_fsdp_enabled:
            self.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")
        self.save_model(str(folder), _internal_call=True)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        started = time.monotonic()
        super()._save_checkpoint(model, trial)
        self._meter.pause(time.monotonic() - started)

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        self.wait()  # the state file, which comes next, says that all is there

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        if self._is_sharded:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            self.tower.restore(Path(resume_from_checkpoint))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """As Trainer does, but learning rates are those of the settings: who lowered one resumes with the lower."""
        wanted = [group.get("initial_lr", group["lr"]) for group in self._groups()]
        super()._load_optimizer_and_scheduler(checkpoint)
        scheduler = getattr(self.lr_scheduler, "scheduler", self.lr_scheduler)  # in accelerate's wrapper
        if checkpoint is None or not isinstance(scheduler, LambdaLR) or scheduler.base_lrs == wanted:
            return
        scheduler.base_lrs = wanted
        for group, base, shape in zip(self._groups(), wanted, scheduler.lr_lambdas, strict=True):
            group |= {"initial_lr": base, "lr": base * shape(scheduler.last_epoch)}
        scheduler._last_lr = [group["lr"] for group in self._groups()]

    def _groups(self) -> list[dict[str, Any]]:
        return self.optimizer.param_groups if isinstance(self.optimizer, torch.optim.Optimizer) else []

    def _load_best_model(self) -> None:
        if self._is_sharded:
            super()._load_best_model()
        else:
            self.tower.restore(Path(str(self.state.best_model_checkpoint)))

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Make the hub's repository before the work.

        Raises:
            TrainingError: the hub cannot be reached, or refuses.
        """
        try:
            # Older versions know nothing of the second, and never give it.
            super().init_hf_repo(token) if private is None else super().init_hf_repo(token, private)
        except Exception as error:  # of several libraries; all mean the same here
            reason = " ".join(str(error).split())[:200]
            raise TrainingError(f"the hub cannot be written to ({reason}): set trainer.push_to_hub to false") from None

    def upload(self) -> None:
        """Upload the finished folder, without checkpoints; every process must call it.

        Raises:
            TrainingError: the hub cannot be reached, or refuses; the folder is complete.
        """
        try:
            self.push_to_hub()
        except Exception as error:  # of several libraries; all mean the same here
            reason = " ".join(str(error).split())[:200]
            raise TrainingError(
                f"{self.args.output_dir} is complete but not uploaded ({reason}): run hf upload, or again with --resume"
            ) from None

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Nothing: the folder has its card already when Trainer uploads it."""

    def wait(self) -> None:
        """Until every process is here."""
        if self.args.world_size > 1:
            torch.distributed.barrier()


def last_checkpoint(output: Path) -> Path | None:
    """The newest checkpoint of a run that is complete; None if there is none."""
    found = []
    for folder in output.glob("checkpoint-*"):
        number = folder.name.rpartition("-")[2]
        if number.isdecimal() and _is_complete(folder):
            found.append((int(number), folder))
    return max(found)[1] if found else None


def _is_complete(checkpoint: Path) -> bool:
    try:
        return isinstance(json.loads((checkpoint / STATE).read_text(encoding="utf-8")), dict)
    except (OSError, ValueError):
        return False
