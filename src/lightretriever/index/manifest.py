"""The index's manifest: what it is bound to, and the checks that what comes to it belongs to it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from lightretriever.artifact import MANIFEST, read_manifest, write_json
from lightretriever.checked import (
    Check,
    choice,
    items,
    mapping,
    number,
    optional,
    plain_name,
    read_fields,
    record,
    record_of,
    scalar,
    text,
    whole,
)
from lightretriever.errors import ArtifactError, MismatchError
from lightretriever.fusion import MOST_QUERIES, Fusion
from lightretriever.index.novelty import Novelty
from lightretriever.index.qdrant_url import check_engine, is_address, parse_address
from lightretriever.index.tenant import check_field
from lightretriever.query.table import TokenTable, same_rotation
from lightretriever.query.table_manifest import MANIFEST as TABLE

KIND = "index"
FORMAT_VERSION = 1
SPARSE_KINDS = ("lm", "bm25", "none")
PARTS = ("table", "shard", "statistics")
_WAY_OUT = "restore the index from a snapshot, or make it again"


@dataclass(frozen=True, slots=True)
class IndexManifest:
    """What ``manifest.json`` holds.

    Attributes:
        model, revision: the document tower whose vectors are in the index.
        dim: d of the dense vectors.
        width: V of the sparse vectors.
        sparse: "lm" (the tower's own), "bm25" or "none".
        table_hash, tokenizer_hash: of the table in ``table/``.
        encoding: how documents were encoded, so that more can be alike: ``source`` and ``base`` (where the tower was
            loaded from), ``max_length``, ``top_k``; as far as it is known.
        fusion: how the two lists become one.
        engine: which engine holds the shard: "edge", or the URL of a Qdrant server's collection.
        table, shard, statistics: the names, in the index's folder, of the token table, of what the engine holds and of
            the BM25 statistics. A new one is written beside the old under another name; the manifest's change of name
            is the moment at which all of it is new. On a server the shard is a collection there.
        generation: the greatest number that such a name had so far.
        state: "complete", or "building" while `index` has not finished.
        documents: how many there were when the manifest was written last.
        built_from: "corpus" or "vectors", what `index` builds it from; "" when it was not built that way.
        source: digest of that.
        ingested: parts that `index` has stored so far, while building.
        unoptimised: documents added, replaced or deleted since the graph was built.
        bm25_changes: likewise since the BM25 statistics were taken.
        tokens_added, tokens_new: of documents added since the table was fitted, and how many of these no text of its
            fit held; see `lightretriever.index.novelty`.
        successor: what of this a re-encoding by another document model will have changed when it is done; None when
            there is none under way.
        tenant: the metadata field that every document has one value of and every search must fix; None where none.
        engine_named: whether whoever runs this process named the engine; not stored. A manifest alone may name any
            server, and must not make this process send a key there.
    """

    model: str
    revision: str
    dim: int
    width: int
    sparse: str
    table_hash: str
    tokenizer_hash: str
    encoding: Mapping[str, object] = field(default_factory=dict)
    fusion: Fusion = field(default_factory=Fusion)
    engine: str = "edge"
    table: str = "table"
    shard: str = "shard"
    statistics: str = "bm25.safetensors"
    generation: int = 1
    state: str = "complete"
    documents: int = 0
    built_from: str = ""
    source: str = ""
    ingested: int = 0
    unoptimised: int = 0
    bm25_changes: int = 0
    tokens_added: int = 0
    tokens_new: int = 0
    successor: Mapping[str, object] | None = None
    tenant: str | None = None
    engine_named: bool = field(default=False, compare=False)

    @staticmethod
    def of(
        table: TokenTable, sparse: str, state: str = "complete", tenant: str | None = None, engine: str = "edge"
    ) -> IndexManifest:
        """The manifest of a new index over a table; the caller names the engine."""
        return IndexManifest(
            model=table.model,
            revision=table.revision,
            dim=table.dim,
            width=len(table),
            sparse=sparse,
            table_hash=table.hash,
            tokenizer_hash=table.tokenizer_hash,
            engine=engine,
            state=state,
            tenant=check_field(tenant),
            engine_named=True,
        )

    @staticmethod
    def load(path: Path) -> IndexManifest:
        """Read it, and check every field.

        Raises:
            ArtifactError: it is absent, damaged or from a newer version, or names parts that no index has: they are
                plain names inside its folder, on a server its own collections.
        """
        if (path / TABLE).is_file() and not (path / MANIFEST).exists():
            raise ArtifactError(f"{path} is a token table, an index is wanted: name that, or make one of it")
        stored = read_manifest(path, KIND, FORMAT_VERSION)
        del stored["kind"], stored["format_version"]
        found = read_fields(stored, _CHECKS, path / MANIFEST, _WAY_OUT)
        try:
            manifest = IndexManifest(**{**found, "fusion": Fusion.of(found["fusion"])})
            check_field(manifest.tenant)
            _check_parts(manifest)
        except ValueError as error:
            raise ArtifactError(f"{path / MANIFEST} is damaged: {error}: {_WAY_OUT}") from None
        return manifest

    @property
    def novelty(self) -> Novelty:
        """How much of the documents added since the table was fitted is new to it."""
        return Novelty(self.tokens_added, self.tokens_new)

    @property
    def parts(self) -> tuple[str, str, str]:
        """The names of table, shard and statistics."""
        return self.table, self.shard, self.statistics

    def named(self, engine: str | None) -> IndexManifest:
        """The same, its engine named by the caller, if this is it.

        Raises:
            UsageError: there is no such engine.
            MismatchError: the index is held by another.
        """
        if engine is None:
            return self
        if check_engine(engine) != self.engine:
            raise MismatchError(f"the index is held by {self.engine}, not by {engine}: name that, or migrate it")
        return replace(self, engine_named=True)

    def save(self, path: Path) -> None:
        """Write it, atomically."""
        stored = {name: value for name, value in asdict(self).items() if name in _CHECKS}
        write_json(path / MANIFEST, {"kind": KIND, "format_version": FORMAT_VERSION, **stored})

    def check_table(self, table: TokenTable, what: str) -> None:
        """Raises MismatchError when the table is not the one that the index was made with."""
        check_model(what, table.model, table.revision, "the index", self.model, self.revision)
        if table.tokenizer_hash != self.tokenizer_hash:
            raise MismatchError(f"{what} has another tokenizer than the index was made with: use the index's own table")
        if table.hash != self.table_hash:
            of = f" of {self.model!r}" if self.model else ""
            raise MismatchError(f"{what} is another table{of} than the index was made with")
        if table.dim != self.dim:
            raise MismatchError(f"{what} has {table.dim} dimensions, the index's manifest says {self.dim}")

    def check_successor(self, table: TokenTable, what: str, now: TokenTable) -> None:
        """Raises MismatchError when the table cannot take the place of ``now``, the one that the index has."""
        check_model(what, table.model, table.revision, "the index", self.model, self.revision)
        if table.tokenizer_hash != self.tokenizer_hash:
            raise MismatchError(f"{what} has another tokenizer than the index: only `reindex` can change it")
        if table.dim != self.dim:
            raise MismatchError(f"{what} has {table.dim} dimensions, the index {self.dim}: fit it with that many")
        if not same_rotation(table, now):
            raise MismatchError(
                f"{what} is turned to other axes than the index's documents: fit it with --axes-of TABLE"
            )

    def binding(self) -> Mapping[str, object]:
        """What the documents in the engine belong to, for engines that are not in the index's own folder."""
        names = ("model", "revision", "tokenizer_hash", "table_hash", "dim", "width", "sparse")
        return {name: getattr(self, name) for name in names}

    def identity(self) -> Mapping[str, object]:
        """What must be equal for a build to be the same build."""
        names = ("model", "revision", "dim", "width", "sparse", "table_hash", "tokenizer_hash", "engine", "tenant")
        encoding = {name: self.encoding.get(name) for name in ("max_length", "top_k")}
        return {**{name: getattr(self, name) for name in names}, **encoding}


def check_model(what: str, model: str, revision: str, other: str, other_model: str, other_revision: str) -> None:
    """Check that two things come of one document model: by revision where both have one, else by name.

    Raises:
        MismatchError: they do not; both are named.
    """
    if revision and other_revision:
        same = revision == other_revision
    else:
        same = not model or not other_model or model == other_model
    if not same:
        raise MismatchError(
            f"{what} belongs to the model {model or 'unknown'!r} (revision {revision or 'unknown'}), {other} to "
            f"{other_model or 'unknown'!r} "
            f"(revision {other_revision or 'unknown'}): use things of one model together"
        )


def _setting(value: Any) -> Any:
    return items(scalar)(value) if isinstance(value, list) else scalar(value)


def _encoding(value: Any) -> Any:
    found = mapping(_setting, most=100)(value)
    limits = {"max_length": optional(whole(1)), "top_k": optional(whole(1))}
    named = {name: text() for name in ("source", "base") if found.get(name) is not None}
    record({**named, **limits}, optional=limits)({name: found[name] for name in (*named, *limits) if name in found})
    return found


_BOUND: dict[str, Check] = {
    "model": text(4_096),
    "revision": text(4_096),
    "dim": whole(1, 65_536),
    "width": whole(1, (1 << 31) - 1),
    "sparse": choice(*SPARSE_KINDS),
    "table_hash": text(256),
    "tokenizer_hash": text(256),
    "encoding": _encoding,
}
"""What a document model decides."""
_WEIGHER: dict[str, Check] = {
    "hidden": items(items(number(), 1_000), 10_000),
    "output": items(number(), 10_000),
    "low": number(0, 1),
    "high": number(0, 1),
}
_PART_CHECKS: dict[str, Check] = dict.fromkeys(PARTS, plain_name)
_CHECKS: dict[str, Check] = {
    **_BOUND,
    "fusion": record_of(Fusion, weigher=optional(record(_WEIGHER)), queries=items(text(64, empty=False), MOST_QUERIES)),
    "engine": text(2_048),
    **_PART_CHECKS,
    "generation": whole(1),
    "state": choice("complete", "building"),
    "documents": whole(),
    "built_from": text(64),
    "source": text(256),
    "ingested": whole(),
    "unoptimised": whole(),
    "bm25_changes": whole(),
    "tokens_added": whole(),
    "tokens_new": whole(),
    "successor": optional(record({**_BOUND, **_PART_CHECKS, "counted": items(whole(), 2)})),
    "tenant": optional(text(1_024, empty=False)),
}


def part_pattern(part: str) -> re.Pattern[str]:
    """What a "table", "shard" or "statistics" in an index's folder may be called."""
    stem, _, suffix = {"statistics": "bm25.safetensors"}.get(part, part).partition(".")
    return re.compile(rf"{stem}(-[1-9][0-9]{{0,17}})?{re.escape('.' + suffix) if suffix else ''}")


def _check_parts(manifest: IndexManifest) -> None:
    """Raises ValueError for an engine that there is not, and for parts that are none of an index's own."""
    engine = manifest.engine
    if is_address(engine) and check_engine(engine) != engine:
        raise ValueError(f"'engine' is spelled {ascii(engine)[:80]}")
    successor: Mapping[str, Any] = manifest.successor or {}
    for part in PARTS:
        pattern = part_pattern(part)
        if part == "shard" and is_address(engine):
            pattern = re.compile(re.escape(parse_address(engine).name) + r"(-[1-9][0-9]{0,17})?")
        for holder in (manifest.parts[PARTS.index(part)], successor.get(part)):
            if holder is not None and not pattern.fullmatch(holder):
                raise ValueError(f"{part!r} is {ascii(holder)[:80]}, which no {part} of an index is called")
        if successor and successor[part] == getattr(manifest, part):
            raise ValueError(f"'successor' has the {part!r} of the index itself")
    if successor and len(successor["counted"]) != 2:
        raise ValueError("'successor': 'counted' is not a pair")
