"""What a rebuild makes of an index: the same with a graph, with fresh BM25 statistics, or of another document model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from lightretriever.errors import InputError, MismatchError, UsageError
from lightretriever.index.backend import Points
from lightretriever.index.folder import generation, next_part, remove_leftovers
from lightretriever.index.manifest import PARTS, IndexManifest, check_model
from lightretriever.index.sparse import SparseSide, stored_documents
from lightretriever.index.state import State
from lightretriever.query.encoder import QueryEncoder
from lightretriever.vectors.encode import Tower, origin_of
from lightretriever.vectors.parts import usable

_BOUND = ("model", "revision", "dim", "width", "sparse", "table_hash", "tokenizer_hash", "encoding")


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be new.

    Attributes:
        changes: fields of the manifest, ``shard`` among them; if its folder exists, it was begun before.
        encoder: over the new table; None keeps the old.
        transform: makes points of the new engine of those of the old, keys and payloads being the same; None keeps
            their vectors.
        counted: `IndexManifest.unoptimised` and ``bm25_changes`` when it was begun: what comes on top of them is not
            in the new graph and statistics.
        lasting: whether an interrupted rebuild is gone on with by the next process, rather than begun anew.
    """

    changes: Mapping[str, Any]
    counted: tuple[int, int]
    encoder: QueryEncoder | None = None
    transform: Callable[[Points], Points] | None = None
    lasting: bool = False


def same_points(state: State) -> Plan:
    """A graph over all points, and nothing else changed."""
    with state.writing:
        manifest = state.current.manifest
        shard = next_part(state.path, manifest, "shard")
        # Noted now: an engine's process may outlive a killed owner, and go on writing under the name it was given.
        state.save(replace(manifest, generation=generation(manifest, shard)))
    return Plan({"shard": shard}, (manifest.unoptimised, manifest.bm25_changes))


def fresh_statistics(state: State) -> Plan:
    """BM25 statistics of the texts there are now, and every document's impacts with them."""
    current, plan = state.current, same_points(state)
    name = next_part(state.path, current.manifest, "statistics")
    statistics = current.side.take_statistics(current.backend)
    statistics.save(state.path / name)
    side = replace(current.side, file=state.path / name)

    def impacts(points: Points) -> Points:
        return replace(points, sparse=statistics.impacts(side.counts(stored_documents(points.payloads))))

    return replace(plan, changes={"statistics": name, **plan.changes}, transform=impacts)


def other_model(state: State, encoder: QueryEncoder, tower: Tower, sparse: str) -> Plan:
    """Every document encoded anew by another tower, from its stored text. The manifest keeps the plan.

    Raises:
        MismatchError: table and tower are of two models, or of two sizes.
        UsageError: sparse="lm" with a tower that has no LM head.
    """
    table = encoder.table
    check_model("the token table", table.model, table.revision, "the document model", tower.name, tower.revision)
    rotation = table.rotation
    if tower.dim < table.dim or (rotation is not None and tower.dim != len(rotation)):
        raise MismatchError(f"{tower.name} has {tower.dim} dimensions, the token table {table.dim}: use its own table")
    if sparse == "lm" and not tower.has_sparse:
        raise UsageError(f"{tower.name} has no language-model head: choose sparse 'bm25' or 'none'")
    encoding = {**origin_of(tower), "max_length": tower.max_length, "top_k": tower.top_k}
    bound = {name: value for name, value in asdict(IndexManifest.of(table, sparse)).items() if name in _BOUND}
    bound["encoding"] = encoding
    with state.writing:  # all of it: what another thread saves in between would be lost, or its parts removed
        manifest = state.current.manifest
        begun = manifest.successor
        if begun is not None and all(begun[name] == value for name, value in bound.items()):
            changes: dict[str, Any] = dict(begun)
            # The graph is built of all that there is by now, the statistics were taken when it was begun.
            counted = (manifest.unoptimised, changes.pop("counted")[1])
        else:
            parts = {part: next_part(state.path, manifest, part) for part in PARTS}
            changes = {**bound, **parts}
            counted = (manifest.unoptimised, manifest.bm25_changes)
            manifest = replace(manifest, successor=None, generation=generation(manifest, *parts.values()))
            state.save(manifest)
            remove_leftovers(state.path, manifest)
            table.save(state.path / parts["table"])
            state.save(replace(manifest, successor={**changes, "counted": counted}))
    side = SparseSide(sparse, table, state.path / changes["statistics"])
    if sparse == "bm25" and not side.file.exists():
        side.take_statistics(state.current.backend).save(side.file)
    statistics, dim = side.statistics(), table.dim

    def encode(points: Points) -> Points:
        documents = stored_documents(points.payloads)
        for document in documents:
            if not document.input.strip():
                raise InputError(f"document {document.id!r} has no text to encode: delete it, or add it with its text")
        encoded = usable(tower.encode(documents), dim, rotation)
        sparse_vectors = (
            statistics.impacts(side.counts(documents)) if statistics else side.of(documents, encoded.sparse)
        )
        return replace(points, dense=encoded.dense, sparse=sparse_vectors)

    return Plan(changes, counted, encoder, encode, lasting=True)
