"""What a run reads, looked at before torch is loaded: a wrong path or format is refused at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lightretriever.errors import UsageError
from lightretriever.evaluation.collection import begin_collection
from lightretriever.training.example_file import check_first
from lightretriever.training.sampling import DataConfig
from lightretriever.training.toml import convert, read_tables


def check_inputs(path: str | Path, overrides: Iterable[str] = ()) -> None:
    """Read the first example of each training file and the first document of each collection that settings name.

    Settings that make no sense are left to `lightretriever.training.config.read_config`, which knows them all.

    Args:
        path, overrides: as for `read_config`.

    Raises:
        InputError: no TOML, or a file or collection that cannot be read.
        UsageError: an override that is none.
    """
    tables = read_tables(path, overrides)
    try:
        data: DataConfig = convert(DataConfig, tables.get("data", {}), "data")
    except UsageError:
        return
    for file in data.files:
        check_first(file.path)
    for folder in data.exclude:
        begin_collection(folder, "test")
    validation = _table(tables.get("validation"))
    folder, split = validation.get("data", ""), validation.get("split", "dev")
    if folder and isinstance(folder, str) and isinstance(split, str) and validation.get("every", 1):
        begin_collection(folder, split)


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
