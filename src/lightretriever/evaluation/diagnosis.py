"""When does dense win, when sparse? A comparison taken apart by kinds of queries, by scores, and by domain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from lightretriever.errors import UsageError
from lightretriever.evaluation.collection import Collection
from lightretriever.evaluation.compare import BM25, SYMMETRIC, Comparison
from lightretriever.evaluation.features import divergence, group_queries
from lightretriever.evaluation.lexical import count_index, count_queries
from lightretriever.evaluation.significance import PairedTest, paired_test
from lightretriever.index.index import Index
from lightretriever.progress import Progress
from lightretriever.types import Run

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
SIGNIFICANT = 0.05
_EXAMPLES = 5
_PLACES = (1, 10, 100)
_TOP = 10


@dataclass(frozen=True, slots=True)
class Group:
    """One kind of queries.

    Attributes:
        property, name: as in "length", "1–3 tokens".
        queries: how many.
        means: system to its mean over them.
        test: the dense arm against the sparse one.
    """

    property: str
    name: str
    queries: int
    means: Mapping[str, float]
    test: PairedTest

    def winner(self, arms: tuple[str, str]) -> str:
        """The arm that is better, where randomisation says that it is; "" where chance might."""
        if self.test.randomisation > SIGNIFICANT:
            return ""
        return arms[0] if self.test.difference > 0 else arms[1]


@dataclass(frozen=True, slots=True)
class Domain:
    """How far apart queries and documents are, by their tokens.

    Attributes:
        query_tokens: how many the queries have.
        unseen: share of them that no document holds.
        queries_unseen: share of queries with such a token.
        divergence: Jensen-Shannon, in bits: 0 equal, 1 nothing in common.
        by_chance: what as many tokens drawn from the documents would have.
    """

    query_tokens: int
    unseen: float
    queries_unseen: float
    divergence: float
    by_chance: float


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What `diagnose` found.

    Attributes:
        measure: by which queries are won.
        arms: the dense system and the sparse one compared.
        groups: all queries first, then each kind.
        examples: arm to the queries it wins by most: id, text, and each arm's value.
        scores: arm to (row name to quantiles, see `QUANTILES`); shares and overlap under "facts".
        facts: single figures about the two lists.
        domain: how far queries and documents are apart.
    """

    measure: str
    arms: tuple[str, str]
    groups: Sequence[Group]
    examples: Mapping[str, Sequence[tuple[str, str, float, float]]]
    scores: Mapping[str, Mapping[str, Sequence[float]]]
    facts: Mapping[str, float]
    domain: Domain

    def to_json(self) -> dict[str, object]:
        """As plain JSON."""
        winners = [{**asdict(group), "winner": group.winner(self.arms)} for group in self.groups]
        return {**asdict(self), "groups": winners, "quantiles": list(QUANTILES)}


def diagnose(
    index: Index, collection: Collection, comparison: Comparison, progress: Progress | None = None
) -> Diagnosis:
    """Take a comparison apart, by its first measure.

    Args:
        index: the index compared; its documents' tokens are counted.
        collection: queries and judgements of the comparison.
        comparison: with a dense arm and a sparse one: the index's own, or else BM25.
        progress: called with documents counted and their number.

    Raises:
        UsageError: the comparison has no sparse arm.
    """
    found = comparison.evaluations
    lexical = next((name for name in ("sparse", BM25) if name in found), None)
    if lexical is None:
        raise UsageError("a diagnosis compares the dense arm with a sparse one, which this index lacks: --against bm25")
    arms, measure = ("dense", lexical), comparison.measures[0]
    values = {name: result.per_query[measure] for name, result in found.items()}
    totals = count_index(index, progress)
    queries = dict(collection.queries)
    counts = count_queries(index, list(queries.values()))
    groups = [_group("all", "all queries", list(queries), values, arms)]
    for grouping in group_queries(queries, counts, totals):
        groups += [_group(grouping.name, name, members, values, arms) for name, members in grouping.groups.items()]
    asked = np.bincount(counts.indices, counts.values, minlength=counts.width).astype(np.int64)
    unseen = asked[totals.frequency == 0].sum()
    rows = np.repeat(np.arange(len(counts)), np.diff(counts.indptr))
    with_unseen = len(np.unique(rows[totals.frequency[counts.indices] == 0]))
    apart, chance = divergence(asked, totals.occurrences)
    return Diagnosis(
        measure=measure,
        arms=arms,
        groups=groups,
        examples=_examples(queries, values, arms),
        scores={arm: _scores(comparison.runs[arm], collection) for arm in arms},
        facts=_facts(comparison.runs, arms, len(queries)),
        domain=Domain(
            int(asked.sum()), float(unseen) / max(int(asked.sum()), 1), with_unseen / len(queries), apart, chance
        ),
    )


def _group(
    kind: str, name: str, members: Sequence[str], values: Mapping[str, Mapping[str, float]], arms: tuple[str, str]
) -> Group:
    shown = dict.fromkeys([*arms, "hybrid", SYMMETRIC + "dense"])
    means = {
        system: float(np.mean([values[system][query] for query in members])) for system in shown if system in values
    }
    dense, lexical = ({query: values[arm][query] for query in members} for arm in arms)
    return Group(kind, name, len(members), means, paired_test(dense, lexical))


def _examples(
    queries: Mapping[str, str], values: Mapping[str, Mapping[str, float]], arms: tuple[str, str]
) -> dict[str, list[tuple[str, str, float, float]]]:
    dense, lexical = (values[arm] for arm in arms)
    found = {}
    for arm, sign in zip(arms, (1, -1), strict=True):
        gains = {query: sign * (dense[query] - lexical[query]) for query in queries}
        best = sorted((query for query in queries if gains[query] > 1e-9), key=lambda query: -gains[query])
        found[arm] = [(query, queries[query], dense[query], lexical[query]) for query in best[:_EXAMPLES]]
    return found


def _scores(run: Run, collection: Collection) -> dict[str, list[float]]:
    """Quantiles of an arm's scores at some places, of judged relevant documents', and of what separates places."""
    lists = [np.array(list(scores.values())) for scores in run.scores.values() if scores]
    rows = {
        f"score at place {place}": [found[place - 1] for found in lists if len(found) >= place] for place in _PLACES
    }
    rows["place 1 less place 10"] = [found[0] - found[9] for found in lists if len(found) >= 10]
    rows["relevant documents listed"] = [
        run.scores[query][name]
        for query, judged in collection.qrels.items()
        for name, relevance in judged.items()
        if relevance > 0 and name in run.scores.get(query, {})
    ]
    return {name: _quantiles(np.array(scores)) for name, scores in rows.items() if scores}


def _quantiles(values: NDArray[np.float64]) -> list[float]:
    return [float(value) for value in np.quantile(values, QUANTILES)]


def _facts(runs: Mapping[str, Run], arms: tuple[str, str], queries: int) -> dict[str, float]:
    dense, lexical = (runs[arm].scores for arm in arms)
    facts = {
        f"queries without hits, {arm}": sum(not found for found in runs[arm].scores.values()) / queries for arm in arms
    }
    overlaps = []
    for query, found in dense.items():
        first, second = (set(list(names)[:_TOP]) for names in (found, lexical.get(query, {})))
        if first and second:
            overlaps.append(len(first & second) / min(len(first), len(second)))
    facts[f"overlap of the first {_TOP} of both arms, mean"] = float(np.mean(overlaps)) if overlaps else 0.0
    return facts
