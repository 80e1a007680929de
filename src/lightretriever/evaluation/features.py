"""What kind of query a query is: how long, how rare its rarest token, in which script, with a negation or without."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightretriever.evaluation.lexical import TokenTotals
from lightretriever.evaluation.reasons import find_negations
from lightretriever.types import SparseVectors

LENGTHS = ((0, "no tokens"), (3, "1–3 tokens"), (7, "4–7 tokens"), (15, "8–15 tokens"), (31, "16–31 tokens"))
RARITIES = (
    (0.0, "a token in no document"),
    (0.001, "a token in at most 0.1% of the documents"),
    (0.01, "a token in at most 1%"),
    (0.1, "a token in at most 10%"),
)
_SCRIPTS = {"CJK": "Han", "HIRAGANA": "Kana", "KATAKANA": "Kana"}  # the first word of a character's Unicode name


@dataclass(frozen=True, slots=True)
class Grouping:
    """Queries split by one property.

    Attributes:
        name: the property.
        groups: name to query ids; no group is empty, and every query is in one.
    """

    name: str
    groups: Mapping[str, Sequence[str]]


def group_queries(queries: Mapping[str, str], counts: SparseVectors, totals: TokenTotals) -> list[Grouping]:
    """Split queries by length in tokens, by their rarest token, by script and by negation.

    Args:
        queries: n queries, id to text.
        counts: their token counts, [n, V].
        totals: the index's tokens.
    """
    lengths = [float(counts.row(row)[1].sum()) for row in range(len(counts))]
    shares = totals.frequency / max(totals.documents, 1)
    rarest = [float(shares[counts.row(row)[0]].min()) if lengths[row] else 1.0 for row in range(len(counts))]
    place = {query: row for row, query in enumerate(queries)}
    return [
        _grouping("length", queries, lambda query: _step(LENGTHS, lengths[place[query]], "32 tokens and more")),
        _grouping("rarest token", queries, lambda query: _step(RARITIES, rarest[place[query]], "common tokens only")),
        _grouping("script", queries, lambda query: script(queries[query])),
        _grouping(
            "negation", queries, lambda query: "with negation" if find_negations(queries[query]) else "without negation"
        ),
    ]


def script(text: str) -> str:
    """The script of most letters of a text: "Latin", "Han", "Cyrillic" …; "no letters" without any.

    It is told by the characters alone, so it says which languages are possible, not which it is. Text with kana is
    "Kana" however much Han it has: it is Japanese.
    """
    found: Counter[str] = Counter()
    for character in text:
        if character.isalpha():
            word = unicodedata.name(character, "UNKNOWN").split()[0].partition("-")[0]
            found[_SCRIPTS.get(word, word.capitalize())] += 1
    if not found:
        return "no letters"
    return "Kana" if found["Kana"] else found.most_common(1)[0][0]


def divergence(queries: NDArray[np.int64], documents: NDArray[np.int64], seed: int = 0) -> tuple[float, float]:
    """How far the queries' tokens are from the documents', and how far they would be by chance.

    The Jensen-Shannon divergence in bits, 0 for equal distributions, 1 for those that share no token (Lin 1991). Few
    tokens never show a whole distribution, so the second value is the divergence of as many tokens drawn from the
    documents' own, with a fixed seed; what the first has beyond it is the domain's.

    Args:
        queries: int64 [V], how often each token stands in the queries.
        documents: the same of the documents.

    Returns:
        Both; (0, 0) where either side has no tokens.
    """
    if not queries.sum() or not documents.sum():
        return 0.0, 0.0
    share = documents / documents.sum()
    drawn = np.random.default_rng(seed).multinomial(int(queries.sum()), share)
    return _jensen_shannon(queries / queries.sum(), share), _jensen_shannon(drawn / drawn.sum(), share)


def _jensen_shannon(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    middle = (p + q) / 2
    terms = [side[side > 0] * np.log2(side[side > 0] / middle[side > 0]) for side in (p, q)]
    return float(np.clip(sum(term.sum() for term in terms) / 2, 0, 1))


def _step(steps: Sequence[tuple[float, str]], value: float, beyond: str) -> str:
    return next((name for limit, name in steps if value <= limit), beyond)


def _grouping(name: str, queries: Mapping[str, str], group_of: Callable[[str], str]) -> Grouping:
    found: dict[str, list[str]] = {}
    for query in queries:
        found.setdefault(group_of(query), []).append(query)
    order = [step for _, step in (*LENGTHS, *RARITIES)]  # steps by size, then the rest by number
    return Grouping(
        name,
        dict(sorted(found.items(), key=lambda item: (_place(order, item[0]), -len(item[1])))),
    )


def _place(order: Sequence[str], name: str) -> int:
    return order.index(name) if name in order else len(order)
