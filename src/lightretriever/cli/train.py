"""``train``: a document tower trained to expect look-up queries."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lightretriever.cli.console import LINE_EVERY, folder_size, format_bytes, progress, refuse_existing, say

if TYPE_CHECKING:
    from lightretriever.training.config import TrainingConfig

EXAMPLE = "lightretriever train tower.toml --set trainer.max_steps=1000"


def command(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG.toml", help="All settings of the run, see docs/training.md.")
    ],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Override a setting: --set model.rank=8; repeatable."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last complete checkpoint in the output folder.")
    ] = False,
    merge: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Also write a plain model folder there, the trained weights merged in."),
    ] = None,
    mine: Annotated[
        Path | None,
        typer.Option(
            metavar="INDEX", help="First mine hard negatives from this index, into OUTPUT.mined, and train on them."
        ),
    ] = None,
) -> None:
    """Train a document tower by contrast, the queries being look-ups, as they will be in use.

    Several devices: torchrun --nproc-per-node N -m lightretriever train CONFIG.toml; FSDP and DeepSpeed through the
    [trainer] table. Every process of a run is given the same command line.
    """
    is_first = os.environ.get("RANK", "0") == "0"
    if merge is not None and is_first:
        refuse_existing(merge)
    from lightretriever.training.inputs import check_inputs

    check_inputs(config, settings or ())
    from lightretriever.training.config import read_config

    read = read_config(config, settings or ())
    try:
        _run(read, resume, merge, mine, is_first)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_interrupted(Path(read.output), mine is not None)) from None


def _run(read: TrainingConfig, resume: bool, merge: Path | None, mine: Path | None, is_first: bool) -> None:
    from lightretriever.training.mined_files import mine_files
    from lightretriever.training.output import check_output
    from lightretriever.training.run import merge_tower, train

    if mine is not None:
        check_output(Path(read.output), resume)
        with progress("mining", "examples") as report:
            read = mine_files(read, mine, report, say if is_first else None)
    with progress("training", "steps") as report:
        trained = train(read, resume=resume, progress=report, logged=_log_lines(), notice=say)
    _part()
    if not is_first:
        return
    found = ", ".join(f"{arm} {value:.4f}" for arm, value in trained.measures.items())
    say(f"{trained.folder}: the weights of step {trained.best_step:,}" + (f", nDCG@10 {found}" if found else ""))
    if merge is not None:
        merge_tower(read, merge)
        say(f"{merge}: a plain model folder, {format_bytes(folder_size(merge))}")


def _part() -> None:
    """Leave the processes that trained together: their threads, still running, can end this one with an abort when it
    exits."""
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def _interrupted(output: Path, mining: bool) -> str:
    """What is said of an interrupted run; its settings are written when the training itself begins."""
    from lightretriever.training.output import SETTINGS

    if (output / SETTINGS).is_file():
        return "interrupted: what is trained up to the last checkpoint is kept, --resume goes on from there"
    kept = ", mined files that are complete are kept: run the same command again" if mining else ""
    return f"interrupted: nothing is trained yet{kept}"


def _log_lines() -> Callable[[dict[str, float]], None]:
    """Shows what is logged: every measurement, and losses and cost at most every few seconds."""
    printed = float("-inf")

    def show(line: dict[str, float]) -> None:
        nonlocal printed
        step = f"step {int(line['step']):,}: "
        measured = [f"{name[5:-8]} {value:.4f}" for name, value in line.items() if name.endswith("_ndcg@10")]
        if measured:
            say(f"{step}nDCG@10 {', '.join(measured)}")
        if "tokens_per_second" not in line or time.monotonic() - printed < LINE_EVERY:
            return
        printed = time.monotonic()
        told = ("loss", "grad_norm", "learning_rate", "epoch", "step", "tokens_per_second")
        aside = ("peak_memory_gb", "stats/", "dataset/")
        terms = [
            f"{name} {value:.4g}" for name, value in line.items() if name not in told and not name.startswith(aside)
        ]
        memory = [f"{value:.2f}" for name, value in line.items() if name.startswith("peak_memory_gb")]
        say(
            f"{step}loss {line['loss']:.4g} ({', '.join(terms)}), {line['tokens_per_second']:,.0f} tokens/s, "
            f"peak memory {' + '.join(memory)} GB"
        )

    return show
