"""What a run leaves: the tower's own files, the settings, the history, its curves, and a card that tells all of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryFile

from lightretriever.artifact import as_any_new, fsync_path, sha256_file
from lightretriever.errors import ArtifactError, UsageError
from lightretriever.training.config import ARMS, TRAINER_DEFAULTS, TrainingConfig
from lightretriever.training.curves import History, plot_curves
from lightretriever.training.example_file import describe_counts
from lightretriever.training.mined_files import describe_mined
from lightretriever.training.sampling import TrainingData
from lightretriever.training.toml import as_tables, read_tables

SETTINGS = "training.toml"
HISTORY = "history.json"
CARD = "README.md"
CURVES = "curves.png"
# What says that a folder is a model: moved in last, so that nobody loads half of one.
_ANNOUNCING = ("adapter_config.json", "config.json", "modules.json")
# What a resumed run must have in common with its beginning; the rest may change, a longer run being one reason.
_BINDING = ("model", "data", "loss", "batch", "seed", "validation", "trainer")
_PARTS = "gradient_accumulation_steps"
_FREE = ("chunk", "gradient_checkpointing")  # of the model: they change memory, not results


@dataclass(frozen=True, slots=True)
class Summary:
    """What a card tells.

    Attributes:
        config: the settings.
        name: of the folder that is written.
        base: the base model's name, a folder's own.
        data: what was trained on, without what was held out.
        held_out: examples set aside, for each file.
        validation: what was measured on, "" for nothing.
        history: what was logged.
        steps: taken in all.
        best_step: of the weights that are written.
        parameters: trained, and in all.
        processes, device, seconds: of the run, the last time it was started.
    """

    config: TrainingConfig
    name: str
    base: str
    data: TrainingData
    held_out: Sequence[int]
    validation: str
    history: History
    steps: int
    best_step: int
    parameters: tuple[int, int]
    processes: int
    device: str
    seconds: float

    @property
    def measures(self) -> dict[str, float]:
        """nDCG@10 of each arm at ``best_step``."""
        return self.measured_at(self.best_step)

    def measured_at(self, step: int) -> dict[str, float]:
        """nDCG@10 of each arm after a step, 0 being the untrained tower; empty if it was not measured then."""
        found: dict[str, float] = {}
        for line in self.history:
            if line.get("step") == step:
                found |= {name: value for name, value in line.items() if name.endswith("_ndcg@10")}
        return {arm: found[f"eval_{arm}_ndcg@10"] for arm in ARMS if f"eval_{arm}_ndcg@10" in found}


def check_output(output: Path, resume: bool) -> None:
    """Fail before the work where the output cannot be written, or holds something.

    Raises:
        ArtifactError: it is a file, cannot be made or written, or holds something and ``resume`` is not asked for.
    """
    if output.is_dir() and any(output.iterdir()) and not resume:
        way = "go on with --resume, " if (output / SETTINGS).is_file() else ""
        raise ArtifactError(f"{output} holds something already: {way}remove it or choose another output")
    if resume and not (output / SETTINGS).is_file():
        raise ArtifactError(f"{output} holds no run ({SETTINGS} is not there): start it without --resume")
    try:
        output.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=output):
            pass
    except OSError as error:
        raise ArtifactError(f"{output} cannot be written ({error.strerror}): choose another output") from None


def check_same_run(config: TrainingConfig, output: Path) -> None:
    """See that a run to be resumed has the settings that it began with, as far as its results hang on them.

    Raises:
        UsageError: it has others; the first is named.
    """
    before, now = read_tables(output / SETTINGS), as_tables(config)
    validations = [tables.get("validation", {}) for tables in (before, now)]
    for tables, validation in zip((before, now), validations, strict=True):
        tables["model"] = {name: value for name, value in tables.get("model", {}).items() if name not in _FREE}
        tables["validation"] = {name: validation.get(name) for name in _measure_names(*validations)}
        tables["validation"]["arm"] = validation.get("arm") or config.arms[-1]
        tables["trainer"] = {_PARTS: tables.get("trainer", {}).get(_PARTS, 1)}
    for name in _BINDING:
        place, old, new = name, _numbered(before.get(name)), _numbered(now.get(name))
        while isinstance(old, dict) and isinstance(new, dict) and old != new:
            key = next(key for key in {**old, **new} if old.get(key) != new.get(key))
            place, old, new = f"{place}.{key}", _numbered(old.get(key)), _numbered(new.get(key))
        if old != new:
            only_then = Path(str(old)).parent == Path(f"{config.output}.mined") != Path(str(new)).parent
            way = "give --mine as then" if place.endswith(".path") and only_then else "set it back"
            raise UsageError(
                f"{output} was begun with {place} = {old!r}, now it is {new!r}: {way}, or choose another output"
            )


def _measure_names(before: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    """Of [validation], what decides which examples are held out of training, and on what a best step is measured."""
    if before.get("data") or now.get("data"):
        return ["data", "split", "documents"]
    if bool(before.get("every")) != bool(now.get("every")):
        return ["every"]
    return ["examples"] if now.get("every") else []


def _numbered(value: object) -> object:
    """A list as a table of its places, as --set names them."""
    return {str(i): part for i, part in enumerate(value)} if isinstance(value, list) else value


def publish(staged: Path, output: Path) -> None:
    """Move a finished folder's files into the run's own, what makes it a model last."""
    files = [path for path in staged.rglob("*") if path.is_file()]
    for path in sorted(files, key=lambda path: (path.name in _ANNOUNCING, path)):
        fsync_path(path)
        target = output / path.relative_to(staged)
        target.parent.mkdir(exist_ok=True)
        as_any_new(path)
        path.replace(target)
    for folder in sorted((path for path in staged.rglob("*") if path.is_dir()), reverse=True):
        folder.rmdir()
    staged.rmdir()
    fsync_path(output)


def write_summary(folder: Path, summary: Summary) -> None:
    """Write settings, history, curves and card beside the weights."""
    (folder / SETTINGS).write_text(summary.config.text(), encoding="utf-8")
    told = {
        "best_step": summary.best_step,
        "ndcg@10": summary.measures,
        "validation": summary.validation,
        "log": list(summary.history),
    }
    (folder / HISTORY).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    plot_curves(summary.history, folder / CURVES, summary.best_step)
    (folder / CARD).write_text(_card(summary), encoding="utf-8")


def _batches(data: TrainingData, parts: int) -> list[str]:
    """What a step sees of each data set: fewer queries where there are no more, positives alone where no negatives."""
    queries = [data.schedule.share(i) * data.schedule.world * parts for i in range(len(data.files))]
    passages = [data.passages(i) for i in range(len(data.files))]
    return [f"{q} queries × {p} passage{'s' * (p > 1)}" for q, p in zip(queries, passages, strict=True)]


def _card(summary: Summary) -> str:
    config = summary.config
    base = summary.base
    front = ["---", "library_name: lightretriever", "tags: [lightretriever, retrieval, sparse, dense]"]
    if base == config.model.base and "/" in base:
        front.append(f"base_model: {base}")
    settings = {**TRAINER_DEFAULTS, **config.trainer}
    parts = int(str(settings.get(_PARTS, 1)))
    batches = _batches(summary.data, parts)
    same = len(set(batches)) == 1  # else each is told with its data set
    rows = [
        ("base model", base),
        ("weights", f"LoRA, r {config.model.rank}, alpha {config.model.alpha:g}, dropout {config.model.dropout:g}")
        if config.model.adapter == "lora"
        else ("weights", "all of them"),
        ("trained parameters", f"{summary.parameters[0]:,} of {summary.parameters[1]:,}"),
        ("steps", f"{summary.steps:,}; the weights are those of step {summary.best_step:,}"),
        ("batch", (batches[0] if same else "that of the data set, see there")
                  + (f", in {parts} accumulated parts" if parts > 1 else "")),
        ("learning rate", f"{settings['learning_rate']}, {settings['lr_scheduler_type']}, "
                          f"{settings['warmup_steps']} steps of warm-up"),
        ("weight decay, clipping", f"{settings['weight_decay']}, {settings['max_grad_norm']}"),
        ("precision", "bf16" if settings.get("bf16") else "fp16" if settings.get("fp16") else "float32"),
        ("seed", str(config.seed)),
        ("processes", f"{summary.processes}, {summary.device}"),
        ("time", f"{summary.seconds:,.0f} s since it was last started"),
    ]  # fmt: skip
    steps = [line for line in summary.history if "tokens_per_second" in line]
    if steps:
        memory = [f"{value:.2f} GB" for name, value in steps[-1].items() if name.startswith("peak_memory_gb")]
        speed = median(line["tokens_per_second"] for line in steps)
        rows.append(("cost", f"{speed:,.0f} tokens per second (median), {', '.join(memory)} at the peak"))
    data = []
    files = zip(summary.data.files, config.data.files, summary.held_out, batches, strict=True)
    for file, options, held, batch in files:
        told = f"{file.kind.name}: {describe_counts(file.counts)}; {len(file):,} trained on" + (
            f", {held:,} held out" if held else ""
        )
        told += f"; mined: {mined}" if (mined := describe_mined(file.path)) else ""
        told += "" if same else f"; {batch} a batch"
        data.append(f"| {options.label} | {options.weight:g} | {told} | `{sha256_file(file.path)}` |")
    before = {arm: f"{value:.4f}" for arm, value in summary.measured_at(0).items()}
    measures = [f"| {arm} | {before.get(arm, '')} | {value:.4f} |" for arm, value in summary.measures.items()]
    text = [
        *front,
        "---",
        f"# {summary.name}",
        "",
        "A document tower for [LightRetriever](https://arxiv.org/abs/2505.12260): queries need no model, their vectors "
        "are the mean of rows of a token table, and their tokens' counts.",
        "",
        "```sh",
        "lightretriever cache . -o table          # the queries' token table",
        "lightretriever index CORPUS --model . --table table -o the.index",
        "```",
        "",
        "## Training",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in rows),
        "",
        f"All settings: `{SETTINGS}`. Everything that was logged: `{HISTORY}`.",
        "",
        "## Data",
        "",
        "| data set | weight | examples | SHA-256 |",
        "|---|--:|---|---|",
        *data,
        "",
        "## Measures",
        "",
    ]
    if measures:
        where = f" on {summary.validation}" if summary.validation else ", measured before the run was resumed"
        text += [
            f"nDCG@10 of look-up queries{where}:",
            "",
            "| arm | untrained | nDCG@10 |",
            "|---|--:|--:|",
            *measures,
            "",
        ]
    else:
        text += ["These weights were not measured.", ""]
    text += [f"![losses, nDCG@10 and speed over the steps]({CURVES})", ""]
    return "\n".join(text)
