"""A comparison written down: each system's measures, what a look-up keeps, every pair tested, runs and plots.

DIR/
  results.md          tables for people
  results.json        the same, every query's values, and the settings
  runs/SYSTEM.run     TREC runs; any tool gives them the values of results.json
  bars.png            the systems by each measure
  MODE-queries.png    each query, full model against look-up; where the full model was measured
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from lightretriever.artifact import write_json
from lightretriever.evaluation.compare import BM25, SYMMETRIC, Comparison
from lightretriever.evaluation.plot import need_matplotlib, plot_bars, plot_queries
from lightretriever.evaluation.significance import RESAMPLES, PairedTest, paired_test
from lightretriever.scratch import new_folder
from lightretriever.text.trec import write_run

NOTE = (
    "A query without hits counts zero. Of a look-up's value, *kept* is the share of the full model's. Tests are paired "
    f"and two-sided: p by randomisation (signs of the differences; all of them for few queries, else {RESAMPLES:,} "
    "draws with a fixed seed) and p by Student's t; neither is corrected for the number of pairs."
)


@dataclass(frozen=True, slots=True)
class Pair:
    """System a against system b.

    Attributes:
        a, b: their names.
        tests: by measure.
        kept: by measure, a's mean by b's; None where b is not what a stands in for, or is 0.
    """

    a: str
    b: str
    tests: Mapping[str, PairedTest]
    kept: Mapping[str, float | None]


def compare_pairs(comparison: Comparison) -> list[Pair]:
    """Every look-up against the full model, hybrid against its arms, and all of them against the lexical systems."""
    found = comparison.evaluations
    asked = [(mode, SYMMETRIC + mode) for mode in ("dense", "hybrid")]
    asked += [("hybrid", "dense")]
    asked += [(a, b) for b in ("sparse", BM25) for a in ("dense", "hybrid", SYMMETRIC + "dense", SYMMETRIC + "hybrid")]
    asked += [("sparse", BM25)]
    pairs = []
    for a, b in asked:
        if a in found and b in found:
            tests = {
                name: paired_test(found[a].per_query[name], found[b].per_query[name]) for name in comparison.measures
            }
            stands_in = b == SYMMETRIC + a
            kept = {name: comparison.retention(a, name) if stands_in else None for name in comparison.measures}
            pairs.append(Pair(a, b, tests, kept))
    return pairs


def systems_json(comparison: Comparison, pairs: Sequence[Pair]) -> dict[str, dict[str, object]]:
    """By system: means, every query's values, number of queries, and the tests against other systems; JSON-able."""
    systems: dict[str, dict[str, object]] = {}
    for system, found in comparison.evaluations.items():
        against = {
            pair.b: {name: {**asdict(test), "kept": pair.kept[name]} for name, test in pair.tests.items()}
            for pair in pairs
            if pair.a == system
        }
        systems[system] = {
            "means": dict(found.means),
            "per_query": {name: dict(values) for name, values in found.per_query.items()},
            "queries": found.queries,
            "against": against,
        }
    return systems


def system_rows(comparison: Comparison) -> list[list[str]]:
    """A line for each system: its name, and its means, with the share kept in brackets."""
    rows = []
    for system, found in comparison.evaluations.items():
        cells = [system]
        for name in comparison.measures:
            kept = comparison.retention(system, name)
            cells.append(f"{found.means[name]:.4f}" + (f" ({kept:.1%})" if kept is not None else ""))
        rows.append(cells)
    return rows


PAIR_HEADER = ("pair", "measure", "difference", "better, equal, worse", "p randomisation", "p t")


def pair_rows(pairs: Sequence[Pair], measures: Sequence[str]) -> list[list[str]]:
    """A line for each pair and measure; see `PAIR_HEADER`."""
    return [
        [
            f"{pair.a} – {pair.b}",
            name,
            f"{test.difference:+.4f}",
            f"{test.better}, {test.equal}, {test.worse}",
            format_p(test.randomisation),
            format_p(test.t),
        ]
        for pair in pairs
        for name, test in ((name, pair.tests[name]) for name in measures)
    ]


def format_p(p: float) -> str:
    """Four digits, or that it is smaller."""
    return "< 0.0001" if p < 1e-4 else f"{p:.4f}"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table; bars and line ends in cells are made harmless."""
    lines = [list(header), ["---"] * len(header), *rows]
    return [f"| {' | '.join(' '.join(cell.split()).replace('|', '&#124;') for cell in line)} |" for line in lines]


def write_results(
    path: str | Path,
    title: str,
    comparison: Comparison,
    pairs: Sequence[Pair],
    settings: Mapping[str, object],
    diagnosis: Mapping[str, object] | None = None,
    diagnosis_lines: Sequence[str] = (),
) -> bool:
    """Write the folder of one comparison.

    Args:
        path: a folder that does not exist.
        title: a heading.
        comparison, pairs: what was found.
        settings: what it was measured with; JSON-able.
        diagnosis, diagnosis_lines: of `lightretriever.evaluation.diagnosis`, for JSON and Markdown.

    Returns:
        Whether a run is percent-encoded, for the white space in its ids.

    Raises:
        ArtifactError: ``path`` exists.
        MissingExtraError: matplotlib is not installed.
    """
    need_matplotlib()
    warnings = list(dict.fromkeys(line for found in comparison.evaluations.values() for line in found.warnings))
    lines = [f"# {title}", "", *markdown_table(("setting", ""), [[name, str(v)] for name, v in settings.items()])]
    lines += ["", "## Measures", "", *markdown_table(("system", *comparison.measures), system_rows(comparison))]
    lines += ["", "![The systems by each measure](bars.png)"]
    if pairs:
        lines += ["", "## Pairs", "", *markdown_table(PAIR_HEADER, pair_rows(pairs, comparison.measures))]
    lines += ["", NOTE, *(f"Note: {line}." for line in warnings)]
    with new_folder(path) as folder:
        (folder / "runs").mkdir()
        encoded = 0
        for system, run in comparison.runs.items():
            encoded += write_run(folder / "runs" / f"{system.replace(' ', '-')}.run", run)
        if encoded:
            lines.append("Note: ids with white space are percent-encoded in the runs, a space as %20.")
        by_measure = {
            name: {system: found.means[name] for system, found in comparison.evaluations.items()}
            for name in comparison.measures
        }
        plot_bars(by_measure, "mean", folder / "bars.png")
        measure = comparison.measures[0]
        for mode in ("dense", "hybrid"):
            if SYMMETRIC + mode in comparison.evaluations:
                values = [comparison.evaluations[name].per_query[measure] for name in (SYMMETRIC + mode, mode)]
                full, look_up = (np.array([of_query[query] for query in values[0]]) for of_query in values)
                plot_queries(full, look_up, measure, folder / f"{mode}-queries.png")
                lines += ["", f"![{mode}: each query, full model against look-up]({mode}-queries.png)"]
        (folder / "results.md").write_text("\n".join([*lines, *diagnosis_lines]) + "\n", encoding="utf-8")
        found_json = {
            "title": title,
            "settings": dict(settings),
            "measures": list(comparison.measures),
            "systems": systems_json(comparison, pairs),
            "warnings": warnings,
            "diagnosis": diagnosis,
        }
        write_json(folder / "results.json", found_json)
    return encoded > 0
