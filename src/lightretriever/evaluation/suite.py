"""Many test collections as papers print them: a line for each, and their average.

WORK/
  SET/index                what the set's corpus became; resumed, and used again
  SET/results-KEY/         one measurement; KEY stands for all that it depends on, so nothing is measured twice

A set within a folder of sets (CQADupStack's forums) counts in the average as papers count it: the folder's sets are
averaged first, and that average counts once.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from lightretriever.artifact import read_json, sha256_bytes, sha256_file, write_json
from lightretriever.errors import InputError
from lightretriever.evaluation.compare import SYMMETRIC
from lightretriever.evaluation.plot import plot_bars
from lightretriever.evaluation.results import format_p, markdown_table
from lightretriever.evaluation.significance import paired_test
from lightretriever.paths import absolute
from lightretriever.scratch import new_folder
from lightretriever.text.beir import PLACES, corpus_files, qrel_files, query_files

AVERAGE = "average"
SCALE_NOTE = "Values are multiplied by 100."

_LONGEST = 64 << 20  # bytes of a set's results: every query's values are among them


@dataclass(frozen=True, slots=True)
class SetResult:
    """One collection's.

    Attributes:
        name: its place within the suite.
        queries: how many its judgements have.
        means: system to (measure to mean).
        diagnosis: as in its results.json; None where none was asked for.
    """

    name: str
    queries: int
    means: Mapping[str, Mapping[str, float]]
    diagnosis: Mapping[str, Any] | None


def find_sets(folder: str | Path) -> dict[str, Path]:
    """The BEIR folders in a folder, at any depth: name ("scifact", "cqadupstack/android") to path, by name.

    Raises:
        InputError: there are none.
    """
    root = absolute(folder)
    found = {
        path.parent.relative_to(root).as_posix(): path.parent
        for place in PLACES
        for path in sorted(root.rglob(place))
        if path.is_dir() and (place == "qrels" or qrel_files(path.parent))
    }
    found.pop(".", None)
    found = dict(sorted(found.items()))
    if not found:
        raise InputError(f"{folder} holds no folder with qrels/: a suite is a folder of BEIR folders")
    return found


def result_key(data: Path, split: str, settings: Mapping[str, object]) -> str:
    """Stands for a measurement: its settings, and the files that it reads."""
    files = [*corpus_files(data), *query_files(data), *qrel_files(data).get(split, ())]
    read = {path.relative_to(data).as_posix(): sha256_file(path) for path in files}
    return sha256_bytes(json.dumps([read, split, dict(settings)], sort_keys=True).encode())[:16]


def read_result(name: str, path: Path) -> SetResult:
    """Read what `lightretriever.evaluation.results.write_results` wrote. Raises ArtifactError for anything else."""
    found: dict[str, Any] = read_json(path / "results.json", _LONGEST, _LONGEST)
    systems = found["systems"]
    means = {system: dict(values["means"]) for system, values in systems.items()}
    return SetResult(name, next(iter(systems.values()))["queries"], means, found["diagnosis"])


def average(results: Sequence[SetResult], system: str, measure: str) -> float | None:
    """Mean over sets, sets of one folder counting once together; None where a set lacks the system."""
    if any(system not in result.means for result in results):
        return None
    groups: dict[str, list[float]] = {}
    for result in results:
        parts = PurePosixPath(result.name).parts
        groups.setdefault(parts[0], []).append(result.means[system][measure])
    return float(np.mean([np.mean(values) for values in groups.values()]))


def suite_table(results: Sequence[SetResult], measure: str) -> tuple[list[str], list[list[str]]]:
    """Header and rows: a set a row, a system a column, times 100; the average; the share that look-ups keep of it."""
    systems = list(dict.fromkeys(system for result in results for system in result.means))
    rows = []
    for result in results:
        cells = [f"{100 * result.means[system][measure]:.1f}" if system in result.means else "" for system in systems]
        rows.append([result.name, f"{result.queries:,}", *cells])
    means = {system: average(results, system, measure) for system in systems}
    rows.append([AVERAGE, "", *("" if value is None else f"{100 * value:.1f}" for value in means.values())])
    if any(system.startswith(SYMMETRIC) for system in systems):
        kept = []
        for system in systems:
            value, full = means[system], means.get(SYMMETRIC + system)
            kept.append(f"{value / full:.1%}" if value is not None and full else "")
        rows.append(["kept of the full model", "", *kept])
    return ["set", "queries", *systems], rows


def domain_rows(results: Sequence[SetResult]) -> list[list[str]]:
    """Set by set which arm wins and how far queries and documents are apart; of sets that were diagnosed."""
    rows = []
    for result in results:
        if result.diagnosis is None:
            continue
        every, domain = result.diagnosis["groups"][0], result.diagnosis["domain"]
        rows.append(
            [
                result.name,
                every["winner"] or "either",
                f"{100 * every['test']['difference']:+.1f}",
                format_p(every["test"]["randomisation"]),
                f"{domain['unseen']:.1%}",
                f"{domain['divergence']:.2f}",
                f"{domain['by_chance']:.2f}",
            ]
        )
    return rows


DOMAIN_HEADER = ("set", "better arm", "dense less sparse", "p", "query tokens unseen", "divergence", "by chance")


def write_suite(
    path: str | Path,
    title: str,
    results: Sequence[SetResult],
    measures: Sequence[str],
    settings: Mapping[str, object],
    places: Mapping[str, Path],
) -> None:
    """Write the suite's results.md, results.json and bars.png, and beside them copies of each set's own results.

    Args:
        path: a folder that does not exist.
        title: a heading.
        results: of each set.
        measures: the first is that of the picture and of the tests over sets.
        settings: what it was measured with; JSON-able.
        places: set to the folder of its results.

    Raises:
        ArtifactError: ``path`` exists.
        MissingExtraError: matplotlib is not installed.
    """
    lines = [f"# {title}", "", *markdown_table(("setting", ""), [[name, str(v)] for name, v in settings.items()])]
    for measure in measures:
        lines += ["", f"## {measure}", "", *markdown_table(*suite_table(results, measure))]
    tests = suite_tests(results, measures[0])
    if tests:
        header = ("pair", "difference", "better, equal, worse", "p randomisation", "p t")
        lines += ["", f"## Pairs over sets, {measures[0]}", "", *markdown_table(header, tests)]
    lines += ["", SCALE_NOTE, "", "![The systems on each set](bars.png)"]
    if domains := domain_rows(results):
        lines += ["", "## Dense or sparse?", "", *markdown_table(DOMAIN_HEADER, domains)]
    systems = list(dict.fromkeys(system for result in results for system in result.means))
    found = {
        "title": title,
        "settings": dict(settings),
        "measures": list(measures),
        "sets": {result.name: {"queries": result.queries, "means": result.means} for result in results},
        "average": {name: {measure: average(results, name, measure) for measure in measures} for name in systems},
        "diagnosis": {result.name: result.diagnosis for result in results if result.diagnosis is not None},
    }
    with new_folder(path) as folder:
        by_set = {result.name: {name: of[measures[0]] for name, of in result.means.items()} for result in results}
        plot_bars(by_set, measures[0], folder / "bars.png")
        (folder / "results.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
        write_json(folder / "results.json", found)
        for name, place in places.items():
            shutil.copytree(place, folder / "sets" / name)


def suite_tests(results: Sequence[SetResult], measure: str) -> list[list[str]]:
    """Look-up against full model, and hybrid against each arm, the sets being what is paired; differences times 100."""
    rows = []
    for a, b in (
        *((mode, SYMMETRIC + mode) for mode in ("dense", "hybrid")),
        *(("hybrid", arm) for arm in ("dense", "sparse", "bm25")),
    ):
        if len(results) > 1 and all({a, b} <= result.means.keys() for result in results):
            sides = ({result.name: result.means[system][measure] for result in results} for system in (a, b))
            test = paired_test(*sides)
            counts = f"{test.better}, {test.equal}, {test.worse}"
            p = (format_p(test.randomisation), format_p(test.t))
            rows.append([f"{a} – {b}", f"{100 * test.difference:+.1f}", counts, *p])
    return rows
