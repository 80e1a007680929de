"""What a table's folder says of itself, `table.json`: read field by field, and every file that it names checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightretriever.artifact import read_manifest, sha256_bytes, write_json
from lightretriever.checked import choice, flag, items, mapping, optional, read_fields, record, text, whole
from lightretriever.checksum import CHECKSUMS, check_files, take_checksums
from lightretriever.errors import ArtifactError
from lightretriever.text.memo import RULES

MANIFEST = "table.json"  # not config.json, which model2vec would take for one of its own
WEIGHTS, TOKENIZER = "model.safetensors", "tokenizer.json"
PHRASES, ROTATION, EVIDENCE = "phrases.safetensors", "rotation.safetensors", "evidence.safetensors"
KIND, FORMAT_VERSION = "token table", 1
COUNTS = ("sum", "bow")
DTYPES = ("float32", "float16", "int8")
_WAY_OUT = "make the table again"
_MOST = 1 << 31  # rows: ids are int32
_WIDEST = 1 << 16


def _shape(value: Any) -> tuple[int, int]:
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError("a list of two whole numbers is needed")
    return whole(0, _MOST)(value[0]), whole(1, _WIDEST)(value[1])


def _flat_enough(value: Any, deeper: int = 16) -> Any:
    """What a fit says of itself: anything, nested a little."""
    if isinstance(value, dict | list):
        if not deeper:
            raise ValueError("is nested too deep")
        for held in value.values() if isinstance(value, dict) else value:
            _flat_enough(held, deeper - 1)
    return value


_FIELDS = {
    "kind": choice(KIND),
    "format_version": whole(1, FORMAT_VERSION),
    "dtype": choice(*DTYPES),
    "shape": _shape,
    "rotation": optional(_shape),
    "phrases": optional(record({"count": whole(1, _MOST), "whole": whole(0, _MOST), "sha256": text(64, empty=False)})),
    "evidence": flag,
    "weights_sha256": text(64, empty=False),
    "model": text(),
    "revision": text(),
    "prompt": text(),
    "tokenizer_hash": text(64, empty=False),
    "max_length": whole(1, _MOST),
    "skip_ids": items(whole(0, _MOST)),
    "leading_space": flag,
    "chunks": choice(*RULES),
    "counts": choice(*COUNTS),
    "fitted": mapping(_flat_enough),
    "files": CHECKSUMS,
    "sha256": text(64, empty=False),
}


def write_table_manifest(folder: Path, fields: Mapping[str, object]) -> None:
    """Write ``table.json`` beside the table's other files: their checksums are in it, and one of itself.

    Args:
        fields: all that there are but those of the file's kind and of checksums.
    """
    said: dict[str, object] = {"kind": KIND, "format_version": FORMAT_VERSION, **fields}
    said["files"] = take_checksums(folder, _files(said))
    write_json(folder / MANIFEST, said | {"sha256": _digest(json.loads(json.dumps(said)))})


def read_table_manifest(folder: Path) -> dict[str, Any]:
    """What a table's folder says of itself, its files having been compared with what was written.

    Raises:
        ArtifactError: it is no table's folder, from a newer version, or a file or field is absent or damaged; named.
    """
    if folder.is_dir() and not (folder / MANIFEST).is_file():
        raise ArtifactError(f"{folder} is no token table: it has no {MANIFEST}")
    stored = read_manifest(folder, KIND, FORMAT_VERSION, MANIFEST)
    fields = read_fields(stored, _FIELDS, folder / MANIFEST, _WAY_OUT)
    checksums = fields["files"]
    if set(checksums) != set(_files(fields)):
        raise ArtifactError(f"{folder / MANIFEST} is damaged: 'files' names {sorted(checksums)}: {_WAY_OUT}")
    if stored.pop("sha256") != _digest(stored):
        raise ArtifactError(f"{folder / MANIFEST} is damaged (it is not what was written): {_WAY_OUT}")
    check_files(folder, checksums)
    return fields


def _files(fields: Mapping[str, object]) -> list[str]:
    """The files that a table with these fields has."""
    parts = {"phrases": PHRASES, "rotation": ROTATION, "evidence": EVIDENCE}
    return [WEIGHTS, TOKENIZER, *(file for part, file in parts.items() if fields[part])]


def _digest(fields: Mapping[str, object]) -> str:
    return sha256_bytes(json.dumps(fields, sort_keys=True).encode())
