"""The index's manifest: what it is bound to, and the checks that what comes to it belongs to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lightretriever.artifact import read_manifest, write_json
from lightretriever.errors import ArtifactError, MismatchError
from lightretriever.fusion import Fusion
from lightretriever.index.tenant import check_field
from lightretriever.query.table import TokenTable, same_rotation

KIND = "index"
FORMAT_VERSION = 1
SPARSE_KINDS = ("lm", "bm25", "none")


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
        successor: what of this a re-encoding by another document model will have changed when it is done; None when
            there is none under way.
        tenant: the metadata field that every document has one value of and every search must fix; None where none.
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
    successor: Mapping[str, object] | None = None
    tenant: str | None = None

    @staticmethod
    def of(
        table: TokenTable, sparse: str, state: str = "complete", tenant: str | None = None, engine: str = "edge"
    ) -> IndexManifest:
        """The manifest of a new index over a table."""
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
        )

    @staticmethod
    def load(path: Path) -> IndexManifest:
        """Read it. Raises ArtifactError when it is absent, damaged or from a newer version."""
        stored: dict[str, Any] = read_manifest(path, KIND, FORMAT_VERSION)
        del stored["kind"], stored["format_version"]
        try:
            return IndexManifest(**{**stored, "fusion": Fusion.of(stored["fusion"])})
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"{path / 'manifest.json'} is damaged ({error}): make the index again") from None

    @property
    def parts(self) -> tuple[str, str, str]:
        """The names of table, shard and statistics."""
        return self.table, self.shard, self.statistics

    def save(self, path: Path) -> None:
        """Write it, atomically."""
        write_json(path / "manifest.json", {"kind": KIND, "format_version": FORMAT_VERSION, **asdict(self)})

    def check_table(self, table: TokenTable, what: str) -> None:
        """Raises MismatchError when the table is not the one that the index was made with."""
        check_model(what, table.model, table.revision, "the index", self.model, self.revision)
        if table.tokenizer_hash != self.tokenizer_hash:
            raise MismatchError(f"{what} has another tokenizer than the index was made with: use the index's own table")
        if table.hash != self.table_hash:
            raise MismatchError(f"{what} is another table of {self.model!r} than the index was made with")

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
            f"{what} belongs to the model {model!r} (revision {revision or 'unknown'}), {other} to {other_model!r} "
            f"(revision {other_revision or 'unknown'}): use things of one model together"
        )
