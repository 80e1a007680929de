"""A collection on a Qdrant server: how it is made, what it is bound to, and the alias that it is known by.

The name in an index's URL is an alias. The collection behind it is called ``name-1``, after a re-index ``name-2``:
the new one is filled beside the old, and the alias changes hands in one step, so that no search ever sees a part.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qdrant_client import QdrantClient, models

from lightretriever.errors import ArtifactError, MismatchError
from lightretriever.index.engines.qdrant.filter import KEYWORD
from lightretriever.index.engines.qdrant.points import DENSE, SPARSE
from lightretriever.index.engines.qdrant.url import QdrantAddress
from lightretriever.index.filter.tags import TAGS

METADATA = "lightretriever"
"""The entry of a collection's metadata that says what its documents are bound to."""
TABLE_BEFORE = "table_before"
EXACT_BELOW = 5_000  # documents; below it a scan is as fast as the graph
LINKS, LINK_EFFORT = 32, 200  # of a point in the graph, and candidates that they are chosen from
Binding = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Contents:
    """What a collection's documents have, and what they belong to.

    Attributes:
        dim: d of the dense vectors.
        width: V of the sparse vectors; None where there are none.
        binding: the index's model, table and so on, by name, JSON-able; stored with the collection. Of two tables of
            one model the one before is accepted too: the name for it is ``table_hash``.
    """

    dim: int
    width: int | None
    binding: Binding


def real_name(client: QdrantClient, name: str) -> str | None:
    """The collection that a name stands for: an alias's, or its own; None when there is none of that name."""
    for alias in client.get_aliases().aliases:
        if alias.alias_name == name:
            return alias.collection_name
    return name if name in _collections(client) else None


def next_name(client: QdrantClient, name: str) -> str:
    """What the next collection behind an alias is called."""
    return f"{name}-{max((number_of(name, other) for other in _collections(client)), default=0) + 1}"


def number_of(name: str, collection: str) -> int:
    """How many collections there have been behind an alias up to this one; 0 for one that was not made for it."""
    found = _numbered(name).fullmatch(collection)
    return int(found[1]) if found else 0


def unused_names(client: QdrantClient, name: str) -> list[str]:
    """Collections made for an alias that it does not stand for: being filled just now, or left by a killed process."""
    used = real_name(client, name)
    return sorted(other for other in _collections(client) if other != used and number_of(name, other))


def make_collection(client: QdrantClient, collection: str, address: QdrantAddress, contents: Contents) -> None:
    """Make an empty collection: a graph over short codes for the dense vectors, the sparse side exact."""
    dim, sparse = contents.dim, contents.width is not None
    client.create_collection(
        collection,
        vectors_config={DENSE: models.VectorParams(size=dim, distance=models.Distance.DOT)},
        sparse_vectors_config={SPARSE: models.SparseVectorParams()} if sparse else None,
        shard_number=address.shards or None,
        replication_factor=address.replicas,
        write_consistency_factor=address.replicas // 2 + 1,  # what is acknowledged outlives the loss of a node
        hnsw_config=models.HnswConfigDiff(m=LINKS, ef_construct=LINK_EFFORT, full_scan_threshold=10_000),
        quantization_config=_quantisation(address.quantisation),
        optimizers_config=models.OptimizersConfigDiff(indexing_threshold=max(1, EXACT_BELOW * dim * 4 // 1024)),
        metadata={METADATA: dict(contents.binding)},
    )
    client.create_payload_index(collection, TAGS, KEYWORD)


def bind_collection(client: QdrantClient, collection: str, binding: Binding) -> None:
    """Bind a collection to another table of its model. The table before is accepted still, because a folder may be
    killed just before it goes over, and copies of it go over later."""
    before = _binding(client.get_collection(collection)) or {}
    if before.get("table_hash") != binding["table_hash"]:
        stored = {**binding, TABLE_BEFORE: before.get("table_hash")}
        client.update_collection(collection, metadata={METADATA: stored})


def check_contents(where: str, described: models.CollectionInfo, wanted: Contents) -> None:
    """Check that a collection's documents belong to an index.

    Args:
        where: the collection's URL, for messages.
        described: what the server says of it.
        wanted: what the index has.

    Raises:
        ArtifactError: the collection was made by something else.
        MismatchError: they do not belong together; what differs is named.
    """
    stored = _binding(described)
    vectors = described.config.params.vectors
    dense = vectors.get(DENSE) if isinstance(vectors, dict) else None
    if stored is None or dense is None:
        raise ArtifactError(f"{where} is a collection that lightretriever did not make: choose another name")
    for name, value in wanted.binding.items():
        if stored.get(name) != value and not (name == "table_hash" and stored.get(TABLE_BEFORE) == value):
            raise _another(where, name.replace("_", " "), stored.get(name), value)
    if dense.size != wanted.dim:
        raise _another(where, "dimensions", dense.size, wanted.dim)
    sparse = SPARSE in (described.config.params.sparse_vectors or {})
    if sparse != (wanted.width is not None):
        raise _another(where, "sparse vectors", sparse, not sparse)


def _binding(described: models.CollectionInfo) -> Binding | None:
    """What a collection's documents are bound to; None for a collection that is not ours."""
    binding = (described.config.metadata or {}).get(METADATA)
    return binding if isinstance(binding, Mapping) else None


def _another(where: str, name: str, stored: object, wanted: object) -> MismatchError:
    return MismatchError(
        f"{where} holds documents of {name} {stored!r}, the index folder is of {wanted!r}: use a copy of the folder "
        "that the collection was made with"
    )


def point_alias(client: QdrantClient, alias: str, collection: str) -> None:
    """Let an alias stand for a collection from now on, in one step."""
    actions: list[Any] = [
        models.CreateAliasOperation(create_alias=models.CreateAlias(collection_name=collection, alias_name=alias))
    ]
    if any(found.alias_name == alias for found in client.get_aliases().aliases):
        actions.insert(0, models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=alias)))
    client.update_collection_aliases(actions)


def collection_exists(client: QdrantClient, collection: str) -> bool:
    """Whether there is a collection of this name, which is no alias."""
    return collection in _collections(client)


def _collections(client: QdrantClient) -> list[str]:
    return [collection.name for collection in client.get_collections().collections]


def _numbered(name: str) -> re.Pattern[str]:
    return re.compile(re.escape(name) + r"-([1-9][0-9]*)")


def _quantisation(kind: str) -> models.QuantizationConfig | None:
    """The codes are held in memory, whatever the vectors themselves are: every step in the graph reads one."""
    if kind == "turbo":
        four_bits = models.TurboQuantQuantizationConfig(bits=models.TurboQuantBitSize.BITS4, always_ram=True)
        return models.TurboQuantization(turbo=four_bits)
    if kind == "scalar":
        bytes_ = models.ScalarQuantizationConfig(type=models.ScalarType.INT8, quantile=0.99, always_ram=True)
        return models.ScalarQuantization(scalar=bytes_)
    if kind == "binary":
        return models.BinaryQuantization(binary=models.BinaryQuantizationConfig(always_ram=True))
    return None
