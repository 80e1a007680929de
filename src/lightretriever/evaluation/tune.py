"""The fusion of an index learned on judged queries: fixed weights, one learned weight, and a weight for every query.

Everything is compared out of fold: the queries are cut into k parts, and each part is measured with what was learned
on the others. A learned way has to earn its place against the simpler ones; see `tune`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightretriever.counted import counted
from lightretriever.errors import InputError, UsageError
from lightretriever.evaluation.collection import Collection
from lightretriever.evaluation.learn import best_weight, fit_weigher
from lightretriever.evaluation.lists import Judged, check_sides, judge_lists
from lightretriever.evaluation.measures import check_qrels
from lightretriever.fusion import MOST_QUERIES, Fusion
from lightretriever.index.index import Index
from lightretriever.progress import Progress
from lightretriever.weigher import Weigher

FIXED = (0.7, 0.5)
FOLDS = 5
MOST = 2000
WEIGHT, NETWORK = "one weight", "by query"


@dataclass(frozen=True, slots=True)
class Tuning:
    """What was compared, and what won.

    Attributes:
        means: way to its mean nDCG@10 over ``queries``, out of fold where it is learned.
        chosen: the way that won.
        fusion: the same as a fusion, learned on all queries.
        queries: how many were used.
        unanswered: how many more had no judged document in either list; no weight changes anything for them.
        folds: k.
    """

    means: Mapping[str, float]
    chosen: str
    fusion: Fusion
    queries: int
    unanswered: int
    folds: int


def fixed_name(weight: float) -> str:
    """How a fixed pair of weights is called."""
    return f"{weight:.1f}/{1 - weight:.1f}"


def tune(
    index: Index,
    collection: Collection,
    folds: int = FOLDS,
    most: int = MOST,
    seed: int = 0,
    progress: Progress | None = None,
    filter: Mapping[str, object] | None = None,
    *,
    measured_too: bool = False,
) -> Tuning:
    """Learn an index's fusion on a collection's queries; nothing is stored, see `Index.set_fusion`.

    Args:
        index: an open index over the collection's documents.
        collection: development queries and their judgements; not those that it will be measured on.
        folds: k parts for the comparison.
        most: at most so many queries, drawn at random.
        seed: of the drawing, the folds and the network.
        progress: called with queries searched and their number.
        filter: which documents may be found, see `Index.search_encoded`.
        measured_too: there are no others to measure it on. The means, out of fold, are then the measures to report, and
            the fusion says that it was chosen by cross-validation on these queries.

    Raises:
        UsageError: the index has no sparse side, fewer than 2 folds, or a filter that is none, or that does not fix the
            tenant of an index that keeps tenants apart.
        InputError: a relevance or an id that is none, nothing is judged relevant, no query has a judged hit, or too few
            for so many folds.
    """
    if folds < 2:
        raise UsageError(f"{folds} folds: at least 2 are needed to learn on some and measure on the others")
    check_qrels(collection.qrels)
    if not any(value > 0 for relevances in collection.qrels.values() for value in relevances.values()):
        raise InputError(f"{collection.path}: the split {collection.split} judges no document relevant")
    rng = np.random.default_rng(seed)
    ids = list(collection.queries)
    drawn = sorted(rng.permutation(len(ids))[:most].tolist())
    queries = {ids[place]: collection.queries[ids[place]] for place in drawn}
    judged = judge_lists(index, queries, collection.qrels, progress, filter)
    useful = judged.informative()
    found = choose(judged.take(useful), int((~useful).sum()), folds, seed, index.fusion.tied, collection.path)
    origin = "cross-validated" if measured_too else "learned"
    marks = tuple(sorted(map(query_mark, queries.values()))[:MOST_QUERIES])
    return replace(found, fusion=replace(found.fusion, origin=origin, judged=collection.name, queries=marks))


def query_mark(text: str) -> str:
    """What tells one query from another, however it is spaced or capitalised, and whatever its id is: 12 characters."""
    return blake2b(" ".join(text.casefold().split()).encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()


def count_tuned(fusion: Fusion, texts: Iterable[str]) -> int:
    """How many of some queries a fusion was learned on."""
    learned = set(fusion.queries)
    return sum(query_mark(text) in learned for text in texts)


def unlearned(index: Index, weight: float | None = None) -> Fusion:
    """A fusion for an index without judged queries: one dense weight for all, or, for None, the general weigher.

    Raises:
        UsageError: the index has no sparse side.
    """
    check_sides(index)
    if weight is None:
        return Fusion(tied=index.fusion.tied, weigher=Weigher.general(), origin="general")
    return Fusion(dense=weight, sparse=round(1 - weight, 9), tied=index.fusion.tied, origin="given")


def choose(judged: Judged, unanswered: int, folds: int, seed: int, tied: str, source: Path) -> Tuning:
    """The comparison of `tune`, on lists that were judged before; every query of them has a judged hit.

    The best of the fixed weights stays unless one learned weight is better out of fold; and that stays, or the fixed
    one, unless the network is better out of fold by more than the standard error of the difference.
    """
    count = len(judged)
    if not count:
        raise InputError(f"{source}: no query has a judged document among its hits: are the index and the data one's?")
    if count < 2 * folds:
        raise InputError(
            f"{source}: {counted(count, 'queries')} with a judged document among the hits, too few for {folds} folds: "
            f"judge at least {2 * folds}, or ask for fewer folds"
        )
    parts = np.random.default_rng(seed).permutation(count) % folds
    values = {fixed_name(weight): judged.at(weight) for weight in FIXED}
    values[WEIGHT] = _out_of_fold(judged, parts, lambda seen, held: held.at(best_weight(seen)))
    values[NETWORK] = _out_of_fold(
        judged, parts, lambda seen, held: held.at(fit_weigher(seen, seed).weights(held.features))
    )
    means = {way: float(value.mean()) for way, value in values.items()}
    chosen = max((fixed_name(weight) for weight in FIXED), key=means.__getitem__)
    if means[WEIGHT] > means[chosen]:
        chosen = WEIGHT
    gain = values[NETWORK] - values[chosen]
    if gain.mean() > gain.std(ddof=1) / np.sqrt(count):
        chosen = NETWORK
    fixed = next((weight for weight in FIXED if fixed_name(weight) == chosen), None)
    dense = best_weight(judged) if fixed is None else fixed
    weigher = fit_weigher(judged, seed) if chosen == NETWORK else None
    fusion = Fusion(dense=dense, sparse=round(1 - dense, 9), tied=tied, weigher=weigher)
    return Tuning(means, chosen, fusion, count, unanswered, folds)


def _out_of_fold(
    judged: Judged, parts: NDArray[np.intp], measure: Callable[[Judged, Judged], NDArray[np.float64]]
) -> NDArray[np.float64]:
    values = np.zeros(len(judged))
    for part in np.unique(parts):
        values[parts == part] = measure(judged.take(parts != part), judged.take(parts == part))
    return values
