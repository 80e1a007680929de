"""What a table keeps of its full model, written down: a model card, a plot, and every query's values.

REPORT/
  README.md      settings, retention, wins and losses, the worst queries and what was found about them
  queries.png    nDCG@10 of each query, full model against look-up; where there is a full model
  report.json    the same values for other tools
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightretriever.artifact import write_json
from lightretriever.evaluation.collection import Collection
from lightretriever.evaluation.compare import SYMMETRIC, Comparison
from lightretriever.evaluation.plot import need_matplotlib, plot_queries
from lightretriever.evaluation.reasons import MARKS, Encode, find_clues, find_marks, find_reasons
from lightretriever.query.encoder import QueryEncoder
from lightretriever.query.table import TokenTable
from lightretriever.scratch import new_folder
from lightretriever.types import Run

MEASURE = "nDCG@10"
PLOT = "queries.png"
_WORST = 10
_USUAL = 40  # queries, an even sample, that the worst are compared with
_SAME = 1e-9


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a report rests on.

    Attributes:
        comparison: look-up and full model on the queries.
        collection: queries, judgements.
        source: where queries and judgements are from, for people.
        seen: int64 [V], how many texts of the fit hold each token.
        encode: the full model's vectors of queries in the table's dimensions; None where there is none.
    """

    comparison: Comparison
    collection: Collection
    source: str
    seen: NDArray[np.int64]
    encode: Encode | None = None


def write_report(path: str | Path, table: TokenTable, evidence: Evidence) -> None:
    """Write the report's folder.

    Raises:
        ArtifactError: ``path`` exists.
        MissingExtraError: matplotlib is not installed.
    """
    need_matplotlib()
    comparison = evidence.comparison
    values = {name: found.per_query[MEASURE] for name, found in comparison.evaluations.items()}
    compared = SYMMETRIC + "dense" in values
    worst = _worst(table, evidence) if compared else []
    with new_folder(path) as folder:
        if compared:
            ids = list(values["dense"])
            full = np.array([values[SYMMETRIC + "dense"][query] for query in ids])
            plot_queries(full, np.array([values["dense"][query] for query in ids]), MEASURE, folder / PLOT)
        (folder / "README.md").write_text(_card(table, evidence, worst), encoding="utf-8")
        found = {
            "table": table.hash,
            "means": {name: dict(result.means) for name, result in comparison.evaluations.items()},
            "per_query": {name: dict(of_query) for name, of_query in values.items()},
            "worst": worst,
        }
        write_json(folder / "report.json", found)


def wins_and_losses(
    look_up: Mapping[str, float], full: Mapping[str, float], queries: Sequence[str] | None = None
) -> tuple[int, int, int]:
    """On how many queries the look-up is better than the full model, equal to it, and worse."""
    changes = [look_up[query] - full[query] for query in (queries or look_up)]
    better, worse = sum(change > _SAME for change in changes), sum(change < -_SAME for change in changes)
    return better, len(changes) - better - worse, worse


def _worst(table: TokenTable, evidence: Evidence) -> list[dict[str, object]]:
    """The queries that lose most, with what was found about them; JSON-able."""
    comparison, texts = evidence.comparison, evidence.collection.queries
    look_up = comparison.evaluations["dense"].per_query[MEASURE]
    full = comparison.evaluations[SYMMETRIC + "dense"].per_query[MEASURE]
    loss = {query: full[query] - look_up[query] for query in texts}
    losing = sorted((query for query in texts if loss[query] > _SAME), key=lambda query: -loss[query])
    encoder = QueryEncoder(table)
    every = list(texts.values())
    usual = own = None
    if evidence.encode is not None and losing:
        usual = find_clues(every[:: -(-len(every) // _USUAL)], encoder, evidence.encode)
    found: list[dict[str, object]] = []
    for query in losing[:_WORST]:
        text = texts[query]
        if evidence.encode is not None:
            own = find_clues([text], encoder, evidence.encode)
        sides = (SYMMETRIC + "dense", "dense")
        ranks = [_first_rank(comparison.runs[side], query, evidence.collection) for side in sides]
        reasons = find_reasons(text, encoder, evidence.seen, usual, own)
        found.append(
            {
                "id": query,
                "text": text,
                "full": full[query],
                "look_up": look_up[query],
                "first_judged": ranks,
                "reasons": reasons,
            }
        )
    return found


def _first_rank(run: Run, query: str, collection: Collection) -> int | None:
    """Where the best judged document is in a query's list; None where none is in it."""
    good = {document for document, relevance in collection.qrels[query].items() if relevance > 0}
    return next((rank for rank, name in enumerate(run.scores.get(query, {}), 1) if name in good), None)


def _card(table: TokenTable, evidence: Evidence, worst: Sequence[Mapping[str, object]]) -> str:
    fitted = dict(table.fitted)
    facts = {
        "document model": f"{table.model or 'unknown'} ({table.revision or 'revision unknown'})",
        "rows, dimensions, stored as": f"{len(table):,}, {table.dim}, {table.dtype}",
        "prompt": json.dumps(table.prompt, ensure_ascii=False),
        "fitted to": f"{fitted.get('samples', 0):,} texts; prior: {fitted.get('prior')}; λ {fitted.get('l2')}",
        "vocabulary seen": _share(fitted.get("vocabulary_covered")),
        "of new text's tokens seen, expected": _share(fitted.get("occurrences_covered")),
        "overlap with the model's ten best, on held-out text": str(fitted.get("held_out_overlap") or "not measured"),
        "nDCG@10 by them": str(fitted.get("held_out_ndcg") or "not measured"),
        "cosine on held-out text": str(fitted.get("held_out_cosine") or "not measured"),
    }
    lines = [
        "---",
        "library_name: lightretriever",
        "tags: [token-table, static-embeddings, retrieval]",
        "---",
        f"# What a token table keeps of {table.model or 'its model'}",
        "",
        "A query is encoded by look-up: the mean of its tokens' rows, normalised. In the comparison below the full",
        f"model encodes the same query; the documents' vectors are the same for both. Queries: {evidence.source}.",
        "",
        "| the table | |",
        "|---|---|",
        *(f"| {name} | {_cell(value)} |" for name, value in facts.items()),
        "",
        "## Retention",
        "",
        *_retention(evidence.comparison),
    ]
    if SYMMETRIC + "dense" in evidence.comparison.evaluations:
        picture = "Each query's nDCG@10, full model against look-up, and the differences sorted"
        lines += ["", f"![{picture}]({PLOT})", "", *_marks(table, evidence)]
        lines += ["", "## Where it loses most", "", *_losses(worst)]
    remarks = dict.fromkeys(line for found in evidence.comparison.evaluations.values() for line in found.warnings)
    lines += ["", *(f"Note: {line}." for line in remarks)] if remarks else []
    return "\n".join(lines) + "\n"


def _retention(comparison: Comparison) -> list[str]:
    lines = ["| search | measure | look-up | full model | kept | better, equal, worse |", "|---|---|---|---|---|---|"]
    for mode, found in comparison.evaluations.items():
        if mode.startswith(SYMMETRIC):
            continue
        full = comparison.evaluations.get(SYMMETRIC + mode)
        for measure in comparison.measures:
            kept = comparison.retention(mode, measure)
            cells = [mode, measure, f"{found.means[measure]:.4f}"]
            if full is None:
                cells += ["", "", ""]
            else:
                counts = wins_and_losses(found.per_query[measure], full.per_query[measure])
                share = "" if kept is None else f"{kept:.1%}"
                cells += [f"{full.means[measure]:.4f}", share, ", ".join(map(str, counts))]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def _marks(table: TokenTable, evidence: Evidence) -> list[str]:
    """How queries with a token or word that look-ups are weak on fare, beside those without."""
    found = evidence.comparison.evaluations
    look_up, full = (found[name].per_query[MEASURE] for name in ("dense", SYMMETRIC + "dense"))
    encoder, texts = QueryEncoder(table), evidence.collection.queries
    marks = {query: find_marks(text, encoder, evidence.seen) for query, text in texts.items()}
    lines = [f"| queries with a | how many | their {MEASURE}, kept | of the others |", "|---|---|---|---|"]
    for mark in MARKS:
        having = [query for query in texts if mark in marks[query]]
        cells = [f"{len(having):,} of {len(texts):,}"]
        for group in (having, [query for query in texts if mark not in marks[query]]):
            whole = sum(full[query] for query in group)
            cells.append(f"{sum(look_up[query] for query in group) / whole:.1%}" if whole else "")
        lines.append(f"| {mark} | {' | '.join(cells)} |")
    return lines


def _losses(worst: Sequence[Mapping[str, object]]) -> list[str]:
    if not worst:
        return ["On no query is the look-up worse than the full model."]
    lines = [
        "Full model and look-up: nDCG@10, and the place of the first document judged relevant. Reasons are what the",
        "texts and the full model show about a query, no proof.",
        "",
        "| query | full model | look-up | found |",
        "|---|---|---|---|",
    ]
    for entry in worst:
        ranks = entry["first_judged"]
        assert isinstance(ranks, list)
        places = ["none found" if rank is None else f"place {rank}" for rank in ranks]
        reasons = entry["reasons"]
        assert isinstance(reasons, list)
        sides = [f"{entry[name]:.2f}, {place}" for name, place in zip(("full", "look_up"), places, strict=True)]
        lines.append(f"| {_cell(entry['text'])} | {' | '.join(sides)} | {_cell('; '.join(reasons) or 'nothing')} |")
    return lines


def _share(value: object) -> str:
    return f"{value:.1%}" if isinstance(value, float) else "not measured"


def _cell(value: object) -> str:
    return " ".join(str(value).split()).replace("|", "&#124;")
