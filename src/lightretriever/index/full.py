"""Queries by the full document model, over the same document vectors as the look-up: the symmetric way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lightretriever.errors import MismatchError, UsageError
from lightretriever.query.encoder import QueryEncoder
from lightretriever.query.table import TokenTable
from lightretriever.types import Encoded
from lightretriever.vectors.parts import usable


class QueryTower(Protocol):
    """A model that reads queries, as `DocumentEncoder` does.

    Attributes:
        name: of the model.
        dim: of its vectors.
    """

    @property
    def name(self) -> str: ...

    @property
    def dim(self) -> int: ...

    def encode_queries(self, texts: Sequence[str], prompt: str | None = None) -> NDArray[np.float32]:
        """Queries, after a prompt, as float32 [n, d]; None is the model's own prompt."""


def encode_full(tower: QueryTower, texts: Sequence[str], encoder: QueryEncoder) -> Encoded:
    """Encode queries by the full model, turned or cut as the documents of a table were; counted as the look-up counts
    them. A model has read the whole query, so its vector is listened to in full.

    Args:
        tower: the table's model.
        texts: n queries.
        encoder: of the index that is searched.

    Raises:
        UsageError: what is no tower, or one of other dimensions than the documents' vectors.
        MismatchError: it gives another number of vectors.
    """
    counts = encoder.encode_sparse(texts)  # which refuses what is no text, before the model is asked
    return Encoded(full_vectors(tower, texts, encoder.table), counts)


def full_vectors(tower: QueryTower, texts: Sequence[str], table: TokenTable) -> NDArray[np.float32]:
    """The dense vectors alone: float32 [n, d], unit rows, zero ones where the model gives nothing. Raises as
    `encode_full`."""
    if not hasattr(tower, "encode_queries"):
        raise UsageError(f"the encoder is of type {type(tower).__name__}: DocumentEncoder.load(model) makes one")
    dim = tower.dim  # asked once: of a tower in another process that is a call
    if dim < table.dim or (table.rotation is not None and dim != len(table.rotation)):
        raise UsageError(
            f"the model {tower.name} has {dim} dimensions, the index {table.dim}: name the index's own model"
        )
    # A table without a prompt may be one fitted to vectors alone, which says nothing about prompts.
    dense = tower.encode_queries(texts, table.prompt or None)
    if dense.shape != (len(texts), dim):
        raise MismatchError(f"{tower.name} gives vectors of shape {dense.shape} for {len(texts)} queries")
    return usable(Encoded(dense), table.dim, table.rotation).dense
