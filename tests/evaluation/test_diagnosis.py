"""What a diagnosis says: who wins, and where it is otherwise."""

from __future__ import annotations

from lightretriever.evaluation.diagnosis import Diagnosis, Domain, Group
from lightretriever.evaluation.diagnosis_text import markdown_lines, short_lines
from lightretriever.evaluation.significance import paired_test

MANY = range(40)


def group(kind: str, name: str, dense: list[float], sparse: list[float]) -> Group:
    sides = [{str(i): value for i, value in enumerate(values)} for values in (dense, sparse)]
    means = {arm: sum(values) / len(values) for arm, values in (("dense", dense), ("bm25", sparse))}
    return Group(kind, name, len(dense), means, paired_test(*sides))


def found(groups: list[Group]) -> Diagnosis:
    domain = Domain(200, 0.05, 0.125, 0.4, 0.25)
    examples = {"dense": [("q1", "why | how", 1.0, 0.0)], "bm25": []}
    scores = {"dense": {"score at place 1": [0.1, 0.2, 0.3, 0.4, 0.5]}}
    return Diagnosis(
        "nDCG@10", ("dense", "bm25"), groups, examples, scores, {"queries without hits, bm25": 0.5}, domain
    )


def test_the_winner_is_named_and_where_the_other_wins() -> None:
    better, worse = [0.5 + i / 100 for i in MANY], [0.2 + i / 100 for i in MANY]
    told = found(
        [
            group("all", "all queries", better, worse),
            group("negation", "with negation", worse, better),
            group("length", "1–3 tokens", better, worse),
            group("script", "Han", [0.5, 0.4], [0.4, 0.5]),
        ]
    )
    first, but, domain = short_lines(told)
    assert "dense 0.6950, bm25 0.3950: dense wins (p < 0.0001)" in first or "dense wins (p 0.0001)" in first
    assert first.endswith("by dense: 40, 0, 0")
    assert but.startswith("but bm25 wins where negation is with negation: 40 queries, -0.3000 by dense")
    assert "no document holds: 5.0%, in 12.5% of the queries; divergence of queries and documents 0.40" in domain
    text = "\n".join(markdown_lines(told))
    assert "| script | Han | 2 | 0.4500 | 0.4500 | 1, 0, 1 | 1.0000 | either |" in text
    assert "| q1 | why &#124; how | 1.00 | 0.00 |" in text
    assert "### Where bm25 wins by most" not in text
    groups = told.to_json()["groups"]
    assert isinstance(groups, list)
    assert [entry["winner"] for entry in groups] == ["dense", "bm25", "dense", ""]


def test_chance_is_no_winner() -> None:
    told = found([group("all", "all queries", [0.5, 0.4, 0.3], [0.4, 0.4, 0.2])])
    assert "no difference beyond chance (p 0.5000)" in short_lines(told)[0]
