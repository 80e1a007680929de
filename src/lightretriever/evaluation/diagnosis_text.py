"""A diagnosis in words: Markdown tables, and the few lines that a terminal shows."""

from __future__ import annotations

from lightretriever.evaluation.diagnosis import QUANTILES, Diagnosis
from lightretriever.evaluation.results import format_p, markdown_table


def short_lines(found: Diagnosis) -> list[str]:
    """Who wins overall and among which queries, and how far the domains are apart; a line each."""
    everything, *groups = found.groups
    winner = everything.winner(found.arms)
    dense, lexical = (everything.means[arm] for arm in found.arms)
    lines = [
        f"{found.measure}: {found.arms[0]} {dense:.4f}, {found.arms[1]} {lexical:.4f}: "
        + (f"{winner} wins" if winner else "no difference beyond chance")
        + f" (p {format_p(everything.test.randomisation)}); queries better, equal, worse by {found.arms[0]}: "
        + f"{everything.test.better}, {everything.test.equal}, {everything.test.worse}"
    ]
    lines += [
        f"but {group.winner(found.arms)} wins where {group.property} is {group.name}: {group.queries} queries, "
        f"{group.test.difference:+.4f} by {found.arms[0]} (p {format_p(group.test.randomisation)})"
        for group in groups
        if group.winner(found.arms) not in ("", winner)
    ]
    domain = found.domain
    lines.append(
        f"query tokens that no document holds: {domain.unseen:.1%}, in {domain.queries_unseen:.1%} of the queries; "
        f"divergence of queries and documents {domain.divergence:.2f} bits, {domain.by_chance:.2f} by chance"
    )
    return lines


def markdown_lines(found: Diagnosis) -> list[str]:
    """The section "Diagnosis" of a results file."""
    systems = list(found.groups[0].means)
    header = (
        "property",
        "queries that are",
        "number",
        *systems,
        "better, equal, worse",
        "p randomisation",
        "better arm",
    )
    rows = [
        [
            group.property,
            group.name,
            f"{group.queries:,}",
            *(f"{group.means[system]:.4f}" for system in systems),
            f"{group.test.better}, {group.test.equal}, {group.test.worse}",
            format_p(group.test.randomisation),
            group.winner(found.arms) or "either",
        ]
        for group in found.groups
    ]
    lines = ["", "## Diagnosis", "", *(f"- {line}" for line in short_lines(found)), ""]
    lines += [f"### {found.measure} by kind of query", "", *markdown_table(header, rows), ""]
    lines += [
        f"Better, equal, worse: queries, {found.arms[0]} against {found.arms[1]}. An arm is better where p by "
        "randomisation is at most 0.05; with so many groups one in twenty is so by chance. Scripts are told by the "
        "characters, which is not the language. Queries without text are left out.",
    ]
    for arm, examples in found.examples.items():
        if examples:
            rows = [[name, text[:200], f"{dense:.2f}", f"{lexical:.2f}"] for name, text, dense, lexical in examples]
            lines += ["", f"### Where {arm} wins by most", "", *markdown_table(("id", "query", *found.arms), rows)]
    rows = [
        [arm, name, *(f"{value:.4g}" for value in quantiles)]
        for arm, tables in found.scores.items()
        for name, quantiles in tables.items()
    ]
    quantiles = tuple(f"{quantile:.0%}" for quantile in QUANTILES)
    lines += ["", "### Scores", "", *markdown_table(("arm", "quantile over queries", *quantiles), rows), ""]
    lines += [*markdown_table(("fact", "share"), [[name, f"{value:.1%}"] for name, value in found.facts.items()])]
    domain = found.domain
    facts = [
        ["tokens of the queries", f"{domain.query_tokens:,}"],
        ["of them in no document", f"{domain.unseen:.2%}"],
        ["queries with such a token", f"{domain.queries_unseen:.2%}"],
        ["Jensen-Shannon divergence of queries' and documents' tokens, bits", f"{domain.divergence:.3f}"],
        ["the same for as many tokens drawn from the documents", f"{domain.by_chance:.3f}"],
    ]
    return [*lines, "", "### Queries and documents", "", *markdown_table(("fact", "value"), facts)]
