"""What a model's tokens add to texts, kept on this machine: a vocabulary takes a minute to hours to run.

    CACHE/token-rows/KEY/       KEY: a hash over the model's revision, its tokenizer and the prompt
      rows.safetensors          rows: float32 [V, d], of `general_rows`
      manifest.json             what they belong to, and the file's SHA-256; written last

Nothing there is trusted: what is damaged is made again. Nothing there is needed: where it cannot be written, fits go on
without. At most `LIMIT` bytes are kept; what was used longest ago goes first.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
from numpy.typing import NDArray

from lightretriever.artifact import (
    MANIFEST,
    load_tensors,
    read_manifest,
    save_tensors,
    sha256_bytes,
    sha256_file,
    write_json,
    writing,
)
from lightretriever.checked import items, read_fields, text, whole
from lightretriever.errors import ArtifactError
from lightretriever.user_cache import VARIABLE, cache_folder

KIND = "token rows"
FORMAT_VERSION = 2
ROWS = "rows.safetensors"
LIMIT = 4 << 30
"""Bytes of all models' rows together."""
_HEADER = 4096  # bytes of a safetensors file beside its numbers, at most
_FIELDS = {
    "kind": text(),
    "format_version": whole(),
    "model": text(),
    "revision": text(),
    "tokenizer": text(),
    "prompt": text(),
    "shape": items(whole(), 2),
    "sha256": text(64),
}


@dataclass(frozen=True, slots=True)
class ModelRows:
    """What each token of a model's vocabulary adds to a text.

    Attributes:
        rows: float32 [V, d], un-normalised.
        model: its name.
        prompt: what stands before the text.
    """

    rows: NDArray[np.float32]
    model: str
    prompt: str


@dataclass(frozen=True, slots=True)
class RowsKey:
    """What decides the rows.

    Attributes:
        revision: of the model, a commit or a hash over its weights and settings, pooling among them.
        tokenizer: its hash.
        prompt: what stands before the text; None for the model's own, which its settings decide.
    """

    revision: str
    tokenizer: str
    prompt: str | None

    @property
    def name(self) -> str:
        """A folder's name."""
        parts = json.dumps([FORMAT_VERSION, "float32", self.revision, self.tokenizer, self.prompt])
        return sha256_bytes(parts.encode())[:32]


def stored_rows(key: RowsKey) -> ModelRows | None:
    """The rows kept under a key; None where there are none, or none that are whole (which is told)."""
    try:
        folder = _folder() / key.name
    except ArtifactError:
        return None
    if not folder.is_dir():
        return None
    try:
        found = _read(folder, key)
    except (ArtifactError, OSError) as error:
        warnings.warn(f"{folder} is damaged ({error}): the model's token rows are made again", stacklevel=3)
        return None
    with suppress(OSError):  # another user's, or read-only: it is read all the same
        os.utime(folder / MANIFEST)  # used last now
    return found


def rows_kept(key: RowsKey, make: Callable[[], ModelRows]) -> ModelRows:
    """The rows kept under a key, or those that ``make`` gives, which are kept from here on."""
    return stored_rows(key) or make_rows(key, make)


def make_rows(key: RowsKey, make: Callable[[], ModelRows]) -> ModelRows:
    """The rows that ``make`` gives, which are kept from here on; where they cannot be, that is said before it runs."""
    try:
        store = _folder()
        with writing(store):
            store.mkdir(parents=True, exist_ok=True)
            TemporaryFile(dir=store).close()
    except (ArtifactError, OSError) as error:
        _say_that_they_are_not_kept(error)
        return make()
    found = make()
    try:
        _write(store, key, found)
    except (ArtifactError, OSError) as error:  # a disk that is full now
        _say_that_they_are_not_kept(error)
    return found


def _say_that_they_are_not_kept(error: Exception) -> None:
    warnings.warn(
        f"the model's token rows cannot be kept for the next fit ({error}): name a folder that can be written with "
        f"{VARIABLE}",
        stacklevel=4,
    )


def _folder() -> Path:
    return cache_folder() / "token-rows"


def _read(folder: Path, key: RowsKey) -> ModelRows:
    file = folder / MANIFEST
    facts = read_fields(read_manifest(folder, KIND, FORMAT_VERSION), _FIELDS, file, "remove the folder")
    if (facts["revision"], facts["tokenizer"]) != (key.revision, key.tokenizer) or key.prompt not in (
        None,
        facts["prompt"],
    ):
        raise ArtifactError(f"{file} belongs to something else")
    if (folder / ROWS).stat().st_size > 4 * prod(facts["shape"]) + _HEADER:
        raise ArtifactError(f"{folder / ROWS} is longer than it should be")
    if facts["sha256"] != sha256_file(folder / ROWS):
        raise ArtifactError(f"{folder / ROWS} does not match its checksum")
    rows = load_tensors(folder / ROWS).get("rows")
    if rows is None or rows.dtype != np.float32 or list(rows.shape) != facts["shape"]:
        raise ArtifactError(f"{folder / ROWS} holds other rows than {MANIFEST} says")
    return ModelRows(rows, facts["model"], facts["prompt"])


def _write(store: Path, key: RowsKey, found: ModelRows) -> None:
    if not key.revision or found.rows.nbytes > LIMIT:
        return
    folder = store / key.name
    save_tensors(folder / ROWS, {"rows": found.rows})
    write_json(
        folder / MANIFEST,
        {
            "kind": KIND,
            "format_version": FORMAT_VERSION,
            "model": found.model,
            "revision": key.revision,
            "tokenizer": key.tokenizer,
            "prompt": found.prompt,
            "shape": list(found.rows.shape),
            "sha256": sha256_file(folder / ROWS),
        },
    )
    _make_room(store, folder)


def _make_room(store: Path, newest: Path) -> None:
    """Remove what was used longest ago until `LIMIT` holds, but never ``newest``."""
    others = []
    total = _size(newest)
    for folder in store.iterdir():
        manifest = folder / MANIFEST
        if folder != newest and manifest.is_file():
            others.append((manifest.stat().st_mtime, folder))
            total += _size(folder)
    for _, folder in sorted(others):
        if total <= LIMIT:
            return
        total -= _size(folder)
        for file in (folder / MANIFEST, folder / ROWS):  # the manifest first: what has none is not read
            file.unlink(missing_ok=True)
        for file in folder.glob(".*"):  # what a killed process left there
            file.unlink(missing_ok=True)
        folder.rmdir()


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())
