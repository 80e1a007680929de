"""``info``: what a table, a vectors folder, an index or a model folder is."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from lightretriever.cli.characters import plain
from lightretriever.cli.console import columns, folder_size, format_bytes, print_json, shorten
from lightretriever.cli.options import AsJson
from lightretriever.counted import counted
from lightretriever.errors import ArtifactError, InputError
from lightretriever.regular_file import file_size

EXAMPLE = "lightretriever info everest.index"

SHARES = {
    "unknown_to_table": "these tokens",
    "drift": "the documents, since BM25 counted them",
    "vocabulary_covered": "the tokenizer's tokens are in these texts",
    "occurrences_covered": "new text's tokens are, as expected",
}
"""Facts that are shares of a whole, and of which."""
COUNTS = {
    "unoptimised": "{} written or removed since all was built",
    "fresh": "{} in no segment yet, searched one by one",
}
"""Facts that are numbers of documents, and of which."""
Facts = Mapping[str, object]


def command(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A table, vectors, index or model folder.")],
    as_json: AsJson = False,
) -> None:
    """Say what a folder is: kind, sizes, versions, prompt, hashes."""
    facts = describe(path)
    if as_json:
        print_json(facts)
    else:
        print(_lines(facts))


def describe(path: Path) -> dict[str, object]:
    """What there is to say about a folder; "kind" says which of the four it is.

    Raises:
        InputError: no such path.
        ArtifactError: it is none of them, or damaged.
    """
    from lightretriever.index.store.database import FILE

    if not path.exists():
        raise InputError(f"{path} does not exist")
    kinds = {
        "index": (path / FILE).exists() or _manifest_kind(path) == "index",
        "vectors": _manifest_kind(path) == "vectors",
        "table": _manifest_kind(path, "table.json") == "token table",
        "model": (path / "config.json").is_file() or (path / "adapter_config.json").is_file(),
    }
    kind = next((kind for kind, is_it in kinds.items() if is_it), None)
    if kind is None:
        _refuse_unreadable(path)
        raise ArtifactError(f"{path} is no table, vectors, index or model folder")
    describe_kind = {"index": _index, "vectors": _vectors, "table": _table, "model": _model}[kind]
    return {"kind": kind, "path": str(path), **describe_kind(path), "bytes": folder_size(path)}


def _manifest_kind(path: Path, name: str = "manifest.json") -> object:
    return _read(path / name).get("kind")


def _refuse_unreadable(path: Path) -> None:
    """Say why a manifest that is there cannot be read, rather than that there is none. Raises ArtifactError."""
    for name in ("manifest.json", "table.json"):
        file = path / name
        try:
            if os.path.lexists(file):
                file_size(file)
                file.open("rb").close()
        except OSError as error:
            raise ArtifactError(f"{file} cannot be read ({error.strerror}): see to it, or to its permissions") from None


def _index(path: Path) -> dict[str, object]:
    from lightretriever.index.index import Index
    from lightretriever.index.store.schema import VERSION

    with Index.open(path) as index:
        return {"format version": VERSION, **index.info()}


def _vectors(path: Path) -> dict[str, object]:
    from lightretriever.vectors.folder import VectorsFolder

    folder = VectorsFolder.open(path)
    return {
        "format version": _version(path / "manifest.json"),
        "documents": folder.count,
        "model": folder.model,
        "revision": folder.revision,
        "dim": folder.dim,
        "sparse width": folder.sparse_width,
        "settings": folder.settings,
        "digest": folder.digest,
    }


def _table(path: Path) -> dict[str, object]:
    from lightretriever.query.table import TokenTable

    table = TokenTable.load(path)
    return {
        "format version": _version(path / "table.json"),
        "model": table.model,
        "revision": table.revision,
        "rows": len(table),
        "phrases": 0 if table.phrases is None else len(table.phrases) - table.phrases.whole,
        "whole queries": 0 if table.phrases is None else table.phrases.whole,
        "dim": table.dim,
        "dtype": table.dtype,
        "rotation": None if table.rotation is None else f"{len(table.rotation)} to {table.dim} dimensions",
        "prompt": table.prompt,
        "max length": table.max_length,
        "skipped ids": list(table.skip_ids),
        "tokenizer": table.tokenizer_hash,
        "hash": table.hash,
        "fitted": dict(table.fitted),
    }


def _model(path: Path) -> dict[str, object]:
    """From the folder's own JSON files: weights are not loaded, and no torch is needed."""
    adapter, config = _read(path / "adapter_config.json"), _read(path / "config.json")
    weights = [
        file
        for pattern in ("*.safetensors", "*/*.safetensors")
        for file in path.glob(pattern)
        if not file.parent.name.startswith("checkpoint-")  # of a training run
    ]
    pickles = [file.name for pattern in ("*.bin", "*.pt", "*.pkl") for file in path.glob(pattern)]
    facts: dict[str, object] = {
        "architecture": ", ".join(config.get("architectures") or []) or config.get("model_type"),
        "base": adapter.get("base_model_name_or_path"),
        "lora rank": adapter.get("r"),
        "layers": config.get("num_hidden_layers"),
        "hidden size": config.get("hidden_size"),
        "vocabulary": config.get("vocab_size"),
        "sentence-transformers": (path / "modules.json").is_file() or None,
        "weights": {file.relative_to(path).as_posix(): format_bytes(file.stat().st_size) for file in weights},
        "pickles (never loaded)": pickles,
    }
    if (path / "tokenizer.json").is_file():
        from lightretriever.text.tokenizer import id_count, load_tokenizer

        facts["tokens"] = id_count(load_tokenizer(path))
    return {name: value for name, value in facts.items() if value not in (None, [], {})}


def _read(path: Path) -> dict[str, Any]:
    from lightretriever.artifact import read_json  # numpy with it

    try:
        return read_json(path)
    except ArtifactError:
        return {}


def _version(manifest: Path) -> object:
    return _read(manifest).get("format_version")


def _lines(facts: Facts, indent: int = 0) -> str:
    pad = max(len(name) for name in facts)
    lines = []
    for name, value in facts.items():
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            value = dataclasses.asdict(value)
        start = f"{' ' * indent}{_words(name).ljust(pad)}  "
        if isinstance(value, Mapping) and value and name != "damaged":
            lines += [start.rstrip(), _lines(value, indent + 2)]
        else:
            lines.append(start + shorten(_show(name, value), max(columns() - len(start), 20)))
    return "\n".join(lines)


def _show(name: str, value: object) -> str:
    if name == "segments" and isinstance(value, list) and value:
        return f"{len(value)} of {' + '.join(f'{count:,}' for count in value)} documents"
    if name == "damaged" and isinstance(value, Mapping):
        return f"{counted(len(value), 'segments')}: `lightretriever check` says why" if value else "none"
    if name in COUNTS and isinstance(value, int) and value:
        return COUNTS[name].format(f"{value:,}")
    if name in SHARES and isinstance(value, int | float):
        return f"{value:.1%} of {SHARES[name]}"
    if name.startswith("bytes") and isinstance(value, int):
        return format_bytes(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if name == "model" and value == "":
        return "unknown, its vectors were given"
    if name == "revision" and value == "":
        return "unknown"
    if name == "prompt":
        return json.dumps(value, ensure_ascii=False)
    return "–" if value in (None, "", [], {}) else ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _words(name: str) -> str:
    """A field's name as words; a file's as it is."""
    return plain(name if "." in name else name.replace("_", " "))
