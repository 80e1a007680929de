"""Documents for which a model gives no numbers: named, so that somebody can see to them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lightretriever.counted import counted
from lightretriever.text.corpus import Document
from lightretriever.types import Encoded
from lightretriever.vectors.parts import usable

_NAMED = 5  # documents in a message


def usable_named(
    documents: Sequence[Document], encoded: Encoded, dim: int, rotation: NDArray[np.float32] | None = None
) -> Encoded:
    """`parts.usable`, with a warning of the documents whose vectors are set aside, see `name_unusable`."""
    name_unusable(documents, encoded)
    return usable(encoded, dim, rotation)


def name_unusable(documents: Sequence[Document], encoded: Encoded) -> int:
    """Warn of documents whose vectors are not finite, which `parts.usable` sets aside; gives their number.

    Args:
        documents: n of them.
        encoded: their vectors as a tower gave them.
    """
    bad = set(np.nonzero(~np.isfinite(encoded.dense))[0].tolist())
    if encoded.sparse is not None:
        places = np.flatnonzero(~np.isfinite(encoded.sparse.values))
        bad.update((np.searchsorted(encoded.sparse.indptr, places, side="right") - 1).tolist())
    ids = [documents[row].id for row in sorted(bad)]
    if ids:
        shown = ", ".join(map(repr, ids[:_NAMED])) + (" …" if len(ids) > _NAMED else "")
        warnings.warn(
            f"the model gives {counted(len(ids), 'documents')} a vector with NaN or infinity, which is set aside: "
            f"{shown}: encode with --compute float32 (dtype='float32'), or see to their texts",
            stacklevel=3,
        )
    return len(ids)
