"""What a search found as hits: of passages, or of the documents that these are of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain, pairwise, repeat

import numpy as np
from numpy.typing import NDArray

from lightretriever.fusion_kernels import Fused
from lightretriever.passages.fields import document_id, without_fields
from lightretriever.text.corpus import Document
from lightretriever.types import Hit, Marker, Place

_HIT: Callable[[Iterable[object]], Hit] = partial(tuple.__new__, Hit)  # `Hit._make` without its check: half the time


def make_hits(
    fused: Fused,
    ids: Sequence[str],
    documents: Sequence[Document] | None,
    grouped: bool,
    markers: Sequence[Marker] | None,
) -> list[list[Hit]]:
    """The hits of each query.

    Args:
        fused: what was found.
        ids, documents: in its order; without documents texts and metadata are empty.
        grouped: whether they are passages, and the hits are to be of their documents.
        markers: of each query; None where their words are not known.
    """
    starts, _, scores, dense, sparse, dense_scores, sparse_scores = (array.tolist() for array in fused)
    nothing, none = [""] * len(ids), repeat(None)
    titles: Iterable[str] = nothing if documents is None else [document.title for document in documents]
    metadata: Iterable[Mapping[str, object]]
    metadata = [{} for _ in ids] if documents is None else [document.metadata for document in documents]
    passages: Iterable[str] = nothing
    places: Iterable[Place | None] = none
    if grouped:
        passages, ids = ids, list(map(document_id, ids))
        if documents:
            titles, metadata, places = zip(*map(without_fields, metadata), strict=True)
    rows = zip(
        ids,
        scores,
        titles,
        nothing if documents is None else [document.text for document in documents],
        metadata,
        [None if score != score else score for score in dense_scores],
        [None if place < 0 else place + 1 for place in dense],
        [None if score != score else score for score in sparse_scores],
        [None if place < 0 else place + 1 for place in sparse],
        passages,
        places,
        none if markers is None else chain.from_iterable(map(repeat, markers, np.diff(fused.starts).tolist())),
        strict=False,  # `repeat` has no end
    )
    hits = list(map(_HIT, rows))
    return [hits[start:end] for start, end in pairwise(starts)]


def first_of_documents(starts: NDArray[np.int64], ids: Sequence[str | None], k: int) -> NDArray[np.bool_]:
    """Of each query's passages, best first, those that are the first of their document, k at most.

    Args:
        starts: int64 [q + 1], where each query's begin.
        ids: of the passages; None for one that is gone.
    """
    kept = np.zeros(len(ids), np.bool_)
    for start, end in pairwise(starts.tolist()):
        seen: set[str] = set()
        for i in range(start, end):
            name = ids[i]
            if len(seen) == k:
                break
            if name is not None and (document := document_id(name)) not in seen:
                seen.add(document)
                kept[i] = True
    return kept
