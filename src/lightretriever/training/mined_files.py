"""A run's mined files, in ``OUTPUT.mined``: each ``NAME.jsonl``, and ``NAME.mined.json`` that says what made it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from glob import escape
from pathlib import Path

from lightretriever.artifact import read_json, sha256_file, write_json
from lightretriever.errors import ArtifactError, InputError, UsageError
from lightretriever.progress import Progress
from lightretriever.training.config import TrainingConfig
from lightretriever.training.exclusion import Exclusion
from lightretriever.training.mining import describe_mining, mine_negatives
from lightretriever.training.sampling import DataFile
from lightretriever.training.searches import index_search

KIND = "mined examples"


def mine_files(
    config: TrainingConfig, index: Path, progress: Progress | None = None, notice: Callable[[str], None] | None = None
) -> TrainingConfig:
    """Mine hard negatives for every training file, by the dense side of an index; what is mined already is kept.

    Args:
        config: whose files are mined for, and how; an evaluation set that it excludes is not mined from either.
        index: an index folder of the documents to mine from.
        progress: called with examples done and their number, in the process that mines.
        notice: called with one line for each file.

    Returns:
        The settings, with the mined files, in ``OUTPUT.mined``, in place of those given.

    Raises:
        UsageError: two files of one name, a name that is none of a file, or a file that is there was mined from
            something else, or otherwise.
        InputError: a training file cannot be read.
        ArtifactError: no index.
    """
    named = Path(f"{config.output}.mined")  # as the settings keep it
    folder = named.absolute()
    tell = notice if notice is not None else lambda _: None
    files = config.data.files
    for file in files:
        if file.label.startswith(".") or any(sign in file.label for sign in "/\\\0"):
            raise UsageError(
                f"data.files has the name {file.label!r}, which cannot be a mined file's: set one without / and \\ "
                "and with no dot before it"
            )
    places = [folder / f"{file.label}.jsonl" for file in files]
    if len(set(places)) < len(places):
        raise UsageError("two of data.files have the same name: set name for each")
    from lightretriever.index.index import Index

    with Index.open(index) as opened:
        settings, count = opened.settings, opened.count
    indexed = {
        **{f"{name} of the index": getattr(settings, name) for name in ("model", "revision", "table_hash")},
        "documents of the index": count,
    }
    made = [_made(config, file, indexed) for file in files]
    if os.environ.get("RANK", "0") != "0":
        while not all(map(_is_mined, places)):  # the first process mines; a barrier would time out
            time.sleep(1)
    for place, origin in zip(places, made, strict=True):
        if _is_mined(place):
            told = _check_same(place, origin)
            tell(f"{place} is there and used, remove it to mine again: {told}")
    if not all(map(_is_mined, places)):
        exclusion = Exclusion.of(config.data.exclude) if config.data.exclude else None
        with Index.open(index) as opened:
            search = index_search(opened, "dense")
            for place, file, origin in zip(places, files, made, strict=True):
                if _is_mined(place):
                    continue
                _record(place).unlink(missing_ok=True)
                for name in (place.name, _record(place).name):
                    for left in folder.glob(f".{escape(name)}.*"):  # by a process that was killed
                        left.unlink()
                limit = config.data.max_examples
                counts = mine_negatives(file.path, place, search, config.mining, exclusion, progress, limit)
                told = describe_mining(counts)
                write_json(_record(place), {"kind": KIND, "made": origin, "counts": asdict(counts), "told": told})
                tell(f"{place}: {told}")
    mined = tuple(
        replace(file, path=str(named / place.name), name=file.label) for place, file in zip(places, files, strict=True)
    )
    return replace(config, data=replace(config.data, files=mined))


def describe_mined(path: Path) -> str:
    """What was said when a training file was mined; "" for one that was not, or whose record is gone."""
    try:
        record = read_json(_record(path))
    except ArtifactError:
        return ""
    return str(record.get("told", "")) if record.get("kind") == KIND else ""


def _record(place: Path) -> Path:
    return place.with_name(f"{place.stem}.mined.json")


def _is_mined(place: Path) -> bool:
    return place.is_file() and _record(place).is_file()  # the record is written last


def _made(config: TrainingConfig, file: DataFile, indexed: Mapping[str, object]) -> dict[str, object]:
    """What decides a mined file's lines, by the names that a message gives them."""
    try:
        source = sha256_file(file.path)
    except OSError as error:
        raise InputError(f"{file.path} cannot be read ({error.strerror})") from None
    return {
        "its source's SHA-256": source,
        **indexed,
        **{f"mining.{name}": value for name, value in asdict(config.mining).items()},
        "data.max_examples": config.data.max_examples,
        "data.exclude": list(config.data.exclude),
    }


def _check_same(place: Path, now: Mapping[str, object]) -> str:
    """See that a mined file would be made of the same today; returns what was said of it."""
    record = read_json(_record(place))
    before = record.get("made")
    before = before if isinstance(before, dict) else {}
    for name, value in now.items():
        if before.get(name) != value:
            raise UsageError(
                f"{place} was mined with {name} = {before.get(name)!r}, now it is {value!r}: "
                f"set it back, or remove {place} to mine again"
            )
    return str(record.get("told", ""))
