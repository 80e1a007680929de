"""What a vectors folder and its shards say of themselves, read field by field: nobody vouches for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lightretriever.artifact import MANIFEST, read_manifest, write_json
from lightretriever.checked import Check, choice, items, mapping, optional, read_fields, record, scalar, text, whole

FORMAT_VERSION = 1
KIND = "vectors"
SHARD_KIND = "vectors shard"
DTYPES = ("float32", "float16")
MOST_SHARDS = 99_999  # their names have five digits
_WAY_OUT = "encode again to another output"


@dataclass(frozen=True, slots=True)
class VectorsManifest:
    """The manifest of a vectors folder, the same for every worker.

    Attributes:
        model, revision: the tower.
        dim: d of the dense vectors.
        dtype: "float32" or "float16", how values are stored.
        sparse_width: V of the sparse vectors, None where there are none.
        settings: what else decides the vectors.
        shards: how many workers there are.
        origin: where the tower was loaded from, as far as it is known.
    """

    model: str
    revision: str
    dim: int
    dtype: str
    sparse_width: int | None
    settings: Mapping[str, Any]
    shards: int
    origin: Mapping[str, Any] = field(default_factory=dict)

    @staticmethod
    def load(folder: Path) -> VectorsManifest:
        """Read it. Raises ArtifactError when it is absent, damaged or from a newer version; the field is named."""
        stored = read_manifest(folder, KIND, FORMAT_VERSION)
        del stored["kind"], stored["format_version"]
        return VectorsManifest(**read_fields(stored, _CHECKS, folder / MANIFEST, _WAY_OUT, ["origin"]))

    def save(self, folder: Path) -> None:
        """Write it, atomically."""
        write_json(folder / MANIFEST, {"kind": KIND, "format_version": FORMAT_VERSION, **asdict(self)})


@dataclass(frozen=True, slots=True)
class ShardManifest:
    """What a worker leaves when it has finished: how many parts and documents it wrote."""

    parts: int
    documents: int

    @staticmethod
    def load(shard: Path) -> ShardManifest:
        """Read it. Raises ArtifactError as `VectorsManifest.load`."""
        stored = read_manifest(shard, SHARD_KIND, FORMAT_VERSION)
        del stored["kind"], stored["format_version"]
        checks: dict[str, Check] = {"parts": whole(), "documents": whole()}
        return ShardManifest(**read_fields(stored, checks, shard / MANIFEST, _WAY_OUT))

    def save(self, shard: Path) -> None:
        """Write it, atomically: the last thing that a worker does."""
        write_json(shard / MANIFEST, {"kind": SHARD_KIND, "format_version": FORMAT_VERSION, **asdict(self)})


_KNOWN: dict[str, Check] = {
    "max_length": optional(whole(1, 1 << 31)),
    "top_k": optional(whole(1, 1 << 31)),
    "skip_ids": items(whole(0, (1 << 31) - 1), 1 << 20),
}


def _setting(value: Any, depth: int = 4) -> Any:
    """JSON of a few levels, as callers may add it."""
    if depth and isinstance(value, list):
        return [_setting(item, depth - 1) for item in value]
    if depth and isinstance(value, Mapping):
        return {text(1_024)(name): _setting(item, depth - 1) for name, item in value.items()}
    return scalar(value)


def _settings(value: Any) -> dict[str, Any]:
    """Settings, those that we know of the kind that they should be."""
    found: dict[str, Any] = mapping(_setting, most=1_000)(value)
    record({name: _KNOWN.get(name, _setting) for name in found})(found)
    return found


_CHECKS: dict[str, Check] = {
    "model": text(4_096),
    "revision": text(4_096),
    "dim": whole(1, 1 << 20),
    "dtype": choice(*DTYPES),
    "sparse_width": optional(whole(1, (1 << 31) - 1)),
    "settings": _settings,
    "shards": whole(1, MOST_SHARDS),
    "origin": mapping(optional(text()), most=100),
}
