"""How a table is fitted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lightretriever.errors import UsageError
from lightretriever.query.table import check_options
from lightretriever.tables.prior import Floats


@dataclass(frozen=True, eq=False)
class FitOptions:
    """How `fit_table` fits; what it fits to is given to that.

    Attributes:
        l2: λ, against bags that are scaled so that their prediction under the prior has unit length (under a zero one:
            their weights have): the plain formula. None: chosen on held-out texts, then all are fitted; and
            where documents are given, their sentences refine the table and all texts rank them, see `fit_refined` and
            `fit_lists`.
        dim: the first so many dimensions of the vectors only (Matryoshka towers); with ``rotate`` so many principal
            axes.
        rotate: turn vectors and table to the principal axes of the documents given with vectors, or else of the texts,
            and keep the first ``dim``: for towers that were not trained to be cut. The table keeps the rotation, and an
            index made with it turns its documents. The ``rotation`` of another table, [d, D], turns to its axes,
            without a ``dim``: what is to follow a table in an index has to have the same.
        dtype, max_length: of the table, see `TokenTable`.
        max_sentences: of the texts, at most so many sentences are encoded: an even sample, the same for the same text.
        phrases: at most so many rows for sequences of tokens, see `lightretriever.tables.phrases`: first for the log's
            most frequent queries, the rest for frequent phrases of the texts.
        general: the table is to serve other corpora than the texts and documents given: see `fit_general`.

    Raises:
        UsageError: a value that is not possible, or two that do not go together.
    """

    l2: float | None = None
    dim: int | None = None
    rotate: bool | Floats = False
    dtype: str = "float32"
    max_length: int = 512
    max_sentences: int = 20_000
    phrases: int = 0
    general: bool = False

    def __post_init__(self) -> None:
        check_options(self.dtype, self.dim, self.max_length)
        if self.l2 is not None and not (np.isfinite(self.l2) and self.l2 > 0):
            raise UsageError(f"l2 is {self.l2}: it must be positive, or None to have it chosen")
        if self.general and self.l2 is not None:
            raise UsageError("a general fit chooses its l2: leave one of the two out")
        if self.rotate is True and self.dim is None:
            raise UsageError("rotate needs a dim: how many of the principal axes to keep")
        if not isinstance(self.rotate, bool) and self.dim is not None:
            raise UsageError("axes are given, and a dim: the axes say how many dimensions there will be")
        if self.phrases < 0:
            raise UsageError(f"phrases is {self.phrases}: give how many rows there may be, 0 for none")
