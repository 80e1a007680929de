"""The ridge fit of a whole table, and its strength λ chosen on held-out texts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightretriever.tables.bags import Bags, unit_rows
from lightretriever.tables.ranking import Kept, compare_ranking, rank_by_model
from lightretriever.tables.ridge import solve_ridge

Floats = NDArray[np.float32]
Places = NDArray[np.int64]

# λ in units of what one more occurrence of a token adds to the diagonal of XᵀX, from strong to weak.
_STRENGTHS = (300.0, 100.0, 30.0, 10.0, 3.0, 1.0, 0.3, 0.1)
_HELD_OUT = 2000  # texts at most, and a tenth of all at most
_RANKED = 500  # of these, for which the model's ranking is compared with the look-up's
_RISE = 0.006  # of the nDCG that a weaker λ has to bring
_FEW = 50


@dataclass(frozen=True, slots=True)
class Chosen:
    """What `choose_l2` found.

    Attributes:
        l2: λ.
        rows: that it gave without the held-out texts, to begin the last fit from; None where none were held out.
        cosine: of what their tokens come to and their targets, mean over these; None likewise.
        kept: of the model's ranking; None likewise, and where there is too little to rank.
    """

    l2: float
    rows: Floats | None = None
    cosine: float | None = None
    kept: Kept | None = None

    def is_better_than(self, stronger: Chosen, by_ranking: bool) -> bool:
        """Whether held-out texts speak for this λ, with another that is stronger to compare."""
        if not by_ranking or self.kept is None or stronger.kept is None:
            return (self.cosine or 0.0) > (stronger.cosine or 0.0)
        return self.kept.ndcg > stronger.kept.ndcg + _RISE


def scale_bags(bags: Bags, base: Floats) -> Bags:
    """Each bag scaled so that its prediction under ``base`` has unit length, or its weights where that is zero."""
    row_of = np.repeat(np.arange(len(bags)), np.diff(bags.indptr))
    own = np.sqrt(np.bincount(row_of, weights=bags.weights.astype(np.float64) ** 2, minlength=len(bags)))
    predicted = np.empty(len(bags), dtype=np.float32)
    for first in range(0, len(bags), 4096):
        rows = np.arange(first, min(first + 4096, len(bags)))
        predicted[rows] = np.linalg.norm(bags.take(rows).multiply(base), axis=1)
    length = np.where(predicted > 0, predicted, np.where(own > 0, own, 1.0))
    return bags.scaled((1.0 / length).astype(np.float32))


def fit_rows(
    bags: Bags,
    targets: Floats,
    base: Floats,
    l2: float,
    start: Floats | None = None,
    iterations: int = 30,
    tolerance: float = 1e-4,
) -> Floats:
    """`solve_ridge` over the rows that the texts use; the rest of the table stays out of the work, at ``base``."""
    used = np.unique(bags.ids)
    new_ids = np.zeros(bags.width, dtype=np.int32)
    new_ids[used] = np.arange(len(used), dtype=np.int32)
    begin = None if start is None else np.ascontiguousarray(start[used])
    rows = base.copy()
    compact = bags.relabelled(new_ids, len(used))
    rows[used] = solve_ridge(compact, targets, base[used], l2, begin, iterations, tolerance)
    return rows


def choose_l2(
    bags: Bags,
    targets: Floats,
    base: Floats,
    keys: list[bytes],
    vectors: Floats,
    documents: int = 0,
    by_ranking: bool = True,
) -> Chosen:
    """λ by the nDCG@10 of held-out texts against the model's own ranking, from strong to weak while it clearly rises;
    by their mean cosine, while it rises at all, where there is too little to rank.

    Held-out texts are of the same documents as the others, so a table that learns these by heart looks better by them
    than it is for people's questions.

    Args:
        bags, targets, base: as for `fit_rows`.
        keys: of each text, `text_key`: decides which texts are held out.
        vectors: unit vectors [n, d] that the model itself gave the texts.
        documents: how many texts are documents, the first ones: these are ranked for the others. Of none, or too few,
            the texts that were not held out are ranked.
        by_ranking: False chooses by the cosine, and measures the ranking all the same.
    """
    unit = float(np.mean(bags.weights**2))
    order = np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.int64)
    held = order[: min(_HELD_OUT, len(order) // 10)]
    if not len(held):
        return Chosen(unit)
    kept = np.sort(order[len(held) :])
    train, train_targets = bags.take(kept), targets[kept]
    test, test_targets = bags.take(held), unit_rows(targets[held])
    asked, ranked = _to_rank(held, kept, documents)
    reference = rank_by_model(vectors[held[asked]], vectors[ranked])
    best: Chosen | None = None
    for strength in _STRENGTHS:
        start = None if best is None else best.rows
        rows = fit_rows(train, train_targets, base, unit * strength, start, iterations=15, tolerance=1e-2)
        predicted = unit_rows(test.multiply(rows))
        cosine = round(float(np.mean(np.einsum("nd,nd->n", predicted, test_targets))), 4)
        ranking = None if reference is None else compare_ranking(predicted[asked], reference)
        weaker = Chosen(unit * strength, rows, cosine, ranking)
        if best is not None and not weaker.is_better_than(best, by_ranking):
            break
        best = weaker
    assert best is not None
    return best


def _to_rank(held: Places, kept: Places, documents: int) -> tuple[Places, Places]:
    """For which of the held-out texts, by their places among these, to rank which of the others: queries are short, and
    find documents, where there are enough of both."""
    asked, ranked = np.flatnonzero(held >= documents), kept[kept < documents]
    if len(asked) < _FEW:
        asked = np.arange(len(held))
    return asked[:_RANKED], ranked if len(ranked) >= _FEW else kept
