"""One ranking out of two: pure functions on plain scores, and on lists of hits.

An index knows both arms' scores of every document that either arm lists, so what a document gets depends on the query
and on it alone, not on how long the lists are (`fuse_exact`):

    w · (c − m) / (1 − m)  +  (1 − w) · s / s₁

c is the document's cosine with the query and m what cosines with the query are in general, so 0 is as unlike as any
document and 1 is the query itself; s is the sparse score, s₁ the best that there is for the query, and a document
without any of its tokens has 0. w is 0.7 by default. Measured against other ways in docs/fusion.md.

Lists alone (`fuse`, `fuse_scores`) tell less. Each is min-max normalised as in the paper (METHOD "Scores and fusion"),
``(s − min)/(max − min + 1e-8)``, and a document that a list lacks counts 0 there. Under that formula a list whose
scores are all equal (one hit, or all tied) normalises to 0, as if the list had found nothing. Here such a list
normalises to 1 instead: each of its documents is the best that the list found. ``tied="paper"`` gives the formula as it
stands, to an index too.

A `Weigher` gives every query weights of its own for the linear method, instead of the same two for all.

A fitted table may understand a query in part only (`lightretriever.query.evidence`). What it does not understand is
then taken from the dense weight w, as far as the sparse list found it: ``w·h / (w·h + 1 − w)`` of the two weights' sum,
h being what `heard` gives. Measured in docs/fusion.md.

Reciprocal rank fusion: Σ 1/(60 + rank), the best rank being 1. Ranks take no weights, but the dense ones h²: they
do not say that nothing is alike.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, isfinite
from operator import itemgetter
from typing import Any, TypeVar

from lightretriever.errors import UsageError
from lightretriever.types import Encoded, Hit
from lightretriever.weigher import Weigher, places_in

EPSILON = 1e-8
METHODS = ("linear", "rrf")
TIED = ("best", "paper")
_FOUND = 0.3
MOST_QUERIES = 10_000
"""Whose marks a fusion keeps: more tell nobody more, and settings are read whenever an index is opened."""
ORIGINS = ("", "given", "general", "learned", "cross-validated")
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Fusion:
    """How two lists become one.

    Attributes:
        method: "linear" or "rrf".
        dense, sparse: weights of the linear method; not both 0, none negative.
        rrf_k: the constant of reciprocal rank fusion.
        tied: "best" as this module says; "paper" for the paper's formula as it stands, by lists alone.
        weigher: gives each query's dense weight, the sparse one being 1 less that; None: ``dense`` and ``sparse``.
        origin: who chose the weights, one of `ORIGINS`; "" is nobody (they are the default) or the caller.
        judged: collection and split ("scifact, dev") whose queries they were learned on.
        queries: `lightretriever.evaluation.tune.query_mark` of each of these, at most `MOST_QUERIES`.

    Where the weights are from makes no fusion another one: two that fuse alike are equal.

    Raises:
        UsageError: a value outside these.
    """

    method: str = "linear"
    dense: float = 0.7
    sparse: float = 0.3
    rrf_k: float = 60.0
    tied: str = "best"
    weigher: Weigher | None = None
    origin: str = field(default="", compare=False, repr=False)
    judged: str = field(default="", compare=False, repr=False)
    queries: tuple[str, ...] = field(default=(), compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.origin not in ORIGINS:
            raise UsageError(f"the origin is {self.origin!r}: choose one of {', '.join(map(repr, ORIGINS))}")
        if self.method not in METHODS:
            raise UsageError(f"the fusion method is {self.method!r}: choose one of {', '.join(METHODS)}")
        if self.tied not in TIED:
            raise UsageError(f"tied is {self.tied!r}: choose one of {', '.join(TIED)}")
        weights = (self.dense, self.sparse)
        if not all(isfinite(weight) and weight >= 0 for weight in weights) or not any(weights):
            raise UsageError(f"the fusion weights are {weights}: neither may be negative, one must be positive")
        if not self.rrf_k > -1:
            raise UsageError(f"rrf_k is {self.rrf_k}: it must be greater than -1")
        if self.weigher is not None and self.method != "linear":
            raise UsageError(f"a weigher gives weights, which the fusion method {self.method!r} does not take")

    @property
    def exact(self) -> bool:
        """Whether an index looks up both arms' scores of every document."""
        return self.method == "linear" and self.tied == "best"

    @staticmethod
    def of(stored: Mapping[str, Any]) -> Fusion:
        """Of what JSON makes of one; one stored before there were weighers has none."""
        weigher = stored.get("weigher")
        weigher = None if weigher is None else Weigher.of(weigher)
        return Fusion(**{**stored, "weigher": weigher, "queries": tuple(stored.get("queries", ()))})

    @property
    def weights(self) -> str:
        """The weights in words: "0.7 dense, 0.3 sparse", "by query"."""
        if self.method == "rrf":
            return "none, by ranks alone"
        return "by query" if self.weigher is not None else f"{self.dense:g} dense, {self.sparse:g} sparse"

    @property
    def chosen(self) -> str:
        """Where the weights are from, in words."""
        if self.origin == "general":
            return "without judged queries, by the package's network"
        if self.origin == "learned":
            return f"learned on {self.judged}"
        if self.origin == "cross-validated":
            return f"by cross-validation on {self.judged}: measure on other queries"
        return "default" if self == DEFAULT_FUSION else "given"

    def describe(self) -> dict[str, object]:
        """JSON-able, the weights that are in force only, without a weigher's many numbers."""
        described: dict[str, object] = {"method": self.method}
        if self.method == "rrf":
            described["rrf_k"] = self.rrf_k
        elif self.weigher is not None:
            described["weights"] = "by query"
        else:
            described |= {"weights": "fixed", "dense": self.dense, "sparse": self.sparse}
        return {**described, "tied": self.tied, "chosen": self.chosen}


DEFAULT_FUSION = Fusion()


def heard(trust: float, unknown: float, best: float) -> float:
    """How far the dense list of a query is listened to: ``1 − (1 − t) · min(1, s / 0.3u)``, 0 … 1.

    The second factor, because words that the sparse list has not found either are no reason to listen to that: a rare
    word that it did find brings about half of its inverse document frequency.

    Args:
        trust: t, the share of the query that is understood.
        unknown: u, the summed inverse document frequencies of what is not.
        best: s, the sparse list's best score; 0 where it is empty.
    """
    found = 1.0 if unknown <= 0.0 else min(1.0, max(best, 0.0) / (_FOUND * unknown))
    return 1.0 - (1.0 - trust) * found


def hearing_of(encoded: Encoded, sparse_scores: Sequence[Sequence[float]]) -> list[float]:
    """`heard` of each query: of what its encoder says, and of its sparse list's scores, best first."""
    if encoded.trust is None or encoded.unknown is None:
        return [1.0] * len(encoded)
    told = zip(encoded.trust.tolist(), encoded.unknown.tolist(), sparse_scores, strict=True)
    return [heard(trust, unknown, scores[0] if scores else 0.0) for trust, unknown, scores in told]


def heard_weights(fusion: Fusion, weight: float | None = None, hearing: float = 1.0) -> tuple[float, float]:
    """The weights of the dense and of the sparse list, for a query whose dense list is listened to so far.

    Args:
        weight: the query's own dense weight, see `fuse_scores`.
        hearing: see `heard`. Where the sparse list counts nothing, the dense one keeps what it has.
    """
    if fusion.method == "rrf":
        return hearing * hearing, 1.0
    first, second = (fusion.dense, fusion.sparse) if weight is None else (weight, 1.0 - weight)
    if hearing == 1.0 or not second:
        return first, second
    share = first * hearing / (first * hearing + second)
    return (first + second) * share, (first + second) * (1.0 - share)


def fuse_exact(
    scores: Mapping[Key, tuple[float, float]],
    ends: tuple[float, float],
    fusion: Fusion = DEFAULT_FUSION,
    weight: float | None = None,
    hearing: float = 1.0,
) -> list[tuple[Key, float]]:
    """Fuse documents of which both scores are known.

    Args:
        scores: of each document its inner product with the query and its sparse score; those of the best sparse score
            must be among them.
        ends: m, what inner products with this query are in general, and what that of a document just like it is: the
            query's length, which is 1 where they are cosines.
        fusion, weight, hearing: as for `fuse_scores`.

    Returns:
        As `fuse_scores`.
    """
    first, second = heard_weights(fusion, weight, hearing)
    best = max((sparse for _, sparse in scores.values()), default=0.0)
    floor, span = ends[0], ends[1] - ends[0]

    def fused(dense: float, sparse: float) -> float:
        score = first * ((dense - floor) / span) if span > 0 else 0.0
        return score + (second * (sparse / best) if best > 0 else 0.0)

    order = sorted((-fused(dense, sparse), -dense, key) for key, (dense, sparse) in scores.items())
    return [(key, -score) for score, _, key in order]


def contributions(scores: Sequence[float], weight: float, fusion: Fusion) -> list[float]:
    """What each place of one list adds to a document's fused score; ``scores`` fall from place to place.

    Plain Python: for a list of a hundred it is twice as fast as numpy, for a thousand as fast.
    """
    if fusion.method == "rrf":
        return [weight / (fusion.rrf_k + rank) for rank in range(1, len(scores) + 1)]
    if not scores:
        return []
    low, high = scores[-1], scores[0]
    if low == high and fusion.tied == "best":
        return [weight] * len(scores)
    spread = high - low + EPSILON
    return [weight * ((score - low) / spread) for score in scores]


def fuse_scores(
    dense: Mapping[Key, float] | Iterable[tuple[Key, float]],
    sparse: Mapping[Key, float] | Iterable[tuple[Key, float]],
    fusion: Fusion = DEFAULT_FUSION,
    weight: float | None = None,
    hearing: float = 1.0,
) -> list[tuple[Key, float]]:
    """Fuse two lists of (id, score), each in any order, ids distinct within a list.

    ``weight``: this query's dense weight, the sparse one being 1 less that; None for the fusion's two. A weigher is
    not asked here. ``hearing``: how far the dense list is listened to, see `heard`.

    Returns:
        (id, fused score) of every document of either list, best first. Equal fused scores are ordered by dense
        score, a document without one last, then by id.
    """
    one, two = _ranked(dense), _ranked(sparse)
    dense_keys, sparse_keys = [key for key, _ in one], [key for key, _ in two]
    places = places_in(sparse_keys, dense_keys)
    scores = [score for _, score in one], [score for _, score in two]
    return fuse_ranked(dense_keys, scores[0], sparse_keys, scores[1], places, fusion, weight, hearing)


def fuse_ranked(
    dense_keys: Sequence[Key],
    dense_scores: Sequence[float],
    sparse_keys: Sequence[Key],
    sparse_scores: Sequence[float],
    places: Sequence[int | None],
    fusion: Fusion = DEFAULT_FUSION,
    weight: float | None = None,
    hearing: float = 1.0,
) -> list[tuple[Key, float]]:
    """`fuse_scores` of lists that are best first already, and of which is known what they have in common.

    ``places``: of the dense list's documents in the sparse one, see `lightretriever.weigher.places_in`.
    """
    first, second = heard_weights(fusion, weight, hearing)
    own, added = contributions(dense_scores, first, fusion), contributions(sparse_scores, second, fusion)
    # Tuples that sort by themselves: a key function would cost more than the rest of the fusion.
    order = [
        (-(value if place is None else value + added[place]), -score, key)
        for key, score, value, place in zip(dense_keys, dense_scores, own, places, strict=True)
    ]
    both = set(places)
    order += [(-added[place], inf, sparse_keys[place]) for place in range(len(added)) if place not in both]
    order.sort()
    return [(key, -score) for score, _, key in order]


def fuse(
    dense: Sequence[Hit], sparse: Sequence[Hit], k: int | None = None, fusion: Fusion = DEFAULT_FUSION
) -> list[Hit]:
    """Fuse the hits of a dense and of a sparse search for one query.

    Args:
        dense, sparse: hits of one arm, scored in ``score``, in any order.
        k: how many to return; None for all.
        fusion: method, weights and treatment of tied lists; a weigher is not asked, for it needs the query.

    Returns:
        Hits, best fused score first, each with both arms' scores and ranks. Ties as in `fuse_scores`.

    Raises:
        UsageError: k below 1.
    """
    if k is not None and k < 1:
        raise UsageError(f"k is {k}: ask for at least 1 hit")
    dense_places = _places(dense)
    sparse_places = _places(sparse)
    fused = fuse_scores(
        ((key, hit.score) for key, (_, hit) in dense_places.items()),
        ((key, hit.score) for key, (_, hit) in sparse_places.items()),
        fusion,
    )
    hits = []
    for key, score in fused[:k]:
        dense_rank, in_dense = dense_places.get(key, (None, None))
        sparse_rank, in_sparse = sparse_places.get(key, (None, None))
        own = in_dense or sparse_places[key][1]
        hits.append(
            own._replace(
                score=score,
                dense_rank=dense_rank,
                dense_score=in_dense.score if in_dense else None,
                sparse_rank=sparse_rank,
                sparse_score=in_sparse.score if in_sparse else None,
            )
        )
    return hits


def _ranked(scores: Mapping[Key, float] | Iterable[tuple[Key, float]]) -> list[tuple[Key, float]]:
    pairs = scores.items() if isinstance(scores, Mapping) else scores
    return sorted(pairs, key=itemgetter(1), reverse=True)  # stable: places of equal scores stay as they came


def _places(hits: Sequence[Hit]) -> dict[str, tuple[int, Hit]]:
    """Rank and hit by id; of a document listed twice, the better one."""
    places: dict[str, tuple[int, Hit]] = {}
    for hit in sorted(hits, key=lambda hit: -hit.score):
        places.setdefault(hit.id, (len(places) + 1, hit))
    return places
